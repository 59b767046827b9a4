package notify_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/notify"
)

func TestAnEventSaysWhatBecameOfALease(t *testing.T) {
	stuck := ended(1)
	stuck.Event, stuck.Status, stuck.Error = broker.EventFailing, audit.Failed, "owns-objects: role owns table x"
	forced := ended(1)
	forced.Event, forced.Identity, forced.Error = broker.EventGivenUp, "bob", "it was never tried"
	for _, tt := range []struct {
		name   string
		record *audit.Record
		typ    string
		id     string
		more   map[string]any
	}{
		{"revoked", ended(1), "lease.revoked", lease(1) + "/revoked",
			map[string]any{"identity": "ci", "access_id": "p-1", "detail": "expired and revoked"}},
		{"stuck", stuck, "lease.revocation-failing", lease(1) + "/revocation-failing",
			map[string]any{"identity": "ci", "access_id": "p-1", "detail": "expired and revoked", "cause": "owns-objects", "error": "role owns table x"}},
		{"given up", forced, "lease.given-up", lease(1) + "/given-up",
			map[string]any{"by": "bob", "access_id": "p-1", "detail": "expired and revoked", "error": "it was never tried"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, r := newWorld(t), newReceiver(t)
			w.start(hook(r.URL + "/in"))
			w.append(tt.record)
			w.within("the event arrives", func() bool { return len(r.all()) == 1 })
			g := r.all()[0]
			e := g.event
			if e.SpecVersion != "1.0" || e.ID != tt.id || e.Source != "/bailiff/test" || e.Type != tt.typ || e.Subject != lease(1) ||
				e.ContentType != "application/json" || time.Since(e.Time) > time.Minute {
				t.Errorf("got %+v", e)
			}
			want := map[string]any{
				"lease_id": lease(1), "mount": "database", "role": "ro", "target": "pg", "principal": "bl-ro-1", "request_id": "request-1", "node": "node-1",
			}
			maps.Copy(want, tt.more)
			if !maps.Equal(e.Data, want) {
				t.Errorf("got data %v\nwant %v", e.Data, want)
			}
			if ct := g.header.Get("Content-Type"); ct != "application/cloudevents+json; charset=utf-8" {
				t.Errorf("got content type %q", ct)
			}
			now := time.Now()
			signature := g.header.Get(notify.SignatureHeader)
			if err := notify.Verify(signKey, signature, g.body, now, time.Minute); err != nil {
				t.Errorf("%q: %v", signature, err)
			}
			for what, err := range map[string]error{
				"another secret":    notify.Verify("another", signature, g.body, now, time.Minute),
				"another body":      notify.Verify(signKey, signature, append(g.body, ' '), now, time.Minute),
				"another time":      notify.Verify(signKey, "t=1"+strings.TrimPrefix(signature, "t=1")[1:], g.body, now, 1<<62),
				"long ago":          notify.Verify(signKey, signature, g.body, now.Add(time.Hour), time.Minute),
				"no signature":      notify.Verify(signKey, "", g.body, now, time.Minute),
				"an hour too early": notify.Verify(signKey, signature, g.body, now.Add(-time.Hour), time.Minute),
			} {
				if err == nil {
					t.Errorf("%s: the signature holds", what)
				}
			}
			if strings.Contains(fmt.Sprint(g.header)+string(g.body)+w.logs.String(), signKey) {
				t.Error("the secret is shown")
			}
		})
	}
}

func TestOnlyWhatAWebhookPicksIsSent(t *testing.T) {
	w, r := newWorld(t), newReceiver(t)
	w.start(hook(r.URL, func(n *object.Notify) {
		n.Events, n.Before = []string{object.EventRevoked}, 0
		n.Mounts, n.Roles, n.Identities = []string{"database"}, []string{"database/ro"}, []string{"ci"}
	}))
	but := func(n int, f func(*audit.Record)) *audit.Record {
		rec := ended(n)
		f(rec)
		return rec
	}
	w.append(
		but(1, func(r *audit.Record) { r.Mount, r.Path = "other/", "other/creds/ro" }),
		but(2, func(r *audit.Record) { r.Path = "database/creds/rw" }),
		but(3, func(r *audit.Record) { r.Identity = "cicero" }),
		but(4, func(r *audit.Record) { r.Event = broker.EventFailing }),
		but(5, func(r *audit.Record) { r.Event = "" }),
		but(6, func(r *audit.Record) { r.Stage = audit.StageResponse }),
		but(7, func(r *audit.Record) { r.LeaseID = "" }),
		ended(8),
	)
	w.within("an event arrives", func() bool { return len(r.all()) > 0 })
	if got := r.subjects(); !slices.Equal(got, []string{lease(8)}) {
		t.Errorf("got %q, want the last one alone", got)
	}
}

// TestOrderIsKept: more events than are in memory at a time, among other records, each once and in order.
func TestOrderIsKept(t *testing.T) {
	w, r := newWorld(t), newReceiver(t)
	w.cfg.Save = time.Second
	w.start(hook(r.URL))
	var want []string
	var records []*audit.Record
	for i := range 600 {
		want = append(want, lease(i))
		records = append(records, ended(i), &audit.Record{Stage: audit.StageResponse, Status: audit.OK, Op: "read", Path: "secret/data/x"})
	}
	w.append(records...)
	w.within("all have arrived", func() bool { return len(r.all()) >= 600 })
	if got := r.subjects(); !slices.Equal(got, want) {
		t.Errorf("got %d events, not each once in order", len(got))
	}
}

func TestAWebhookThatIsDownCatchesUp(t *testing.T) {
	w, r := newWorld(t), newReceiver(t)
	address := strings.TrimPrefix(r.URL, "http://")
	r.Close()
	m := w.start(hook("http://" + address))
	var want []string
	for i := range 50 {
		want = append(want, lease(i))
		w.append(ended(i))
	}
	w.within("it is seen to fail", func() bool {
		h := m.Health()[0]
		return h.Failing && h.Failures > 3 && strings.Contains(h.Error, "connection refused") && h.Behind >= 50 && h.Lag > 0 && h.Delivered == 0
	})
	again(t, r, address)
	w.within("all have arrived", func() bool { return len(r.all()) >= 50 })
	if got := r.subjects(); !slices.Equal(got, want) {
		t.Errorf("got %q, want each once in order", got)
	}
	w.within("it is well", func() bool {
		h := m.Health()[0]
		return !h.Failing && h.Delivered == 50 && h.Lag == 0 && h.Lost == 0 && h.Error == "" && !h.Succeeded.IsZero()
	})
}

// TestAnswersThatAreNone: whatever the other end does, an event is sent until it is taken, and those behind it wait.
func TestAnswersThatAreNone(t *testing.T) {
	elsewhere := newReceiver(t)
	for _, tt := range []struct {
		name   string
		answer func(w http.ResponseWriter, req *http.Request)
		says   string
		taken  bool // it was a 2xx
	}{
		{"500", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "it answers 500", false},
		{"429", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		}, "it answers 429", false},
		{"401", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, "it answers 401", false},
		{"a redirect", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", elsewhere.URL)
			w.WriteHeader(http.StatusTemporaryRedirect)
		}, "it answers 307, and redirects are not followed", false},
		{"nothing", func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }, "it does not answer in time", false},
		{"an end of the connection", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF", false},
		{"200, and a body that never ends", func(w http.ResponseWriter, req *http.Request) {
			w.WriteHeader(http.StatusOK)
			flush(w)
			<-req.Context().Done()
		}, "", true},
		{"200, and less than it promised", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000000")
			w.WriteHeader(http.StatusOK)
			flush(w)
			panic(http.ErrAbortHandler)
		}, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, r := newWorld(t), newReceiver(t)
			r.answers(func(w http.ResponseWriter, req *http.Request, n int) bool {
				if n <= 4 {
					tt.answer(w, req)
				}
				return n <= 4
			})
			m := w.start(hook(r.URL))
			var errors sync.Map
			for i := range 6 {
				w.append(ended(i))
			}
			w.within("the last one has arrived", func() bool {
				errors.Store(m.Health()[0].Error, true)
				got := r.subjects()
				return len(got) > 0 && got[len(got)-1] == lease(5)
			})
			want := []string{lease(0), lease(1), lease(2), lease(3), lease(4), lease(5)}
			if tt.taken {
				want = want[4:]
			}
			if got := r.subjects(); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			if _, said := errors.Load(tt.says); !said {
				t.Errorf("its health never said %q", tt.says)
			}
			if n := len(elsewhere.all()); n > 0 {
				t.Errorf("%d events were sent elsewhere", n)
			}
			w.within("its counts are right", func() bool {
				h := m.Health()[0]
				return h.Delivered == 6 && h.Lost == 0 && (h.Tries == 4) != tt.taken
			})
		})
	}
}

func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }

// TestAnEventThatIsRefusedIsGivenUp: it is recorded and counted, and those behind it are sent.
func TestAnEventThatIsRefusedIsGivenUp(t *testing.T) {
	w, r := newWorld(t), newReceiver(t)
	r.answers(func(w http.ResponseWriter, _ *http.Request, n int) bool {
		if n <= 3 {
			w.WriteHeader(http.StatusUnprocessableEntity)
		}
		return n <= 3
	})
	m := w.start(hook(r.URL))
	w.append(ended(1), ended(2))
	w.within("the second has arrived", func() bool { return len(r.all()) == 1 })
	if got := r.subjects(); !slices.Equal(got, []string{lease(2)}) {
		t.Errorf("got %q", got)
	}
	if h := m.Health()[0]; h.Lost != 1 {
		t.Errorf("%d are counted as lost, want 1", h.Lost)
	}
	var lost []*audit.Record
	err := w.trail.Query(t.Context(), audit.Query{Op: "notify"}, func(r *audit.Record) error { lost = append(lost, r); return nil })
	if err != nil || len(lost) != 1 || lost[0].LeaseID != lease(1) || lost[0].Status != audit.Failed ||
		!strings.HasPrefix(lost[0].Detail, "lost: webhook ops refused database/creds/ro/1/revoked 3 times: it answers 422") {
		t.Errorf("got %d records, %v: %+v", len(lost), err, lost)
	}
}

// TestKilledBetweenAnswerAndCursor: what was answered and not noted is sent once more, with the same id.
func TestKilledBetweenAnswerAndCursor(t *testing.T) {
	w, r := newWorld(t), newReceiver(t)
	store := &refusing{DB: w.db}
	w.cfg.Cursors = store
	killed := make(chan struct{})
	w.cfg.Fault = func(string) {
		if len(r.all()) == 3 {
			store.turnOff()
			close(killed)
		}
	}
	m := w.start(hook(r.URL))
	for i := range 5 {
		w.append(ended(i))
	}
	<-killed
	m.stop()
	first := len(r.all())
	w.cfg.Cursors, w.cfg.Fault = w.db, nil
	w.start(hook(r.URL))
	w.within("the last one has arrived", func() bool { s := r.subjects(); return s[len(s)-1] == lease(4) })
	got := r.all()
	if first != 3 || len(got) != 6 || got[2].event.ID != got[3].event.ID || got[3].event.Subject != lease(2) {
		t.Errorf("got %d before and %q in all, want the third twice", first, r.subjects())
	}
	seen := map[string]bool{}
	var once []string
	for _, g := range got { // as a receiver does
		if !seen[g.event.ID] {
			once = append(once, g.event.Subject)
		}
		seen[g.event.ID] = true
	}
	if want := []string{lease(0), lease(1), lease(2), lease(3), lease(4)}; !slices.Equal(once, want) {
		t.Errorf("sorted out by id: %q, want %q", once, want)
	}
}

// TestStoppedWhileAWebhookIsDown: what was not sent is sent after the start, and nothing twice.
func TestStoppedWhileAWebhookIsDown(t *testing.T) {
	w, r := newWorld(t), newReceiver(t)
	m := w.start(hook(r.URL))
	w.append(ended(0))
	w.within("the first has arrived", func() bool { return len(r.all()) == 1 })
	r.answers(func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	w.append(ended(1), ended(2))
	w.within("it fails", func() bool { return m.Health()[0].Failing })
	m.stop()
	w.append(ended(3))
	r.answers(nil)
	w.start(hook(r.URL))
	w.within("the last has arrived", func() bool { return len(r.all()) >= 4 })
	if got := r.subjects(); !slices.Equal(got, []string{lease(0), lease(1), lease(2), lease(3)}) {
		t.Errorf("got %q, want each once in order", got)
	}
}

// TestATrailThatIsShorter: what it lacks is counted and recorded, and what comes is sent.
func TestATrailThatIsShorter(t *testing.T) {
	w, r := newWorld(t), newReceiver(t)
	m := w.start(hook(r.URL))
	w.append(ended(0), ended(1), ended(2))
	w.within("all have arrived", func() bool { return len(r.all()) == 3 })
	m.stop() // the place of the last may not be noted yet: it would be sent again
	w.trail = openTrail(t, t.TempDir())
	w.cfg.Trail = w.trail
	m = w.start(hook(r.URL))
	w.within("the loss is counted", func() bool { return m.Health()[0].Lost == 1 })
	w.append(ended(3))
	w.within("the next has arrived", func() bool { return len(r.all()) == 4 })
	n := 0
	err := w.trail.Query(t.Context(), audit.Query{Op: "notify"}, func(r *audit.Record) error {
		if t.Log(r.Detail); regexp.MustCompile("lost: the trail ends at record 0, and webhook ops was at [23]:").MatchString(r.Detail) {
			n++
		}
		return nil
	})
	if err != nil || n != 1 {
		t.Errorf("got %d records of it, %v, want 1", n, err)
	}
}

func TestWebhooksThatChange(t *testing.T) {
	w, a, b := newWorld(t), newReceiver(t), newReceiver(t)
	m := w.start(hook(a.URL))
	w.append(ended(1))
	w.within("the first has arrived", func() bool { return len(a.all()) == 1 })

	a.answers(func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	w.append(ended(2))
	w.within("it fails", func() bool { return m.Health()[0].Failing })
	m.Use([]object.Notify{hook(b.URL)}) // what the one did not take goes to the other
	w.within("the second has arrived elsewhere", func() bool { return slices.Equal(b.subjects(), []string{lease(2)}) })

	m.Use(nil)
	w.within("its cursor is gone", func() bool {
		_, err := w.db.Document(context.Background(), "notify", "ops/node-1")
		return err != nil
	})
	w.append(ended(3))
	m.Use([]object.Notify{hook(b.URL)}) // begins anew
	w.follows(hook(b.URL))
	w.append(ended(4))
	w.within("the fourth has arrived", func() bool { return len(b.all()) >= 2 })
	if got := b.subjects(); !slices.Equal(got, []string{lease(2), lease(4)}) {
		t.Errorf("got %q", got)
	}
	if h := m.Health(); len(h) != 1 || h[0].Name != "ops" {
		t.Errorf("got health %+v", h)
	}
}

// TestOneWebhookDoesNotHoldUpAnother.
func TestOneWebhookDoesNotHoldUpAnother(t *testing.T) {
	w, bad, good := newWorld(t), newReceiver(t), newReceiver(t)
	bad.answers(func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		w.WriteHeader(http.StatusBadGateway)
		return true
	})
	w.start(hook(bad.URL), hook(good.URL, func(n *object.Notify) { n.Name = "other" }))
	for i := range 20 {
		w.append(ended(i))
	}
	w.within("the other has all", func() bool { return len(good.all()) == 20 })
}

// TestTLS: a receiver is known by the certificates that the webhook names, and no other.
func TestTLS(t *testing.T) {
	w, r := newWorld(t), newReceiver(t)
	s := httptest.NewTLSServer(r)
	t.Cleanup(s.Close)
	m := w.start(hook(s.URL))
	w.append(ended(1))
	w.within("it is not trusted", func() bool { return strings.Contains(m.Health()[0].Error, "certificate signed by unknown authority") })
	m.Use([]object.Notify{hook(s.URL, func(n *object.Notify) { n.CACert = certificate(t, s) })})
	w.within("the event has arrived", func() bool { return len(r.all()) == 1 })
}

// TestTheExampleOfTheDocumentationHolds: the header there is that of the body there, with the secret there.
func TestTheExampleOfTheDocumentationHolds(t *testing.T) {
	text, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	example := regexp.MustCompile(`(?s)Bailiff-Signature: (t=(\d+),v1=\w+)\n\n([^\n]+)\n.*secret of the example is ` + "`(\\w+)`").FindSubmatch(text)
	if example == nil {
		t.Fatal("there is no example")
	}
	at, err := strconv.ParseInt(string(example[2]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if err := notify.Verify(string(example[4]), string(example[1]), example[3], time.Unix(at, 0), time.Minute); err != nil {
		t.Error(err)
	}
	var e event
	if err := json.Unmarshal(example[3], &e); err != nil || e.Type != object.EventRevoked || e.Time.Unix() != at || e.Subject != e.Data["lease_id"] {
		t.Errorf("got %+v, %v", e, err)
	}
}

func TestNewNeedsItsParts(t *testing.T) {
	w := newWorld(t)
	for what, without := range map[string]func(*notify.Config){
		"a trail": func(c *notify.Config) { c.Trail = nil }, "cursors": func(c *notify.Config) { c.Cursors = nil },
		"leases": func(c *notify.Config) { c.Leases = nil }, "a node": func(c *notify.Config) { c.Node = "" },
		"a source": func(c *notify.Config) { c.Source = "" },
	} {
		cfg := w.cfg
		without(&cfg)
		if _, err := notify.New(cfg); err == nil {
			t.Errorf("New without %s gives no error", what)
		}
	}
}
