package gate_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/policy"
)

// lender is a backend that overlaps: serve is its Serve.
type lender struct {
	serve func(ctx context.Context, r *gate.Request) (*gate.Response, error)
}

func (l lender) Serve(ctx context.Context, r *gate.Request) (*gate.Response, error) {
	return l.serve(ctx, r)
}
func (lender) Changes(*gate.Request) bool    { return true }
func (lender) Overlaps(r *gate.Request) bool { return r.Op == policy.Read }

// meeting is a trail whose appends of a stage wait until meet is closed: what they wait for must be going on beside them.
type meeting struct {
	*trail
	stage       audit.Stage
	begun, meet chan struct{}
}

func (m meeting) Append(ctx context.Context, records ...*audit.Record) error {
	if records[0].Stage == m.stage {
		close(m.begun)
		<-m.meet
	}
	return m.trail.Append(ctx, records...)
}

func newMeeting(stage audit.Stage) meeting {
	return meeting{&trail{}, stage, make(chan struct{}), make(chan struct{})}
}

// lend does one read through a gate, of a path whose backend overlaps.
func lend(t *testing.T, tr gate.Recorder, serve func(ctx context.Context, r *gate.Request) (*gate.Response, error)) (*gate.Response, error) {
	t.Helper()
	mounts, err := gate.NewMounts([]*gate.Mount{{Path: "secret/", Type: "kv", Target: "pg", Backend: lender{serve}}})
	if err != nil {
		t.Fatal(err)
	}
	g, err := gate.New(gate.Config{
		Authenticator: door{}, Policies: everyone, Mounts: func() *gate.Mounts { return mounts }, Recorder: tr,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return g.Do(t.Context(), &gate.Request{Token: secret.New("reader"), Op: policy.Read, Path: "secret/creds/a"})
}

func TestServeRunsBesideTheRecordOfTheRequest(t *testing.T) {
	tr := newMeeting(audit.StageRequest)
	_, err := lend(t, tr, func(ctx context.Context, r *gate.Request) (*gate.Response, error) {
		<-tr.begun // the record is being written, and this runs
		tr.note("row")
		close(tr.meet)
		if err := r.Recorded(ctx); err != nil {
			return nil, err
		}
		tr.note("target")
		return &gate.Response{Status: gate.NoContent}, nil
	})
	if got := strings.Join(tr.events, " "); err != nil || got != "row request:begun target response:ok" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestWhoWaitsForTheRecordStopsWithItsClient(t *testing.T) {
	tr := newMeeting(audit.StageRequest)
	_, err := lend(t, tr, func(ctx context.Context, r *gate.Request) (*gate.Response, error) {
		gone, cancel := context.WithCancel(ctx)
		cancel()
		err := r.Recorded(gone)
		close(tr.meet)
		return nil, err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that the client is gone", err)
	}
}

func TestStepRunsBesideTheRecordOfTheAnswer(t *testing.T) {
	tr := newMeeting(audit.StageResponse)
	resp, err := lend(t, tr, func(ctx context.Context, r *gate.Request) (*gate.Response, error) {
		return &gate.Response{Status: gate.NoContent}, r.Beside(ctx, func(context.Context) error {
			<-tr.begun
			tr.note("row")
			close(tr.meet)
			return nil
		})
	})
	if got := strings.Join(tr.events, " "); err != nil || resp == nil || got != "request:begun row response:ok" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestWhatFailsBesideARecordReleasesNothing: whichever of the two fails, there is no answer, and what was made is ended.
func TestWhatFailsBesideARecordReleasesNothing(t *testing.T) {
	stale := gate.Errorf(gate.Conflict, "the lease is being revoked")
	for name, c := range map[string]struct {
		failAt    int
		serve     error
		step      func() error
		want      error // nil: any
		abandoned int
		events    string
	}{
		"the record of the request": {failAt: 1, want: gate.ErrNoRecord, abandoned: 1, events: "served"},
		"the record of the answer": {failAt: 2, want: gate.ErrNoRecord, abandoned: 1, step: func() error { return nil },
			events: "served request:begun step"},
		"the step": {want: stale, abandoned: 1, step: func() error { return stale },
			events: "served request:begun step response:ok response:refused"},
		"the step, and the record of that": {failAt: 3, want: gate.ErrNoRecord, abandoned: 1, step: func() error { return stale },
			events: "served request:begun step response:ok"},
		"the step, by a panic": {abandoned: 1, step: func() error { panic("canary") },
			events: "served request:begun step response:ok response:error"},
		"the answer itself": {serve: stale, want: stale, step: func() error { return nil },
			events: "served request:begun response:refused"},
	} {
		t.Run(name, func(t *testing.T) {
			tr := &trail{failAt: c.failAt}
			abandoned := 0
			resp, err := lend(t, tr, func(ctx context.Context, r *gate.Request) (*gate.Response, error) {
				tr.note("served")
				resp := &gate.Response{Lease: &gate.Lease{ID: "l"}, Principal: "p", Abandon: func() { abandoned++ }}
				if err := r.Recorded(ctx); err != nil {
					return resp, nil //nolint:nilerr // a backend that doesn't care gets nothing released
				}
				if c.step != nil {
					if err := r.Beside(ctx, func(context.Context) error { tr.note("step"); return c.step() }); err != nil {
						t.Errorf("Beside: %v", err)
					}
				}
				if c.serve != nil {
					return nil, c.serve
				}
				return resp, nil
			})
			if resp != nil || err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("got answer %v and error %v, want none and %v", resp, err, c.want)
			}
			if abandoned != c.abandoned {
				t.Errorf("abandoned %d times, want %d", abandoned, c.abandoned)
			}
			// The step and the record of the answer are in either order.
			got := strings.Replace(strings.Join(sortSteps(tr.events), " "), "request:begun served", "served request:begun", 1)
			if got != c.events {
				t.Errorf("got %q, want %q", got, c.events)
			}
			for _, rec := range tr.records[min(1, len(tr.records)):] {
				if c.step != nil && c.serve == nil && (rec.LeaseID != "l" || rec.Principal != "p") {
					t.Errorf("a record does not name the lease: %+v", rec)
				}
			}
		})
	}
}

// sortSteps puts a step that came just after the first record of an answer before it.
func sortSteps(events []string) []string {
	for i := 1; i < len(events); i++ {
		if events[i] == "step" && strings.HasPrefix(events[i-1], "response:") {
			events[i-1], events[i] = events[i], events[i-1]
		}
	}
	return events
}

func TestStepOfARequestThatDoesNotOverlapIsDoneAtOnce(t *testing.T) {
	r, boom := &gate.Request{}, errors.New("boom")
	if err := r.Recorded(t.Context()); err != nil {
		t.Errorf("Recorded: %v", err)
	}
	if err := r.Beside(t.Context(), func(context.Context) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("got %v, want the step's error", err)
	}
	tr := &trail{}
	mounts, err := gate.NewMounts([]*gate.Mount{{Path: "secret/", Backend: lender{func(ctx context.Context, r *gate.Request) (*gate.Response, error) {
		tr.note("served")
		return &gate.Response{Status: gate.NoContent}, r.Beside(ctx, func(context.Context) error { tr.note("step"); return nil })
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	g, err := gate.New(gate.Config{Authenticator: door{}, Policies: everyone, Mounts: func() *gate.Mounts { return mounts }, Recorder: tr,
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = g.Do(t.Context(), &gate.Request{Token: secret.New("writer"), Op: policy.Update, Path: "secret/creds/a"})
	if got := strings.Join(tr.events, " "); err != nil || got != "request:begun served step response:ok" {
		t.Errorf("got %q, %v", got, err)
	}
}
