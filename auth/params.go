package auth

import (
	"net/netip"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/identity"
)

// Params is what the tokens of a role or a user shall be: Vault's token_… fields.
type Params struct {
	BoundCIDRs     []string      `json:"token_bound_cidrs,omitempty"`
	ExplicitMaxTTL time.Duration `json:"token_explicit_max_ttl,omitempty"`
	MaxTTL         time.Duration `json:"token_max_ttl,omitempty"`
	NoDefault      bool          `json:"token_no_default_policy,omitempty"`
	Period         time.Duration `json:"token_period,omitempty"`
	Policies       []string      `json:"token_policies,omitempty"`
	Type           string        `json:"token_type,omitempty"` // "", service, batch
	TTL            time.Duration `json:"token_ttl,omitempty"`
	NumUses        int           `json:"token_num_uses,omitempty"`
}

// Read takes over the fields that b has.
func (p *Params) Read(b *Body) error {
	if b.Has("token_bound_cidrs") {
		list, err := CIDRs(b.List("token_bound_cidrs"))
		if err != nil {
			return err
		}
		p.BoundCIDRs = list
	}
	b.SetDuration("token_explicit_max_ttl", &p.ExplicitMaxTTL)
	b.SetDuration("token_max_ttl", &p.MaxTTL)
	b.SetBool("token_no_default_policy", &p.NoDefault)
	b.SetDuration("token_period", &p.Period)
	b.SetList("token_policies", &p.Policies)
	b.SetInt("token_num_uses", &p.NumUses)
	b.SetDuration("token_ttl", &p.TTL)
	if b.Has("token_type") {
		switch t := b.Text("token_type"); t {
		case "", "default":
			p.Type = ""
		case "service", "batch":
			p.Type = t
		default:
			return Invalid("invalid 'token_type' value %q", t)
		}
	}
	if err := b.Err(); err != nil {
		return err
	}
	return p.check()
}

func (p *Params) check() error {
	switch {
	case p.MaxTTL < 0:
		return Invalid("'token_max_ttl' cannot be negative")
	case p.Period < 0:
		return Invalid("'token_period' cannot be negative")
	case p.NumUses < 0:
		return Invalid("'token_num_uses' cannot be negative")
	case p.Type == "batch" && p.Period != 0:
		return Invalid("'token_type' cannot be 'batch' or 'default_batch' when set to generate periodic tokens")
	case p.Type == "batch" && p.NumUses != 0:
		return Invalid("'token_type' cannot be 'batch' or 'default_batch' when set to generate tokens with limited use count")
	case p.TTL < 0:
		return Invalid("'token_ttl' cannot be negative")
	case p.TTL > 0 && p.MaxTTL > 0 && p.TTL > p.MaxTTL:
		return Invalid("'token_ttl' cannot be greater than 'token_max_ttl'")
	}
	return nil
}

// Old takes over the older names of fields, where the newer ones are not there: "policies", "ttl", "max_ttl", "period",
// "num_uses", "bound_cidrs".
func (p *Params) Old(b *Body, names ...string) error {
	for _, name := range names {
		if !b.Has(name) || b.Has("token_"+name) {
			continue
		}
		switch name {
		case "policies":
			p.Policies = b.Policies(name)
		case "ttl":
			p.TTL = b.Duration(name)
		case "max_ttl":
			p.MaxTTL = b.Duration(name)
		case "period":
			p.Period = b.Duration(name)
		case "num_uses":
			p.NumUses = b.Int(name)
		case "bound_cidrs":
			list, err := CIDRs(b.List(name))
			if err != nil {
				return err
			}
			p.BoundCIDRs = list
		}
	}
	if err := b.Err(); err != nil {
		return err
	}
	return p.check()
}

// Show adds the fields to an answer, as Vault shows them.
func (p *Params) Show(to map[string]any) {
	kind := p.Type
	if kind == "" {
		kind = "default"
	}
	to["token_bound_cidrs"] = Strings(p.BoundCIDRs)
	to["token_explicit_max_ttl"] = Seconds(p.ExplicitMaxTTL)
	to["token_max_ttl"] = Seconds(p.MaxTTL)
	to["token_no_default_policy"] = p.NoDefault
	to["token_period"] = Seconds(p.Period)
	to["token_policies"] = Strings(p.Policies)
	to["token_type"] = kind
	to["token_ttl"] = Seconds(p.TTL)
	to["token_num_uses"] = p.NumUses
}

// Spec is what a login asks of the token.
func (p *Params) Spec() identity.TokenParams {
	return identity.TokenParams{
		Policies: p.Policies, NoDefaultPolicy: p.NoDefault, TTL: p.TTL, MaxTTL: p.MaxTTL, ExplicitMaxTTL: p.ExplicitMaxTTL,
		Period: p.Period, Uses: p.NumUses, BoundCIDRs: prefixes(p.BoundCIDRs), Type: p.Type,
	}
}

// Allow tells whether somebody at addr may have such a token.
func (p *Params) Allow(addr netip.Addr) bool { return Within(addr, p.BoundCIDRs) }

// CIDRs checks a list of addresses and prefixes. A prefix of one address becomes that address, as in Vault.
func CIDRs(list []string) ([]string, error) {
	out := make([]string, 0, len(list))
	for _, s := range list {
		p, err := Prefix(s)
		if err != nil {
			return nil, Invalid("Unable to convert %.60q to an address or a prefix of addresses", s)
		}
		if p.IsSingleIP() {
			s = p.Addr().String()
		}
		out = append(out, s)
	}
	return out, nil
}

// Prefix reads an address, or a prefix of addresses.
func Prefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, err
		}
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err
}

// Within tells whether addr is in one of the prefixes; everybody is in an empty list, and an address that is not known in no other.
func Within(addr netip.Addr, list []string) bool {
	if len(list) == 0 {
		return true
	}
	for _, p := range prefixes(list) {
		if p.Contains(addr.Unmap()) {
			return true
		}
	}
	return false
}

func prefixes(list []string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		if p, err := Prefix(s); err == nil { // they were checked when they came in
			out = append(out, p)
		}
	}
	return out
}

// Strings is a list that is never null.
func Strings(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// Seconds is a duration as Vault shows it.
func Seconds(d time.Duration) int64 { return int64(d / time.Second) }
