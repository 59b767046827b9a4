package upstream_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/upstream"
)

const plainAnswer = "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Type: application/json\r\nDate: x\r\nContent-Length: 2\r\n\r\n{}"

func TestPlainAnswers(t *testing.T) {
	with := func(old, text string) string { return strings.Replace(plainAnswer, old, text, 1) }
	for name, c := range map[string]struct {
		text  string
		taken bool
	}{
		"an answer of Vault's":          {plainAnswer, true},
		"no words behind the status":    {with(" OK", ""), true},
		"an unknown header":             {with("Date", "X-Other"), true},
		"chunks":                        {with("Content-Length: 2", "Transfer-Encoding: chunked"), false},
		"chunks and a length":           {with("Date: x", "Transfer-Encoding: chunked"), false},
		"chunks in other letters":       {with("Date: x", "transfer-encoding: chunked"), false},
		"no length":                     {with("Content-Length: 2\r\n", ""), false},
		"two lengths":                   {with("Date: x", "Content-Length: 2"), false},
		"a length in other letters":     {with("Date: x", "content-length: 2"), false},
		"a length with a sign":          {with("Length: 2", "Length: +2"), false},
		"a length that overflows":       {with("Length: 2", "Length: 9999999999999999999"), false},
		"the end of the connection":     {with("Date: x", "Connection: close"), false},
		"a folded line":                 {with("Date: x", "Date: x\r\n y"), false},
		"a bare line feed":              {with("Date: x\r\n", "Date: x\n"), false},
		"bare line feeds alone":         {strings.ReplaceAll(plainAnswer, "\r\n", "\n"), false},
		"a NUL":                         {with("Date: x", "Date: \x00"), false},
		"a blank before the colon":      {with("Date:", "Date :"), false},
		"no name":                       {with("Date:", ":"), false},
		"HTTP/1.0":                      {with("HTTP/1.1", "HTTP/1.0"), false},
		"another protocol":              {with("HTTP/1.1", "HTTP/2.0"), false},
		"a status of two digits":        {with("200", "20"), false},
		"a status that makes no sense":  {with("200", "999"), false},
		"an answer before the answer":   {with("200", "100"), false},
		"an answer without a body":      {with("200 OK", "204 No Content"), false},
		"more headers than there is of": {with("Date: x", strings.Repeat("Warning: w\r\n", 9)+"Date: x"), false},
		"half an answer":                {plainAnswer[:50], false},
		"nothing":                       {"", false},
		"too much":                      {with("Date: x", "X-A: "+strings.Repeat("a", 9000)), false},
	} {
		_, _, _, rest, ok := upstream.Plain(c.text)
		if ok != c.taken {
			t.Errorf("%s: taken is %v, want %v", name, ok, c.taken)
		}
		if !ok && rest != c.text {
			t.Errorf("%s: something was read of it", name)
		}
	}
}

// FuzzPlainAnswer shows that whatever is taken is taken by net/http in the same sense.
func FuzzPlainAnswer(f *testing.F) {
	f.Add(plainAnswer)
	f.Add(strings.Replace(plainAnswer, "Date: x", "Retry-After: 1\r\nX-Vault-Index: a\r\nLocation: http://b", 1))
	f.Add(strings.Replace(plainAnswer, "\r\n", "\n", 1))
	f.Fuzz(func(t *testing.T, text string) {
		code, length, kept, rest, ok := upstream.Plain(text)
		if !ok {
			return
		}
		br := bufio.NewReader(strings.NewReader(text))
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("net/http refuses what was taken: %v", err)
		}
		if resp.Close || len(resp.TransferEncoding) > 0 || resp.ProtoMajor != 1 || code != resp.StatusCode || length != resp.ContentLength {
			t.Fatalf("got status %d and length %d, net/http reads %+v", code, length, resp)
		}
		if left, err := io.ReadAll(br); err != nil || string(left) != rest {
			t.Fatalf("got %q left, net/http leaves %q, %v", rest, left, err)
		}
		for _, name := range []string{"Content-Type", "Cache-Control", "Retry-After", "Warning", "X-Vault-Index", "Content-Encoding", "Location"} {
			if got, want := values(kept, name), strings.Join(resp.Header[name], "\n"); got != want {
				t.Errorf("%s: got %q, net/http has %q", name, got, want)
			}
		}
	})
}

func values(kept []gate.Field, name string) string {
	var all []string
	for _, f := range kept {
		if f.Name == name {
			all = append(all, f.Value)
		}
	}
	return strings.Join(all, "\n")
}
