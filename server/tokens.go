package server

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/policy"
)

// openTokens reads the tokens, entities and groups that the store has.
func (s *server) openTokens(ctx context.Context, fault func(string)) (err error) {
	s.estate.tokens, err = identity.NewTokens(ctx, identity.TokensConfig{
		Store: s.db, Keys: s.estate.manager, Logger: s.logger, Fault: fault, HasPolicy: s.estate.hasPolicy,
		Renewing: func(ctx context.Context, who identity.Admission) (identity.TokenParams, error) {
			return s.estate.auth.Renew(ctx, who)
		},
		DefaultTTL: s.cfg.Tokens.DefaultTTL, MaxTTL: s.cfg.Tokens.MaxTTL,
		Ended: func(ctx context.Context, accessor string) error {
			return errors.Join(s.leases.RevokeToken(ctx, accessor), s.keepers.cubby.Forget(ctx, accessor))
		},
	})
	return err
}

// hasPolicy says whether there is a policy of that name.
func (e *estate) hasPolicy(name string) bool { return e.live.Load().policies.byName[name] != nil }

// Token makes the estate a broker.Tokens, with MountMaxTTL: it says whether what an accessor stands for counts.
func (e *estate) Token(accessID, accessor string) (ends time.Time, counts bool) {
	if strings.HasPrefix(accessor, keyAccessor) {
		return e.manager.Token(accessID, accessor)
	}
	return e.tokens.Token(accessor)
}

// people are the entities and groups as policies' templates know them.
type people struct{ *identity.People }

// Subject is a caller's entity with its aliases and groups.
func (p people) Subject(who *identity.Caller) *policy.Subject {
	e, ok := p.Entity(who.EntityID)
	if !ok {
		return nil
	}
	s := &policy.Subject{ID: e.ID, Name: e.Name, Metadata: e.Metadata}
	for _, a := range p.AliasesOf(e.ID) {
		s.Aliases = append(s.Aliases, policy.Alias{Accessor: a.Accessor, ID: a.ID, Name: a.Name, Metadata: a.Metadata, Custom: a.Custom})
	}
	for _, id := range who.GroupIDs {
		if g, ok := p.Group(id); ok {
			s.Groups = append(s.Groups, policy.Group{ID: g.ID, Name: g.Name, Metadata: g.Metadata})
		}
	}
	return s
}
