package approle

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/document"
)

// secretID is what is kept of a secret id: not itself.
type secretID struct {
	Accessor   string
	NumUses    int // left; 0: any number
	TTL        time.Duration
	Created    time.Time
	Updated    time.Time
	Expires    time.Time // zero: never
	Metadata   map[string]string
	CIDRs      []string
	TokenCIDRs []string
}

type secretIDDoc = auth.Doc[secretID]

// byAccessor is the name under which a secret id is found by its accessor.
const byAccessor = "accessor"

func secretIDs(r *role) string { return "secret-id/" + r.Name + "/" }

// secretKey is where a secret id of a role is kept.
func secretKey(r *role, id string) string {
	h := hmac.New(sha256.New, []byte(r.HMACKey))
	h.Write([]byte(id)) //nolint:errcheck // never fails
	return secretIDs(r) + hex.EncodeToString(h.Sum(nil))
}

func (a *Method) newSecretID(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	return a.register(ctx, c, auth.UUID())
}

func (a *Method) customSecretID(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	id := c.Body.Text("secret_id")
	if id == "" {
		return nil, auth.Invalid("missing secret_id")
	}
	return a.register(ctx, c, id)
}

// register makes id a secret id of a role.
func (a *Method) register(ctx context.Context, c *auth.Call, id string) (*gate.Response, error) {
	d, err := load(ctx, c.At, c.Args["role"])
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, &gate.Error{Kind: gate.NotFound, Msg: noRole(c.Args["role"]).Error()}
	}
	s, err := d.Value.secretIDOf(c.Body)
	if err != nil {
		return nil, err
	}
	doc := &secretIDDoc{Key: secretKey(&d.Value, id), Value: *s, Keys: map[string]string{byAccessor: c.At.Accessor + "/" + s.Accessor}, ExpiresAt: s.Expires}
	// The role is written too, unchanged, so that it can't be deleted between its being read and this.
	if err := c.At.Write(ctx, doc.Put(c.At)); err != nil {
		if taken, e := auth.Load[secretID](ctx, c.At, doc.Key); e == nil && taken != nil {
			return nil, auth.Invalid("failed to store secret_id: SecretID is already registered")
		}
		return nil, err
	}
	resp := auth.OK(map[string]any{
		"secret_id": id, "secret_id_accessor": s.Accessor, "secret_id_ttl": auth.Seconds(s.TTL), "secret_id_num_uses": s.NumUses,
	})
	resp.Detail = "secret id with accessor " + s.Accessor
	return resp, nil
}

// secretIDOf reads what a new secret id shall be; it is never more than its role allows.
func (r *role) secretIDOf(b *auth.Body) (*secretID, error) {
	if !r.BindSecret {
		return nil, auth.Invalid("bind_secret_id is not set on the role")
	}
	now := time.Now().UTC()
	s := &secretID{
		Accessor: auth.UUID(), NumUses: r.NumUses, TTL: r.SecretIDTTL, Created: now, Updated: now, Metadata: map[string]string{},
		CIDRs: auth.Strings(b.List("cidr_list")), TokenCIDRs: auth.Strings(b.List("token_bound_cidrs")),
	}
	if err := subset(s.CIDRs, r.BoundCIDRs, "failed to validate CIDR blocks"); err != nil {
		return nil, err
	}
	if err := subset(s.TokenCIDRs, r.Params.BoundCIDRs, "failed to validate token CIDR blocks"); err != nil {
		return nil, err
	}
	if b.Has("num_uses") {
		s.NumUses = b.Int("num_uses")
		switch {
		case s.NumUses < 0:
			return nil, auth.Invalid("num_uses cannot be negative")
		case r.NumUses > 0 && (s.NumUses == 0 || s.NumUses > r.NumUses):
			return nil, auth.Invalid("num_uses cannot be higher than the role's secret_id_num_uses")
		}
	}
	if b.Has("ttl") {
		s.TTL = b.Duration("ttl")
		if r.SecretIDTTL > 0 && (s.TTL == 0 || s.TTL > r.SecretIDTTL) {
			return nil, auth.Invalid("ttl cannot be longer than the role's secret_id_ttl")
		}
	}
	s.TTL = min(s.TTL, auth.SystemTTL)
	if s.TTL > 0 {
		s.Expires = now.Add(s.TTL)
	}
	if text := b.Text("metadata"); text != "" {
		if err := parseMetadata(text, s.Metadata); err != nil {
			return nil, err
		}
	}
	return s, b.Err()
}

// parseMetadata reads a JSON object in a string, or key=value with commas between.
func parseMetadata(text string, to map[string]string) error {
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		if json.Unmarshal([]byte(text), &to) != nil {
			return auth.Invalid("failed to parse metadata: it is not a JSON object of strings")
		}
		return nil
	}
	for _, pair := range auth.SplitCommas(text) {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return auth.Invalid("failed to parse metadata: it is neither a JSON object nor key=value")
		}
		to[key] = value
	}
	return nil
}

// subset checks that each prefix of list lies in one of within, where there are any.
func subset(list, within []string, wrong string) error {
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return auth.Invalid("%s", wrong)
		}
		inside := func(outer string) bool {
			o, err := auth.Prefix(outer)
			return err == nil && o.Bits() <= p.Bits() && o.Contains(p.Addr())
		}
		if len(within) > 0 && !slices.ContainsFunc(within, inside) {
			return auth.Invalid("failed to verify subset relationship between CIDR blocks on the role %q and CIDR blocks on the secret ID %q", within, list)
		}
	}
	return nil
}

func (a *Method) listSecretIDs(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	d, err := load(ctx, c.At, c.Args["role"])
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, noRole(c.Args["role"])
	}
	list, err := auth.List[secretID](ctx, c.At, secretIDs(&d.Value))
	if err != nil {
		return nil, err
	}
	var accessors []string
	for _, s := range list {
		accessors = append(accessors, s.Value.Accessor)
	}
	return auth.Keys(accessors), nil
}

// byID finds the secret id that a body names.
func byID(ctx context.Context, c *auth.Call) (*secretIDDoc, error) {
	id := c.Body.Text("secret_id")
	if id == "" {
		id = c.Query.Get("secret_id")
	}
	if id == "" {
		return nil, auth.Invalid("missing secret_id")
	}
	d, err := load(ctx, c.At, c.Args["role"])
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, noRole(c.Args["role"])
	}
	return auth.Load[secretID](ctx, c.At, secretKey(&d.Value, id))
}

// byItsAccessor finds the secret id whose accessor a body names.
func byItsAccessor(ctx context.Context, c *auth.Call) (*secretIDDoc, string, error) {
	accessor := c.Body.Text("secret_id_accessor")
	if accessor == "" {
		accessor = c.Query.Get("secret_id_accessor")
	}
	if accessor == "" {
		return nil, "", auth.Invalid("missing secret_id_accessor")
	}
	d, err := load(ctx, c.At, c.Args["role"])
	if err != nil {
		return nil, "", err
	}
	if d == nil {
		return nil, "", noRole(c.Args["role"])
	}
	found, err := auth.Find[secretID](ctx, c.At, secretIDs(&d.Value), byAccessor, c.At.Accessor+"/"+accessor)
	if err != nil || len(found) == 0 {
		return nil, accessor, err
	}
	return found[0], accessor, nil
}

func (s *secretID) show() map[string]any {
	return map[string]any{
		"secret_id_accessor": s.Accessor, "secret_id_num_uses": s.NumUses, "secret_id_ttl": auth.Seconds(s.TTL), "creation_time": s.Created,
		"expiration_time": s.Expires, "last_updated_time": s.Updated, "metadata": s.Metadata, "cidr_list": s.CIDRs, "token_bound_cidrs": s.TokenCIDRs,
	}
}

func (a *Method) lookupSecretID(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	d, err := byID(ctx, c)
	if err != nil {
		return nil, err
	}
	if d == nil {
		return auth.Done("there is no such secret id"), nil
	}
	return auth.OK(d.Value.show()), nil
}

func (a *Method) lookupAccessor(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	d, accessor, err := byItsAccessor(ctx, c)
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, gate.Errorf(gate.NotFound, "failed to find accessor entry for secret_id_accessor: %q", accessor)
	}
	return auth.OK(d.Value.show()), nil
}

func (a *Method) destroySecretID(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	return destroy(ctx, c, func() (*secretIDDoc, error) { return byID(ctx, c) })
}

func (a *Method) destroyAccessor(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	return destroy(ctx, c, func() (*secretIDDoc, error) {
		d, accessor, err := byItsAccessor(ctx, c)
		if err == nil && d == nil {
			return nil, auth.Invalid("failed to find accessor entry for secret_id_accessor: %q", accessor)
		}
		return d, err
	})
}

func destroy(ctx context.Context, c *auth.Call, find func() (*secretIDDoc, error)) (*gate.Response, error) {
	accessor := ""
	err := auth.Again(func() error {
		d, err := find()
		if err != nil || d == nil {
			return err
		}
		accessor = d.Value.Accessor
		return c.At.Write(ctx, d.Remove(c.At))
	})
	if err != nil {
		return nil, err
	}
	return auth.Done("destroyed the secret id with accessor " + accessor), nil
}

// forgetSecretIDs removes every secret id of a role.
func forgetSecretIDs(ctx context.Context, m *auth.Mount, r *role) error {
	list, err := auth.List[secretID](ctx, m, secretIDs(r))
	if err != nil {
		return err
	}
	for some := range slices.Chunk(list, atOnce) {
		var changes []*document.Change
		for _, d := range some {
			changes = append(changes, d.Remove(m))
		}
		if err := m.Write(ctx, changes...); err != nil {
			return err
		}
	}
	return nil
}

// atOnce is how many documents are removed in one write.
const atOnce = 500

// tidy answers as Vault does. Secret ids whose time is over count no more at once, and the Backend removes them.
func (a *Method) tidy(context.Context, *auth.Call) (*gate.Response, error) {
	return &gate.Response{
		Status:   gate.Accepted,
		Warnings: []string{"Tidy operation successfully started. Any information from the operation will be printed to Vault's server logs."},
	}, nil
}
