package jwt

import (
	"context"
	"slices"
	"strings"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/gate"
)

// config is what is kept of a mount's configuration.
type config struct {
	DiscoveryURL   string
	DiscoveryCA    string
	ClientID       string
	ClientSecret   string
	ResponseMode   string
	ResponseTypes  []string
	JWKSURL        string
	JWKSCA         string
	DefaultRole    string
	PublicKeys     []string
	Algorithms     []string
	BoundIssuer    string
	Preset         string
	ProviderConfig map[string]any
}

type configDoc = auth.Doc[config]

func loadConfig(ctx context.Context, m *auth.Mount) (*configDoc, error) {
	return auth.Load[config](ctx, m, "config")
}

func (j *Method) readConfig(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	d, err := loadConfig(ctx, c.At)
	if err != nil {
		return nil, err
	}
	if d == nil {
		return auth.Missing(), nil
	}
	x := &d.Value
	data := map[string]any{
		"oidc_discovery_url": x.DiscoveryURL, "oidc_discovery_ca_pem": x.DiscoveryCA, "oidc_client_id": x.ClientID,
		"oidc_response_mode": x.ResponseMode, "oidc_response_types": auth.Strings(x.ResponseTypes), "default_role": x.DefaultRole,
		"jwt_validation_pubkeys": auth.Strings(x.PublicKeys), "jwt_supported_algs": auth.Strings(x.Algorithms), "jwks_url": x.JWKSURL,
		"jwks_ca_pem": x.JWKSCA, "bound_issuer": x.BoundIssuer, "provider_config": x.ProviderConfig, "namespace_in_state": true,
	}
	if x.ProviderConfig == nil {
		data["provider_config"] = map[string]any{}
	}
	if x.Preset != "" {
		data["preset"] = x.Preset
	}
	return auth.OK(data), nil
}

// writeConfig replaces the configuration, as Vault does.
func (j *Method) writeConfig(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	b := c.Body
	x := config{
		DiscoveryURL: b.Text("oidc_discovery_url"), DiscoveryCA: b.Text("oidc_discovery_ca_pem"), ClientID: b.Text("oidc_client_id"),
		ClientSecret: b.Text("oidc_client_secret"), ResponseMode: b.Text("oidc_response_mode"), ResponseTypes: b.List("oidc_response_types"),
		JWKSURL: b.Text("jwks_url"), JWKSCA: b.Text("jwks_ca_pem"), DefaultRole: lower(b.Text("default_role")),
		PublicKeys: pems(b), Algorithms: b.List("jwt_supported_algs"), BoundIssuer: b.Text("bound_issuer"),
		Preset: b.Text("preset"),
	}
	b.Known("namespace_in_state")
	b.JSON("provider_config", &x.ProviderConfig)
	if err := b.Err(); err != nil {
		return nil, err
	}
	if err := x.check(); err != nil {
		return nil, err
	}
	if err := newSource(&x).check(ctx); err != nil {
		return nil, err
	}
	err := auth.Again(func() error {
		d, err := loadConfig(ctx, c.At)
		if err != nil {
			return err
		}
		if d == nil {
			d = &configDoc{Key: "config"}
		}
		d.Value = x
		return c.At.Write(ctx, d.Put(c.At))
	})
	if err != nil {
		return nil, err
	}
	return auth.Done("wrote the configuration"), nil
}

// pems reads keys in PEM form: a list, or one text with several of them.
func pems(b *auth.Body) []string {
	list := b.List("jwt_validation_pubkeys")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}

func (x *config) check() error {
	p, known := presets()[x.Preset]
	if x.Preset != "" && !known {
		return auth.Invalid("there is no preset %q: use %s", x.Preset, presetNames())
	}
	ways := 0
	for _, set := range []bool{x.DiscoveryURL != "", len(x.PublicKeys) != 0, x.JWKSURL != ""} {
		if set {
			ways++
		}
	}
	if ways == 0 && known {
		x.DiscoveryURL, ways = p.issuer, 1
	}
	switch {
	case ways != 1:
		return auth.Invalid("exactly one of 'jwt_validation_pubkeys', 'jwks_url' or 'oidc_discovery_url' must be set")
	case (x.ClientID == "") != (x.ClientSecret == ""):
		return auth.Invalid("both 'oidc_client_id' and 'oidc_client_secret' must be set for OIDC")
	case x.ClientID != "" && x.DiscoveryURL == "":
		return auth.Invalid("'oidc_discovery_url' must be set for OIDC")
	}
	for _, alg := range x.Algorithms {
		if !slices.Contains(asymmetric(), alg) {
			return auth.Invalid("invalid jwt_supported_algs: unsupported signing algorithm %q", alg)
		}
	}
	for _, t := range x.ResponseTypes {
		if t != "code" {
			return auth.Invalid("invalid response_types %v. Only 'code' is allowed", x.ResponseTypes)
		}
	}
	if x.ResponseMode != "" && x.ResponseMode != "query" {
		return auth.Invalid("invalid response_mode: %q. Only 'query' is allowed", x.ResponseMode)
	}
	if len(x.ProviderConfig) > 0 {
		return auth.Invalid("invalid provider_config: there are no providers with special ways here")
	}
	return nil
}
