package cert

import (
	"context"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/policy"
)

// Login checks the certificate of the client's connection. See auth.Method.
func (x *Method) Login(ctx context.Context, c *auth.Call) (*auth.Outcome, error) {
	if c.Op != policy.Update && c.Op != policy.Create {
		return nil, &gate.Error{Kind: gate.Unsupported, Msg: "unsupported operation"}
	}
	name := strings.ToLower(c.Body.Text("name"))
	if err := c.Body.Err(); err != nil {
		return nil, err
	}
	if len(c.Certificates) == 0 {
		return nil, auth.Refuse("", "client certificate must be supplied")
	}
	client := c.Certificates[0]
	roles, err := x.roles(ctx, c.At, name)
	if err != nil {
		return nil, err
	}
	lists, err := loadLists(ctx, c.At)
	if err != nil {
		return nil, err
	}
	r, no := match(roles, lists, c.Certificates)
	if r == nil {
		return nil, &auth.Refused{Msg: no, Kind: gate.Invalid, Reason: no, Alias: client.Subject.CommonName, Wrong: true}
	}
	if !r.Allow(c.ClientAddr) {
		return nil, &auth.Refused{Msg: "permission denied", Kind: gate.Forbidden, Reason: "the address is none that tokens of the role are bound to", Alias: client.Subject.CommonName}
	}
	settings, err := auth.Load[config](ctx, c.At, "config")
	if err != nil {
		return nil, err
	}
	return r.admit(client, settings != nil && settings.Value.AliasMetadata)
}

// roles are the certificates that are trusted: all, or the one that the client names.
func (x *Method) roles(ctx context.Context, m *auth.Mount, name string) ([]*roleDoc, error) {
	if name == "" {
		return auth.List[role](ctx, m, "cert/")
	}
	d, err := auth.Load[role](ctx, m, key(name))
	if err != nil || d == nil {
		return nil, err
	}
	return []*roleDoc{d}, nil
}

// match finds the first role that a client's certificate fits, or says in Vault's words why there is none.
func match(roles []*roleDoc, lists []*list, sent []*x509.Certificate) (*role, string) {
	client, chained := sent[0], false
	now := time.Now()
	for _, d := range roles {
		r := &d.Value
		for _, trusted := range parse(r.Certificate) {
			chain, err := chainTo(trusted, sent, now)
			if err != nil {
				continue
			}
			chained = true
			if !revoked(lists, chain) && r.fits(client) {
				return r, ""
			}
		}
	}
	if chained {
		return nil, "no chain matching all constraints could be found for this login certificate"
	}
	return nil, "invalid certificate or no client certificate supplied"
}

var errNotTrusted = errors.New("not trusted")

// chainTo is the chain from a client's certificate to one that is trusted: an authority's, or the client's own.
func chainTo(trusted *x509.Certificate, sent []*x509.Certificate, now time.Time) ([]*x509.Certificate, error) {
	client := sent[0]
	if !trusted.IsCA {
		if trusted.Equal(client) && !now.Before(client.NotBefore) && now.Before(client.NotAfter) {
			return []*x509.Certificate{client}, nil
		}
		return nil, errNotTrusted
	}
	between := x509.NewCertPool()
	for _, c := range sent[1:] {
		between.AddCert(c)
	}
	roots := x509.NewCertPool()
	roots.AddCert(trusted)
	chains, err := client.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return nil, errNotTrusted
	}
	return chains[0], nil
}

// fits tells whether a certificate says what a role wants of it.
func (r *role) fits(c *x509.Certificate) bool {
	uris := make([]string, 0, len(c.URIs))
	for _, u := range c.URIs {
		uris = append(uris, u.String())
	}
	every := append(append([]string{c.Subject.CommonName}, c.DNSNames...), c.EmailAddresses...)
	return anyOf(r.Names, every) && anyOf(r.CommonNames, []string{c.Subject.CommonName}) && anyOf(r.DNS, c.DNSNames) &&
		anyOf(r.Emails, c.EmailAddresses) && anyOf(r.URIs, uris) && anyOf(r.Units, c.Subject.OrganizationalUnit) && r.hasExtensions(c)
}

// anyOf tells whether one of the patterns fits one of the values; everything does where there are no patterns.
func anyOf(patterns, values []string) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool {
		return slices.ContainsFunc(values, func(v string) bool { return glob(p, v) })
	})
}

// glob tells whether s fits a pattern in which * stands for anything.
func glob(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	if !strings.HasPrefix(s, parts[0]) {
		return false
	}
	s = s[len(parts[0]):]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return strings.HasSuffix(s, parts[len(parts)-1])
}

func extensions(c *x509.Certificate) map[string]string {
	out := make(map[string]string, len(c.Extensions))
	for _, e := range c.Extensions {
		var value string
		if _, err := asn1.Unmarshal(e.Value, &value); err != nil {
			value = "" // not a string
		}
		out[e.Id.String()] = value
	}
	return out
}

func (r *role) hasExtensions(c *x509.Certificate) bool {
	if len(r.Extensions) == 0 {
		return true
	}
	have := extensions(c)
	for _, want := range r.Extensions {
		id, pattern, _ := strings.Cut(want, ":")
		value, ok := have[id]
		if !ok || !glob(pattern, value) {
			return false
		}
	}
	return true
}

// admit lets in the holder of a certificate.
func (r *role) admit(c *x509.Certificate, aliasMetadata bool) (*auth.Outcome, error) {
	if c.Subject.CommonName == "" {
		return nil, auth.Refuse("", "the certificate has no common name, so there is no name for its holder")
	}
	metadata := map[string]string{
		"cert_name": r.Name, "common_name": c.Subject.CommonName, "serial_number": c.SerialNumber.String(),
		"subject_key_id": colons(c.SubjectKeyId), "authority_key_id": colons(c.AuthorityKeyId),
	}
	have := extensions(c)
	for _, id := range r.MetadataExtension {
		if v, ok := have[id]; ok {
			metadata[strings.ReplaceAll(id, ".", "-")] = v
		}
	}
	spec := &identity.LoginSpec{
		Alias: c.Subject.CommonName, DisplayName: r.Display, Metadata: metadata, Role: r.Name, Params: r.Spec(), Claims: maps.Clone(metadata),
	}
	if aliasMetadata {
		spec.AliasMetadata = metadata
	}
	return &auth.Outcome{Login: spec}, nil
}

// colons writes bytes in hexadecimal with colons between.
func colons(b []byte) string {
	parts := make([]string, len(b))
	for i := range b {
		parts[i] = hex.EncodeToString(b[i : i+1])
	}
	return strings.Join(parts, ":")
}
