package upstream_test

import (
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/policy"
	"github.com/bailiff-secrets/bailiff/upstream"
)

func answerOK(c net.Conn, _ *seen) { io.WriteString(c, ok(`{"data":{"a":"b"}}`)) }

func TestWhatIsSent(t *testing.T) {
	body := `{"data":{"a":"b"}}`
	request := func(change func(*gate.Request)) *gate.Request {
		r := &gate.Request{
			Path: "kv/data/a b", Rest: "data/a b", Token: secret.New("p-client..key"), UserAgent: "client/1",
			ContentType: "application/json",
		}
		change(r)
		return r
	}
	withBody := func(op policy.Operation) func(*gate.Request) {
		return func(r *gate.Request) { r.Op, r.Body, r.BodyLen = op, strings.NewReader(body), int64(len(body)) }
	}
	jsonBody := map[string]string{"Content-Type": "application/json", "Content-Length": "18"}
	tests := []struct {
		what   string
		change func(*gate.Request)
		line   string
		header map[string]string // beside those that are always there
		body   string
	}{
		{"a read is a GET", func(r *gate.Request) { r.Op = policy.Read },
			"GET /v1/secret/data/a%20b HTTP/1.1", nil, ""},
		{"a query is encoded afresh, in order", func(r *gate.Request) {
			r.Op, r.Query = policy.Read, url.Values{"version": {"1"}, "a&b": {"x y", "z\r\n"}}
		}, "GET /v1/secret/data/a%20b?a%26b=x+y&a%26b=z%0D%0A&version=1 HTTP/1.1", nil, ""},
		{"a read can't be made a list by its query", func(r *gate.Request) {
			r.Op, r.Query = policy.Read, url.Values{"list": {"true"}, "help": {"1"}}
		}, "GET /v1/secret/data/a%20b HTTP/1.1", nil, ""},
		{"a list says so in the query", func(r *gate.Request) { r.Op = policy.List },
			"GET /v1/secret/data/a%20b?list=true HTTP/1.1", nil, ""},
		{"a list of the mount itself", func(r *gate.Request) { r.Op, r.Rest = policy.List, "" },
			"GET /v1/secret?list=true HTTP/1.1", nil, ""},
		{"a list keeps its query", func(r *gate.Request) {
			r.Op, r.Query = policy.List, url.Values{"after": {"x"}, "list": {"false"}}
		}, "GET /v1/secret/data/a%20b?after=x&list=true HTTP/1.1", nil, ""},
		{"help has no query of the client's", func(r *gate.Request) { r.Op, r.Query = policy.Help, url.Values{"a": {"b"}} },
			"GET /v1/secret/data/a%20b?help=1 HTTP/1.1", nil, ""},
		{"an update is a PUT", withBody(policy.Update), "PUT /v1/secret/data/a%20b HTTP/1.1", jsonBody, body},
		{"a create is a PUT", withBody(policy.Create), "PUT /v1/secret/data/a%20b HTTP/1.1", jsonBody, body},
		{"an update without a body has none", func(r *gate.Request) { r.Op = policy.Update },
			"PUT /v1/secret/data/a%20b HTTP/1.1", map[string]string{"Content-Length": "0"}, ""},
		{"a small body of unknown length gets one", func(r *gate.Request) {
			withBody(policy.Update)(r)
			r.BodyLen = -1
		}, "PUT /v1/secret/data/a%20b HTTP/1.1", jsonBody, body},
		{"a patch has its own content type", withBody(policy.Patch), "PATCH /v1/secret/data/a%20b HTTP/1.1",
			map[string]string{"Content-Type": "application/merge-patch+json", "Content-Length": "18"}, body},
		{"a delete has no body", withBody(policy.Delete), "DELETE /v1/secret/data/a%20b HTTP/1.1", nil, ""},
		{"an index is passed on", func(r *gate.Request) { r.Op, r.Index = policy.Read, "v1:abc" },
			"GET /v1/secret/data/a%20b HTTP/1.1", map[string]string{"X-Vault-Index": "v1:abc"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			f := newFake(t, answerOK)
			b := backendOf(t, f, 2, func(c *upstream.Config) { c.Target.Namespace = "team/a/" })
			mustServe(t, b, request(tt.change))
			got := f.all("")[1] // behind the lookup of the token
			want := http.Header{
				"Host": {strings.TrimPrefix(f.addr, "http://")}, "User-Agent": {"bailiff"}, "X-Vault-Request": {"true"},
				"X-Vault-Token": {canary}, "X-Vault-Namespace": {"team/a"},
			}
			for k, v := range tt.header {
				want[k] = []string{v}
			}
			if got.line != tt.line {
				t.Errorf("got %q, want %q", got.line, tt.line)
			}
			if diff := cmp.Diff(want, got.header); diff != "" {
				t.Errorf("the headers differ from what is wanted (-want +got):\n%s", diff)
			}
			if string(got.body) != tt.body {
				t.Errorf("got body %q, want %q", got.body, tt.body)
			}
		})
	}
}

func TestWhatIsNotSent(t *testing.T) {
	tests := []struct {
		what   string
		remote string
		change func(*gate.Request)
		kind   gate.Kind
	}{
		{"a path with a parent segment", "secret", func(r *gate.Request) { r.Rest = "../sys/seal" }, gate.Invalid},
		{"a path with an empty segment", "secret", func(r *gate.Request) { r.Rest = "a//b" }, gate.Invalid},
		{"a path with a line end", "secret", func(r *gate.Request) { r.Rest = "a\r\nX-Evil: 1" }, gate.Invalid},
		{"an index with a line end", "secret", func(r *gate.Request) { r.Index = "a\r\nX-Evil: 1" }, gate.Invalid},
		{"a content type with a line end", "secret", func(r *gate.Request) {
			r.Op, r.ContentType = policy.Update, "a\r\nX-Evil: 1"
		}, gate.Invalid},
		{"an operation that Vault has not", "secret", func(r *gate.Request) { r.Op = "sudo" }, gate.Unsupported},
		{"the target's own token paths", "auth/token", func(r *gate.Request) { r.Rest = "lookup-self" }, gate.Unsupported},
		{"the target's own sys paths", "sys", func(r *gate.Request) { r.Rest = "seal" }, gate.Unsupported},
		{"the cubbyhole of Bailiff's token", "cubbyhole", func(*gate.Request) {}, gate.Unsupported},
		{"a body that ends early", "secret", func(r *gate.Request) {
			r.Op, r.Body, r.BodyLen = policy.Update, strings.NewReader("abc"), 10
		}, gate.Invalid},
		{"a body that is too large from the start", "secret", func(r *gate.Request) {
			r.Op, r.Body, r.BodyLen = policy.Update, failing{gate.Errorf(gate.TooLarge, "too large")}, -1
		}, gate.TooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			f := newBareFake(t, answerOK)
			r := read("data/a")
			tt.change(r)
			_, err := serve(t, newVault(t, upstream.Config{Target: tokenTarget(f.addr)}).Mount(tt.remote, 0), r)
			wantKind(t, err, tt.kind)
			if n := f.connections(); n != 0 {
				t.Errorf("got %d connections, want none", n)
			}
		})
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestWhatComesBack(t *testing.T) {
	tests := []struct {
		what   string
		wire   string
		code   int
		header []gate.Field
		length int64
		body   string
	}{
		{"a secret, as it is", ok(`{"data":{"a": "b" } }`), 200,
			[]gate.Field{{Name: "Content-Type", Value: "application/json"}}, 21, `{"data":{"a": "b" } }`},
		{"a 404, as it came", "HTTP/1.1 404 Not Found\r\nContent-Length: 14\r\n\r\n{\"errors\":[]}\n", 404, []gate.Field{}, 14, "{\"errors\":[]}\n"},
		{"a 500, as it came", refuse(500, "x"), 500,
			[]gate.Field{{Name: "Content-Type", Value: "application/json"}}, 16, `{"errors":["x"]}`},
		{"a 204", "HTTP/1.1 204 No Content\r\n\r\n", 204, []gate.Field{}, 0, ""},
		{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", 200, []gate.Field{}, -1, "abcde"},
		{"a quota's 429 with when to try again", "HTTP/1.1 429 X\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", 429,
			[]gate.Field{{Name: "Retry-After", Value: "7"}}, 0, ""},
		{"only headers that mean something", "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nServer: evil\r\nX-Vault-Token: x\r\nLocation: http://x/\r\n" +
			"Access-Control-Allow-Origin: *\r\nX-Vault-Index: i\r\nCache-Control: no-store\r\nWarning: w\r\nContent-Length: 0\r\n\r\n", 200,
			[]gate.Field{{Name: "Cache-Control", Value: "no-store"}, {Name: "Warning", Value: "w"}, {Name: "X-Vault-Index", Value: "i"}}, 0, ""},
		{"no header that holds the token", "HTTP/1.1 200 OK\r\nWarning: you sent " + canary + "\r\nContent-Length: 0\r\n\r\n", 200, []gate.Field{}, 0, ""},
		{"not what stands behind its end", ok("abc") + ok("def"), 200,
			[]gate.Field{{Name: "Content-Type", Value: "application/json"}}, 3, "abc"},
		{"an answer behind an informational one", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok("abc"), 200,
			[]gate.Field{{Name: "Content-Type", Value: "application/json"}}, 3, "abc"},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			f := newFake(t, func(c net.Conn, _ *seen) { io.WriteString(c, tt.wire) })
			got := mustServe(t, backendOf(t, f, 2), read("data/a"))
			want := answered{tt.code, tt.header, tt.length, tt.body, nil}
			slices.SortFunc(got.header, func(a, b gate.Field) int { return strings.Compare(a.Name, b.Name) })
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(answered{})); diff != "" {
				t.Errorf("the answer differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLargeBodyIsStreamed(t *testing.T) {
	const size = 1 << 20
	f := newFake(t, answerOK)
	b := backendOf(t, f, 1)
	text := strings.Repeat("0123456789abcdef", size/16)
	for _, length := range []int64{size, -1} {
		mustServe(t, b, write("a", io.MultiReader(strings.NewReader(text)), length))
	}
	got := f.all("PUT ")
	if len(got) != 2 || string(got[0].body) != text || string(got[1].body) != text {
		t.Fatal("the bodies did not arrive as they were sent")
	}
	if got[0].header.Get("Content-Length") != "1048576" || got[1].header.Get("Transfer-Encoding") != "chunked" {
		t.Errorf("got headers %v and %v, want a length, then chunks", got[0].header, got[1].header)
	}
}

func TestBodyOverTheLimitIsNotCutShort(t *testing.T) {
	for _, length := range []int64{1 << 20, -1} {
		f := newFake(t, answerOK)
		body := io.MultiReader(strings.NewReader(strings.Repeat("x", 200<<10)), failing{gate.Errorf(gate.TooLarge, "too large")})
		_, err := serve(t, backendOf(t, f, 1), write("a", body, length))
		wantKind(t, err, gate.TooLarge)
		eventually(t, "the target sees the request break", func() bool { return len(f.all("PUT ")) == 1 })
		if got := f.all("PUT ")[0]; got.err == nil {
			t.Errorf("with length %d the target took %d bytes for the whole body", length, len(got.body))
		}
	}
}

func TestLargeAnswerIsNotKeptInMemory(t *testing.T) {
	const size = 20 << 20
	block := []byte(strings.Repeat("x", 64<<10))
	f := newFake(t, func(c net.Conn, _ *seen) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 20971520\r\n\r\n")
		for range size / len(block) {
			c.Write(block)
		}
	})
	b := backendOf(t, f, 1)
	mustReadAll := func() int64 {
		resp, err := b.Serve(t.Context(), read("a"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Raw.Body.Close()
		n, err := io.Copy(io.Discard, resp.Raw.Body)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	mustReadAll()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if n := mustReadAll(); n != size {
		t.Fatalf("got %d bytes, want %d", n, size)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
		t.Errorf("a 20 MiB answer took %d bytes of memory, want less than 1 MiB", grown)
	}
}
