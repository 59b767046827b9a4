package h1_test

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/internal/h1"
)

const plain = "GET /v1/secret/data/a HTTP/1.1\r\nHost: vault:8200\r\nX-Vault-Token: t\r\n\r\n"

// with is plain with one part replaced.
func with(old, text string) string { return strings.Replace(plain, old, text, 1) }

func TestWhatIsPlain(t *testing.T) {
	for name, text := range map[string]string{
		"a read":                    plain,
		"a list":                    with("GET", "LIST"),
		"a query":                   with("data/a", "data/a?version=2&x=%2F"),
		"an escaped path":           with("data/a", "data%2Fa"),
		"a write":                   with("GET", "PUT") + "",
		"a write with a length":     strings.Replace(with("GET", "POST"), "\r\n\r\n", "\r\nContent-Length: 12\r\n\r\n", 1),
		"keep-alive":                with("X-Vault-Token: t", "Connection: Keep-Alive"),
		"a header twice":            with("X-Vault-Token: t", "X-Vault-Token: t\r\nx-vault-token: u"),
		"lower case names":          with("Host", "host"),
		"an empty value":            with(" t\r\n", "\r\n"),
		"blanks around a value":     with(" t\r\n", " \t t \t\r\n"),
		"bytes past ASCII in value": with(" t\r\n", " t\xe4\r\n"),
		"an IPv6 host":              with("vault:8200", "[::1]:8200"),
	} {
		if _, ok := h1.Parse(text, "/v1/"); !ok {
			t.Errorf("%s: not taken", name)
		}
	}
}

func TestWhatIsLeftToNetHTTP(t *testing.T) {
	for name, text := range map[string]string{
		"another method":                    with("GET", "HEAD"),
		"a method in lower case":            with("GET", "get"),
		"no method":                         with("GET ", ""),
		"another version":                   with("HTTP/1.1", "HTTP/1.0"),
		"no version":                        with(" HTTP/1.1", ""),
		"HTTP/2":                            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"another prefix":                    with("/v1/", "/v2/"),
		"an absolute target":                with("/v1/", "http://other/v1/"),
		"two blanks":                        with(" /v1/", "  /v1/"),
		"a tab for a blank":                 with(" HTTP", "\tHTTP"),
		"a blank behind the version":        with("HTTP/1.1", "HTTP/1.1 "),
		"a control character in the target": with("data/a", "data/\x01a"),
		"a byte past ASCII in the target":   with("data/a", "data/\xe4"),
		"an escape that is none":            with("data/a", "data/%zz"),
		"bare line feeds":                   strings.ReplaceAll(plain, "\r\n", "\n") + "\r\n\r\n",
		"a bare line feed in a value":       with("Token: t", "Token: t\nX: y"),
		"a bare carriage return in a value": with("Token: t", "Token: t\rX: y"),
		"a folded line":                     with("Token: t", "Token: t\r\n u"),
		"a folded first line":               with("Host", " Host"),
		"a blank before the colon":          with("X-Vault-Token:", "X-Vault-Token :"),
		"an empty name":                     with("X-Vault-Token:", ":"),
		"a line without a colon":            with("X-Vault-Token: t", "X-Vault-Token"),
		"a name that is no token":           with("X-Vault-Token", "X-Vault(Token"),
		"a NUL in a value":                  with("Token: t", "Token: \x00t"),
		"no host":                           with("Host: vault:8200\r\n", ""),
		"an empty host":                     with("Host: vault:8200", "Host: "),
		"two hosts":                         with("Host: vault:8200", "Host: a\r\nHost: a"),
		"a host with a path":                with("vault:8200", "vault/x"),
		"a host with a user":                with("vault:8200", "u@vault"),
		"chunks":                            with("X-Vault-Token: t", "Transfer-Encoding: chunked"),
		"chunks and a length":               strings.Replace(with("GET", "PUT"), "X-Vault-Token: t", "Content-Length: 3\r\nTransfer-Encoding: chunked", 1),
		"chunks by an odd name":             with("X-Vault-Token: t", "transfer-encoding: identity"),
		"two lengths":                       strings.Replace(with("GET", "PUT"), "X-Vault-Token: t", "Content-Length: 3\r\nContent-Length: 3", 1),
		"two lengths in one":                strings.Replace(with("GET", "PUT"), "X-Vault-Token: t", "Content-Length: 3, 3", 1),
		"a length with a sign":              strings.Replace(with("GET", "PUT"), "X-Vault-Token: t", "Content-Length: +3", 1),
		"a negative length":                 strings.Replace(with("GET", "PUT"), "X-Vault-Token: t", "Content-Length: -3", 1),
		"a length in hex":                   strings.Replace(with("GET", "PUT"), "X-Vault-Token: t", "Content-Length: 0x3", 1),
		"no length in a length":             strings.Replace(with("GET", "PUT"), "X-Vault-Token: t", "Content-Length: ", 1),
		"a length that overflows":           strings.Replace(with("GET", "PUT"), "X-Vault-Token: t", "Content-Length: 9999999999999999999", 1),
		"a read with a body":                with("X-Vault-Token: t", "Content-Length: 3"),
		"Expect":                            with("X-Vault-Token: t", "Expect: 100-continue"),
		"Upgrade":                           with("X-Vault-Token: t", "Upgrade: h2c"),
		"Connection: close":                 with("X-Vault-Token: t", "Connection: close"),
		"Connection names a header":         with("X-Vault-Token: t", "Connection: X-Vault-Token"),
		"a trailer":                         with("X-Vault-Token: t", "Trailer: X"),
		"more behind":                       plain + "x",
		"no end":                            strings.TrimSuffix(plain, "\r\n"),
		"nothing":                           "",
	} {
		if got, ok := h1.Parse(text, "/v1/"); ok {
			t.Errorf("%s: taken as %+v", name, got)
		}
	}
}

// FuzzParse shows that whatever is taken here is taken by net/http in the same sense.
func FuzzParse(f *testing.F) {
	f.Add(plain)
	f.Add(with("data/a", "data%2Fa?list=true"))
	f.Add(strings.Replace(with("GET", "PUT"), "X-Vault-Token: t", "Content-Length: 3\r\nAuthorization: Bearer x", 1))
	f.Add(with("Token: t", "Token: t\r\n u"))
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := h1.Parse(text, "/v1/")
		if !ok {
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if err != nil {
			t.Fatalf("net/http refuses what was taken: %v", err)
		}
		if r.Close || len(r.TransferEncoding) > 0 || r.ProtoMajor != 1 || r.ProtoMinor != 1 {
			t.Fatalf("net/http sees more in it: %+v", r)
		}
		want := h1.Parsed{r.Method, r.RequestURI, r.Host, r.URL.Path, r.URL.RawQuery, r.Header, r.ContentLength}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("net/http reads it otherwise (-net/http +h1):\n%s", diff)
		}
	})
}
