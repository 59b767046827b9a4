package identity

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/document"
)

// TokenRequest asks for a token on behalf of a caller, whose child it is unless it is an orphan.
type TokenRequest struct {
	By     Caller
	Sudo   bool   // By has sudo on the path
	Orphan bool   // by the path that makes orphans
	Path   string // "auth/token/create"
	Role   string // of tokens; empty: none

	TokenID         string // chosen by the caller
	Policies        []string
	Metadata        map[string]string
	NoParent        bool
	NoDefaultPolicy bool
	TTL             time.Duration
	NotRenewable    bool
	ExplicitMaxTTL  time.Duration
	DisplayName     string
	Uses            int
	Period          time.Duration
	Type            string
	EntityAlias     string
	MountAccessor   string // of auth/token/, for EntityAlias
}

// parentOf is what counts of whoever asks for a token.
type parentOf struct {
	policies []string
	uses     int
	expires  bool
	record   *tokenRecord // nil: it is an access key
}

// Create makes a token by Vault's rules: see its documentation of auth/token. It is durable on return. An error is *Said where
// the client should be told.
func (t *Tokens) Create(ctx context.Context, q TokenRequest) (NewToken, error) {
	parent, err := t.parent(&q.By)
	if err != nil {
		return NewToken{}, err
	}
	if parent.uses != 0 {
		return NewToken{}, said("restricted use token cannot generate child tokens")
	}
	role, err := t.roleFor(&q)
	if err != nil {
		return NewToken{}, err
	}
	rec := tokenRecord{
		Accessor: newAccessor(), Parent: q.By.Accessor, Owner: q.By.Name, Path: q.Path, Display: displayName(q.DisplayName), Meta: q.Metadata,
		Created: now(), Renewable: !q.NotRenewable, Uses: q.Uses,
	}
	if role != nil {
		rec.byRole(role)
	}
	if rec.Policies, err = policiesFor(&q, role, parent); err != nil {
		return NewToken{}, err
	}
	if err := t.place(ctx, &rec, &q, role, parent); err != nil {
		return NewToken{}, err
	}
	warnings, err := t.live(&rec, &q, role, parent)
	if err != nil {
		return NewToken{}, err
	}
	made, err := t.make(ctx, &rec)
	if err != nil {
		return NewToken{}, err
	}
	if err := t.parentStands(ctx, &rec); err != nil {
		return NewToken{}, errors.Join(err, t.Revoke(ctx, rec.Accessor))
	}
	for _, p := range rec.Policies {
		if !t.cfg.HasPolicy(p) {
			warnings = append(warnings, fmt.Sprintf("Policy %q does not exist", p))
		}
	}
	made.Warnings = warnings
	return made, nil
}

// parent finds what counts of whoever asks.
func (t *Tokens) parent(by *Caller) (*parentOf, error) {
	if by.KeyID != "" {
		return &parentOf{policies: by.TokenPolicies, expires: !by.Expires.IsZero()}, nil
	}
	x := t.named(by.Accessor)
	if x == nil {
		return nil, said("parent token lookup failed: no parent found")
	}
	s := x.state.Load()
	return &parentOf{policies: t.callerOf(s).TokenPolicies, uses: s.Uses, expires: !s.Expires.IsZero(), record: &s.tokenRecord}, nil
}

// roleFor finds the role that is asked for, and judges the type, the uses and the alias.
func (t *Tokens) roleFor(q *TokenRequest) (*TokenRole, error) {
	var role *TokenRole
	kind := q.Type
	if q.Role != "" {
		r, ok := t.Role(q.Role)
		if !ok {
			return nil, said("unknown role %s", q.Role)
		}
		role = &r
		switch {
		case r.Type == "service" || r.Type == "batch":
			kind = r.Type
		case r.Type == "default-batch" && kind == "":
			kind = "batch"
		}
	}
	switch {
	case kind == "batch":
		return nil, said("batch tokens are not made here: ask for a service token, which is as cheap to use")
	case kind != "" && kind != "service":
		return nil, said("invalid 'token_type' value")
	case q.Uses < 0:
		return nil, said("number of uses cannot be negative")
	case q.EntityAlias != "" && role == nil:
		return nil, said("'entity_alias' is only allowed in combination with token role")
	case q.EntityAlias != "" && !slices.Contains(role.AllowedEntityAliases, strings.ToLower(q.EntityAlias)) && !globs(role.AllowedEntityAliases, strings.ToLower(q.EntityAlias)):
		return nil, said("invalid 'entity_alias' value")
	case q.TokenID != "" && !q.Sudo:
		return nil, said("root or sudo privileges required to specify token id")
	case q.TokenID != "":
		return nil, said("token ids can't be chosen: one that somebody thought of can be guessed")
	}
	return role, nil
}

// byRole sets what a role decides by itself.
func (rec *tokenRecord) byRole(role *TokenRole) {
	rec.Role = role.Name
	rec.Renewable = rec.Renewable && role.Renewable
	if role.Uses != 0 && (rec.Uses == 0 || role.Uses < rec.Uses) {
		rec.Uses = role.Uses
	}
	if role.PathSuffix != "" {
		rec.Path += "/" + role.PathSuffix
	}
}

var notInNames = regexp.MustCompile("[^a-zA-Z0-9-]")

// displayName is a name as Vault shows it.
func displayName(asked string) string {
	if asked == "" {
		return "token"
	}
	return strings.TrimSuffix(notInNames.ReplaceAllString("token-"+asked, "-"), "-")
}

// notAssignable are the policies that nobody can ask for.
var notAssignable = []string{"response-wrapping", "control-group"} //nolint:gochecknoglobals // never changed

// policiesFor works out a token's policies.
func policiesFor(q *TokenRequest, role *TokenRole, parent *parentOf) ([]string, error) {
	var policies []string
	switch {
	case role != nil && role.restricts():
		var err error
		if policies, err = byRolesRules(q, role, parent); err != nil {
			return nil, err
		}
		policies = sanitize(policies, false)
	case len(q.Policies) == 0:
		policies = sanitize(parent.policies, false)
	case !q.Sudo:
		asked, has := sanitize(q.Policies, false), sanitize(parent.policies, false)
		for _, p := range asked {
			if !slices.Contains(has, p) {
				return nil, said("child policies must be subset of parent")
			}
		}
		policies = sanitize(q.Policies, !q.NoDefaultPolicy && slices.Contains(has, DefaultPolicy))
	default:
		policies = sanitize(q.Policies, !q.NoDefaultPolicy)
	}
	if q.NoDefaultPolicy {
		policies = slices.DeleteFunc(policies, func(p string) bool { return p == DefaultPolicy })
	}
	for _, p := range policies {
		if slices.Contains(notAssignable, p) {
			return nil, said("cannot assign policy %q", p)
		}
	}
	if slices.Contains(policies, rootPolicy) && !slices.Contains(parent.policies, rootPolicy) {
		return nil, said("root tokens may not be created without parent token being root")
	}
	return policies, nil
}

// byRolesRules works out the policies where the role has rules of its own for them, which may reach past the parent's.
func byRolesRules(q *TokenRequest, role *TokenRole, parent *parentOf) ([]string, error) {
	addDefault := !q.NoDefaultPolicy && !role.NoDefaultPolicy && !slices.Contains(role.DisallowedPolicies, DefaultPolicy) &&
		!globs(role.DisallowedPoliciesGlob, DefaultPolicy)
	var policies []string
	if len(q.Policies) > 0 {
		policies = sanitize(q.Policies, addDefault)
	}
	if len(role.AllowedPolicies)+len(role.AllowedPoliciesGlob) > 0 {
		allowed := sanitize(role.AllowedPolicies, addDefault)
		if len(policies) == 0 {
			policies = allowed
		} else {
			glob := sanitize(role.AllowedPoliciesGlob, false)
			for _, p := range policies {
				if !slices.Contains(allowed, p) && !globs(glob, p) {
					return nil, said("token policies (%q) must be subset of the role's allowed policies (%q) or glob policies (%q)", policies, allowed, glob)
				}
			}
		}
	} else if len(policies) == 0 {
		policies = sanitize(parent.policies, addDefault)
	}
	for _, p := range policies {
		if slices.Contains(lower(role.DisallowedPolicies), p) || globs(lower(role.DisallowedPoliciesGlob), p) {
			return nil, said("token policy %q is disallowed by this role", p)
		}
	}
	return policies, nil
}

func lower(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = strings.ToLower(strings.TrimSpace(s))
	}
	return out
}

// globs says whether one of patterns, in which * stands for anything, fits s.
func globs(patterns []string, s string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return glob(p, s) })
}

func glob(pattern, s string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == s
	}
	if !strings.HasPrefix(s, first) {
		return false
	}
	s = s[len(first):]
	parts := strings.Split(rest, "*")
	for i, p := range parts {
		if i == len(parts)-1 {
			return strings.HasSuffix(s, p)
		}
		at := strings.Index(s, p)
		if at < 0 {
			return false
		}
		s = s[at+len(p):]
	}
	return true
}

// place sets what a token hangs on: its parent, its entity and its addresses.
func (t *Tokens) place(ctx context.Context, rec *tokenRecord, q *TokenRequest, role *TokenRole, parent *parentOf) error {
	switch {
	case role != nil:
		if role.Orphan {
			rec.Parent = ""
		}
		rec.CIDRs = role.BoundCIDRs
	case q.NoParent && !q.Sudo:
		return said("root or sudo privileges required to create orphan token")
	case q.NoParent, q.Orphan:
		rec.Parent = ""
	}
	if rec.Parent != "" {
		rec.EntityID = q.By.EntityID
		if parent.record != nil {
			rec.Key, rec.KeyOf, rec.KeyEnds = parent.record.Key, parent.record.KeyOf, parent.record.KeyEnds
			if role == nil {
				rec.CIDRs = parent.record.CIDRs
			}
		} else {
			rec.Key, rec.KeyOf, rec.KeyEnds = q.By.KeyID, q.By.AccessID, q.By.Expires
		}
	}
	if q.EntityAlias == "" {
		return nil
	}
	e, err := t.people.Login(ctx, &LoginSpec{MountPath: "auth/token/", MountAccessor: q.MountAccessor, MountType: "token", Alias: q.EntityAlias, DisplayName: "token-" + q.EntityAlias})
	if err != nil {
		return err
	}
	if e.Disabled {
		return &Said{Msg: "entity from given entity alias is disabled", Denied: true}
	}
	rec.EntityID, rec.Owner, rec.Alias = e.ID, e.Name, q.EntityAlias
	return nil
}

// live sets how long a token lives.
func (t *Tokens) live(rec *tokenRecord, q *TokenRequest, role *TokenRole, parent *parentOf) (warnings []string, err error) {
	switch {
	case q.ExplicitMaxTTL < 0:
		return nil, said("explicit_max_ttl must be positive")
	case q.Period < 0:
		return nil, said("period must be positive")
	case q.Period > 0 && !q.Sudo:
		return nil, said("root or sudo privileges required to create periodic token")
	case q.TTL < 0:
		return nil, said("ttl must be positive")
	}
	explicitMax, period := q.ExplicitMaxTTL, q.Period
	rec.ExplicitMax, rec.Period = explicitMax, period
	if role != nil {
		lesser := func(own, roles time.Duration, what string) time.Duration {
			if own == 0 || roles == 0 {
				return max(own, roles)
			}
			own = min(own, roles)
			warnings = append(warnings, fmt.Sprintf("%s specified both during creation call and in role; using the lesser value of %d seconds", what, int64(own.Seconds())))
			return own
		}
		explicitMax = lesser(explicitMax, role.ExplicitMaxTTL, "Explicit max TTL")
		period = lesser(period, role.Period, "Period")
	}
	root := slices.Contains(rec.Policies, rootPolicy)
	if rec.TTL = q.TTL; period > 0 || rec.TTL > 0 || !root {
		ttl, cut, err := t.ttl(term{ttl: q.TTL, period: period, explicitMax: explicitMax, from: rec.Created})
		if err != nil {
			return nil, err
		}
		rec.TTL, warnings = ttl, append(warnings, cut...)
	}
	if rec.TTL == 0 {
		rec.TTL = explicitMax
	}
	if rec.TTL == 0 {
		if parent.expires {
			return nil, said("expiring root tokens cannot create non-expiring root tokens")
		}
		rec.Renewable, rec.CIDRs = false, nil
	} else {
		rec.Expires = rec.Created.Add(rec.TTL)
	}
	rec.Asked = rec.TTL
	rec.cutByKey()
	return warnings, nil
}

// make writes a new token.
func (t *Tokens) make(ctx context.Context, rec *tokenRecord) (NewToken, error) {
	text, h := newTokenText()
	c, err := (&tokenState{}).change(h, rec, 0)
	if err != nil {
		return NewToken{}, err
	}
	if err := t.mirror.write(ctx, c); err != nil {
		return NewToken{}, fmt.Errorf("keep a token: %w", err)
	}
	s := &tokenState{tokenRecord: *rec, version: c.Version, seq: c.Seq}
	made := NewToken{Token: text, Caller: t.callerOf(s).Caller, Orphan: rec.Parent == ""}
	if !rec.Expires.IsZero() {
		made.TTL = rec.Expires.Sub(rec.Created)
	}
	made.Params = TokenParams{
		Policies: rec.Policies, TTL: made.TTL, MaxTTL: rec.MaxTTL, ExplicitMaxTTL: rec.ExplicitMax, Period: rec.Period, Uses: rec.Uses,
		BoundCIDRs: rec.CIDRs, Type: "service", NotRenewable: !rec.Renewable,
	}
	return made, nil
}

// parentStands looks at the parent once more when its child is durable. Whoever ends a token marks it first and then
// looks for its children: a child that came too late to be among those is stopped here.
func (t *Tokens) parentStands(ctx context.Context, rec *tokenRecord) error {
	gone := said("parent token lookup failed: no parent found")
	if rec.Parent == "" {
		return nil
	}
	if rec.Parent == rec.Key {
		if !t.cfg.Keys.stands(rec.KeyOf, rec.Key, time.Now()) {
			return gone
		}
		return nil
	}
	x := t.named(rec.Parent)
	if x == nil {
		return gone
	}
	err := t.mirror.refresh(ctx, spaceToken, x.hash.key())
	if errors.Is(err, document.ErrNotFound) || err == nil && !x.state.Load().Ended.IsZero() {
		return gone
	}
	return err
}
