package identity

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// Whose says whom a credential stands for, without using it; false for one that isn't good.
func (t *Tokens) Whose(ctx context.Context, presented secret.Value) (Caller, bool) {
	text := presented.Reveal()
	if strings.HasPrefix(text, idPrefix) {
		c, err := t.cfg.Keys.Authenticate(ctx, presented, netip.Addr{})
		if err != nil {
			return Caller{}, false
		}
		t.addGroups(&c)
		return c, true
	}
	x := t.find(text)
	if x == nil {
		return Caller{}, false
	}
	return t.standing(x)
}

func (t *Tokens) standing(x *token) (Caller, bool) {
	s := x.state.Load()
	c := t.callerOf(s)
	if s.counts(t.cfg.Keys, time.Now()) != "" || c.disabled {
		return Caller{}, false
	}
	return c.Caller, true
}

// WhoseAccessor says whom the token or the access key stands for that has an accessor; false where none that is good has.
func (t *Tokens) WhoseAccessor(accessor string) (Caller, bool) {
	if x := t.named(accessor); x != nil {
		return t.standing(x)
	}
	c, ok := t.cfg.Keys.whose(accessor)
	if ok {
		t.addGroups(&c)
	}
	return c, ok
}

// whose finds whom an access key stands for by its ID.
func (m *Manager) whose(id string) (Caller, bool) {
	m.mu.RLock()
	var found Key
	for _, keys := range m.keys {
		for i := range keys {
			if keys[i].ID == id {
				found = keys[i]
			}
		}
	}
	m.mu.RUnlock()
	e := m.dir.Load().byAccessID[found.AccessID]
	if e == nil || !m.stands(found.AccessID, id, time.Now()) {
		return Caller{}, false
	}
	return e.caller(&found), true
}

// caller is whom an access key stands for.
func (e *entry) caller(k *Key) Caller {
	return Caller{
		Name: e.identity.Name, AccessID: k.AccessID, KeyID: k.ID, Method: "api-key", Accessor: k.ID,
		Policies: e.policies, Metadata: e.identity.Metadata, IssuedAt: k.CreatedAt,
		Expires: k.ExpiresAt, MaxLeases: e.identity.MaxLeases, IssueRate: e.identity.IssueRate,
		DisplayName: e.identity.Name, EntityID: e.entityID, TokenPolicies: e.policies,
	}
}
