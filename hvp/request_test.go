package hvp_test

import (
	"context"
	"io"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/hvp"
	"github.com/bailiff-secrets/bailiff/policy"
)

// asked is what of a gate.Request a test looks at.
type asked struct {
	Op          policy.Operation
	Path        string
	Token       string
	Query       url.Values
	ContentType string
	Length      int64
	Body        string
	Index       string
	Agent       string
}

func TestRequestsAreUnderstood(t *testing.T) {
	tests := []struct {
		what string
		wire string
		want asked
	}{
		{"a read", request("GET /v1/secret/data/a", "X-Vault-Token: t"), asked{Op: policy.Read, Path: "secret/data/a", Token: "t"}},
		{"a read with a query", request("GET /v1/secret/data/a?version=2&list=false"), asked{Op: policy.Read, Path: "secret/data/a", Query: url.Values{"version": {"2"}}}},
		{"a list by its verb", request("LIST /v1/secret/metadata/a"), asked{Op: policy.List, Path: "secret/metadata/a"}},
		{"a list by its verb, with a slash", request("LIST /v1/secret/metadata/a/"), asked{Op: policy.List, Path: "secret/metadata/a"}},
		{"a list by its query", request("GET /v1/secret/metadata/a?list=true&after=x"), asked{Op: policy.List, Path: "secret/metadata/a", Query: url.Values{"after": {"x"}}}},
		{"a list by its query, with a slash", request("GET /v1/secret/metadata/a/?list=1"), asked{Op: policy.List, Path: "secret/metadata/a"}},
		{"help by its query", request("GET /v1/secret?help=1"), asked{Op: policy.Help, Path: "secret"}},
		{"help, whatever the method", request("PUT /v1/secret?help=1"), asked{Op: policy.Help, Path: "secret"}},
		{"a PUT", withBody("PUT /v1/secret/data/a", "{}", "Content-Type: application/json"), asked{Op: policy.Update, Path: "secret/data/a", ContentType: "application/json", Length: 2, Body: "{}"}},
		{"a POST", withBody("POST /v1/secret/data/a", "{}"), asked{Op: policy.Update, Path: "secret/data/a", Length: 2, Body: "{}"}},
		{"a PUT without a body", request("PUT /v1/sys/leases/revoke/x"), asked{Op: policy.Update, Path: "sys/leases/revoke/x"}},
		{"a PUT can't be made a list", request("PUT /v1/secret/a?list=true"), asked{Op: policy.Update, Path: "secret/a"}},
		{"a PUT in chunks", request("PUT /v1/secret/data/a", "Transfer-Encoding: chunked") + "1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", asked{Op: policy.Update, Path: "secret/data/a", Length: -1, Body: "{}"}},
		{"a PUT that waits to be told", withBody("PUT /v1/secret/data/a", "{}", "Expect: 100-continue"), asked{Op: policy.Update, Path: "secret/data/a", Length: 2, Body: "{}"}},
		{"a patch", withBody("PATCH /v1/secret/data/a", "{}", "Content-Type: application/merge-patch+json"), asked{Op: policy.Patch, Path: "secret/data/a", ContentType: "application/merge-patch+json", Length: 2, Body: "{}"}},
		{"a delete without its body", withBody("DELETE /v1/secret/data/a", "{}"), asked{Op: policy.Delete, Path: "secret/data/a"}},
		{"a read without its body", withBody("GET /v1/secret/data/a", "{}"), asked{Op: policy.Read, Path: "secret/data/a"}},
		{"an encoded slash", request("GET /v1/secret%2Fdata%2Fa"), asked{Op: policy.Read, Path: "secret/data/a"}},
		{"a bearer token", request("GET /v1/secret/a", "Authorization: Bearer t1"), asked{Op: policy.Read, Path: "secret/a", Token: "t1"}},
		{"the same token twice", request("GET /v1/secret/a", "authorization: bearer t1", "X-Vault-Token: t1"), asked{Op: policy.Read, Path: "secret/a", Token: "t1"}},
		{"an authorization that is no token", request("GET /v1/secret/a", "Authorization: Basic eDp5", "X-Vault-Token: t"), asked{Op: policy.Read, Path: "secret/a", Token: "t"}},
		{"no token", request("GET /v1/secret/a"), asked{Op: policy.Read, Path: "secret/a"}},
		{"the root namespace", request("GET /v1/secret/a", "X-Vault-Namespace: root/"), asked{Op: policy.Read, Path: "secret/a"}},
		{"wrapping for no time", request("GET /v1/secret/a", "X-Vault-Wrap-TTL: 0"), asked{Op: policy.Read, Path: "secret/a"}},
		{"an index and an agent", request("GET /v1/secret/a", "X-Vault-Index: i", "User-Agent: u/1"), asked{Op: policy.Read, Path: "secret/a", Index: "i", Agent: "u/1"}},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			var body []byte
			d := &doer{serve: func(_ context.Context, r *gate.Request) (*gate.Response, error) {
				var err error
				if r.Body != nil {
					body, err = io.ReadAll(r.Body)
				}
				return &gate.Response{Status: gate.NoContent}, err
			}}
			got := send(t, newServer(t, d), tt.wire)
			if got.code != 204 {
				t.Fatalf("got %d %s, want 204", got.code, got.body)
			}
			r := d.last(t)
			if diff := cmp.Diff(tt.want, asked{r.Op, r.Path, r.Token.Reveal(), r.Query, r.ContentType, r.BodyLen, string(body), r.Index, r.UserAgent}); diff != "" {
				t.Errorf("the request differs (-want +got):\n%s", diff)
			}
			if r.Via != gate.HVP || r.ClientAddr.String() != "127.0.0.1" || r.Start.IsZero() {
				t.Errorf("got via %q, from %v at %v", r.Via, r.ClientAddr, r.Start)
			}
		})
	}
}

func TestRequestsAreRefused(t *testing.T) {
	big := strings.Repeat("x", 101)
	tests := []struct {
		what  string
		wire  string
		code  int
		kind  gate.Kind
		words string
	}{
		{"two tokens", request("GET /v1/secret/a", "X-Vault-Token: a", "Authorization: Bearer b"), 400, gate.Invalid, "two different tokens"},
		{"two token headers", request("GET /v1/secret/a", "X-Vault-Token: a", "X-Vault-Token: b"), 400, gate.Invalid, "given twice"},
		{"two bearers", request("GET /v1/secret/a", "Authorization: Bearer a", "Authorization: Bearer b"), 400, gate.Invalid, "two different tokens"},
		{"two indexes", request("GET /v1/secret/a", "X-Vault-Index: a", "X-Vault-Index: b"), 400, gate.Invalid, "given twice"},
		{"two namespaces", request("GET /v1/secret/a", "X-Vault-Namespace: team-a", "X-Vault-Namespace: team-b"), 400, gate.Invalid, "twice with different values"},
		{"a namespace that is no path", request("GET /v1/secret/a", "X-Vault-Namespace: a/../b"), 400, gate.Invalid, "the namespace is not a path"},
		{"two wrapping times", request("GET /v1/secret/a", "X-Vault-Wrap-TTL: 60s", "X-Vault-Wrap-TTL: 61s"), 400, gate.Invalid, "given twice"},
		{"two wrapping formats", request("GET /v1/secret/a", "X-Vault-Wrap-TTL: 60s", "X-Vault-Wrap-Format: jwt", "X-Vault-Wrap-Format: token"), 400, gate.Invalid, "given twice"},
		{"a read with a slash at its end", request("GET /v1/secret/a/"), 400, gate.Invalid, "can only be listed"},
		{"a write with a slash at its end", withBody("PUT /v1/secret/a/", "{}"), 400, gate.Invalid, "can only be listed"},
		{"a list that is neither true nor false", request("GET /v1/secret/a?list=maybe"), 400, gate.Invalid, `"errors":[]`},
		{"a query that can't be read", request("GET /v1/secret/a?a=%zz"), 400, gate.Invalid, "query"},
		{"a query with a semicolon", request("GET /v1/secret/a?a=1;list=true"), 400, gate.Invalid, "query"},
		{"a fragment", request("GET /v1/secret/a#b"), 400, gate.Invalid, "fragment"},
		{"an absolute target", request("GET http://x/v1/secret/a"), 400, gate.Invalid, "begin with /v1/"},
		{"an authority", request("CONNECT x:443"), 400, gate.Invalid, "begin with /v1/"},
		{"a star", request("GET *"), 400, gate.Invalid, "begin with /v1/"},
		{"a HEAD", request("HEAD /v1/secret/a"), 405, gate.Unsupported, ""},
		{"an OPTIONS", request("OPTIONS /v1/secret/a"), 405, gate.Unsupported, "unsupported operation"},
		{"a method that nobody knows", request("FLY /v1/secret/a"), 405, gate.Unsupported, `"errors":[]`},
		{"a patch that does not say its format", withBody("PATCH /v1/secret/a", "{}"), 400, gate.Invalid, "mime: no media type"},
		{"a change of the seal", withBody("PUT /v1/sys/seal-status", "{}"), 405, gate.Unsupported, `"errors":[]`},
		{"another initialization", withBody("PUT /v1/sys/init", "{}"), 400, gate.Invalid, "already initialized"},
		{"a patch in another format", withBody("PATCH /v1/secret/a", "{}", "Content-Type: application/json"), 415, gate.Unsupported, "merge-patch"},
		{"a body that says it is too large", withBody("PUT /v1/secret/a", big), 413, gate.TooLarge, "larger than 100"},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			d := &doer{}
			got := send(t, newServer(t, d, limit(100)), tt.wire)
			if got.code != tt.code || !strings.Contains(got.body, tt.words) {
				t.Errorf("got %d %s, want %d with %q", got.code, got.body, tt.code, tt.words)
			}
			if !strings.HasPrefix(tt.wire, "HEAD ") {
				wantErrors(t, got)
			}
			if done, refused := d.counts(); done != 0 || refused != 1 || d.refused[0].kind != tt.kind {
				t.Errorf("got %d requests and refusals %+v, want none and one of kind %d", done, d.refused, tt.kind)
			}
		})
	}
}

func limit(n int64) func(*hvp.Config) { return func(c *hvp.Config) { c.MaxBody = n } }

func wantErrors(t *testing.T, a answer) {
	t.Helper()
	if !strings.HasPrefix(a.body, `{"errors":[`) || !strings.HasSuffix(a.body, "]}\n") || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("got %q as %q, want Vault's shape of an error", a.body, a.header.Get("Content-Type"))
	}
}

func TestBodyIsLimitedAsItComes(t *testing.T) {
	chunks := func(n int) string {
		return request("PUT /v1/secret/a", "Transfer-Encoding: chunked") + strings.Repeat("1\r\nx\r\n", n) + "0\r\n\r\n"
	}
	tests := []struct {
		what string
		n    int
		code int
	}{{"at the limit", 100, 204}, {"one byte over it", 101, 413}, {"far over it", 5000, 413}}
	for _, tt := range tests {
		var read string
		var rerr error
		d := &doer{serve: func(_ context.Context, r *gate.Request) (*gate.Response, error) {
			b, err := io.ReadAll(r.Body)
			read, rerr = string(b), err
			if err != nil {
				return nil, gate.Errorf(gate.Internal, "something else went wrong: %w", err)
			}
			return &gate.Response{Status: gate.NoContent}, nil
		}}
		got := send(t, newServer(t, d, limit(100)), chunks(tt.n))
		if got.code != tt.code {
			t.Errorf("%s: got %d %s, want %d", tt.what, got.code, got.body, tt.code)
		}
		if over := tt.code == 413; over != (rerr != nil) || len(read) > 100 {
			t.Errorf("%s: the backend read %d bytes and %v", tt.what, len(read), rerr)
		}
	}
}

func TestBodyThatBreaksOffIsAnError(t *testing.T) {
	failed := make(chan error, 1)
	d := &doer{serve: func(_ context.Context, r *gate.Request) (*gate.Response, error) {
		_, err := io.ReadAll(r.Body)
		failed <- err
		return nil, err
	}}
	s := newServer(t, d)
	c := dial(t, s)
	io.WriteString(c, "PUT /v1/secret/a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
	c.CloseWrite()
	if err := <-failed; err == nil {
		t.Error("the backend took a part of the body for the whole")
	}
}
