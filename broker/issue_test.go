package broker_test

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
)

func TestIssueAnswersInVaultsShape(t *testing.T) {
	test(t, func(w *world) {
		began := time.Now()
		resp, l := w.issue("good")
		if want := regexp.MustCompile(`^database/creds/good/[0-9A-Za-z]{24}$`); !want.MatchString(resp.Lease.ID) {
			w.t.Errorf("lease id %q does not match %v", resp.Lease.ID, want)
		}
		if want := regexp.MustCompile(`^bl-good-[a-z2-7]{16}$`); !want.MatchString(l.Principal) {
			w.t.Errorf("principal %q does not match %v", l.Principal, want)
		}
		if resp.Data["username"] != l.Principal || resp.Data["password"] != "pw-"+l.Principal || len(resp.Data) != 2 {
			w.t.Errorf("got %v, want username and password", resp.Data)
		}
		if !resp.Lease.Renewable || resp.Lease.Duration != ttl || resp.Principal != l.Principal || len(resp.Warnings) != 0 {
			w.t.Errorf("got %+v, %+v", resp, resp.Lease)
		}
		if l.State != broker.Active || l.Identity != "app" || l.AccessID != "p-1" || l.RequestID != "request-1" ||
			l.Producer != "model" || l.Target != "good" || string(l.Data) != "kept of good" {
			w.t.Errorf("got lease %+v", l)
		}
		if d := l.ExpiresAt.Sub(l.IssuedAt); d != ttl {
			w.t.Errorf("the lease lives %v, want %v", d, ttl)
		}
		if d := l.MaxExpiresAt.Sub(began); d > maxTTL || d < maxTTL-time.Second {
			w.t.Errorf("the lease may live %v, want %v", d, maxTTL)
		}
		if !w.good.end(l.Principal).After(l.ExpiresAt) {
			w.t.Errorf("the target's own end %v is before the lease's %v", w.good.end(l.Principal), l.ExpiresAt)
		}
	})
}

func TestTTLIsCappedAndTheCapIsNamed(t *testing.T) {
	const h = time.Hour
	for _, x := range []struct {
		sentence                                             string
		roleTTL, roleMax, mountTTL, mountMax, sysTTL, sysMax time.Duration
		want                                                 time.Duration
		warning                                              string
	}{
		{sentence: "the role's TTL counts first", roleTTL: h, mountTTL: 2 * h, sysTTL: 3 * h, want: h},
		{sentence: "then the mount's", mountTTL: 2 * h, sysTTL: 3 * h, want: 2 * h},
		{sentence: "then the system's", sysTTL: 3 * h, want: 3 * h},
		{sentence: "without any it is 768 hours", want: 768 * h},
		{sentence: "the role's cap", roleTTL: 4 * h, roleMax: h, mountMax: 2 * h, want: h, warning: "the role's max_ttl"},
		{sentence: "the mount's cap", roleTTL: 4 * h, roleMax: 3 * h, mountMax: 2 * h, want: 2 * h, warning: "the mount's max_ttl"},
		{sentence: "the system's cap", roleTTL: 4 * h, roleMax: 3 * h, sysMax: h, want: h, warning: "the system's max_ttl"},
		{sentence: "a default that nobody chose is cut in silence", roleMax: h, want: h},
	} {
		t.Run(x.sentence, func(t *testing.T) {
			w := newWorld(t, newMemory())
			w.cfg.DefaultTTL, w.cfg.MaxTTL = x.sysTTL, x.sysMax
			w.catalog.roles["database/good"] = broker.Role{Mount: "database/", Name: "good", Target: "good", DefaultTTL: x.roleTTL, MaxTTL: x.roleMax}
			w.start()
			defer w.stop()
			r := request("good")
			r.Mount = &gate.Mount{Path: "database/", DefaultTTL: x.mountTTL, MaxTTL: x.mountMax}
			resp, err := w.b.Serve(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if resp.Lease.Duration != x.want {
				t.Errorf("got %v, want %v", resp.Lease.Duration, x.want)
			}
			if got := strings.Join(resp.Warnings, ""); !strings.Contains(got, x.warning) || (x.warning == "") != (got == "") {
				t.Errorf("got warning %q, want %q", got, x.warning)
			}
		})
	}
}

func TestNamesHoldTheRole(t *testing.T) {
	for role, want := range map[string]string{
		"readonly": "bl-readonly-", "Read-Only_2": "bl-readonly-", "a": "bl-a-", "-": "bl-role-", "administrators": "bl-administ-",
	} {
		w := newWorld(t, newMemory()).start()
		w.catalog.set(func() {
			w.catalog.roles["database/"+role] = broker.Role{Mount: "database/", Name: role, Target: "good"}
		})
		if _, l := w.issue(role); !strings.HasPrefix(l.Principal, want) || len(l.Principal) != len(want)+16 {
			t.Errorf("role %q: got %q, want %s and 16 letters", role, l.Principal, want)
		}
		w.stop()
	}
}

// TestFailedIssue makes the creation fail in each way. The client gets an error, and no credential stays.
func TestFailedIssue(t *testing.T) {
	unclassed := errors.New(canary)
	for _, x := range []struct {
		sentence string
		create   func(w *world) func(context.Context, broker.Spec) error
		kind     gate.Kind
	}{
		{"the target says no", func(*world) func(context.Context, broker.Spec) error {
			return func(context.Context, broker.Spec) error { return unreachable() }
		}, gate.TargetDown},
		{"the producer gives an error without a class", func(*world) func(context.Context, broker.Spec) error {
			return func(context.Context, broker.Spec) error { return unclassed }
		}, gate.TargetDown},
		{"the producer made it and says no", func(w *world) func(context.Context, broker.Spec) error {
			return func(_ context.Context, s broker.Spec) error {
				_, err := w.good.make(s)
				return errors.Join(err, unclassed)
			}
		}, gate.TargetDown},
		{"the producer panics after it made it", func(w *world) func(context.Context, broker.Spec) error {
			return func(_ context.Context, s broker.Spec) error {
				if _, err := w.good.make(s); err != nil {
					return err
				}
				panic(canary)
			}
		}, gate.TargetDown},
		{"the target does not answer", func(*world) func(context.Context, broker.Spec) error {
			return func(ctx context.Context, _ broker.Spec) error { return hang(ctx) }
		}, gate.TargetSlow},
	} {
		t.Run(x.sentence, func(t *testing.T) {
			test(t, func(w *world) {
				w.good.set(func() { w.good.create = x.create(w) })
				_, err := w.b.Serve(context.Background(), request("good"))
				w.wantKind(err, x.kind)
				w.revoked(2*time.Second, w.only().ID)
				if w.good.size() != 0 {
					w.t.Error("a credential is alive")
				}
				if strings.Contains(w.logs.String(), canary) {
					w.t.Errorf("a value is in the log: %s", w.logs)
				}
			})
		})
	}
}

func TestClientThatGoesAwayGetsNoCredential(t *testing.T) {
	test(t, func(w *world) {
		ctx, cancel := context.WithCancel(context.Background())
		w.good.create = func(ctx context.Context, _ broker.Spec) error { cancel(); return nil }
		_, err := w.b.Serve(ctx, request("good"))
		w.wantKind(err, gate.TargetDown)
		w.revoked(2*time.Second, w.only().ID)
	})
}

// TestLateCreation: the answer never came, the first look found nothing, and then the target made it after all.
func TestLateCreation(t *testing.T) {
	test(t, func(w *world) {
		made := make(chan struct{})
		w.good.create = func(_ context.Context, s broker.Spec) error {
			go func() {
				defer close(made)
				<-time.After(time.Until(s.Deadline) / 2)
				if _, err := w.good.make(s); err != nil {
					w.t.Errorf("making it late: %v", err)
				}
			}()
			return unreachable()
		}
		_, err := w.b.Serve(context.Background(), request("good"))
		w.wantKind(err, gate.TargetDown)
		l := w.only()
		w.within(w.cfg.IssueTimeout/2, "the first look", func() bool {
			w.good.mu.Lock()
			defer w.good.mu.Unlock()
			return w.good.revokes == 1
		})
		err = w.b.Revoke(context.Background(), l.ID, true)
		if err == nil {
			w.t.Error("a revocation was called done while the creation may still run")
		}
		<-made
		if !w.good.has(l.Principal) {
			w.t.Error("the test did not make the credential late")
		}
		w.revoked(2*time.Second, l.ID)
		if now, certain := time.Now(), l.IntentDeadline.Add(w.cfg.ClockMargin); now.Before(certain) {
			w.t.Errorf("called revoked %v too early", certain.Sub(now))
		}
	})
}

func TestStoreThatRefuses(t *testing.T) {
	test(t, func(w *world) {
		w.stop()
		var refuse func(string) bool
		w.cfg.Store = &gatedStore{Store: w.store, refuse: func(write string) bool { return refuse(write) }}
		refuse = func(write string) bool { return write == "insert" }
		w.start()
		_, err := w.b.Serve(context.Background(), request("good"))
		w.wantKind(err, gate.Unavailable)
		if w.good.creates != 0 {
			w.t.Error("a credential was made without a durable lease")
		}
		w.stop()
		refusing := make(chan struct{})
		refuse = func(write string) bool {
			select {
			case <-refusing:
				return false
			default:
				return write == "move"
			}
		}
		w.start()
		_, err = w.b.Serve(context.Background(), request("good"))
		w.wantKind(err, gate.Unavailable)
		l := w.only()
		if l.State != broker.Pending || !w.good.has(l.Principal) {
			w.t.Errorf("got %s, want a pending lease with its credential", l.State)
		}
		close(refusing)
		w.revoked(2*time.Second, l.ID)
	})
}

func TestAbandonedAnswerIsRevokedAtOnce(t *testing.T) {
	test(t, func(w *world) {
		r := request("good")
		ctx, cancel := context.WithCancel(context.Background())
		resp, err := w.b.Serve(ctx, r)
		if err != nil {
			w.t.Fatal(err)
		}
		cancel() // the client is gone
		resp.Abandon()
		w.revoked(ttl/2, resp.Lease.ID)
	})
}

func TestProducersNameAndMissingTarget(t *testing.T) {
	w := newWorld(t, newMemory()).start()
	defer w.stop()
	w.catalog.set(func() { delete(w.catalog.targets, "bad") })
	_, err := w.b.Serve(t.Context(), request("bad"))
	w.wantKind(err, gate.Unavailable)
	_, err = w.b.Serve(t.Context(), request("nosuch"))
	w.wantKind(err, gate.NotFound)
	if all, _ := w.store.List(t.Context(), broker.Filter{}); len(all) != 0 {
		t.Errorf("got leases %v, want none", slices.Collect(slices.Values(all)))
	}
}

// TestRevokeDuringIssue: a lease that is revoked while its credential is being made is not released any more.
func TestRevokeDuringIssue(t *testing.T) {
	test(t, func(w *world) {
		w.good.create = func(ctx context.Context, _ broker.Spec) error {
			if err := w.b.Revoke(ctx, w.only().ID, false); err != nil {
				w.t.Error(err)
			}
			return nil
		}
		_, err := w.b.Serve(context.Background(), request("good"))
		w.wantKind(err, gate.Conflict)
		w.revoked(2*time.Second, w.only().ID)
	})
}
