package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// trust is how long a token that was just seen alive is not doubted again, so that a client which is refused over and
// over doesn't make two requests of each.
const trust = time.Second

// login is one token at the target. It doesn't change but for checked.
type login struct {
	token     secret.Value
	since     time.Time     // when the target said ttl
	ttl       time.Duration // 0: it doesn't end by itself, or we can't know
	full      time.Duration // the ttl when it was new
	renewable bool
	checked   atomic.Int64 // UnixNano of when it was last seen alive
}

func newLogin(token secret.Value, ttl, full time.Duration, renewable bool) *login {
	now := time.Now()
	l := &login{token: token, since: now, ttl: ttl, full: full, renewable: renewable && ttl > 0}
	l.checked.Store(now.UnixNano())
	return l
}

func (l *login) ended(now time.Time) bool { return l.ttl > 0 && !now.Before(l.since.Add(l.ttl)) }

// due is when to renew or replace it; zero where there is no need.
func (l *login) due() time.Time {
	if l.ttl == 0 {
		return time.Time{}
	}
	return l.since.Add(l.ttl * 2 / 3)
}

// session keeps one login. Requests only load the current one; whoever finds none makes one while the others wait, or
// are refused at once where the last attempt failed.
type session struct {
	client *client
	auth   object.VaultAuth
	logger *slog.Logger

	current atomic.Pointer[login]
	changed chan struct{} // wakes run; of capacity 1
	making  chan struct{} // of capacity 1; held while the target is asked for or about a login

	mu     sync.Mutex
	fails  int       // attempts to log in that failed, in a row
	tryAt  time.Time // no attempt is made before
	reason error     // what the last one failed with
}

func newSession(c *client, cfg Config) (*session, error) {
	a := cfg.Target.Auth
	if a == nil {
		return nil, fmt.Errorf("target %s: how to log in is missing", cfg.Target.Name)
	}
	switch a.Method {
	case "token":
		if a.Token.Empty() || !plainHeader(a.Token.Reveal(), 8192) {
			return nil, fmt.Errorf("target %s: the token is missing or can't be sent in a header", cfg.Target.Name)
		}
	case "approle":
		if a.RoleID == "" {
			return nil, fmt.Errorf("target %s: role_id is missing", cfg.Target.Name)
		}
	default:
		return nil, fmt.Errorf("target %s: login method %q is not one of token and approle", cfg.Target.Name, a.Method)
	}
	s := &session{
		client: c, auth: *a, logger: cfg.Logger.With("target", cfg.Target.Name),
		changed: make(chan struct{}, 1), making: make(chan struct{}, 1),
	}
	if s.auth.Mount = trimSlashes(s.auth.Mount); s.auth.Mount == "" {
		s.auth.Mount = "approle"
	}
	return s, nil
}

// login is the current login, made now where there is none. Errors are ctx's own or *gate.Error.
func (s *session) login(ctx context.Context) (*login, error) {
	if l := s.current.Load(); l != nil && !l.ended(time.Now()) {
		return l, nil
	}
	if err := s.hold(ctx); err != nil {
		return nil, err
	}
	defer s.release()
	return s.renewed(ctx)
}

// hold waits until nobody else is making a login; where the last attempt failed and the next is under way it doesn't.
func (s *session) hold(ctx context.Context) error {
	select {
	case s.making <- struct{}{}:
		return nil
	default:
	}
	if err := s.failure(); err != nil {
		return err
	}
	select {
	case s.making <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *session) release() { <-s.making }

// failure is what the last attempt failed with, or nil where it succeeded or there was none.
func (s *session) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason
}

// renewed is the current login, or a new one if it is time for an attempt. It is called with making held.
func (s *session) renewed(ctx context.Context) (*login, error) {
	if l := s.current.Load(); l != nil && !l.ended(time.Now()) {
		return l, nil
	}
	if wait := s.pause(); wait > 0 {
		return nil, s.failure()
	}
	return s.make(ctx)
}

// pause is how long no attempt to log in is made.
func (s *session) pause() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Until(s.tryAt)
}

// make makes a login and remembers how that went. It goes on when ctx ends, as others wait for the outcome; the client's
// timeout bounds it. It is called with making held.
func (s *session) make(ctx context.Context) (*login, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.client.timeout)
	defer cancel()
	l, err := s.enter(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.fails++
		s.tryAt = time.Now().Add(backoff(s.fails-1, 500*time.Millisecond, 30*time.Second))
		s.reason = err
		s.logger.Warn("the login at a target failed", "attempt", s.fails, "error", err, "cause", errors.Unwrap(err))
		return nil, err
	}
	s.fails, s.tryAt, s.reason = 0, time.Time{}, nil
	s.put(l)
	s.logger.Info("logged in at a target", "method", s.auth.Method, "ttl", l.ttl, "renewable", l.renewable)
	return l, nil
}

// put makes l the current login and wakes run.
func (s *session) put(l *login) {
	s.current.Store(l)
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// enter asks the target for a login.
func (s *session) enter(ctx context.Context) (*login, error) {
	if s.auth.Method == "approle" {
		return s.client.appRole(ctx, &s.auth)
	}
	ttl, renewable, err := s.client.lookup(ctx, s.auth.Token)
	switch {
	case errors.Is(err, errBlind):
		s.logger.Warn("the token of a target may not look itself up, so it is not renewed")
	case err != nil:
		return nil, err
	case ttl > 0 && !renewable:
		s.logger.Warn("the token of a target can't be renewed and will end", "ttl", ttl)
	}
	return newLogin(s.auth.Token, ttl, ttl, renewable), nil
}

// doubt finds out whether l died, after a request with it was refused, and then logs in again: renewed says that there is
// a new login to try. One caller asks for all that doubt the same login. An error says that no login stands any more.
func (s *session) doubt(ctx context.Context, l *login) (renewed bool, err error) {
	if s.current.Load() == l && time.Since(time.Unix(0, l.checked.Load())) < trust {
		return false, nil
	}
	if err := s.hold(ctx); err != nil {
		return false, err
	}
	defer s.release()
	if s.current.Load() != l {
		_, err := s.renewed(ctx)
		return err == nil, err
	}
	if time.Since(time.Unix(0, l.checked.Load())) < trust {
		return false, nil
	}
	_, _, err = s.client.lookup(ctx, l.token)
	switch {
	case err == nil || errors.Is(err, errBlind):
		l.checked.Store(time.Now().UnixNano())
		return false, nil
	case !errors.Is(err, errDead):
		return false, nil // it can't be told: the refusal stands as it came
	}
	s.logger.Warn("the login at a target died")
	s.current.Store(nil)
	_, err = s.make(ctx)
	return err == nil, err
}

// run keeps the login alive until ctx ends.
func (s *session) run(ctx context.Context) {
	for {
		t := time.NewTimer(s.round(ctx))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		case <-s.changed:
			t.Stop()
		}
	}
}

// idle is how long run sleeps where nothing is due.
const idle = time.Hour

// round does what is due now and says how long nothing will be.
func (s *session) round(ctx context.Context) time.Duration {
	l, err := s.login(ctx)
	if err != nil {
		return max(s.pause(), 50*time.Millisecond)
	}
	due := l.due()
	if due.IsZero() {
		return idle
	}
	if wait := time.Until(due); wait > 0 {
		return wait
	}
	if err := s.hold(ctx); err != nil {
		return 50 * time.Millisecond
	}
	defer s.release()
	if s.current.Load() != l {
		return 0
	}
	return s.refresh(ctx, l)
}

// refresh renews l or replaces it, and says when to look again. It is called with making held.
func (s *session) refresh(ctx context.Context, l *login) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, s.client.timeout)
	defer cancel()
	var err error
	if l.renewable {
		var next *login
		if next, err = s.client.renew(ctx, l); err == nil {
			s.logger.Debug("the login at a target was renewed", "ttl", next.ttl)
			s.put(next)
			if s.auth.Method == "token" || next.ttl >= l.full/3 {
				return time.Until(next.due())
			}
			l = next
		}
	}
	if s.auth.Method == "approle" && s.pause() <= 0 {
		if next, err := s.make(ctx); err == nil {
			return time.Until(next.due())
		}
	}
	if errors.Is(err, errDead) {
		s.current.CompareAndSwap(l, nil)
		return 0
	}
	if err != nil {
		s.logger.Warn("the login at a target could not be renewed", "error", err)
	}
	// It still stands for a while: try again, more often as its end comes near.
	return max(time.Until(l.since.Add(l.ttl))/3, 250*time.Millisecond)
}
