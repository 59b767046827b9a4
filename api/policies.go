package api

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/policy"
)

// PolicyQuestion is what may be asked of policies: by whom (explain and what-can alone), what, and under which circumstances.
type PolicyQuestion struct {
	RequestID string         `json:"request_id,omitempty"` // explain: of a recorded request, instead of the rest
	Identity  string         `json:"identity,omitempty"`
	Token     string         `json:"token,omitempty"` // the accessor of one of the identity's tokens; empty: what it has at every login
	Op        string         `json:"op,omitempty"`
	Path      string         `json:"path,omitempty"`
	Params    map[string]any `json:"params,omitempty"`
	WrapTTL   string         `json:"wrap_ttl,omitempty"`
	Time      time.Time      `json:"time,omitzero"` // zero: now; for who-can: at any time
	From      string         `json:"from,omitempty"`
	Reason    string         `json:"reason,omitempty"`
	Ticket    string         `json:"ticket,omitempty"`
}

// PolicyExplanation says what comes of a request and why.
type PolicyExplanation struct {
	Record     *audit.Record  `json:"record,omitempty"` // of the request that was asked about
	Identity   string         `json:"identity"`
	Op         string         `json:"op"`
	Path       string         `json:"path"`
	Policies   []string       `json:"policies"`
	Allowed    bool           `json:"allowed"`
	Sudo       bool           `json:"sudo"`
	Reason     string         `json:"reason"`
	Rule       *policy.Rule   `json:"rule"`        // that decided
	Nearest    *policy.Rule   `json:"nearest"`     // of a refusal: the identity's rule that would have come nearest to allowing it
	Matches    []policy.Match `json:"matches"`     // every rule of the identity's that matches, the ones that count first
	WouldAllow []string       `json:"would_allow"` // policies that the identity does not have and that would allow it
}

// WhoCan lists who may do something.
type WhoCan struct {
	Op         string   `json:"op"`
	Path       string   `json:"path"`
	Count      int      `json:"count"`
	Identities []Holder `json:"identities"`
}

// Holder is one who may.
type Holder struct {
	Name    string       `json:"name"`
	Tokens  []string     `json:"tokens,omitempty"` // accessors of those by which it may; empty: by every login
	Rule    *policy.Rule `json:"rule"`
	Depends bool         `json:"depends"` // on a condition, on parameters or on wrapping
	When    string       `json:"when,omitempty"`
}

// WhatCan lists the rules that an identity has.
type WhatCan struct {
	Identity string         `json:"identity"`
	Policies []string       `json:"policies"`
	Rules    []policy.Right `json:"rules"`
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

// PolicyVersions lists the versions of a policy, the newest first.
type PolicyVersions struct {
	Name     string          `json:"name"`
	Versions []PolicyVersion `json:"versions"`
}

// RollbackRequest names the version that shall be the next one. CAS is the version that must stand; nil: any.
type RollbackRequest struct {
	Version int64  `json:"version"`
	CAS     *int64 `json:"cas,omitempty"`
}

// PolicyText is a policy as it is written.
type PolicyText struct {
	Name  string `json:"name"`
	Rules string `json:"rules"`
}

// ImpactRequest is a change of policies that is only asked about.
type ImpactRequest struct {
	Policies []PolicyText `json:"policies,omitempty"` // instead of those with these names
	Delete   []string     `json:"delete,omitempty"`
	Since    string       `json:"since,omitempty"`
	Until    string       `json:"until,omitempty"`
}

// Impact is what recorded requests would come to.
type Impact struct {
	Requests int           `json:"requests"` // that were asked about
	Flips    []policy.Flip `json:"flips"`
}

// UnusedRule is one that granted nothing in a time.
type UnusedRule struct {
	policy.Rule
	Capabilities []string `json:"capabilities"`
}

type unusedRules struct {
	Rules []UnusedRule `json:"rules"`
}

// policyRoutes are those about policies.
func (s *server) policyRoutes() []route {
	const get, post = http.MethodGet, http.MethodPost
	return []route{
		{post, "policies/explain", nil, forward[PolicyQuestion](s, "sys/bailiff/policies/explain")},
		{post, "policies/who-can", nil, forward[PolicyQuestion](s, "sys/bailiff/policies/who-can")},
		{post, "policies/what-can", nil, forward[PolicyQuestion](s, "sys/bailiff/policies/what-can")},
		{post, "policies/impact", nil, forward[ImpactRequest](s, "sys/bailiff/policies/impact")},
		{get, "policies/unused", []string{"since", "policy"}, s.pass(policy.Read, "sys/bailiff/policies/unused")},
		{get, "policies/versions/{name...}", nil, s.pass(policy.Read, "sys/bailiff/policies/versions/{name}")},
		{post, "policies/rollback/{name...}", nil, forward[RollbackRequest](s, "sys/bailiff/policies/rollback/{name}")},
	}
}

// Explain asks what comes of a request and why.
func (c *Client) Explain(ctx context.Context, q PolicyQuestion) (PolicyExplanation, error) {
	return send[PolicyExplanation](ctx, c, http.MethodPost, "policies/explain", q)
}

// WhoCan asks who may do something.
func (c *Client) WhoCan(ctx context.Context, q PolicyQuestion) (WhoCan, error) {
	return send[WhoCan](ctx, c, http.MethodPost, "policies/who-can", q)
}

// WhatCan asks for the rules that an identity has.
func (c *Client) WhatCan(ctx context.Context, q PolicyQuestion) (WhatCan, error) {
	return send[WhatCan](ctx, c, http.MethodPost, "policies/what-can", q)
}

// Impact asks recorded requests of changed policies.
func (c *Client) Impact(ctx context.Context, in ImpactRequest) (Impact, error) {
	return send[Impact](ctx, c, http.MethodPost, "policies/impact", in)
}

// Unused asks for rules that nothing was granted by since a time; of all policies where name is empty.
func (c *Client) Unused(ctx context.Context, since, name string) ([]UnusedRule, error) {
	q := url.Values{}
	if since != "" {
		q.Set("since", since)
	}
	if name != "" {
		q.Set("policy", name)
	}
	out, err := get[unusedRules](ctx, c, "policies/unused", q)
	return out.Rules, err
}

// PolicyVersions asks for the versions of a policy.
func (c *Client) PolicyVersions(ctx context.Context, name string) (PolicyVersions, error) {
	return get[PolicyVersions](ctx, c, "policies/versions/"+name, nil)
}

// RollbackPolicy makes an earlier version of a policy the next one.
func (c *Client) RollbackPolicy(ctx context.Context, name string, in RollbackRequest) error {
	return c.call(ctx, http.MethodPost, "policies/rollback/"+name, nil, in, nil)
}
