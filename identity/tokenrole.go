package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/document"
)

// TokenRole says what tokens made by its name may be.
type TokenRole struct {
	Name                   string         `json:"name"`
	AllowedPolicies        []string       `json:"allowed_policies"`
	DisallowedPolicies     []string       `json:"disallowed_policies"`
	AllowedPoliciesGlob    []string       `json:"allowed_policies_glob"`
	DisallowedPoliciesGlob []string       `json:"disallowed_policies_glob"`
	AllowedEntityAliases   []string       `json:"allowed_entity_aliases"`
	Orphan                 bool           `json:"orphan"`
	Renewable              bool           `json:"renewable"`
	PathSuffix             string         `json:"path_suffix"`
	Type                   string         `json:"token_type"` // service, batch, default-service, default-batch
	NoDefaultPolicy        bool           `json:"no_default_policy"`
	Uses                   int            `json:"num_uses"`
	Period                 time.Duration  `json:"period"`
	ExplicitMaxTTL         time.Duration  `json:"explicit_max_ttl"`
	BoundCIDRs             []netip.Prefix `json:"bound_cidrs"`

	// What was written by the old names of the three is shown by them too.
	OldPeriod         time.Duration  `json:"old_period"`
	OldExplicitMaxTTL time.Duration  `json:"old_explicit_max_ttl"`
	OldBoundCIDRs     []netip.Prefix `json:"old_bound_cidrs"`
}

// restricts says whether the role sets its own rules for policies.
func (r *TokenRole) restricts() bool {
	return len(r.AllowedPolicies)+len(r.DisallowedPolicies)+len(r.AllowedPoliciesGlob)+len(r.DisallowedPoliciesGlob) > 0
}

// roleTaker keeps roles in memory.
type roleTaker struct{ *Tokens }

func (t roleTaker) take(d *document.Document) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.roles[d.Key]; old != nil && old.seq >= d.Seq {
		return nil
	}
	if d.Deleted {
		delete(t.roles, d.Key)
		return nil
	}
	next := &kept[TokenRole]{version: d.Version, seq: d.Seq}
	if err := json.Unmarshal(d.Body, &next.value); err != nil {
		return fmt.Errorf("a token role can't be read: %w", err)
	}
	t.roles[d.Key] = next
	return nil
}

func (t roleTaker) keep(keys map[string]bool, seq int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.roles, func(key string, k *kept[TokenRole]) bool { return k.seq <= seq && !keys[key] })
}

// Role finds one by name.
func (t *Tokens) Role(name string) (TokenRole, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if k := t.roles[longKey(name)]; k != nil {
		return k.value, true
	}
	return TokenRole{}, false
}

// Roles lists the names of all, sorted.
func (t *Tokens) Roles() []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := make([]string, 0, len(t.roles))
	for _, k := range t.roles {
		out = append(out, k.value.Name)
	}
	slices.Sort(out)
	return out
}

// PutRole makes a role, or changes it: edit changes what stands, or says why not. made tells it that there was none.
func (t *Tokens) PutRole(ctx context.Context, name string, edit func(r *TokenRole, made bool) error) error {
	for {
		t.mu.RLock()
		old := t.roles[longKey(name)]
		t.mu.RUnlock()
		r, version := TokenRole{Name: name}, int64(0)
		if old != nil {
			r, version = old.value, old.version
		}
		if err := edit(&r, old == nil); err != nil {
			return err
		}
		c, err := change(spaceRole, longKey(name), version, &r)
		if err != nil {
			return err
		}
		if err = t.mirror.write(ctx, c); !errors.Is(err, document.ErrConflict) {
			return err
		}
		if err := t.mirror.refresh(ctx, spaceRole, longKey(name)); err != nil && !errors.Is(err, document.ErrNotFound) {
			return err
		}
	}
}

// DeleteRole forgets a role; one that is not there is no error.
func (t *Tokens) DeleteRole(ctx context.Context, name string) error {
	for {
		t.mu.RLock()
		old := t.roles[longKey(name)]
		t.mu.RUnlock()
		if old == nil {
			return nil
		}
		err := t.mirror.write(ctx, removal(spaceRole, longKey(name), old.version))
		if !errors.Is(err, document.ErrConflict) {
			return err
		}
		if err := t.mirror.refresh(ctx, spaceRole, longKey(name)); err != nil && !errors.Is(err, document.ErrNotFound) {
			return err
		}
	}
}
