package ldap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"strings"
	"text/template"
	"time"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/gate"
)

// config is what is kept of a mount's configuration.
type config struct {
	auth.Params

	URL             string
	UserDN          string
	UserAttr        string
	UserFilter      string
	BindDN          string
	BindPassword    string
	UPNDomain       string
	GroupDN         string
	GroupFilter     string
	GroupAttr       string
	DiscoverDN      bool
	StartTLS        bool
	InsecureTLS     bool
	Certificate     string
	ClientCert      string
	ClientKey       string
	MinTLS          string
	MaxTLS          string
	CaseSensitive   bool
	AnonymousGroups bool
	NameAsAlias     bool
	Timeout         time.Duration
}

type configDoc = auth.Doc[config]

func loadConfig(ctx context.Context, m *auth.Mount) (*configDoc, error) {
	return auth.Load[config](ctx, m, "config")
}

func defaults() config {
	return config{
		URL: "ldap://127.0.0.1", UserAttr: "cn", UserFilter: "({{.UserAttr}}={{.Username}})", GroupAttr: "cn",
		GroupFilter: "(|(memberUid={{.Username}})(member={{.UserDN}})(uniqueMember={{.UserDN}}))", MinTLS: "tls12", MaxTLS: "tls12",
		Timeout: 90 * time.Second,
	}
}

// fold is a name as it is kept.
func (x *config) fold(name string) string {
	if x.CaseSensitive {
		return strings.TrimSpace(name)
	}
	return strings.ToLower(strings.TrimSpace(name))
}

func (l *Method) readConfig(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	d, err := loadConfig(ctx, c.At)
	if err != nil {
		return nil, err
	}
	x := defaults()
	if d != nil {
		x = d.Value
	}
	data := map[string]any{
		"url": x.URL, "userdn": x.UserDN, "groupdn": x.GroupDN, "groupfilter": x.GroupFilter, "groupattr": x.GroupAttr, "userfilter": x.UserFilter,
		"upndomain": x.UPNDomain, "userattr": x.UserAttr, "certificate": x.Certificate, "insecure_tls": x.InsecureTLS, "starttls": x.StartTLS,
		"binddn": x.BindDN, "deny_null_bind": true, "discoverdn": x.DiscoverDN, "tls_min_version": x.MinTLS, "tls_max_version": x.MaxTLS,
		"use_token_groups": false, "anonymous_group_search": x.AnonymousGroups, "request_timeout": auth.Seconds(x.Timeout),
		"username_as_alias": x.NameAsAlias, "case_sensitive_names": x.CaseSensitive, "use_pre111_group_cn_behavior": false,
	}
	x.Show(data)
	return auth.OK(data), nil
}

// writeConfig changes what is given.
func (l *Method) writeConfig(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	err := auth.Again(func() error {
		d, err := loadConfig(ctx, c.At)
		if err != nil {
			return err
		}
		if d == nil {
			d = &configDoc{Key: "config", Value: defaults()}
		}
		if err := d.Value.edit(c.Body); err != nil {
			return err
		}
		return c.At.Write(ctx, d.Put(c.At))
	})
	if err != nil {
		return nil, err
	}
	return auth.Done("wrote the configuration"), nil
}

func (x *config) edit(b *auth.Body) error {
	for name, to := range map[string]*string{
		"url": &x.URL, "userdn": &x.UserDN, "userattr": &x.UserAttr, "userfilter": &x.UserFilter, "binddn": &x.BindDN, "bindpass": &x.BindPassword,
		"upndomain": &x.UPNDomain, "groupdn": &x.GroupDN, "groupfilter": &x.GroupFilter, "groupattr": &x.GroupAttr, "certificate": &x.Certificate,
		"client_tls_cert": &x.ClientCert, "client_tls_key": &x.ClientKey, "tls_min_version": &x.MinTLS, "tls_max_version": &x.MaxTLS,
	} {
		b.SetText(name, to)
	}
	for name, to := range map[string]*bool{
		"discoverdn": &x.DiscoverDN, "starttls": &x.StartTLS, "insecure_tls": &x.InsecureTLS, "case_sensitive_names": &x.CaseSensitive,
		"anonymous_group_search": &x.AnonymousGroups, "username_as_alias": &x.NameAsAlias,
	} {
		b.SetBool(name, to)
	}
	b.SetDuration("request_timeout", &x.Timeout)
	x.URL, x.UserAttr, x.GroupAttr = strings.ToLower(x.URL), strings.ToLower(x.UserAttr), strings.ToLower(x.GroupAttr)
	switch {
	case !b.Bool("deny_null_bind", true):
		return auth.Invalid("deny_null_bind can't be false: whoever gave no password would be let in")
	case b.Bool("use_token_groups", false):
		return auth.Invalid("use_token_groups is not served: search for groups with groupfilter")
	case b.Bool("use_pre111_group_cn_behavior", false):
		return auth.Invalid("use_pre111_group_cn_behavior is not served")
	}
	if err := x.Read(b); err != nil {
		return err
	}
	if err := b.Err(); err != nil {
		return err
	}
	return x.check()
}

func tlsVersions() map[string]uint16 {
	return map[string]uint16{"tls10": tls.VersionTLS10, "tls11": tls.VersionTLS11, "tls12": tls.VersionTLS12, "tls13": tls.VersionTLS13}
}

func (x *config) check() error {
	lowest, knownMin := tlsVersions()[x.MinTLS]
	highest, knownMax := tlsVersions()[x.MaxTLS]
	switch {
	case x.URL == "":
		return auth.Invalid("at least one url must be provided")
	case !x.DiscoverDN && (x.BindDN == "" || x.BindPassword == "") && x.UPNDomain == "" && x.UserDN == "":
		return auth.Invalid("cannot derive UserBindDN")
	case !knownMin:
		return auth.Invalid("invalid 'tls_min_version'")
	case !knownMax:
		return auth.Invalid("invalid 'tls_max_version'")
	case highest < lowest:
		return auth.Invalid("'tls_max_version' must be greater than or equal to 'tls_min_version'")
	}
	for _, address := range x.urls() {
		if u, err := url.Parse(address); err != nil || u.Scheme != "ldap" && u.Scheme != "ldaps" && u.Scheme != "ldapi" || u.Scheme != "ldapi" && u.Host == "" {
			return auth.Invalid("the url %.60q is none of an LDAP server", address)
		}
	}
	for _, text := range []string{x.UserFilter, x.GroupFilter} {
		if _, err := template.New("").Parse(text); err != nil {
			return auth.Invalid("LDAP search failed due to template compilation error: %s", err)
		}
	}
	_, err := x.tls("")
	return err
}

func (x *config) urls() []string { return auth.SplitCommas(x.URL) }

// tls is how a server is known.
func (x *config) tls(host string) (*tls.Config, error) {
	out := &tls.Config{
		ServerName: host, MinVersion: tlsVersions()[x.MinTLS], MaxVersion: tlsVersions()[x.MaxTLS], // #nosec G402 -- an administrator said so
		InsecureSkipVerify: x.InsecureTLS, // #nosec G402 -- an administrator asked for it by its name
	}
	if x.Certificate != "" {
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM([]byte(x.Certificate)) {
			return nil, auth.Invalid("failed to parse server tls cert: it is not in PEM form")
		}
	}
	if x.ClientCert != "" || x.ClientKey != "" {
		pair, err := tls.X509KeyPair([]byte(x.ClientCert), []byte(x.ClientKey))
		if err != nil {
			return nil, auth.Invalid("failed to parse client X509 key pair: the two don't belong together, or are not in PEM form")
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}
