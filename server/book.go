package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/document"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/policy"
	"github.com/bailiff-secrets/bailiff/sys"
)

// parsed are the policies that count now; nil before the first.
func (e *estate) parsed() *policies {
	if l := e.live.Load(); l != nil {
		return l.policies
	}
	return nil
}

// PolicyIndex knows every policy that counts now.
func (e *estate) PolicyIndex() *policy.Index { return e.parsed().index() }

// Callers lists everybody who may call now: each entity with its own policies and those of its groups, and each token that
// counts with all of its own.
func (e *estate) Callers() []policy.Member {
	p := people{e.tokens.People()}
	ids := p.Entities()
	out := make([]policy.Member, 0, len(ids))
	for _, id := range ids {
		x, ok := p.Entity(id)
		if !ok || x.Disabled {
			continue
		}
		policies, groups := p.Rights(id)
		if !x.Declared {
			policies = append(policies, identity.DefaultPolicy) // every login gives it, unless somebody takes care that it doesn't
		}
		who := &identity.Caller{Name: x.Name, EntityID: id, Metadata: x.Metadata, GroupIDs: groups}
		out = append(out, p.member(who, policies, ""))
	}
	for _, accessor := range e.tokens.Accessors() {
		if i, ok := e.tokens.Lookup(accessor); ok {
			out = append(out, p.member(&i.Caller, i.Caller.Policies, accessor))
		}
	}
	return out
}

func (p people) member(who *identity.Caller, policies []string, token string) policy.Member {
	return policy.Member{
		Name: who.Name, Token: token, Policies: policies, Subject: func() *policy.Subject { return p.Subject(who) },
		Context: &policy.Context{
			Identity: who.Name, EntityID: who.EntityID, Method: who.Method, Metadata: who.Metadata, Groups: who.GroupIDs, Claims: who.Claims,
		},
	}
}

// historySpace is where policies are kept that were changed or deleted.
const historySpace = "policy-history"

// keptPolicy is the body of one.
type keptPolicy struct {
	Version int64     `json:"version"`
	Rules   string    `json:"rules"`
	By      string    `json:"by"`
	At      time.Time `json:"at"`
	Source  string    `json:"source"`
}

// keepPolicies keeps those that a plan is about to change or delete. Killed behind it, a version is kept that still stands:
// whoever lists them leaves it out.
func (e *estate) keepPolicies(ctx context.Context, now []object.Record, steps []object.Step) error {
	for _, s := range steps {
		if s.Kind != object.KindPolicy || s.Action != object.Updated && s.Action != object.Deleted {
			continue
		}
		rec, ok := find(now, s.Kind, s.Name)
		if !ok {
			continue
		}
		v, err := object.Decode(rec)
		p, isPolicy := v.(*object.Policy)
		if err != nil || !isPolicy {
			return fmt.Errorf("keep policy %q: %w", rec.Name, errors.Join(err, errors.New("it is none")))
		}
		body, err := json.Marshal(keptPolicy{rec.Version, p.Rules, rec.UpdatedBy, rec.UpdatedAt, rec.Source})
		if err != nil {
			return err
		}
		// "#" is in no name. A policy that is made anew begins with version 1 again, so its time is in the key.
		key := rec.Name + "#" + strconv.FormatInt(rec.UpdatedAt.UnixNano(), 36) + "." + strconv.FormatInt(rec.Version, 10)
		err = e.documents.WriteDocuments(ctx, &document.Change{Document: document.Document{Space: historySpace, Key: key, Body: body}})
		if err != nil && !errors.Is(err, document.ErrConflict) {
			return fmt.Errorf("keep policy %q: %w", rec.Name, err)
		}
	}
	return nil
}

// PolicyVersions lists the versions of a policy, the newest first; the first one stands unless the policy was deleted.
func (e *estate) PolicyVersions(ctx context.Context, name string) ([]sys.PolicyVersion, error) {
	docs, err := e.documents.Documents(ctx, document.Query{Space: historySpace, Prefix: name + "#"})
	if err != nil {
		return nil, fmt.Errorf("read the history of policy %q: %w", name, err)
	}
	var out []sys.PolicyVersion
	add := func(k keptPolicy, stands bool) {
		out = append(out, sys.PolicyVersion{Version: k.Version, Rules: k.Rules, By: k.By, At: k.At, Source: k.Source, Stands: stands})
	}
	for _, d := range docs {
		var k keptPolicy
		if err := json.Unmarshal(d.Body, &k); err != nil {
			return nil, fmt.Errorf("read the history of policy %q: %w", name, err)
		}
		add(k, false)
	}
	if rec, err := e.Object(ctx, object.KindPolicy, name); err == nil {
		if p, ok := e.standing(object.KindPolicy, name).(*object.Policy); ok {
			add(keptPolicy{rec.Version, p.Rules, rec.UpdatedBy, rec.UpdatedAt, rec.Source}, true)
		}
	}
	return sys.SortVersions(out), nil
}
