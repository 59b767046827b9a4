package producertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
)

func (r *run) life(t *testing.T) {
	spec := r.spec(r.Role)
	c := r.mustCreate(t, spec)
	if got := c.Fields["username"].Reveal(); got != spec.Principal {
		t.Errorf("username: got %q, want the name that was asked for, %q", got, spec.Principal)
	}
	if err := r.Use(r.ctx(t), c); err != nil {
		t.Fatalf("using the credential: %v", err)
	}
	r.revoke(t, ref(spec))
	if err := r.Use(r.ctx(t), c); err == nil {
		t.Error("the credential still works after Revoke")
	}
	r.wantGone(t, spec.Principal)
	r.revoke(t, ref(spec))
}

func (r *run) forbidden(t *testing.T) {
	c := r.mustCreate(t, r.spec(r.Role))
	if err := r.Forbidden(r.ctx(t), c); err == nil {
		t.Error("the credential could do what its role doesn't allow")
	}
}

func (r *run) session(t *testing.T) {
	if r.Hold == nil {
		return
	}
	spec := r.spec(r.Role)
	alive, err := r.Hold(r.ctx(t), r.mustCreate(t, spec))
	if err != nil {
		t.Fatalf("opening a session: %v", err)
	}
	if err := alive(r.ctx(t)); err != nil {
		t.Fatalf("the session doesn't work before Revoke: %v", err)
	}
	r.revoke(t, ref(spec))
	if err := alive(r.ctx(t)); err == nil {
		t.Error("the session still works after Revoke")
	}
}

func (r *run) absent(t *testing.T) { r.revoke(t, ref(r.spec(r.Role))) }

func (r *run) halfMade(t *testing.T) {
	spec := r.spec(r.Role)
	if err := r.HalfMade(r.ctx(t), spec.Principal); err != nil {
		t.Fatalf("leaving something behind: %v", err)
	}
	r.revoke(t, ref(spec))
	r.wantGone(t, spec.Principal)
}

func (r *run) broken(t *testing.T) {
	spec := r.spec(r.Broken)
	if _, err := r.create(t, spec); err == nil {
		t.Fatal("got no error from a role whose creation fails")
	}
	r.revoke(t, ref(spec))
	r.wantGone(t, spec.Principal)
}

func (r *run) twice(t *testing.T) {
	spec := r.spec(r.Role)
	r.mustCreate(t, spec)
	c := r.mustCreate(t, spec)
	if err := r.Use(r.ctx(t), c); err != nil {
		t.Errorf("using the second credential: %v", err)
	}
	r.revoke(t, ref(spec))
	r.wantGone(t, spec.Principal)
}

func (r *run) deadline(t *testing.T) {
	spec := r.spec(r.Role)
	spec.Deadline = time.Now().Add(-time.Second)
	c, err := r.create(t, spec)
	if err == nil || c != nil {
		t.Errorf("got %v, %v, want an error and no credential", c, err)
	}
	r.wantGone(t, spec.Principal)
}

// renew makes a credential that ends soon on its target, and moves that; an earlier end that comes later changes nothing.
func (r *run) renew(t *testing.T) {
	renewer, ok := r.Producer.(broker.Renewer)
	if !ok {
		return
	}
	short, long := r.spec(r.Role), r.spec(r.Role)
	short.ExpiresAt, long.ExpiresAt = time.Now().Add(time.Second), time.Now().Add(time.Second)
	ends, lives := r.mustCreate(t, short), r.mustCreate(t, long)
	if err := renewer.Renew(r.ctx(t), ref(long), time.Now().Add(time.Hour)); err != nil {
		t.Fatalf("Renew: %v", err)
	}
	if err := renewer.Renew(r.ctx(t), ref(long), short.ExpiresAt); err != nil {
		t.Fatalf("Renew to an earlier end: %v", err)
	}
	ctx := r.ctx(t)
	for r.Use(ctx, ends) == nil {
		if ctx.Err() != nil {
			t.Fatal("the credential that was not renewed did not end on the target")
		}
	}
	if err := r.Use(ctx, lives); err != nil {
		t.Errorf("using the renewed credential past its first end: %v", err)
	}
}

func (r *run) roleGone(t *testing.T) {
	spec := r.spec(r.Role)
	lone := broker.Ref{LeaseID: spec.LeaseID, Principal: spec.Principal}
	if s, ok := r.Producer.(broker.Snapshotter); ok {
		data, err := s.Snapshot(spec.Role)
		if err != nil {
			t.Fatalf("Snapshot: %v", err)
		}
		lone.Data = data
	}
	c := r.mustCreate(t, spec)
	for _, v := range c.Fields {
		if s := v.Reveal(); s != spec.Principal && strings.Contains(string(lone.Data), s) {
			t.Error("what is kept with the lease holds the credential's secret")
		}
	}
	r.revoke(t, lone)
	r.wantGone(t, spec.Principal)
}

// hostileNames would do harm where a name is pasted into a command.
var hostileNames = []string{
	"", "root", "postgres", "admin", "bl-", `bl-x"; DROP TABLE t; --`, "bl-x'; SELECT 1; --", "bl-x-abc def", "bl-x-\x00",
	"bl-role-aaaaaaaaaaaaaaaa\n", "BL-role-aaaaaaaaaaaaaaaa", "bl-role-aaaaaaaaaaaaaaa*", "bl-../../x-aaaaaaaaaaaaaaaa", "bl-role-aaaaaaaaaaaaaaaa$$",
}

func (r *run) hostileNames(t *testing.T) {
	for _, name := range hostileNames {
		spec := r.spec(r.Role)
		spec.Principal = name
		if c, err := r.Producer.Create(r.ctx(t), spec); err == nil || c != nil {
			t.Errorf("Create %q: got no error", name)
		}
		if err := r.Producer.Revoke(r.ctx(t), ref(spec)); err == nil {
			t.Errorf("Revoke %q: got no error", name)
		}
		if n, ok := r.Producer.(broker.Renewer); ok {
			if err := n.Renew(r.ctx(t), ref(spec), time.Now().Add(time.Hour)); err == nil {
				t.Errorf("Renew %q: got no error", name)
			}
		}
	}
}

func (r *run) dead(t *testing.T) {
	spec := r.spec(r.Role)
	began := time.Now()
	r.wantCause(t, r.Dead.Revoke(r.ctx(t), ref(spec)), broker.Unreachable)
	_, err := r.Dead.Create(r.ctx(t), spec)
	r.wantCause(t, err, broker.Unreachable)
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("it took %v", d)
	}
}

func (r *run) refused(t *testing.T) {
	spec := r.spec(r.Role)
	r.wantCause(t, r.Refused.Revoke(r.ctx(t), ref(spec)), broker.ForbiddenBy)
	_, err := r.Refused.Create(r.ctx(t), spec)
	r.wantCause(t, err, broker.ForbiddenBy)
}

func (r *run) cancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	spec := r.spec(r.Role)
	if _, err := r.Producer.Create(ctx, spec); err == nil {
		t.Error("Create with an ended context: got no error")
	}
	if err := r.Producer.Revoke(ctx, ref(spec)); err == nil {
		t.Error("Revoke with an ended context: got no error")
	}
	r.wantGone(t, spec.Principal)
}

func (r *run) concurrent(t *testing.T) {
	const workers, rounds = 8, 3
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range rounds {
				if err := r.oneLife(t, r.spec(r.Role)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// oneLife creates, uses and twice at a time revokes a credential.
func (r *run) oneLife(t *testing.T, spec broker.Spec) error {
	ctx := r.ctx(t)
	c, err := r.create(t, spec)
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if err := r.Use(ctx, c); err != nil {
		return fmt.Errorf("use: %w", err)
	}
	results := make(chan error, 2)
	for range cap(results) {
		go func() { results <- r.Producer.Revoke(ctx, ref(spec)) }()
	}
	if err := errors.Join(<-results, <-results); err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	if r.Use(ctx, c) == nil {
		return errors.New("the credential still works after Revoke")
	}
	return nil
}

func (r *run) noSecrets(t *testing.T) {
	texts := []string{r.Logs()}
	for _, err := range r.errs {
		for ; err != nil; err = errors.Unwrap(err) {
			texts = append(texts, fmt.Sprintf("%v %+v", err, err))
		}
	}
	if len(r.secrets) == 0 || len(r.errs) == 0 {
		t.Fatal("nothing was made or nothing failed, so nothing is proved")
	}
	for _, s := range r.secrets {
		for _, text := range texts {
			if strings.Contains(text, s) {
				t.Errorf("a secret is in: %s", strings.ReplaceAll(text, s, "[secret]"))
			}
		}
	}
}
