package broker

import (
	"fmt"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
)

// Tokens is a Catalog that knows the tokens that leases are issued to. Without it a token counts until Caller.Expires.
type Tokens interface {
	// Token says whether a token counts now, and when it ends; zero where it has no end.
	Token(accessID, accessor string) (ends time.Time, counts bool)
	// MountMaxTTL is the most that a lease of a mount lives; 0 where the mount sets no limit.
	MountMaxTTL(mount string) time.Duration
}

// term is how long a lease lives, and what its owner should know about that.
type term struct {
	ttl      time.Duration
	until    time.Time // the lease never lives past it
	byToken  bool      // until is the token's end
	warnings []string
}

// longest is the most that a lease may live, and whose limit that is.
type longest struct {
	who string
	max time.Duration
}

// limits are the limits on a lease's life that are spans of time. The system's is first.
func (b *Broker) limits(role Role, mountMax time.Duration) []longest {
	return []longest{
		{"the system's", b.cfg.MaxTTL}, {"the mount's", mountMax}, {"the role's", role.MaxTTL}, {"the target's", role.TargetMaxTTL},
	}
}

// termOf works out how long a lease that is issued at t lives: the role's, the mount's or the system's TTL, cut by the
// smallest of the limits of system, mount, role and target, and by the end of the token unless the lease outlives it.
func (b *Broker) termOf(role Role, r *gate.Request, t time.Time) (term, error) {
	asked, chosen := b.cfg.DefaultTTL, false
	for _, d := range []time.Duration{role.DefaultTTL, r.Mount.DefaultTTL} {
		if d > 0 {
			asked, chosen = d, true
			break
		}
	}
	limits := b.limits(role, r.Mount.MaxTTL)
	least := limits[0]
	for _, x := range limits[1:] {
		if x.max > 0 && x.max < least.max {
			least = x
		}
	}
	tm := term{ttl: min(asked, least.max), until: t.Add(least.max)}
	if asked > least.max && chosen { // a default that nobody chose and that a limit cuts is not worth a warning
		tm.warnings = append(tm.warnings, fmt.Sprintf("%s max_ttl is %s, so the lease is that and not %s", least.who, least.max, asked))
	}
	return tm, tm.cutByToken(r, t)
}

// cutByToken ends tm with the caller's token, or says that it does not.
func (tm *term) cutByToken(r *gate.Request, t time.Time) error {
	end := r.Caller.Expires.UTC().Truncate(time.Millisecond)
	if r.Caller.Expires.IsZero() || !end.Before(tm.until) {
		return nil
	}
	at := end.Format(time.RFC3339)
	if r.Mount.Outlive {
		tm.warnings = append(tm.warnings, fmt.Sprintf("the token that it was issued to ends at %s, and the lease does not end with it", at))
		return nil
	}
	left := end.Sub(t)
	if left <= 0 {
		return gate.Errorf(gate.Forbidden, "the token has ended, and a lease ends with its token")
	}
	tm.until, tm.byToken = end, true
	if left >= tm.ttl {
		tm.warnings = append(tm.warnings, fmt.Sprintf("the token that it was issued to ends at %s, and the lease with it", at))
		return nil
	}
	tm.warnings = append(tm.warnings, fmt.Sprintf("the token that it was issued to ends at %s, so the lease is %s and not %s",
		at, kept(left), shown(tm.ttl)))
	tm.ttl = left
	return nil
}

// shown is a TTL as clients see it: in whole seconds where it is longer than one.
func shown(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(time.Second)
	}
	return d
}

// kept is shown for a time after which nothing is kept: it is never rounded up.
func kept(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Truncate(time.Second)
	}
	return d
}

// duration is how long the owner of an active lease is told that it lives.
func (tm *term) duration(l *Lease, from time.Time) time.Duration {
	if tm.byToken && l.ExpiresAt.Equal(tm.until) {
		return kept(l.ExpiresAt.Sub(from))
	}
	return shown(l.ExpiresAt.Sub(from))
}

// stands says whether what a lease was asked with still counts once its row is durable. Whoever ends a token or removes a
// role does that first and promises the revocation of the leases then: one that comes too late to be among those is
// stopped here.
func (b *Broker) stands(l *Lease) error {
	if _, ok := b.role(l); !ok && l.Producer != KindVault {
		return noRole(l.Role)
	}
	if b.tokens == nil || l.Token == "" || l.Outlives {
		return nil
	}
	if _, counts := b.tokens.Token(l.AccessID, l.Token); !counts {
		return gate.Errorf(gate.Forbidden, "the token has ended, and a lease ends with its token")
	}
	return nil
}

// until is the new end of a lease, and what its owner should know about it.
func (b *Broker) until(role Role, l *Lease, increment time.Duration) (time.Time, []string) {
	t := now()
	if increment == 0 {
		increment = role.DefaultTTL
	}
	if increment == 0 {
		increment = b.cfg.DefaultTTL
	}
	until := t.Add(increment).Truncate(time.Millisecond)
	if increment > b.cfg.MaxTTL || until.After(l.MaxExpiresAt) {
		why := fmt.Sprintf("the system's max_ttl is %s", b.cfg.MaxTTL)
		if until = t.Add(b.cfg.MaxTTL); until.After(l.MaxExpiresAt) {
			until, why = l.MaxExpiresAt, b.fixedBy(role, l)
		}
		return until, []string{fmt.Sprintf("%s, so the lease is %s and not %s", why, shown(until.Sub(t)), increment)}
	}
	if l.Holders > 1 && until.Before(l.ExpiresAt) {
		return l.ExpiresAt, []string{fmt.Sprintf("%d callers share the lease, so it is not made shorter than %s", l.Holders,
			kept(l.ExpiresAt.Sub(t)))}
	}
	return until, nil
}

// fixedBy names what fixed the end past which a lease is not renewed.
func (b *Broker) fixedBy(role Role, l *Lease) string {
	at := l.MaxExpiresAt.UTC().Format(time.RFC3339)
	var mountMax time.Duration
	if b.tokens != nil {
		if ends, _ := b.tokens.Token(l.AccessID, l.Token); !l.Outlives && ends.Truncate(time.Millisecond).Equal(l.MaxExpiresAt) {
			return "the token that it was issued to ends at " + at
		}
		mountMax = b.tokens.MountMaxTTL(l.Mount)
	}
	most := l.MaxExpiresAt.Sub(l.IntentDeadline.Add(-b.cfg.IssueTimeout))
	for _, x := range b.limits(role, mountMax) {
		if x.max == most {
			return fmt.Sprintf("%s max_ttl is %s, which is over at %s", x.who, x.max, at)
		}
	}
	return "the most that it may live was fixed when it was issued, and is over at " + at
}
