package sys

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/policy"
)

// Book knows every policy and everybody who may call. Its answers are of now.
type Book interface {
	// PolicyIndex knows every policy that counts.
	PolicyIndex() *policy.Index
	// Callers lists each entity with the policies that it has at every login, and each token that counts with all of its own.
	Callers() []policy.Member
	// PolicyVersions lists the versions of a policy, the newest first.
	PolicyVersions(ctx context.Context, name string) ([]PolicyVersion, error)
}

// PolicyVersion is a policy as it stood at a time.
type PolicyVersion struct {
	Version int64     `json:"version"`
	Rules   string    `json:"rules"`
	By      string    `json:"by"`
	At      time.Time `json:"at"`
	Source  string    `json:"source"`
	Stands  bool      `json:"stands"`
}

// SortVersions puts the newest first, and leaves out what was kept and still stands.
func SortVersions(list []PolicyVersion) []PolicyVersion {
	slices.SortStableFunc(list, func(a, b PolicyVersion) int {
		if a.Stands != b.Stands {
			if a.Stands {
				return -1
			}
			return 1
		}
		return cmp.Or(b.At.Compare(a.At), cmp.Compare(b.Version, a.Version))
	})
	return slices.CompactFunc(list, func(a, b PolicyVersion) bool { return a.Version == b.Version && a.At.Equal(b.At) })
}

func (b *Backend) bookRoutes() []route {
	const read, update = policy.Read, policy.Update
	return []route{
		{update, "sys/bailiff/policies/explain", b.explain},
		{update, "sys/bailiff/policies/who-can", b.whoCan},
		{update, "sys/bailiff/policies/what-can", b.whatCan},
		{update, "sys/bailiff/policies/impact", b.impact},
		{read, "sys/bailiff/policies/unused", b.unused},
		{read, "sys/bailiff/policies/versions/{name...}", b.policyVersions},
		{update, "sys/bailiff/policies/rollback/{name...}", b.rollback},
	}
}

// asksBook says that a write only asks.
func asksBook(path string) bool {
	rest, ok := strings.CutPrefix(path, "sys/bailiff/policies/")
	return ok && !strings.HasPrefix(rest, "rollback/")
}

var errNoBook = &gate.Error{Kind: gate.Unsupported, Msg: "questions about policies are not answered here"}

// policyQuestion is what explain and who-can ask.
type policyQuestion struct {
	RequestID string         `json:"request_id"` // explain: of a recorded request, instead of the rest
	Identity  string         `json:"identity"`   // explain, what-can
	Token     string         `json:"token"`      // explain, what-can: the accessor of one of its tokens; empty: what it has at every login
	Op        string         `json:"op"`
	Path      string         `json:"path"`
	Params    map[string]any `json:"params"`
	WrapTTL   string         `json:"wrap_ttl"`
	Time      time.Time      `json:"time"`
	From      string         `json:"from"` // an address
	Reason    string         `json:"reason"`
	Ticket    string         `json:"ticket"`
}

// question turns what was asked into what a policy is asked. The context is left out where nothing of it was given.
func (in *policyQuestion) question() (*policy.Question, error) {
	q := &policy.Question{Op: policy.Operation(in.Op), Path: strings.Trim(in.Path, "/"), Params: in.Params}
	switch q.Op {
	case policy.Create, policy.Read, policy.Update, policy.Patch, policy.Delete, policy.List:
	default:
		return nil, invalid("op must be create, read, update, patch, delete or list")
	}
	if q.Path == "" {
		return nil, invalid("path is missing")
	}
	if in.WrapTTL != "" {
		d, err := time.ParseDuration(in.WrapTTL)
		if err != nil {
			return nil, invalid("wrap_ttl must be a duration: 90s, 15m")
		}
		q.WrapTTL = d
	}
	c := policy.Context{Time: in.Time, Reason: in.Reason, Ticket: in.Ticket}
	if in.From != "" {
		var err error
		if c.Addr, err = netip.ParseAddr(in.From); err != nil {
			return nil, invalid("from must be an address")
		}
	}
	if !in.Time.IsZero() || in.From != "" || in.Reason != "" || in.Ticket != "" {
		q.Context = &c
	}
	return q, nil
}

// caller finds one who may call.
func caller(book Book, name, token string) (*policy.Member, error) {
	list := book.Callers()
	for i := range list {
		if list[i].Name == name && list[i].Token == token {
			return &list[i], nil
		}
	}
	if token != "" {
		return nil, &gate.Error{Kind: gate.NotFound, Msg: fmt.Sprintf("identity %q has no token with that accessor", name)}
	}
	return nil, &gate.Error{Kind: gate.NotFound, Msg: fmt.Sprintf("there is no identity %q, or it is disabled", name)}
}

// explain says what comes of a request and why; with request_id, first what came of one that is recorded.
func (b *Backend) explain(ctx context.Context, c *call) (*gate.Response, error) {
	var in policyQuestion
	if err := c.decode(&in, maxBody); err != nil {
		return nil, err
	}
	if b.cfg.Book == nil {
		return nil, errNoBook
	}
	data := map[string]any{}
	if in.RequestID != "" {
		rec, err := b.recorded(ctx, in.RequestID)
		if err != nil {
			return nil, err
		}
		in = policyQuestion{Identity: rec.Identity, Op: rec.Op, Path: rec.Path, From: rec.ClientAddr, Time: rec.Time}
		data["record"] = rec
		if rec.Rule == nil && rec.Identity == "" { // nobody was known: policy was not asked
			return ok(data), nil
		}
	}
	q, err := in.question()
	if err != nil {
		return nil, err
	}
	who, err := caller(b.cfg.Book, in.Identity, in.Token)
	if err != nil {
		if data["record"] != nil {
			return ok(data), nil
		}
		return nil, err
	}
	asked := q.Context
	context := *who.Context
	if asked != nil {
		context.Time, context.Addr, context.Reason, context.Ticket = asked.Time, asked.Addr, asked.Reason, asked.Ticket
	}
	q.Context = &context
	e := b.cfg.Book.PolicyIndex().Explain(q, who.Policies, who.Subject())
	data["identity"], data["op"], data["path"], data["policies"] = in.Identity, q.Op, q.Path, who.Policies
	data["allowed"], data["reason"], data["rule"], data["sudo"] = e.Decision.Allowed, e.Decision.Reason, e.Decision.Rule, e.Decision.Sudo
	data["nearest"], data["matches"], data["would_allow"] = e.Decision.Nearest, orNone(e.Matches), orNone(e.Others)
	return ok(data), nil
}

// recorded finds how a request ended.
func (b *Backend) recorded(ctx context.Context, id string) (*audit.Record, error) {
	var found *audit.Record
	err := b.cfg.Trail.Query(ctx, audit.Query{RequestID: id, Limit: 4}, func(r *audit.Record) error {
		if found == nil || r.Stage == audit.StageResponse && found.Stage != audit.StageResponse {
			found = r
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case found == nil:
		return nil, &gate.Error{Kind: gate.NotFound, Msg: "there is no record of a request with that id"}
	}
	return found, nil
}

// orNone keeps an empty list from being null.
func orNone[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// holder is one who may do what was asked.
type holder struct {
	Name    string       `json:"name"`
	Tokens  []string     `json:"tokens,omitempty"` // by which it may; empty: by every login
	Rule    *policy.Rule `json:"rule"`
	Depends bool         `json:"depends"` // on a condition, on parameters or on wrapping
	When    string       `json:"when,omitempty"`
}

// whoCan lists who may do something now, by name.
func (b *Backend) whoCan(_ context.Context, c *call) (*gate.Response, error) {
	var in policyQuestion
	if err := c.decode(&in, maxBody); err != nil {
		return nil, err
	}
	if b.cfg.Book == nil {
		return nil, errNoBook
	}
	q, err := in.question()
	if err != nil {
		return nil, err
	}
	x := b.cfg.Book.PolicyIndex()
	byName := map[string]*holder{}
	x.WhoCan(q, x.Members(b.cfg.Book.Callers()), func(m *policy.Member, v policy.Verdict) {
		h := byName[m.Name]
		switch {
		case h == nil:
			h = &holder{Name: m.Name, Rule: v.Rule, Depends: !v.Allowed, When: v.When}
			byName[m.Name] = h
		case len(h.Tokens) == 0 && (!h.Depends || !v.Allowed):
			return // it may anyhow, by every login
		case h.Depends && v.Allowed:
			h.Rule, h.Depends, h.When, h.Tokens = v.Rule, false, "", nil
		}
		if m.Token != "" {
			h.Tokens = append(h.Tokens, m.Token)
		}
	})
	list := make([]*holder, 0, len(byName))
	for _, h := range byName {
		list = append(list, h)
	}
	slices.SortFunc(list, func(a, b *holder) int { return cmp.Compare(a.Name, b.Name) })
	return ok(map[string]any{"op": q.Op, "path": q.Path, "count": len(list), "identities": list}), nil
}

// whatCan lists the rules that an identity has.
func (b *Backend) whatCan(_ context.Context, c *call) (*gate.Response, error) {
	var in policyQuestion
	if err := c.decode(&in, maxBody); err != nil {
		return nil, err
	}
	if b.cfg.Book == nil {
		return nil, errNoBook
	}
	who, err := caller(b.cfg.Book, in.Identity, in.Token)
	if err != nil {
		return nil, err
	}
	rights := aclOf(b.cfg.Book.PolicyIndex(), who.Policies, who.Subject(), nil).Rights()
	return ok(map[string]any{"identity": who.Name, "policies": who.Policies, "rules": orNone(rights)}), nil
}

// aclOf compiles policies by their names; those in instead count in place of the ones that stand, and nil not at all.
func aclOf(x *policy.Index, names []string, who *policy.Subject, instead map[string]*policy.Policy) *policy.ACL {
	list := make([]*policy.Policy, 0, len(names))
	for _, name := range names {
		p, other := instead[name]
		if !other {
			p = x.Policy(name)
		}
		if p != nil {
			list = append(list, p)
		}
	}
	return policy.NewSet(list...).For(who)
}

func (b *Backend) policyVersions(ctx context.Context, c *call) (*gate.Response, error) {
	if b.cfg.Book == nil {
		return nil, errNoBook
	}
	list, err := b.cfg.Book.PolicyVersions(ctx, strings.ToLower(c.args["name"]))
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, &gate.Error{Kind: gate.NotFound, Msg: fmt.Sprintf("there is no policy %q, and there was none", c.args["name"])}
	}
	return ok(map[string]any{"name": strings.ToLower(c.args["name"]), "versions": list}), nil
}

// rollback makes an earlier version of a policy the next one.
func (b *Backend) rollback(ctx context.Context, c *call) (*gate.Response, error) {
	var in struct {
		Version int64  `json:"version"`
		CAS     *int64 `json:"cas"` // the version that must stand
	}
	if err := c.decode(&in, maxBody); err != nil {
		return nil, err
	}
	put, can := b.cfg.Estate.(Putter)
	if b.cfg.Book == nil || !can {
		return nil, errNoBook
	}
	name := strings.ToLower(c.args["name"])
	list, err := b.cfg.Book.PolicyVersions(ctx, name)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(list, func(v PolicyVersion) bool { return v.Version == in.Version })
	if i < 0 {
		return nil, &gate.Error{Kind: gate.NotFound, Msg: fmt.Sprintf("policy %q has no version %d", name, in.Version)}
	}
	rec, err := object.Encode(&object.Policy{Name: name, Rules: list[i].Rules})
	if err != nil {
		return nil, err
	}
	if err := b.put(ctx, put, c.Caller.Name, rec, in.CAS); err != nil {
		return nil, err
	}
	return done(fmt.Sprintf("wrote policy %s as it was in version %d", name, in.Version)), nil
}

// impactInput is a change of policies that is only asked about.
type impactInput struct {
	Policies []object.Policy `json:"policies"` // instead of those with these names
	Delete   []string        `json:"delete"`
	Since    string          `json:"since"` // 30d, 2026-11-01
	Until    string          `json:"until"`
}

// impact asks recorded requests of the policies as they would be.
func (b *Backend) impact(ctx context.Context, c *call) (*gate.Response, error) {
	var in impactInput
	if err := c.decode(&in, maxApplyBody); err != nil {
		return nil, err
	}
	if b.cfg.Book == nil {
		return nil, errNoBook
	}
	instead := map[string]*policy.Policy{}
	for _, name := range in.Delete {
		instead[name] = nil
	}
	for _, p := range in.Policies {
		parsed, err := policy.Parse(p.Name, 0, p.Rules)
		if err != nil {
			return nil, invalid("%w", err)
		}
		instead[p.Name] = parsed
	}
	ask := audit.Query{Stage: string(audit.StageResponse), Forward: true}
	var err error
	for text, to := range map[string]*time.Time{in.Since: &ask.Since, in.Until: &ask.Until} {
		if text == "" {
			continue
		}
		if *to, err = audit.ParseTime(text, time.Now()); err != nil {
			return nil, invalid("since and until: %w", err)
		}
	}
	x := b.cfg.Book.PolicyIndex()
	who := rightsByName(b.cfg.Book.Callers())
	find := func(instead map[string]*policy.Policy) func(string) *policy.ACL {
		return func(name string) *policy.ACL {
			m, ok := who[name]
			if !ok {
				return nil
			}
			return aclOf(x, m.Policies, m.Subject(), instead)
		}
	}
	r := policy.NewReplay(find(nil), find(instead))
	err = b.cfg.Trail.Query(ctx, ask, func(rec *audit.Record) error {
		if rec.Identity != "" && rec.Status != audit.Refused {
			r.Add(rec.Identity, policy.Operation(rec.Op), rec.Path, rec.Time)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"requests": r.Requests(), "flips": r.Flips()}), nil
}

// rightsByName unites what an identity has at every login with what its tokens have: which of them made a request that is
// recorded isn't known.
func rightsByName(list []policy.Member) map[string]*policy.Member {
	out := make(map[string]*policy.Member, len(list))
	for i := range list {
		m := list[i]
		if first := out[m.Name]; first != nil {
			first.Policies = append(slices.Clip(first.Policies), m.Policies...)
			slices.Sort(first.Policies)
			first.Policies = slices.Compact(first.Policies)
			continue
		}
		out[m.Name] = &m
	}
	return out
}

// unusedRule is a rule that granted nothing in a time.
type unusedRule struct {
	policy.Rule
	Capabilities []string `json:"capabilities"`
}

// unused lists the rules of all policies that nothing was granted by since a time.
func (b *Backend) unused(ctx context.Context, c *call) (*gate.Response, error) {
	if b.cfg.Book == nil {
		return nil, errNoBook
	}
	q, err := c.query("since", "policy")
	if err != nil {
		return nil, err
	}
	since := q.moment("since", time.Now())
	if q.err != nil {
		return nil, q.err
	}
	type place struct{ policy, pattern string }
	used := map[place]bool{}
	err = b.cfg.Trail.Query(ctx, audit.Query{Stage: string(audit.StageResponse), Since: since}, func(r *audit.Record) error {
		if r.Rule != nil && r.Status != audit.Denied {
			used[place{r.Rule.Policy, r.Rule.Pattern}] = true
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := []unusedRule{}
	for _, r := range b.cfg.Book.PolicyIndex().Rules(q.text("policy")) {
		if !used[place{r.Policy, r.Pattern}] {
			out = append(out, unusedRule{r.Rule, r.Capabilities})
		}
	}
	return ok(map[string]any{"rules": out}), nil
}
