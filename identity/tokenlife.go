package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/document"
)

// Said is a refusal in the words that a client is told, which are Vault's.
type Said struct {
	Msg    string
	Denied bool // the caller may not; else what was asked makes no sense
}

func (e *Said) Error() string { return e.Msg }

func said(format string, args ...any) error { return &Said{Msg: fmt.Sprintf(format, args...)} }

// term is how long a token lives.
type term struct {
	increment   time.Duration // asked for now
	ttl         time.Duration // of its role or its method; zero: the system's default
	period      time.Duration
	max         time.Duration // of its role or its method; zero: the system's
	explicitMax time.Duration
	from        time.Time // when it was made
}

// ttl works out the TTL from now as Vault does, and says what was cut.
func (t *Tokens) ttl(x term) (ttl time.Duration, warnings []string, err error) {
	at := time.Now().Truncate(time.Second)
	from := x.from.Truncate(time.Second)
	if from.IsZero() {
		from = at
	}
	most := t.cfg.MaxTTL
	for _, m := range []time.Duration{x.max, x.explicitMax} {
		if m > 0 && m < most {
			most = m
		}
	}
	var end time.Time
	switch {
	case x.period > 0:
		if x.period > most {
			warnings = append(warnings, fmt.Sprintf("period of %q exceeded the effective max_ttl of %q; period value is capped accordingly", words(x.period), words(most)))
			x.period = most
		}
		ttl = x.period
		if x.explicitMax > 0 {
			end = from.Add(x.explicitMax)
		}
	default:
		ttl = t.cfg.DefaultTTL
		if x.ttl > 0 {
			ttl = x.ttl
		}
		if x.increment > 0 {
			ttl = x.increment
		}
		end = from.Add(most)
	}
	if !end.IsZero() {
		left := end.Sub(at)
		if left <= 0 {
			return 0, nil, said("past the max TTL, cannot renew")
		}
		if ttl > left {
			warnings = append(warnings, fmt.Sprintf("TTL of %q exceeded the effective max_ttl of %q; TTL value is capped accordingly", words(ttl), words(left)))
			ttl = left
		}
	}
	return ttl, warnings, nil
}

// words is a duration as Vault writes it.
func words(d time.Duration) string {
	if d == 0 {
		return "0s"
	}
	s := strings.TrimSuffix(d.String(), "0s")
	if !strings.HasSuffix(s, "m") {
		s = d.String()
	}
	if i := strings.Index(s, "h0m"); i > 0 {
		s = s[:i+1] + s[i+3:]
	}
	return s
}

// sanitize makes a list of policies as Vault keeps it: lower case, sorted, each once; root stands alone.
func sanitize(policies []string, addDefault bool) []string {
	out := []string{}
	for _, p := range policies {
		p = strings.ToLower(strings.TrimSpace(p))
		switch p {
		case "":
			continue
		case rootPolicy:
			return []string{rootPolicy}
		}
		out = append(out, p)
	}
	if addDefault {
		out = append(out, DefaultPolicy)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

const rootPolicy = "root"

// Info is what may be told of a token.
type Info struct {
	Caller
	Path        string
	Role        string
	Orphan      bool
	Uses        int // left; 0: any number
	TTL         time.Duration
	Left        time.Duration // 0 where it has no end
	ExplicitMax time.Duration
	Period      time.Duration
	Renewable   bool
	Renewed     time.Time
	CIDRs       []string
}

// Lookup tells about the token that an accessor stands for; false where there is none that counts.
func (t *Tokens) Lookup(accessor string) (Info, bool) {
	x := t.named(accessor)
	if x == nil {
		return Info{}, false
	}
	s := x.state.Load()
	if s.Ended.IsZero() && s.Uses < 0 {
		return t.info(s), true // by the request that uses it up
	}
	if s.counts(t.cfg.Keys, time.Now()) != "" {
		return Info{}, false
	}
	return t.info(s), true
}

// AccessorOf finds the accessor of a token; false where it isn't known or doesn't count.
func (t *Tokens) AccessorOf(text string) (accessor string, ok bool) {
	x := t.find(text)
	if x == nil {
		return "", false
	}
	s := x.state.Load()
	return s.Accessor, s.counts(t.cfg.Keys, time.Now()) == ""
}

func (t *Tokens) info(s *tokenState) Info {
	i := Info{
		Caller: t.callerOf(s).Caller, Path: s.Path, Role: s.Role, Orphan: s.Parent == "", Uses: max(s.Uses, 0), TTL: s.TTL, ExplicitMax: s.ExplicitMax,
		Period: s.Period, Renewable: s.Renewable && !s.Expires.IsZero(), Renewed: s.Renewed,
	}
	if s.Uses < 0 {
		i.Uses = -1
	}
	if !s.Expires.IsZero() {
		i.Left = max(time.Until(s.Expires), 0)
	}
	for _, p := range s.CIDRs {
		i.CIDRs = append(i.CIDRs, cidrText(p))
	}
	return i
}

// Accessors lists those of all tokens that count, sorted.
func (t *Tokens) Accessors() []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	at := time.Now()
	out := make([]string, 0, len(t.byAccessor))
	for a, x := range t.byAccessor {
		if x.state.Load().counts(t.cfg.Keys, at) == "" {
			out = append(out, a)
		}
	}
	slices.Sort(out)
	return out
}

// cutByKey ends a token with the access key that it goes back to.
func (r *tokenRecord) cutByKey() {
	if !r.KeyEnds.IsZero() && (r.Expires.IsZero() || r.Expires.After(r.KeyEnds)) {
		r.Expires = r.KeyEnds
	}
}

// Renew moves a token's end: increment from now, or by what it was made with, in the limits of its period, its explicit
// max TTL and the max TTL of where it was made. It is durable on return.
func (t *Tokens) Renew(ctx context.Context, accessor string, increment time.Duration) (Info, []string, error) {
	x := t.named(accessor)
	if x == nil {
		return Info{}, nil, said("token not found")
	}
	again, err := t.stillLetIn(ctx, x)
	if err != nil {
		return Info{}, nil, err
	}
	var warnings []string
	s, err := t.update(ctx, x, func(r *tokenRecord) error {
		if x.state.Load().counts(t.cfg.Keys, time.Now()) != "" {
			return said("token not found")
		}
		if r.Expires.IsZero() || !r.Renewable {
			return said("lease is not renewable")
		}
		tm := term{increment: increment, ttl: r.Asked, period: r.Period, max: r.MaxTTL, explicitMax: r.ExplicitMax, from: r.Created}
		if r.Role != "" {
			role, ok := t.Role(r.Role)
			if !ok {
				return fmt.Errorf("original token role %q could not be found, not renewing", r.Role)
			}
			tm.period, tm.explicitMax = role.Period, role.ExplicitMaxTTL
		}
		if again != nil {
			tm.ttl, tm.max, tm.period = again.TTL, again.MaxTTL, again.Period
		}
		ttl, w, err := t.ttl(tm)
		if err != nil {
			return err
		}
		warnings = w
		r.Renewed = now()
		r.Expires, r.Asked = r.Renewed.Add(ttl), ttl
		r.cutByKey()
		return nil
	})
	if errors.Is(err, document.ErrNotFound) {
		return Info{}, nil, said("token not found")
	}
	if err != nil {
		return Info{}, nil, err
	}
	i := t.info(s)
	i.TTL = i.Left
	if !s.Expires.IsZero() {
		i.TTL = s.Expires.Sub(s.Renewed) // as granted, not what is left when it is said
	}
	return i, warnings, nil
}

// stillLetIn asks the auth method that a token came through; nil where there is nobody to ask.
func (t *Tokens) stillLetIn(ctx context.Context, x *token) (*TokenParams, error) {
	s := x.state.Load()
	if t.cfg.Renewing == nil || s.Accessed == "" || s.KeyOf != "" || s.Parent != "" {
		return nil, nil
	}
	p, err := t.cfg.Renewing(ctx, Admission{MountAccessor: s.Accessed, Alias: s.Alias, Role: s.By, Metadata: s.Meta, Policies: s.Policies})
	if err != nil {
		return nil, err
	}
	return &p, nil
}
