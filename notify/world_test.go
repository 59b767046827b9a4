package notify_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/document"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/notify"
	"github.com/bailiff-secrets/bailiff/store/sqlite"
)

const signKey = "canary-4c1f90-signs-webhooks"

// world is a trail and a store as a server has them, and webhooks that follow them.
type world struct {
	t     *testing.T
	trail *audit.Log
	db    *sqlite.DB
	cfg   notify.Config
	logs  *logBuffer
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// plainSealer seals nothing: what is tested here is not what is secret at rest.
type plainSealer struct{}

func (plainSealer) Seal(plain []byte, _ string) ([]byte, error)  { return plain, nil }
func (plainSealer) Open(sealed []byte, _ string) ([]byte, error) { return sealed, nil }

func newWorld(t *testing.T) *world {
	w := &world{t: t, trail: openTrail(t, t.TempDir()), logs: &logBuffer{}}
	var err error
	if w.db, err = sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "db"), Sealer: plainSealer{}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.db.Close() })
	w.cfg = notify.Config{
		Trail: w.trail, Cursors: w.db, Leases: w.db, Node: "node-1", Source: "/bailiff/test", Version: "1.2.3",
		Logger:  slog.New(slog.NewTextHandler(w.logs, nil)),
		Timeout: 300 * time.Millisecond, RetryMin: time.Millisecond, RetryMax: 20 * time.Millisecond, Refusals: 3,
		Poll: 2 * time.Millisecond, Look: 2 * time.Millisecond, Save: time.Nanosecond, Claim: 300 * time.Millisecond,
	}
	return w
}

func openTrail(t *testing.T, dir string) *audit.Log {
	t.Helper()
	trail, err := audit.Open(audit.Config{Dir: dir, Node: "node-1", ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = trail.Close() })
	return trail
}

// running is a manager that runs.
type running struct {
	*notify.Manager
	stop func()
}

// start makes a manager with webhooks and runs it until the test's end.
func (w *world) start(hooks ...object.Notify) *running {
	w.t.Helper()
	m, err := notify.New(w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	m.Use(hooks)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	r := &running{m, sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run: %v", err)
		}
	})}
	w.t.Cleanup(r.stop)
	w.follows(hooks...)
	return r
}

// follows waits until each webhook has a cursor, so that nothing which happens later is missed by the next manager.
func (w *world) follows(hooks ...object.Notify) {
	w.t.Helper()
	for _, h := range hooks {
		w.within("webhook "+h.Name+" follows the trail", func() bool {
			_, err := w.db.Document(context.Background(), "notify", h.Name+"/"+w.cfg.Node)
			return err == nil
		})
	}
}

// hook is a webhook of every event, at a URL.
func hook(url string, with ...func(*object.Notify)) object.Notify {
	n := object.Notify{
		Name: "ops", URL: url, Secret: secret.New(signKey), Events: object.NotifyEvents(), Before: object.Duration(10 * time.Minute),
	}
	for _, f := range with {
		f(&n)
	}
	return n
}

// ended is the record of a lease that was revoked.
func ended(n int) *audit.Record {
	return &audit.Record{
		Stage: audit.StageEvent, Status: audit.OK, Via: "system", Op: "delete", RequestID: fmt.Sprint("request-", n), Identity: "ci", AccessID: "p-1",
		Path: "database/creds/ro", Mount: "database/", Target: "pg", LeaseID: lease(n), Principal: fmt.Sprint("bl-ro-", n),
		Detail: "expired and revoked", Event: broker.EventRevoked,
	}
}

func lease(n int) string { return fmt.Sprintf("database/creds/ro/%d", n) }

func (w *world) append(records ...*audit.Record) {
	w.t.Helper()
	if err := w.trail.Append(context.Background(), records...); err != nil {
		w.t.Fatal(err)
	}
}

// within waits until ok is true.
func (w *world) within(what string, ok func() bool) {
	w.t.Helper()
	timer := time.NewTimer(20 * time.Second)
	defer timer.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-timer.C:
			w.t.Fatalf("not within 20 s: %s\n%s", what, w.logs.String())
		case <-tick.C:
		}
	}
}

// receiver is a webhook's other end. answer may stand in for its answer; what got an answer of its own is kept.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	answer func(w http.ResponseWriter, req *http.Request, n int) (done bool)
	calls  int
	got    []got
}

type got struct {
	header http.Header
	body   []byte
	event  event
}

// event is what a receiver reads.
type event struct {
	SpecVersion string         `json:"specversion"`
	ID          string         `json:"id"`
	Source      string         `json:"source"`
	Type        string         `json:"type"`
	Subject     string         `json:"subject"`
	Time        time.Time      `json:"time"`
	ContentType string         `json:"datacontenttype"`
	Data        map[string]any `json:"data"`
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	r.mu.Lock()
	r.calls++
	n, answer := r.calls, r.answer
	r.mu.Unlock()
	if answer != nil && answer(w, req, n) {
		return
	}
	g := got{header: req.Header.Clone(), body: body}
	if err := json.Unmarshal(body, &g.event); err != nil {
		http.Error(w, "no JSON", http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	r.got = append(r.got, g)
	r.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func (r *receiver) answers(f func(w http.ResponseWriter, req *http.Request, n int) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

func (r *receiver) all() []got {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// subjects are the leases of the events that were taken, in their order.
func (r *receiver) subjects() []string {
	var out []string
	for _, g := range r.all() {
		out = append(out, g.event.Subject)
	}
	return out
}

// again listens where a server that was closed listened.
func again(t *testing.T, r *receiver, address string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(r)
	if err := s.Listener.Close(); err != nil {
		t.Fatal(err)
	}
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
}

// refusing is a store that can be told to take no more writes, as one of a process that was killed.
type refusing struct {
	*sqlite.DB
	mu  sync.Mutex
	off bool
}

func (r *refusing) turnOff() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.off = true
}

func (r *refusing) WriteDocuments(ctx context.Context, changes ...*document.Change) error {
	r.mu.Lock()
	off := r.off
	r.mu.Unlock()
	if off {
		return os.ErrClosed
	}
	return r.DB.WriteDocuments(ctx, changes...)
}
