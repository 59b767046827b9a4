package broker_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
)

func TestPreflight(t *testing.T) {
	forbid := func(context.Context, broker.Ref) error {
		return &broker.RevokeError{Cause: broker.ForbiddenBy, Msg: "a privilege is missing"}
	}
	for sentence, x := range map[string]struct {
		before func(o *openTarget)
		kind   gate.Kind
		words  string // of the error; empty: there is none
		left   int    // credentials on the target
		state  broker.State
	}{
		"a role that works leaves nothing": {state: broker.Revoked},
		"a target that does not answer is said with a way out": {
			before: func(o *openTarget) { o.create = func(context.Context, broker.Spec) error { return unreachable() } },
			kind:   gate.TargetDown, words: "making a credential: connection refused", state: broker.Revoking,
		},
		"a creation that is refused leaves nothing": {
			before: func(o *openTarget) {
				o.create = func(context.Context, broker.Spec) error {
					return &broker.RevokeError{Cause: broker.Unknown, Msg: "bad words"}
				}
			},
			kind: gate.Invalid, words: "making a credential: bad words", state: broker.Revoked,
		},
		"a credential that does not work is refused, and ended": {
			before: func(o *openTarget) { o.probe = func(context.Context, int) error { return refusedBy() } },
			kind:   gate.Invalid, words: "using the credential: the target refused it", state: broker.Revoked,
		},
		"a renewal that fails is refused, and the credential ended": {
			before: func(o *openTarget) {
				o.renew = func(context.Context, time.Time) error {
					return &broker.RevokeError{Cause: broker.ForbiddenBy, Msg: "no"}
				}
			},
			kind: gate.Invalid, words: "renewing the credential: no", state: broker.Revoked,
		},
		"a revocation that is not permitted is refused, and its lease is tried again": {
			before: func(o *openTarget) { o.revoke = forbid },
			kind:   gate.Invalid, words: "revoking the credential: a privilege is missing; bl-new-", left: 1, state: broker.Revoking,
		},
		"a revocation that fails as the role says it is ended as the producer does": {
			before: func(o *openTarget) {
				o.revoke = func(ctx context.Context, ref broker.Ref) error {
					if ref.Role != nil {
						return forbid(ctx, ref)
					}
					return nil
				}
			},
			kind: gate.Invalid, words: "revoking the credential: a privilege is missing", state: broker.Revoked,
		},
		"a revocation that ends nothing is found out": {
			before: func(o *openTarget) { o.probe = func(context.Context, int) error { return nil } },
			kind:   gate.Invalid, words: "still works after it was revoked", state: broker.Revoking,
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, newMemory())
				o := w.open()
				w.cfg.RetryMin, w.cfg.RetryMax = time.Minute, time.Minute
				w.start()
				defer func() { w.stop() }()
				if x.before != nil {
					x.before(o)
				}
				err := w.b.Preflight(t.Context(), broker.Role{Mount: "database/", Name: "new", Target: "good", DefaultTTL: ttl, MaxTTL: maxTTL})
				if (err == nil) != (x.words == "") {
					t.Fatalf("got %v", err)
				}
				if err != nil {
					w.wantKind(err, x.kind)
					if !strings.Contains(err.Error(), x.words) {
						t.Errorf("got %v, want it to say %q", err, x.words)
					}
				}
				if got := o.size(); got != x.left {
					t.Errorf("%d credentials are left, want %d", got, x.left)
				}
				if l := w.only(); l.State != x.state {
					t.Errorf("got %+v, want it %s", l, x.state)
				}
				if x.left > 0 { // once it is permitted, the lease that stayed ends it
					o.target.set(func() { o.revoke = nil })
					time.Sleep(3 * time.Minute)
					w.revoked(time.Minute, w.only().ID)
				}
			})
		})
	}
}

// TestPreflightWithoutATarget writes nothing for one that is known not to be there.
func TestPreflightWithoutATarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory()).start()
		defer func() { w.stop() }()
		err := w.b.PreflightOn(t.Context(), deadTarget{w.good}, "model", broker.Role{Mount: "database/", Name: "new", Target: "far"})
		w.wantKind(err, gate.TargetDown)
		if e, ok := err.(*gate.Error); !ok || !strings.Contains(e.Hint, "--skip-preflight") {
			t.Errorf("got %v, want a hint", err)
		}
		if list, err := w.b.List(t.Context(), broker.Filter{States: []broker.State{broker.Pending, broker.Revoking, broker.Revoked}}); err != nil || len(list) > 0 {
			t.Errorf("got %d leases, %v", len(list), err)
		}
	})
}

type deadTarget struct{ *target }

func (deadTarget) Health(context.Context) error { return unreachable() }

func TestPreflightThatIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newMemory())
		o := w.open()
		w.start()
		defer func() { w.stop() }()
		ctx, cancel := context.WithCancel(t.Context())
		o.probe = func(context.Context, int) error { cancel(); return ctx.Err() }
		if err := w.b.Preflight(ctx, broker.Role{Mount: "database/", Name: "new", Target: "good"}); err == nil {
			t.Error("got no error")
		}
		w.within(time.Minute, "the credential is ended", func() bool { return o.size() == 0 && w.only().State == broker.Revoked })
	})
}

func TestReady(t *testing.T) {
	for sentence, x := range map[string]struct {
		timeout time.Duration
		works   int // from which probe on
		warns   bool
		probes  int // at least
	}{
		"a role without a time is not tried":            {works: 1000},
		"a credential that works at once is tried once": {timeout: 200 * time.Millisecond, works: 1, probes: 1},
		"one that takes its time is waited for":         {timeout: 200 * time.Millisecond, works: 3, probes: 3},
		"one that doesn't work by then has a warning":   {timeout: 200 * time.Millisecond, works: 1000, warns: true, probes: 3},
		"a long time ends before the intent's deadline": {timeout: time.Hour, works: 1000, warns: true, probes: 3},
	} {
		t.Run(sentence, func(t *testing.T) {
			reconciling(t, func(w *world, o *openTarget) {
				o.probe = func(_ context.Context, n int) error {
					if n < x.works {
						return refusedBy()
					}
					return nil
				}
				w.catalog.set(func() {
					r := w.catalog.roles["database/good"]
					r.ReadyTimeout = x.timeout
					w.catalog.roles["database/good"] = r
				})
				resp, l := w.issue("good")
				warns := len(resp.Warnings) == 1 && strings.Contains(resp.Warnings[0], "may not work yet: the target refused it")
				if warns != x.warns || !x.warns && len(resp.Warnings) > 0 {
					t.Errorf("got warnings %q", resp.Warnings)
				}
				if o.probes < x.probes || x.timeout == 0 && o.probes > 0 || l.State != broker.Active {
					t.Errorf("got %d probes, and the lease is %s", o.probes, l.State)
				}
			})
		})
	}
}
