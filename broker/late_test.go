package broker_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
)

// lateAnswers is a target that does at once what it is asked, and whose answer comes later.
type lateAnswers struct {
	*target
	created func(broker.Spec) <-chan time.Time // when the answer of a creation comes
	revoked <-chan struct{}                    // when those of the first revocations come, one by one or of a batch
	batches bool                               // it is those of a batch alone
}

func (x lateAnswers) Create(ctx context.Context, s broker.Spec) (*broker.Credential, error) {
	if x.created == nil {
		return x.target.Create(ctx, s)
	}
	c, err := x.make(s)
	<-x.created(s)
	return c, err
}

func (x lateAnswers) Revoke(ctx context.Context, ref broker.Ref) error {
	err := x.target.Revoke(ctx, ref)
	if x.revoked != nil && !x.batches {
		<-x.revoked
	}
	return err
}

func (x lateAnswers) RevokeBatch(ctx context.Context, refs []broker.Ref) []error {
	errs := make([]error, len(refs))
	for i, ref := range refs {
		errs[i] = x.target.Revoke(ctx, ref)
	}
	<-x.revoked
	return errs
}

// TestCredentialThatComesTooLate is ended: the target's own end was counted from the deadline, and would come before that of
// a lease that begins now.
func TestCredentialThatComesTooLate(t *testing.T) {
	test(t, func(w *world) {
		w.restartWith(lateAnswers{target: w.good, created: func(s broker.Spec) <-chan time.Time {
			return time.After(time.Until(s.Deadline.Add(w.cfg.ClockMargin + 10*time.Millisecond)))
		}})
		_, err := w.b.Serve(context.Background(), request("good"))
		w.wantKind(err, gate.TargetSlow)
		l := w.only()
		if !l.IssuedAt.IsZero() {
			w.t.Errorf("the lease was active from %v on", l.IssuedAt)
		}
		w.revoked(2*time.Second, l.ID)
	})
}

// TestRevocationWhoseAnswerIsLate looked before a late creation, and its answer takes until that can't come any more: it is
// not the last look.
func TestRevocationWhoseAnswerIsLate(t *testing.T) {
	for _, x := range []struct {
		sentence string
		leases   int
	}{{"of one lease", 1}, {"of many at the cost of one", 60}} {
		t.Run(x.sentence, func(t *testing.T) {
			test(t, func(w *world) {
				w.stop()
				w.cfg.RevokeTimeout, w.cfg.Queue, w.cfg.Batch = 5*time.Second, 100, 100
				w.cfg.Workers = 100 // however the due ones are parted, none waits for the answer of others
				answer := make(chan struct{})
				deadline := time.Now().Add(300 * time.Millisecond).UTC().Truncate(time.Millisecond)
				ids := w.put(x.leases, "good", func(_ int, l *broker.Lease) {
					l.State, l.IssuedAt = broker.Revoking, time.Time{}
					l.IntentDeadline, l.NextAt = deadline, time.Now().UTC().Truncate(time.Millisecond)
				})
				w.restartWith(lateAnswers{target: w.good, revoked: answer, batches: x.leases > 1})
				looked := func() bool {
					w.good.mu.Lock()
					defer w.good.mu.Unlock()
					return w.good.revokes == x.leases
				}
				w.within(5*time.Second, "each was looked for", looked)
				for _, id := range ids {
					l := w.lease(id)
					if _, err := w.good.make(broker.Spec{LeaseID: id, Principal: l.Principal, Deadline: deadline}); err != nil {
						w.t.Fatalf("making it late: %v", err)
					}
				}
				time.AfterFunc(time.Until(deadline.Add(w.cfg.ClockMargin+10*time.Millisecond)), func() { close(answer) })
				for _, id := range ids {
					w.revoked(5*time.Second, id)
				}
			})
		})
	}
}

// TestRenewalsThroughTwoBrokers: a broker doesn't know of another's renewal. Whichever reaches the target and the store
// first, the later end stands in both, and nobody is told more.
func TestRenewalsThroughTwoBrokers(t *testing.T) {
	for _, x := range []struct {
		sentence     string
		first, other time.Duration // the first is on its way to the target while the other is done
	}{
		{"the first asks for less", 600 * time.Millisecond, 1500 * time.Millisecond},
		{"the first asks for more", 1500 * time.Millisecond, 600 * time.Millisecond},
	} {
		t.Run(x.sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 2)
				defer c.end()
				_, l := c.issue("good")
				inside, goOn := make(chan struct{}), make(chan struct{})
				var once sync.Once
				c.good.set(func() {
					c.good.renew = func(context.Context, time.Time) error {
						hold := false
						once.Do(func() { hold = true })
						if hold {
							close(inside)
							<-goOn
						}
						return nil
					}
				})
				ends := make(chan time.Time, 2)
				renew := func(b *broker.Broker, increment time.Duration) {
					got, _, err := b.Renew(context.Background(), l.ID, increment)
					if err != nil {
						t.Error(err)
						return
					}
					ends <- got.ExpiresAt
				}
				var first sync.WaitGroup
				first.Go(func() { renew(c.nodes[0], x.first) })
				<-inside
				renew(c.nodes[1], x.other)
				close(goOn)
				first.Wait()
				stored := c.lease(l.ID)
				if left := time.Until(stored.ExpiresAt); left < 1200*time.Millisecond {
					t.Errorf("the lease lives %v more, want what the larger increment says", left)
				}
				if end := c.good.end(l.Principal); end.Before(stored.ExpiresAt) {
					t.Errorf("the target lets it in until %v, the lease lives until %v", end, stored.ExpiresAt)
				}
				close(ends)
				for told := range ends {
					if told.After(stored.ExpiresAt) {
						t.Errorf("somebody was told %v, and the lease ends at %v", told, stored.ExpiresAt)
					}
				}
				c.revoked(3*time.Second, l.ID)
			})
		})
	}
}
