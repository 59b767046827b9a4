package broker

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
)

// shares are the credentials that this process can hand out again. They are kept here alone: the store never has the
// secret of a credential, so that after a restart, and on every other node, a lease is made anew.
type shares struct {
	mu    sync.Mutex
	byKey map[string]share
}

// share is a credential that was issued, and by what role as it stood.
type share struct {
	id      string // of the lease
	role    Role
	cred    *Credential
	expires time.Time // as it was when it was last handed out
}

// shareKey is what those who share a lease have in common. A lease that ends with its token is shared only by those who use
// that token: otherwise somebody could keep a credential past the end of the token that it was shown to.
func shareKey(o *order) string {
	key := o.role.Mount + o.role.Name + "\n" + o.Caller.Name
	if !o.Mount.Outlive {
		key += "\n" + o.Caller.Accessor
	}
	return key
}

// issueShared hands out a credential that is shared already, or makes one that will be. One caller of a key at a time, so
// that replicas that start together get one.
func (b *Broker) issueShared(ctx context.Context, o *order) (*gate.Response, error) {
	o.shareKey = shareKey(o)
	unlock, err := b.locks.Lock(ctx, "share\n"+o.shareKey)
	if err != nil {
		return nil, &gate.Error{Kind: gate.Unavailable, Msg: "the credential is being made for another caller", Err: err}
	}
	defer unlock()
	if s, ok := b.shares.get(o.shareKey); ok {
		i, err := b.join(ctx, o, s)
		if err != nil {
			return nil, err
		}
		if i.lease != nil {
			return b.answerShared(ctx, i), nil
		}
	}
	i, err := b.issueNew(ctx, o)
	if err != nil {
		return nil, err
	}
	b.shares.put(o.shareKey, share{
		id: i.lease.ID, role: o.role, cred: &Credential{Fields: i.cred.Fields}, expires: i.lease.ExpiresAt,
	})
	return b.answer(ctx, i), nil
}

// answerShared is answer for a lease that has been alive for a while.
func (b *Broker) answerShared(ctx context.Context, i issued) *gate.Response {
	resp := b.answer(ctx, i)
	resp.Lease.Duration = kept(i.lease.ExpiresAt.Sub(now()))
	resp.Detail += fmt.Sprintf(", shared by %d", i.lease.Holders)
	return resp
}

// join makes the caller one more holder of a shared lease, durably. It returns no lease where that one can't be shared any
// more: it is being ended, its role has changed, less than half of the caller's time is left, or it lives longer than what
// this caller gets may.
func (b *Broker) join(ctx context.Context, o *order, s share) (i issued, err error) {
	if l, _, err := b.joinable(ctx, o, s); l == nil || err != nil { // first without the lock: a revocation holds it for long
		return i, err
	}
	unlock, err := b.locks.Lock(ctx, s.id) // so that no renewal finds that the lease has moved on
	if err != nil {
		return i, &gate.Error{Kind: gate.Unavailable, Msg: "the lease is in work", Err: err}
	}
	defer unlock()
	for range 3 { // a write that came between is read again
		l, tm, err := b.joinable(ctx, o, s)
		if l == nil || err != nil {
			return i, err
		}
		l.Holders = max(l.Holders, 1) + 1
		err = b.cfg.Store.Move(ctx, l, Active)
		if err == nil {
			s.expires = l.ExpiresAt
			b.shares.put(o.shareKey, s)
			return issued{lease: l, cred: s.cred, term: tm}, nil
		}
		if !errors.Is(err, ErrStale) {
			return i, notStored(err)
		}
	}
	return i, nil
}

// joinable is the lease of s where the caller may share it, and what to say of its life; nil where not.
func (b *Broker) joinable(ctx context.Context, o *order, s share) (*Lease, term, error) {
	l, err := b.Lookup(ctx, s.id)
	if errors.Is(err, ErrNoLease) {
		return nil, term{}, nil
	}
	if err != nil {
		return nil, term{}, err
	}
	t := now()
	tm, err := b.termOf(o.role, o.Request, t)
	if err != nil {
		return nil, term{}, err
	}
	left := l.ExpiresAt.Sub(t)
	if l.State != Active || !reflect.DeepEqual(s.role, o.role) || left < tm.ttl/2 || l.ExpiresAt.After(tm.until) {
		return nil, term{}, nil
	}
	tm.warnings = nil // they are about a lease that begins now
	if left < tm.ttl {
		tm.warnings = []string{fmt.Sprintf("the lease is shared with others, so it is %s and not %s", kept(left), shown(tm.ttl))}
	}
	return l, tm, nil
}

// Release is Revoke by one of those who hold a lease: where others hold it too it only counts one less, durably, and the
// last one's revokes it.
func (b *Broker) Release(ctx context.Context, id string, sync bool) error {
	for {
		l, err := b.find(ctx, id)
		if err != nil {
			return err
		}
		if l.State != Active || l.Holders < 2 {
			b.shares.forget(l)
			return b.revoke(ctx, l, sync)
		}
		if left, err := b.leave(ctx, l.ID); left || err != nil {
			return err
		}
	}
}

// leave counts one holder less where there are others.
func (b *Broker) leave(ctx context.Context, id string) (left bool, err error) {
	unlock, err := b.locks.Lock(ctx, id)
	if err != nil {
		return false, &gate.Error{Kind: gate.Unavailable, Msg: "the lease is in work", Err: err}
	}
	defer unlock()
	l, err := b.find(ctx, id)
	if err != nil || l.State != Active || l.Holders < 2 {
		return false, err
	}
	l.Holders--
	err = b.cfg.Store.Move(ctx, l, Active)
	if errors.Is(err, ErrStale) {
		return false, nil
	}
	if err != nil {
		return false, notStored(err)
	}
	return true, nil
}

func (s *shares) get(key string) (share, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, ok := s.byKey[key]
	return x, ok
}

// put keeps a credential, and drops those whose time was over.
func (s *shares) put(key string, x share) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byKey == nil {
		s.byKey = make(map[string]share)
	}
	t := now()
	for k, old := range s.byKey {
		if old.expires.Before(t) {
			delete(s.byKey, k)
		}
	}
	s.byKey[key] = x
}

// forget drops the credential of a lease that ends.
func (s *shares) forget(l *Lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byKey[l.ShareKey].id == l.ID {
		delete(s.byKey, l.ShareKey)
	}
}
