package hvp_test

import (
	"bufio"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/vpath"
	"github.com/bailiff-secrets/bailiff/internal/vpath/vpathtest"
)

// serveWire gives the Handler what net/http makes of a request's bytes; ok is false where it makes nothing of them.
func serveWire(h http.Handler, wire string) (*httptest.ResponseRecorder, bool) {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(wire)))
	if err != nil {
		return nil, false
	}
	r.RemoteAddr = "192.0.2.1:1234"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w, true
}

// check is what must hold of whatever reaches the gate.
func check(t *testing.T, d *doer, w *httptest.ResponseRecorder) {
	t.Helper()
	for _, r := range d.done {
		if err := vpath.Check(r.Path); err != nil {
			t.Errorf("%q reached the gate: %v", r.Path, err)
		}
		if r.Op == "" || r.Via != gate.HVP {
			t.Errorf("got operation %q through %q", r.Op, r.Via)
		}
		if r.Query.Has("list") || r.Query.Has("help") {
			t.Errorf("the query %v chooses an operation", r.Query)
		}
	}
	if done, refused := d.counts(); done+refused > 1 {
		t.Errorf("one request became %d and %d refusals", done, refused)
	}
	if w.Header().Get("Cache-Control") != "no-store" {
		t.Error("the answer may be stored")
	}
	if w.Code >= 400 && w.Body.Len() > 0 && !strings.HasPrefix(w.Body.String(), `{"`) {
		t.Errorf("got error body %q", w.Body)
	}
}

func FuzzRequestTarget(f *testing.F) {
	for _, x := range vpathtest.Odd {
		f.Add("GET", "/v1/"+x.Escaped)
	}
	for _, x := range vpathtest.Good {
		f.Add("PUT", "/v1/"+x.Escaped)
	}
	for _, target := range []string{"/v1/sys/health?standbycode=1", "/v1/a?list=true", "/v1/a/?help=1", "http://x/v1/a", "*", "//v1/a", "/v1/a?%", "/v1"} {
		f.Add("LIST", target)
	}
	f.Fuzz(func(t *testing.T, method, target string) {
		d := &doer{}
		w, ok := serveWire(newHandler(t, d), method+" "+target+" HTTP/1.1\r\nHost: x\r\n\r\n")
		if ok {
			check(t, d, w)
		}
	})
}

func FuzzHeaders(f *testing.F) {
	for _, h := range []string{
		"X-Vault-Token: a", "X-Vault-Token: a\r\nAuthorization: Bearer b", "authorization: bearer  x", "X-Vault-Namespace: a",
		"X-Vault-Wrap-TTL: 5m", "Content-Length: 3", "Transfer-Encoding: chunked", "X-Vault-Index: a\r\nX-Vault-Index: b",
		"Content-Type: application/merge-patch+json; x", "Content-Length: 3\r\nTransfer-Encoding: chunked", "Expect: 100-continue",
	} {
		f.Add("PATCH", h, "3\r\nabc\r\n0\r\n\r\n")
		f.Add("GET", h, "")
	}
	f.Fuzz(func(t *testing.T, method, headers, body string) {
		d := &doer{}
		w, ok := serveWire(newHandler(t, d, limit(64)), method+" /v1/secret/data/a HTTP/1.1\r\nHost: x\r\n"+headers+"\r\n\r\n"+body)
		if !ok {
			return
		}
		check(t, d, w)
		for _, r := range d.done {
			if strings.ContainsAny(r.Token.Reveal()+r.Index+r.ContentType+r.UserAgent, "\r\n\x00") {
				t.Errorf("a line end reached the gate in a header: %q %q", r.Index, r.ContentType)
			}
			if r.BodyLen > 64 {
				t.Errorf("a body of %d bytes reached the gate", r.BodyLen)
			}
		}
	})
}
