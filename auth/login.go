package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
)

// login lets somebody in, or says why not. Whoever is let in is r.Caller afterwards, so that the record names them; of
// whoever isn't the record has the name that was tried.
func (x *mounted) login(ctx context.Context, c *Call) (*gate.Response, error) {
	claimed := ""
	if n, ok := x.method.(Named); ok {
		claimed = n.Claimed(c)
	}
	x.identify(c.Request, claimed)
	if err := x.b.guard.enter(x.m, claimed, c.ClientAddr); err != nil {
		return nil, err
	}
	if x.b.guard.locked(x.m, claimed) {
		return nil, denied(&Refused{Msg: "permission denied", Kind: gate.Forbidden, Reason: "locked out after wrong proofs", Alias: claimed})
	}
	out, err := x.method.Login(ctx, c)
	var no *Refused
	switch {
	case errors.As(err, &no):
		if no.Wrong {
			x.b.guard.wrong(x.m, claimed, c.ClientAddr, no.Known)
		}
		if no.Alias != "" {
			x.identify(c.Request, no.Alias)
		}
		return nil, denied(no)
	case err != nil:
		return nil, err
	case out.Login == nil:
		return out.Answer, nil
	}
	x.b.guard.right(x.m, claimed)
	return x.admit(ctx, c, out)
}

// denied is a no for the gate: recorded as denied, with its reason, and told to the client in its own words.
func denied(no *Refused) error {
	reason := no.Reason
	if no.Alias != "" {
		reason = fmt.Sprintf("login as %.64q: %s", no.Alias, reason)
	}
	return &gate.Error{Kind: no.Kind, Msg: no.Msg, Err: &identity.Refusal{Reason: reason}}
}

// admit makes the token.
func (x *mounted) admit(ctx context.Context, c *Call, out *Outcome) (*gate.Response, error) {
	spec := out.Login
	x.identify(c.Request, spec.Alias)
	if !Within(c.ClientAddr, texts(spec)) {
		return nil, denied(&Refused{Msg: "permission denied", Kind: gate.Forbidden, Reason: "the address is none that such tokens are bound to", Alias: spec.Alias})
	}
	x.complete(spec)
	spec.Path = c.Path
	spec.Path = c.Path
	token, err := x.b.cfg.Tokens.Login(ctx, *spec)
	var said *identity.Said
	switch {
	case errors.As(err, &said) && said.Denied:
		return nil, denied(&Refused{Msg: said.Msg, Kind: gate.Forbidden, Reason: said.Msg, Alias: spec.Alias})
	case errors.As(err, &said):
		return nil, denied(&Refused{Msg: said.Msg, Kind: gate.Invalid, Reason: said.Msg, Alias: spec.Alias})
	case err != nil:
		return nil, err
	}
	c.Caller = token.Caller
	if c.Caller.Claims == nil {
		c.Caller.Claims = spec.Claims
	}
	return &gate.Response{
		Data: out.Data, Auth: authOf(token), Warnings: append(out.Warnings, token.Warnings...),
		Detail: "token " + token.Caller.Accessor + " for " + token.Caller.Name, Abandon: func() { x.abandon(ctx, c.ID, token.Caller.Accessor) },
	}, nil
}

// abandonTimeout bounds the end of a token that could not be handed over.
const abandonTimeout = 10 * time.Second

func (x *mounted) abandon(ctx context.Context, id, accessor string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTimeout)
	defer cancel()
	if err := x.b.cfg.Tokens.Revoke(ctx, accessor); err != nil {
		x.b.cfg.Logger.Error("a token that nobody was given can't be revoked", "request_id", id, "accessor", accessor, "error", err)
	}
}

func texts(spec *identity.LoginSpec) []string {
	var out []string
	for _, p := range spec.Params.BoundCIDRs {
		out = append(out, p.String())
	}
	return out
}

// complete fills in what the mount says.
func (x *mounted) complete(spec *identity.LoginSpec) {
	m := x.m
	spec.MountPath, spec.MountAccessor, spec.MountType = m.FullPath(), m.Accessor, m.Type
	name := strings.ReplaceAll(strings.TrimSuffix(m.Path, "/"), "/", "-")
	if spec.DisplayName != "" {
		name += "-" + spec.DisplayName
	}
	spec.DisplayName = name
	p := &spec.Params
	m.limit(p)
	switch m.Tune.TokenType {
	case "batch", "service":
		p.Type = m.Tune.TokenType
	case "default-batch":
		if p.Type == "" {
			p.Type = "batch"
		}
	}
}

// limit fills in how long tokens of a mount live.
func (m *Mount) limit(p *identity.TokenParams) {
	if p.TTL == 0 {
		p.TTL = m.Tune.DefaultTTL
	}
	if m.Tune.MaxTTL > 0 && (p.MaxTTL == 0 || p.MaxTTL > m.Tune.MaxTTL) {
		p.MaxTTL = m.Tune.MaxTTL
	}
}

// authOf is a new token as a door shows it.
func authOf(t identity.NewToken) *gate.Auth {
	kind := t.Params.Type
	if kind == "" {
		kind = "service"
	}
	return &gate.Auth{
		ClientToken: t.Token, Accessor: t.Caller.Accessor, Policies: t.Caller.Policies, TokenPolicies: t.Caller.TokenPolicies,
		IdentityPolicies: others(t.Caller), Metadata: t.Caller.Metadata, LeaseDuration: t.TTL,
		Renewable: !t.Params.NotRenewable && kind == "service", EntityID: t.Caller.EntityID, TokenType: kind, Orphan: t.Orphan, NumUses: t.Params.Uses,
	}
}

// others are the policies that a caller has beside those of the token.
func others(c identity.Caller) []string {
	own := map[string]bool{}
	for _, p := range c.TokenPolicies {
		own[p] = true
	}
	var out []string
	for _, p := range c.Policies {
		if !own[p] {
			out = append(out, p)
		}
	}
	return out
}

// warned adds a warning of fields that nobody asked for, where there is an answer that it can go with: as in Vault.
func warned(resp *gate.Response, body *Body) *gate.Response {
	ignored := body.Ignored()
	if len(ignored) == 0 || resp.Raw != nil || resp.Status != gate.OK {
		return resp
	}
	resp.Warnings = append(resp.Warnings, "Endpoint ignored these unrecognized parameters: ["+strings.Join(ignored, " ")+"]")
	return resp
}
