// Package cert is the auth method of clients that have a TLS certificate.
//
// It serves the paths of Vault's method. The handshake has proven that the client has the certificate's key; this package
// checks who issued it, what it says, and whether it was revoked. It needs a listener with TLS of Bailiff's own: what ends
// TLS before it takes the certificate away.
package cert

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/policy"
)

// Method is cert. It is safe for concurrent use.
type Method struct{ routes auth.Routes }

// New makes the method.
func New() *Method {
	x := &Method{}
	const read, list, update, remove = policy.Read, policy.List, policy.Update, policy.Delete
	x.routes = auth.Routes{
		{Op: read, Path: "config", Serve: x.readConfig},
		{Op: update, Path: "config", Serve: x.writeConfig},
		{Op: list, Path: "certs", Serve: x.list},
		{Op: read, Path: "certs/{name}", Serve: x.read},
		{Op: update, Path: "certs/{name}", Serve: x.write},
		{Op: remove, Path: "certs/{name}", Serve: x.remove},
		{Op: list, Path: "crls", Serve: x.listCRLs},
		{Op: read, Path: "crls/{name}", Serve: x.readCRL},
		{Op: update, Path: "crls/{name}", Serve: x.writeCRL},
		{Op: remove, Path: "crls/{name}", Serve: x.removeCRL},
	}
	return x
}

// Greets is true of the login alone. See auth.Method.
func (*Method) Greets(rest string) bool { return rest == "login" }

// Serve answers everything but logins. See auth.Method.
func (x *Method) Serve(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	return x.routes.Serve(ctx, c)
}

// role is what is kept of a certificate that is trusted.
type role struct {
	auth.Params

	Name              string
	Certificate       string // PEM: an authority's, or a client's own
	Display           string
	Names             []string
	CommonNames       []string
	DNS               []string
	Emails            []string
	URIs              []string
	Units             []string
	Extensions        []string // OID:pattern
	MetadataExtension []string // OIDs
	Old               []string // the fields that were given by their older names, and are shown by them too
}

type roleDoc = auth.Doc[role]

func key(name string) string { return "cert/" + strings.ToLower(name) }

// config is what is kept of a mount's configuration.
type config struct {
	DisableBinding bool // shown again; a token here is not bound to the connection
	AliasMetadata  bool
	OCSPCache      int
}

func (x *Method) readConfig(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	d, err := auth.Load[config](ctx, c.At, "config")
	if err != nil {
		return nil, err
	}
	v := config{}
	if d != nil {
		v = d.Value
	}
	return auth.OK(map[string]any{
		"disable_binding": v.DisableBinding, "enable_identity_alias_metadata": v.AliasMetadata, "ocsp_cache_size": v.OCSPCache,
	}), nil
}

func (x *Method) writeConfig(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	err := auth.Again(func() error {
		d, err := auth.Load[config](ctx, c.At, "config")
		if err != nil {
			return err
		}
		if d == nil {
			d = &auth.Doc[config]{Key: "config"}
		}
		c.Body.SetBool("disable_binding", &d.Value.DisableBinding)
		c.Body.SetBool("enable_identity_alias_metadata", &d.Value.AliasMetadata)
		c.Body.SetInt("ocsp_cache_size", &d.Value.OCSPCache)
		if err := c.Body.Err(); err != nil {
			return err
		}
		return c.At.Write(ctx, d.Put(c.At))
	})
	if err != nil {
		return nil, err
	}
	return auth.Done("wrote the configuration"), nil
}

func (x *Method) list(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	names, err := auth.Names(ctx, c.At, "cert/")
	if err != nil {
		return nil, err
	}
	return auth.Keys(names), nil
}

func (x *Method) read(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	d, err := auth.Load[role](ctx, c.At, key(c.Args["name"]))
	if err != nil {
		return nil, err
	}
	if d == nil {
		return auth.Missing(), nil
	}
	r := &d.Value
	data := map[string]any{
		"certificate": r.Certificate, "display_name": r.Display, "allowed_names": r.Names, "allowed_common_names": r.CommonNames,
		"allowed_dns_sans": r.DNS, "allowed_email_sans": r.Emails, "allowed_uri_sans": r.URIs, "allowed_organizational_units": r.Units,
		"required_extensions": r.Extensions, "allowed_metadata_extensions": r.MetadataExtension,
	}
	r.Show(data)
	for _, name := range r.Old {
		data[name] = data["token_"+name]
	}
	return auth.OK(data), nil
}

func (x *Method) remove(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	if err := auth.Delete[role](ctx, c.At, key(c.Args["name"])); err != nil {
		return nil, err
	}
	return auth.Done("deleted the certificate " + c.Args["name"]), nil
}

func (x *Method) write(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	name := strings.ToLower(c.Args["name"])
	err := auth.Again(func() error {
		d, err := auth.Load[role](ctx, c.At, key(name))
		if err != nil {
			return err
		}
		if d == nil {
			d = &roleDoc{Key: key(name), Value: role{Name: name}}
		}
		if err := d.Value.edit(c.Body); err != nil {
			return err
		}
		return c.At.Write(ctx, d.Put(c.At))
	})
	if err != nil {
		return nil, err
	}
	return auth.Done("wrote the certificate " + name), nil
}

func older() []string { return []string{"policies", "ttl", "max_ttl", "period", "bound_cidrs"} }

func (r *role) edit(b *auth.Body) error {
	b.SetText("certificate", &r.Certificate)
	b.SetText("display_name", &r.Display)
	for name, to := range map[string]*[]string{
		"allowed_names": &r.Names, "allowed_common_names": &r.CommonNames, "allowed_dns_sans": &r.DNS, "allowed_email_sans": &r.Emails,
		"allowed_uri_sans": &r.URIs, "allowed_organizational_units": &r.Units, "required_extensions": &r.Extensions,
		"allowed_metadata_extensions": &r.MetadataExtension,
	} {
		b.SetList(name, to)
	}
	if b.Bool("ocsp_enabled", false) {
		return auth.Invalid("OCSP is not asked: write the authority's revocation list to crls/NAME")
	}
	b.Known("ocsp_ca_certificates", "ocsp_servers_override", "ocsp_fail_open", "ocsp_query_all_servers", "lease")
	if err := r.Read(b); err != nil {
		return err
	}
	for _, name := range older() {
		if b.Has(name) && !slices.Contains(r.Old, name) {
			r.Old = append(r.Old, name)
		}
	}
	if err := r.Params.Old(b, older()...); err != nil {
		return err
	}
	if r.Display == "" {
		r.Display = r.Name
	}
	return r.check()
}

func (r *role) check() error {
	certs := parse(r.Certificate)
	if len(certs) == 0 {
		return auth.Invalid("failed to parse certificate")
	}
	c := certs[0]
	if !c.IsCA && c.ExtKeyUsage != nil && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return auth.Invalid("nonCA certificates should have TLS client authentication set as an extended key usage")
	}
	for _, e := range r.Extensions {
		if !strings.Contains(e, ":") {
			return auth.Invalid("required_extensions has %.60q, which is not OID:value", e)
		}
	}
	return nil
}

// parse reads certificates in PEM form; none where one of them can't be read.
func parse(text string) []*x509.Certificate {
	var out []*x509.Certificate
	for rest := []byte(strings.TrimSpace(text)); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return out
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil
		}
		out = append(out, c)
	}
}
