package hvp_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/hvp"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// doer is a gate that lets everything pass to serve, and remembers what it was asked.
type doer struct {
	serve func(ctx context.Context, r *gate.Request) (*gate.Response, error)

	mu      sync.Mutex
	done    []gate.Request
	refused []refusal
}

type refusal struct {
	kind gate.Kind
	path string
	why  string
}

const requestID = "0f1e2d3c-0000-4000-8000-000000000001"

func (d *doer) Do(ctx context.Context, r *gate.Request) (*gate.Response, error) {
	r.ID = requestID
	d.mu.Lock()
	d.done = append(d.done, *r)
	d.mu.Unlock()
	if d.serve == nil {
		return &gate.Response{Data: map[string]any{"k": "v"}}, nil
	}
	return d.serve(ctx, r)
}

func (d *doer) Refuse(_ context.Context, r *gate.Request, kind gate.Kind, why string) error {
	r.ID = requestID
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refused = append(d.refused, refusal{kind, r.Path, why})
	return &gate.Error{Kind: kind, Msg: why}
}

func (d *doer) counts() (done, refused int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.done), len(d.refused)
}

func (d *doer) last(t *testing.T) gate.Request {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.done) == 0 {
		t.Fatal("nothing reached the gate")
	}
	return d.done[len(d.done)-1]
}

func info(context.Context) hvp.Info {
	return hvp.Info{ClusterName: "bailiff-test", ClusterID: "5f5b9b1e-0000-4000-8000-000000000002", StorageType: "sqlite"}
}

func newHandler(t testing.TB, d gate.Doer, change ...func(*hvp.Config)) *hvp.Handler {
	t.Helper()
	cfg := hvp.Config{Gate: d, Info: info, Logger: slog.New(slog.DiscardHandler)}
	for _, c := range change {
		c(&cfg)
	}
	h, err := hvp.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// newServer serves a Handler as the product does, without a mux in front.
func newServer(t testing.TB, d gate.Doer, change ...func(*hvp.Config)) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(newHandler(t, d, change...))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// answer is what came back over the wire.
type answer struct {
	code   int
	header http.Header
	body   string
	err    error // of the body
}

// send writes a request byte by byte as it is given and reads one answer.
func send(t testing.TB, s *httptest.Server, wire string) answer {
	t.Helper()
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	go io.WriteString(c, wire) //nolint:errcheck // the answer tells
	return readAnswer(t, c, wire)
}

func readAnswer(t testing.TB, c net.Conn, wire string) answer {
	t.Helper()
	method, _, _ := strings.Cut(wire, " ")
	br := bufio.NewReader(c)
	resp, err := http.ReadResponse(br, &http.Request{Method: method})
	if err == nil && resp.StatusCode == http.StatusContinue {
		resp, err = http.ReadResponse(br, &http.Request{Method: method})
	}
	if err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return answer{err: err}
		}
		t.Fatalf("%q: %v", wire[:min(len(wire), 200)], err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(body), err}
}

// request is a request's bytes. Lines of headers and the body follow the method and target.
func request(methodAndTarget string, headers ...string) string {
	return methodAndTarget + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + strings.Join(append(headers, ""), "\r\n") + "\r\n"
}

func withBody(methodAndTarget, body string, headers ...string) string {
	return request(methodAndTarget, append(headers, fmt.Sprintf("Content-Length: %d", len(body)))...) + body
}
