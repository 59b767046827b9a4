package sys

import (
	"context"
	"crypto/subtle"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/policy"
)

func (b *Backend) tokenRoutes() []route {
	const read, list, update, remove = policy.Read, policy.List, policy.Update, policy.Delete
	return []route{
		{read, "auth/token/lookup-self", b.lookupSelf},
		{update, "auth/token/lookup-self", b.lookupSelf},
		{read, "auth/token/lookup", b.lookupToken},
		{update, "auth/token/lookup", b.lookupToken},
		{update, "auth/token/lookup-accessor", b.lookupAccessor},
		{update, "auth/token/create", b.createToken},
		{update, "auth/token/create-orphan", b.createOrphan},
		{update, "auth/token/create/{role}", b.createByRole},
		{update, "auth/token/renew-self", b.renewSelf},
		{update, "auth/token/renew", b.renewToken},
		{update, "auth/token/renew-accessor", b.renewAccessor},
		{update, "auth/token/revoke-self", b.revokeSelf},
		{update, "auth/token/revoke", b.revokeToken},
		{update, "auth/token/revoke-accessor", b.revokeAccessor},
		{update, "auth/token/revoke-orphan", b.revokeOrphan},
		{list, "auth/token/accessors", b.tokenAccessors},
		{update, "auth/token/tidy", b.tidyTokens},
		{list, "auth/token/roles", b.tokenRoles},
		{read, "auth/token/roles/{role}", b.tokenRole},
		{update, "auth/token/roles/{role}", b.putTokenRole},
		{remove, "auth/token/roles/{role}", b.deleteTokenRole},
	}
}

func (b *Backend) lookupSelf(ctx context.Context, c *call) (*gate.Response, error) {
	if _, err := c.fields("token"); err != nil {
		return nil, err
	}
	return b.tokenData(ctx, c.Caller, c.Token)
}

// lookupToken looks at the token that is named, and at the caller's own where none is.
func (b *Backend) lookupToken(ctx context.Context, c *call) (*gate.Response, error) {
	token, err := c.text("token")
	if err != nil {
		return nil, err
	}
	if token == "" {
		return b.tokenData(ctx, c.Caller, c.Token)
	}
	who, known := b.whose(ctx, c, secret.New(token))
	if !known {
		return nil, &gate.Error{Kind: gate.Forbidden, Msg: "bad token"}
	}
	return b.tokenData(ctx, who, secret.New(token))
}

// whose says whom a token stands for. The caller's own may be one that this request uses up.
func (b *Backend) whose(ctx context.Context, c *call, token secret.Value) (identity.Caller, bool) {
	if subtle.ConstantTimeCompare([]byte(token.Reveal()), []byte(c.Token.Reveal())) == 1 {
		return c.Caller, true
	}
	return b.cfg.Tokens.Whose(ctx, token)
}

func (b *Backend) lookupAccessor(ctx context.Context, c *call) (*gate.Response, error) {
	who, err := b.byAccessor(c)
	if err != nil {
		return nil, err
	}
	return b.tokenData(ctx, who, secret.Value{})
}

// byAccessor finds whom the accessor that is named stands for.
func (b *Backend) byAccessor(c *call) (identity.Caller, error) {
	accessor, err := c.text("accessor", "increment")
	switch {
	case err != nil:
		return identity.Caller{}, err
	case accessor == "":
		return identity.Caller{}, inAList("missing accessor")
	case accessor == c.Caller.Accessor:
		return c.Caller, nil
	}
	who, known := b.cfg.Tokens.WhoseAccessor(accessor)
	if !known {
		return who, inAList("invalid accessor")
	}
	return who, nil
}

// inAList is an error in the form that Vault gives some.
func inAList(msg string) error { return invalid(oneError, msg) }

// text reads a body of Vault's dialect and the text of one field of it. The others are known and left.
func (c *call) text(name string, others ...string) (string, error) {
	fields, err := c.fields(append(others, name)...)
	if err != nil {
		return "", err
	}
	c.read = fields
	return textField(fields, name)
}

// tokenData is what Vault shows of a token. Its id is the token as the caller presented it: "vault login" keeps what it
// finds there. Who asks by accessor is shown none.
func (b *Backend) tokenData(ctx context.Context, who identity.Caller, presented secret.Value) (*gate.Response, error) {
	if who.KeyID != "" {
		return b.keyData(ctx, who, presented)
	}
	i, known := b.cfg.Tokens.Lookup(who.Accessor)
	if !known {
		return nil, &gate.Error{Kind: gate.Forbidden, Msg: "bad token"}
	}
	data := map[string]any{
		"accessor": i.Accessor, "creation_time": i.IssuedAt.Unix(), "creation_ttl": seconds(i.TTL), "display_name": i.DisplayName,
		"entity_id": i.EntityID, "expire_time": nil, "explicit_max_ttl": seconds(i.ExplicitMax), "id": presented.Reveal(),
		"issue_time": i.IssuedAt.UTC().Format(time.RFC3339Nano), "meta": metadata(i.Metadata), "num_uses": i.Uses, "orphan": i.Orphan,
		"path": i.Path, "policies": i.TokenPolicies, "renewable": i.Renewable, "ttl": seconds(i.Left), "type": "service",
	}
	if !i.Expires.IsZero() {
		data["expire_time"] = i.Expires.UTC().Format(time.RFC3339Nano)
	}
	if i.Role != "" {
		data["role"] = i.Role
	}
	if i.Period > 0 {
		data["period"] = seconds(i.Period)
	}
	if len(i.CIDRs) > 0 {
		data["bound_cidrs"] = i.CIDRs
	}
	if !i.Renewed.IsZero() {
		data["last_renewal"], data["last_renewal_time"] = i.Renewed.UTC().Format(time.RFC3339Nano), i.Renewed.Unix()
	}
	if own := identityPolicies(&i.Caller); len(own) > 0 {
		data["identity_policies"], data["external_namespace_policies"] = own, map[string]any{}
	}
	return ok(data), nil
}

// metadata is null where there is none, as Vault shows it.
func metadata(m map[string]string) any {
	if len(m) == 0 {
		return nil
	}
	return m
}

// identityPolicies are those that a caller has beside its token's.
func identityPolicies(c *identity.Caller) []string {
	var out []string
	for _, p := range c.Policies {
		if !contains(c.TokenPolicies, p) {
			out = append(out, p)
		}
	}
	return out
}

// keyData shows an access key as if it were a token.
func (b *Backend) keyData(ctx context.Context, who identity.Caller, presented secret.Value) (*gate.Response, error) {
	key, err := b.keyOf(ctx, who)
	if err != nil {
		return nil, err
	}
	data := map[string]any{
		"accessor": who.Accessor, "creation_time": who.IssuedAt.Unix(), "creation_ttl": int64(0), "display_name": who.Name, "entity_id": who.EntityID,
		"expire_time": nil, "explicit_max_ttl": int64(0), "id": presented.Reveal(), "issue_time": who.IssuedAt.UTC().Format(time.RFC3339Nano),
		"meta": metadata(who.Metadata), "num_uses": 0, "orphan": true, "path": "auth/" + who.Method, "policies": who.TokenPolicies,
		"renewable": false, "ttl": int64(0), "type": "service",
	}
	if !key.ExpiresAt.IsZero() {
		data["expire_time"] = key.ExpiresAt.UTC().Format(time.RFC3339Nano)
		data["creation_ttl"] = seconds(key.ExpiresAt.Sub(key.CreatedAt))
		data["ttl"] = max(seconds(time.Until(key.ExpiresAt)), 0)
	}
	if own := identityPolicies(&who); len(own) > 0 {
		data["identity_policies"], data["external_namespace_policies"] = own, map[string]any{}
	}
	return ok(data), nil
}

// keyOf finds the access key that a caller came with.
func (b *Backend) keyOf(ctx context.Context, who identity.Caller) (identity.Key, error) {
	keys, err := b.cfg.Identities.Keys(ctx, who.Name)
	if err != nil {
		return identity.Key{}, err
	}
	for _, k := range keys {
		if k.ID == who.KeyID {
			return k, nil
		}
	}
	return identity.Key{}, nil
}

func (b *Backend) renewSelf(ctx context.Context, c *call) (*gate.Response, error) {
	if _, err := c.text("token", "increment"); err != nil {
		return nil, err
	}
	return b.renew(ctx, c, c.Caller, c.Token)
}

func (b *Backend) renewToken(ctx context.Context, c *call) (*gate.Response, error) {
	token, err := c.text("token", "increment")
	switch {
	case err != nil:
		return nil, err
	case token == "":
		return nil, invalid("missing token ID")
	}
	who, known := b.whose(ctx, c, secret.New(token))
	if !known {
		return nil, invalid("token not found")
	}
	return b.renew(ctx, c, who, secret.New(token))
}

func (b *Backend) renewAccessor(ctx context.Context, c *call) (*gate.Response, error) {
	who, err := b.byAccessor(c)
	if err != nil {
		return nil, err
	}
	return b.renew(ctx, c, who, secret.Value{})
}

// renew moves a token's end. An access key answers as Vault does for a token without one: it lives as long as it was made for.
func (b *Backend) renew(ctx context.Context, c *call, who identity.Caller, presented secret.Value) (*gate.Response, error) {
	increment, err := durationOf(c.read, "increment")
	switch {
	case err != nil:
		return nil, err
	case who.KeyID != "":
		return nil, invalid("lease is not renewable")
	}
	i, warnings, err := b.cfg.Tokens.Renew(ctx, who.Accessor, increment)
	if err != nil {
		return nil, err
	}
	return &gate.Response{Auth: authOf(&i, presented), Warnings: warnings, Detail: "token " + who.Accessor + " of " + who.Name}, nil
}

// authOf shows a token as the answer of its making or renewal does.
func authOf(i *identity.Info, token secret.Value) *gate.Auth {
	return &gate.Auth{
		ClientToken: token, Accessor: i.Accessor, Policies: i.Policies, TokenPolicies: i.TokenPolicies, IdentityPolicies: identityPolicies(&i.Caller),
		Metadata: i.Metadata, LeaseDuration: i.TTL, Renewable: i.Renewable, EntityID: i.EntityID, TokenType: "service", Orphan: i.Orphan, NumUses: i.Uses,
	}
}

func (b *Backend) revokeSelf(ctx context.Context, c *call) (*gate.Response, error) {
	return b.revoke(ctx, c, c.Caller)
}

func (b *Backend) revokeToken(ctx context.Context, c *call) (*gate.Response, error) {
	token, err := c.text("token")
	switch {
	case err != nil:
		return nil, err
	case token == "":
		return nil, invalid("missing token ID")
	}
	who, known := b.whose(ctx, c, secret.New(token))
	if !known {
		return done("a token that isn't there"), nil
	}
	return b.revoke(ctx, c, who)
}

func (b *Backend) revokeAccessor(ctx context.Context, c *call) (*gate.Response, error) {
	who, err := b.byAccessor(c)
	if err != nil && c.read["accessor"] != nil {
		return &gate.Response{Warnings: []string{"No token found with this accessor"}}, nil
	}
	if err != nil {
		return nil, err
	}
	return b.revoke(ctx, c, who)
}

// revoke ends a token with its children and what was issued to them. An access key is switched off: it stays listed, and can
// be switched on again.
func (b *Backend) revoke(ctx context.Context, c *call, who identity.Caller) (*gate.Response, error) {
	if who.KeyID != "" {
		if err := b.cfg.Identities.SetKeyDisabled(ctx, c.Caller.Name, who.Name, who.KeyID, true); err != nil {
			return nil, err
		}
		return done("disabled access key " + who.KeyID + " of identity " + who.Name), nil
	}
	if err := b.cfg.Tokens.Revoke(context.WithoutCancel(ctx), who.Accessor); err != nil {
		return nil, err
	}
	return done("token " + who.Accessor + " of " + who.Name), nil
}

func (b *Backend) revokeOrphan(ctx context.Context, c *call) (*gate.Response, error) {
	token, err := c.text("token")
	switch {
	case err != nil:
		return nil, err
	case token == "":
		return nil, invalid("missing token ID")
	case !c.Decision.Sudo:
		return nil, invalid("root or sudo privileges required to revoke and orphan")
	}
	who, known := b.whose(ctx, c, secret.New(token))
	switch {
	case !known:
		return nil, invalid("token to revoke not found")
	case who.KeyID != "":
		return nil, invalid("an access key is no token: see bailiff identity key disable")
	}
	if err := b.cfg.Tokens.RevokeOrphan(context.WithoutCancel(ctx), who.Accessor); err != nil {
		return nil, err
	}
	return done("token " + who.Accessor + " of " + who.Name + ", not its children"), nil
}

func (b *Backend) tokenAccessors(context.Context, *call) (*gate.Response, error) {
	return keyList(b.cfg.Tokens.Accessors()), nil
}

// keyList is Vault's answer to a list; of nothing it is that nothing is there.
func keyList(names []string) *gate.Response {
	if len(names) == 0 {
		return &gate.Response{Status: gate.Missing}
	}
	return ok(map[string]any{"keys": names})
}

func (b *Backend) tidyTokens(ctx context.Context, _ *call) (*gate.Response, error) {
	if err := b.cfg.Tokens.Tidy(ctx); err != nil {
		return nil, err
	}
	return b.tidyLeases(ctx, nil)
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if strings.EqualFold(x, s) {
			return true
		}
	}
	return false
}
