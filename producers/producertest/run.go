package producertest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
)

// Harness is what a producer's tests tell about it and its real target.
type Harness struct {
	// Producer reaches a live target; Dead one that nobody listens for; Refused the live one with a bad credential of its own.
	Producer, Dead, Refused broker.Producer

	Role   broker.Role // makes credentials that may do what Use does, and not what Forbidden does
	Broken broker.Role // its creation fails in the middle, after something was made

	// Name is a new principal name, as the broker would choose it.
	Name func() string
	// Use logs in with the credential and does something that it may.
	Use func(ctx context.Context, c *broker.Credential) error
	// Forbidden logs in and tries something that it may not: nil means that it could.
	Forbidden func(ctx context.Context, c *broker.Credential) error
	// Hold opens a session and returns what asks whether it still works; nil where the target has no sessions.
	Hold func(ctx context.Context, c *broker.Credential) (alive func(ctx context.Context) error, err error)
	// Exists asks the target itself whether the principal is there.
	Exists func(ctx context.Context, principal string) (bool, error)
	// HalfMade leaves on the target what a creation that was cut off may leave, as far as the target allows that.
	HalfMade func(ctx context.Context, principal string) error
	// Stick makes the credential's principal one that can't be removed, until free is called; nil where nothing does that.
	// free may be called twice.
	Stick func(ctx context.Context, c *broker.Credential) (free func(), err error)
	// Logs is everything that the producers have logged.
	Logs func() string
}

// run is one Harness in use.
type run struct {
	Harness
	t *testing.T

	mu      sync.Mutex
	secrets []string // that were made
	errs    []error  // that were returned
}

// Run tests that a producer keeps the contract of broker.Producer.
func Run(t *testing.T, h Harness) {
	r := &run{Harness: h, t: t}
	for _, x := range []struct {
		sentence string
		test     func(t *testing.T)
	}{
		{"a credential works until it is revoked, and revoking it again is success", r.life},
		{"a credential can't do what its role doesn't allow", r.forbidden},
		{"a session does not outlive the credential", r.session},
		{"what is not there is revoked with success", r.absent},
		{"what a cut-off creation left is cleaned", r.halfMade},
		{"a creation that fails in the middle leaves nothing after Revoke", r.broken},
		{"creating twice for one lease leaves one credential, that works", r.twice},
		{"nothing is made past the deadline", r.deadline},
		{"renewing moves the end", r.renew},
		{"a credential is revoked without its role, by what was kept with the lease", r.roleGone},
		{"a name that Bailiff did not make is refused", r.hostileNames},
		{"a dead target is unreachable, and that is known quickly", r.dead},
		{"a refused login of the producer's own is forbidden", r.refused},
		{"a context that has ended ends the call", r.cancelled},
		{"many at a time do not disturb each other", r.concurrent},
		{"a revocation tells what it ended", r.told},
		{"many are revoked at once, and one that can't be does not keep the others from it", r.batch},
		{"many on a dead target are known to be unreachable as quickly as one", r.deadBatch},
		{"a probe tells whether a credential works", r.probe},
		{"what is on the target is listed", r.list},
		{"what is quarantined is shut out and still there", r.quarantine},
		{"no secret is in an error or in the log", r.noSecrets}, // last: it looks at what the others did
	} {
		t.Run(strings.ReplaceAll(x.sentence, " ", "_"), x.test)
	}
}

// timeout bounds each call of the tests.
const timeout = 20 * time.Second

func (r *run) ctx(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	t.Cleanup(cancel)
	return ctx
}

func (r *run) spec(role broker.Role) broker.Spec {
	name := r.Name()
	return broker.Spec{
		LeaseID: role.Mount + "creds/" + role.Name + "/" + name, Principal: name, Role: role,
		ExpiresAt: time.Now().Add(time.Hour), Deadline: time.Now().Add(timeout),
	}
}

func ref(s broker.Spec) broker.Ref {
	return broker.Ref{LeaseID: s.LeaseID, Principal: s.Principal, Role: &s.Role}
}

// create makes a credential, notes its secrets, and revokes it after the test.
func (r *run) create(t *testing.T, spec broker.Spec) (*broker.Credential, error) {
	t.Helper()
	c, err := r.Producer.Create(r.ctx(t), spec)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		if err := r.Producer.Revoke(ctx, ref(spec)); err != nil {
			t.Errorf("Revoke after the test: %v", err)
		}
	})
	r.note(err)
	if c != nil {
		r.mu.Lock()
		for name, v := range c.Fields {
			if name != "username" {
				r.secrets = append(r.secrets, v.Reveal())
			}
		}
		r.mu.Unlock()
	}
	return c, err
}

func (r *run) mustCreate(t *testing.T, spec broker.Spec) *broker.Credential {
	t.Helper()
	c, err := r.create(t, spec)
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	return c
}

func (r *run) revoke(t *testing.T, ref broker.Ref) {
	t.Helper()
	if err := r.Producer.Revoke(r.ctx(t), ref); err != nil {
		t.Fatalf("Revoke: %v", err)
	}
}

func (r *run) note(err error) {
	if err != nil {
		r.mu.Lock()
		r.errs = append(r.errs, err)
		r.mu.Unlock()
	}
}

func (r *run) wantGone(t *testing.T, principal string) {
	t.Helper()
	there, err := r.Exists(r.ctx(t), principal)
	if err != nil {
		t.Fatalf("asking the target: %v", err)
	}
	if there {
		t.Errorf("%s is still on the target", principal)
	}
}

// wantCause checks that err is a *broker.RevokeError of the cause.
func (r *run) wantCause(t *testing.T, err error, want broker.Cause) {
	t.Helper()
	r.note(err)
	var e *broker.RevokeError
	switch {
	case err == nil:
		t.Errorf("got no error, want cause %q", want)
	case !errors.As(err, &e):
		t.Errorf("got %T %v, want a *broker.RevokeError with cause %q", err, err, want)
	case e.Cause != want:
		t.Errorf("got cause %q (%v), want %q", e.Cause, err, want)
	}
}
