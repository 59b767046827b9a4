package notify_test

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

// certificate is a test server's own, as PEM.
func certificate(t *testing.T, s *httptest.Server) string {
	t.Helper()
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

// ends adds an active lease that ends so long from now.
func (w *world) ends(n int, in time.Duration) *broker.Lease {
	w.t.Helper()
	end := time.Now().Add(in).UTC().Truncate(time.Millisecond)
	l := &broker.Lease{
		ID: lease(n), Mount: "database/", Role: "ro", Producer: "postgres", Target: "pg", Identity: "ci", Principal: fmt.Sprint("bl-ro-", n),
		RequestID: fmt.Sprint("request-", n), State: broker.Active, IssuedAt: time.Now(), ExpiresAt: end, MaxExpiresAt: end.Add(time.Hour), NextAt: end,
	}
	if err := w.db.Insert(context.Background(), l); err != nil {
		w.t.Fatal(err)
	}
	return l
}

// renew moves a lease's end.
func (w *world) renew(l *broker.Lease, in time.Duration) {
	w.t.Helper()
	l.ExpiresAt = time.Now().Add(in).UTC().Truncate(time.Millisecond)
	l.NextAt = l.ExpiresAt
	if err := w.db.Move(context.Background(), l, broker.Active); err != nil {
		w.t.Fatal(err)
	}
}

// looked waits until the announcer has looked once more than before.
func (w *world) looked() {
	w.t.Helper()
	probe := w.ends(int(time.Now().UnixNano()), w.mark()+20*time.Millisecond)
	w.within("the announcer has passed the probe", func() bool {
		found := false
		_ = w.trail.Query(context.Background(), audit.Query{LeaseID: probe.ID}, func(*audit.Record) error { found = true; return nil })
		return found
	})
}

func (w *world) mark() time.Duration { return time.Hour }

// hourly is a webhook that is told of leases an hour before their end.
func hourly(r *receiver) object.Notify {
	return hook(r.URL, func(n *object.Notify) {
		n.Events, n.Before = []string{object.EventExpiring}, object.Duration(time.Hour)
	})
}

// told leaves out the probes.
func told(subjects []string) []string {
	return slices.DeleteFunc(subjects, func(s string) bool { return len(s) > len("database/creds/ro/")+4 })
}

func TestALeaseIsToldOfBeforeItsEnd(t *testing.T) {
	w, r := newWorld(t), newReceiver(t)
	w.start(hourly(r))
	short := w.ends(1, time.Minute)                   // lived shorter than the time before: it is not told of
	l := w.ends(2, time.Hour+300*time.Millisecond)    // comes to it
	late := w.ends(3, 2*time.Hour)                    // does not, so far
	w.ends(4, time.Hour+250*time.Millisecond)         // comes to it sooner
	gone := w.ends(5, time.Hour+200*time.Millisecond) // is revoked before
	gone.State, gone.NextAt = broker.Revoked, time.Time{}
	if err := w.db.Move(t.Context(), gone, broker.Active); err != nil {
		t.Fatal(err)
	}
	w.within("two have been told", func() bool { return len(r.all()) == 2 })
	w.looked()
	if got := told(r.subjects()); !slices.Equal(got, []string{lease(4), lease(2)}) {
		t.Fatalf("got %q, want the two by their ends; not %s, nor %s", got, short.ID, late.ID)
	}
	e := r.all()[1].event
	if e.Type != object.EventExpiring || e.ID != fmt.Sprintf("%s/expiring/%d", l.ID, l.ExpiresAt.Unix()) ||
		e.Data["expires_at"] != l.ExpiresAt.Format(time.RFC3339) || e.Data["identity"] != "ci" || e.Data["detail"] != nil ||
		e.Data["request_id"] != "request-2" || e.Data["principal"] != "bl-ro-2" {
		t.Errorf("got %+v", e)
	}
	w.renew(l, time.Hour+100*time.Millisecond) // a new end is told of anew
	w.within("it is told of again", func() bool { return len(told(r.subjects())) == 3 })
	if again := told(r.subjects()); again[2] != l.ID {
		t.Errorf("got %q", again)
	}
}

// TestManyThatEndTogether: more leases than one look brings, at one instant, each once.
func TestManyThatEndTogether(t *testing.T) {
	w, r := newWorld(t), newReceiver(t)
	m := w.start(hourly(r))
	w.looked()
	m.stop()
	first := w.ends(0, time.Hour+10*time.Millisecond)
	for i := 1; i < 1200; i++ {
		l := w.ends(i, 3*time.Hour)
		l.ExpiresAt, l.NextAt = first.ExpiresAt, first.NextAt
		if err := w.db.Move(t.Context(), l, broker.Active); err != nil {
			t.Fatal(err)
		}
	}
	m = w.start(hourly(r))
	w.within("all have been told", func() bool { return len(told(r.subjects())) >= 1200 })
	m.stop()
	seen := map[string]bool{}
	for _, s := range told(r.subjects()) {
		if seen[s] {
			t.Errorf("%s was told twice", s)
		}
		seen[s] = true
	}
	if len(seen) != 1200 {
		t.Errorf("got %d", len(seen))
	}
}

// TestStoppedWhileLeasesComeToTheirEnd: they are told of after the start, and those that were told are not told again.
func TestStoppedWhileLeasesComeToTheirEnd(t *testing.T) {
	w, r := newWorld(t), newReceiver(t)
	m := w.start(hourly(r))
	w.looked()
	w.ends(1, time.Hour+50*time.Millisecond)
	w.within("the first is told of", func() bool { return len(told(r.subjects())) == 1 })
	w.ends(2, time.Hour+100*time.Millisecond)
	m.stop()
	<-time.After(150 * time.Millisecond) // the second passes the mark meanwhile
	w.start(hourly(r))
	w.within("the second is told of", func() bool { return slices.Contains(r.subjects(), lease(2)) })
	w.looked()
	if got := told(r.subjects()); !slices.Equal(got, []string{lease(1), lease(2)}) {
		t.Errorf("got %q, want each once", got)
	}
}

// TestTwoNodesTellOnce: while both live, one of them looks; when it is gone, the other does.
func TestTwoNodesTellOnce(t *testing.T) {
	w, r := newWorld(t), newReceiver(t)
	one := w.start(hourly(r))
	w.looked()
	other := *w
	other.trail = openTrail(t, t.TempDir())
	other.cfg.Trail, other.cfg.Node = other.trail, "node-2"
	other.start(hourly(r))
	for i := range 30 {
		w.ends(i, time.Hour+time.Duration(i)*5*time.Millisecond+50*time.Millisecond)
	}
	w.within("all are told of", func() bool { return len(told(r.subjects())) >= 30 })
	w.looked()
	if got := told(r.subjects()); len(got) != 30 || other.trail.Head().Seq != 0 {
		t.Errorf("got %d events, and %d records on the other node", len(got), other.trail.Head().Seq)
	}
	one.stop()
	w.ends(100, time.Hour+10*time.Millisecond)
	w.within("the other tells", func() bool { return slices.Contains(r.subjects(), lease(100)) })
	if other.trail.Head().Seq == 0 {
		t.Error("the other node recorded nothing")
	}
}
