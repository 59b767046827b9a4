package object

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// The types of targets.
const (
	TargetVault    = "vault"
	TargetPostgres = "postgres"
)

// The types of mounts.
const (
	MountVault  = "vault"  // passed on to a Vault target
	MountBroker = "broker" // credentials made and revoked by Bailiff
)

// The policies that are there without being declared.
const (
	PolicyDefault = "default" // what every caller may do
	PolicyRoot    = "root"    // everything
)

const (
	maxName       = 64
	maxPath       = 256
	maxText       = 1024
	maxRules      = 1 << 20
	maxTimeout    = 10 * time.Minute
	maxTTL        = 10 * 365 * 24 * time.Hour
	maxConns      = 1000
	maxMetadata   = 64
	nameAlphabet  = "letters, digits, dots, dashes and underscores, at most 64, beginning with a letter or a digit"
	identAlphabet = "letters, digits, dots, dashes, underscores and @, at most 64, beginning with a letter or a digit"

	policyAlphabet = "letters, digits, dots, dashes, underscores, slashes, colons, @ and +, at most 64, beginning with a letter or a digit"
)

// reserved are the first segments of paths that are Vault's own.
var reserved = [...]string{"sys", "auth", "identity", "cubbyhole"}

// checker judges one object by itself.
type checker struct {
	rec      Record
	problems []error
}

func (c *checker) bad(field, msg, hint string) {
	c.problems = append(c.problems, problem(c.rec, field, msg, hint))
}

func (c *checker) target(t *Target) {
	c.name("name", t.Name)
	if d := time.Duration(t.Timeout); d < 0 || d > maxTimeout {
		c.bad("timeout", "it must lie between 0 and 10m", `write "10s"`)
	}
	if t.CACert != "" {
		c.certificates(t.CACert)
	}
	switch t.Type {
	case TargetVault:
		c.vaultTarget(t)
	case TargetPostgres:
		c.postgresTarget(t)
	case "":
		c.bad("type", "it is missing", "write vault or postgres")
	default:
		c.bad("type", fmt.Sprintf("%q is no type of target", t.Type), "write vault or postgres")
	}
}

func (c *checker) vaultTarget(t *Target) {
	c.address(t.Address, []string{"http", "https"}, `"https://vault.example.com:8200"`)
	if t.Namespace != "" {
		c.path("namespace", t.Namespace)
	}
	c.absent("username", t.Username != "", "a target of type vault logs in by auth")
	c.absent("password", !t.Password.Empty(), "a target of type vault logs in by auth")
	c.absent("max_connections", t.MaxConnections != 0, "it is for databases")
	c.absent("allowed_roles", t.AllowedRoles != nil, "it is for databases")
	c.absent("root_rotation_statements", len(t.RotationStatements) > 0, "it is for databases")
	a := t.Auth
	if a == nil {
		c.bad("auth", "it is missing", `add auth { method = "token" token = env("…") } or auth { method = "approle" … }`)
		return
	}
	if a.Mount != "" {
		c.path("auth.mount", a.Mount)
	}
	switch a.Method {
	case "token":
		c.needed(SecretToken, !a.Token.Empty(), `write auth { token = env("…") }`)
		c.absent("role_id", a.RoleID != "", "it belongs to method approle")
		c.absent(SecretSecretID, !a.SecretID.Empty(), "it belongs to method approle")
		c.absent("auth.mount", a.Mount != "", "a token needs no mount")
	case "approle":
		c.needed("role_id", a.RoleID != "", `write auth { role_id = "…" }`)
		c.needed(SecretSecretID, !a.SecretID.Empty(), `write auth { secret_id = env("…") }`)
		c.absent(SecretToken, !a.Token.Empty(), "it belongs to method token")
	default:
		c.bad("auth.method", fmt.Sprintf("%q is no way to log in", a.Method), "write token or approle")
	}
}

func (c *checker) postgresTarget(t *Target) {
	u := c.address(t.Address, []string{"postgres", "postgresql"}, `"postgres://db.example.com:5432/app?sslmode=verify-full"`)
	if u != nil {
		for _, name := range []string{"user", "password", "passfile", "sslpassword", "service", "servicefile"} {
			c.absent("address", u.Query().Has(name), fmt.Sprintf("leave %s out of the address: write username and password beside it", name))
		}
	}
	c.needed("username", t.Username != "", "name the database user as which Bailiff makes credentials")
	if t.Mount != "" {
		c.path("mount", t.Mount)
	}
	c.absent("auth", t.Auth != nil, "it is for targets of type vault")
	c.absent("namespace", t.Namespace != "", "it is for targets of type vault")
	c.absent("default", t.Default, "it is for targets of type vault")
	if t.MaxConnections < 0 || t.MaxConnections > maxConns {
		c.bad("max_connections", "it must lie between 0 and 1000", "16 is what you get without it")
	}
}

func (c *checker) mount(m *Mount) {
	if c.path("path", m.Path) {
		first, _, _ := strings.Cut(m.Path, "/")
		if slices.Contains(reserved[:], first) {
			c.bad("path", fmt.Sprintf("paths under %s/ are Vault's own", first), "choose another first segment")
		}
	}
	c.ttls(m.DefaultTTL, m.MaxTTL)
	c.text("description", m.Description)
	c.demand(m.MaxLeases, m.IssueRate)
	if m.Children != "" && m.Children != "revoke" && m.Children != "outlive" {
		c.bad("child_leases", fmt.Sprintf("%q is not known", m.Children), "write revoke or outlive")
	}
	switch m.Type {
	case MountVault:
		c.needed("target", m.Target != "", "name the Vault target behind it")
		if m.RemotePath != "" {
			c.path("remote_path", m.RemotePath)
		}
		if m.Engine != "" {
			c.name("engine", m.Engine)
		}
		if m.KVVersion < 0 || m.KVVersion > 2 {
			c.bad("kv_version", "it is 1 or 2", "leave it out: it is found on the target")
		}
		c.absent("kv_version", m.KVVersion != 0 && !m.mayBeKV(), "it is for the engine kv")
	case MountBroker:
		c.absent("target", m.Target != "", "each producer under the mount names its own")
		c.absent("remote_path", m.RemotePath != "", "it is for mounts of type vault")
		c.absent("kv_version", m.KVVersion != 0, "it is for mounts of type vault")
		c.absent("engine", m.Engine == "kv" || m.Engine == "generic", "a broker mount keeps nothing that is written to it")
	default:
		c.bad("type", fmt.Sprintf("%q is no type of mount", m.Type), "write vault or broker")
	}
}

func (c *checker) producer(p *Producer) {
	if p.Mount == "" {
		c.bad("name", "it has no mount", `write <mount>/<name>, as in producer "database/readonly"`)
	}
	c.name("name", p.Name)
	c.needed("target", p.Target != "", "name the target on which credentials are made")
	c.ttls(p.DefaultTTL, p.MaxTTL)
	if len(p.CreationStatements) == 0 {
		c.bad("creation_statements", "they are missing", `write ["CREATE ROLE \"{{name}}\" …"]`)
	}
	for _, f := range []struct {
		name string
		list []string
	}{{"creation_statements", p.CreationStatements}, {"renew_statements", p.RenewStatements}, {"revocation_statements", p.RevocationStatements}} {
		if slices.ContainsFunc(f.list, func(s string) bool { return strings.TrimSpace(s) == "" }) {
			c.bad(f.name, "one of them is empty", "leave it out")
		}
	}
	if p.ScramIterations < 0 || p.ScramIterations > 1_000_000 {
		c.bad("scram_iterations", "it must lie between 1 and 1000000", "4096 is what you get without it")
	}
	if p.PasswordAuth != "" && p.PasswordAuth != "scram-sha-256" && p.PasswordAuth != "password" {
		c.bad("password_authentication", fmt.Sprintf("%q is not known", p.PasswordAuth), "write scram-sha-256 or password")
	}
	c.demand(p.MaxLeases, p.IssueRate)
	c.readiness(p)
}

// demand judges what keeps runaway clients off.
func (c *checker) demand(maxLeases int, rate string) {
	if maxLeases < 0 {
		c.bad("max_leases", "it is negative", "leave it out for no limit")
	}
	if _, _, err := ParseRate(rate); err != nil {
		c.bad("max_issue_rate", err.Error(), `write "10/s", "100/m" or "1000/h"`)
	}
}

func (c *checker) readiness(p *Producer) {
	if d := time.Duration(p.ReadyTimeout); d < 0 || d > maxTimeout {
		c.bad("ready_timeout", "it must lie between 0 and 10m", `write "30s"`)
	}
	if p.PoolSize < 0 || p.PoolSize > maxConns {
		c.bad("pool_size", "it must lie between 0 and 1000", "leave it out for no pool")
	}
	if d := time.Duration(p.PoolMaxAge); d < 0 || d > maxTTL {
		c.bad("pool_max_age", "it can't be negative or longer than ten years", `write "10m"`)
	}
	if p.Share != "" && p.Share != "identity" {
		c.bad("share", fmt.Sprintf("%q is not known", p.Share), `write "identity", or leave it out`)
	}
	if p.Share != "" && p.PoolSize > 0 {
		c.bad("share", "a role is shared or pooled, not both", "leave one of the two out")
	}
}

func (c *checker) staticRole(r *StaticRole) {
	if r.Mount == "" {
		c.bad("name", "it has no mount", `write <mount>/<name>, as in static_role "database/app"`)
	}
	c.name("name", r.Name)
	c.needed("target", r.Target != "", "name the target that the account is on")
	c.needed("username", r.Username != "", "name the account")
	c.text("username", r.Username)
	switch period := time.Duration(r.RotationPeriod); {
	case r.RotationSchedule != "" && period != 0:
		c.bad("rotation_schedule", "it is given beside rotation_period", "leave one of the two out")
	case r.RotationSchedule == "" && period == 0:
		c.bad("rotation_period", "it is missing", `write "24h", or give a rotation_schedule`)
	case r.RotationSchedule == "" && (period < 5*time.Second || period > maxTTL):
		c.bad("rotation_period", "it must lie between 5s and ten years", `write "24h"`)
	}
}

func (c *checker) connector(n *Connector) {
	c.name("name", n.Name)
	c.text("description", n.Description)
	switch {
	case n.Target == "" && n.Mount == "":
		c.bad("target", "it is missing", "name a target (all its KV mounts) or a mount (one)")
	case n.Target != "" && n.Mount != "":
		c.bad("mount", "a connector has a target or a mount, not both", "leave one of the two out")
	}
}

func (c *checker) policy(p *Policy) {
	c.alphabet("name", p.Name, "/:@+", policyAlphabet)
	if p.Name != strings.ToLower(p.Name) {
		c.bad("name", "it has capital letters", "write it in small letters, as Vault does")
	}
	c.absent("name", p.Name == PolicyRoot, "root allows everything and can't be written")
	c.needed("rules", strings.TrimSpace(p.Rules) != "", `write path "secret/data/app/*" { capabilities = ["read"] }`)
	if len(p.Rules) > maxRules {
		c.bad("rules", "they are longer than 1 MiB", "split them into several policies")
	}
}

func (c *checker) role(r *Role) {
	c.name("name", r.Name)
	c.list("policies", r.Policies)
	c.list("identities", r.Identities)
	if len(r.Policies) == 0 {
		c.bad("policies", "they are missing", "name at least one policy")
	}
	// Root together with others would read as less than it is.
	if slices.Contains(r.Policies, PolicyRoot) && len(r.Policies) > 1 {
		c.bad("policies", "root stands alone", "make it the only policy of a role of its own")
	}
	for _, b := range r.Binds {
		c.bind(b)
	}
}

func (c *checker) identity(i *Identity) {
	c.alphabet("name", i.Name, "@", identAlphabet)
	c.text("description", i.Description)
	c.list("roles", i.Roles)
	c.demand(i.MaxLeases, i.IssueRate)
	if id, ok := strings.CutPrefix(i.AccessID, "p-"); i.AccessID != "" && (!ok || id == "" || !onlyNameBytes(id, "")) {
		c.bad("access_id", `it has not the form "p-…"`, "leave it out: Bailiff chooses one")
	}
	if len(i.Metadata) > maxMetadata {
		c.bad("metadata", "there are more than 64 entries", "keep what policies and reports need")
	}
	for k, v := range i.Metadata {
		c.alphabet("metadata", k, "", nameAlphabet)
		c.text("metadata."+k, v)
	}
	for _, a := range i.Aliases {
		c.alias("alias", a.Mount, a.Name)
	}
}

func (c *checker) alias(field, mount, name string) {
	c.needed(field+".mount", mount != "", `name the auth mount: "userpass"`)
	c.needed(field+".name", name != "", "name who logs in there")
	c.text(field+".mount", mount)
	c.text(field+".name", name)
	if strings.HasPrefix(mount, "auth/") || strings.HasPrefix(mount, "/") || strings.HasSuffix(mount, "/") {
		c.bad(field+".mount", "it is written without auth/ and without a slash at its ends", `write "userpass"`)
	}
}

func (c *checker) bind(b Bind) {
	c.alias("bind", b.Mount, "-")
	c.needed("bind.claims", len(b.Claims) > 0, `name what a login must have proved: claims = { repository_id = ["123"] }`)
	for name, values := range b.Claims {
		c.text("bind.claims", name)
		c.needed("bind.claims."+name, len(values) > 0, "list the values that it may have")
		c.list("bind.claims."+name, values)
	}
}

func (c *checker) needed(field string, ok bool, hint string) {
	if !ok {
		c.bad(field, "it is missing", hint)
	}
}

func (c *checker) absent(field string, there bool, hint string) {
	if there {
		c.bad(field, "it can't stand here", hint)
	}
}

func (c *checker) name(field, s string) { c.alphabet(field, s, "", nameAlphabet) }

func (c *checker) alphabet(field, s, extra, words string) {
	switch {
	case s == "":
		c.bad(field, "it is empty", "use "+words)
	case len(s) > maxName || !onlyNameBytes(s, extra) || strings.IndexByte(".-_@/:+", s[0]) >= 0:
		c.bad(field, fmt.Sprintf("%.80q can't be used", s), "use "+words)
	}
}

func (c *checker) list(field string, names []string) {
	seen := map[string]bool{}
	for _, n := range names {
		if n == "" || seen[n] {
			c.bad(field, fmt.Sprintf("%q is there twice or is empty", n), "leave it out")
		}
		seen[n] = true
	}
}

func (c *checker) text(field, s string) {
	if len(s) > maxText || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r == 0x7f }) {
		c.bad(field, "it is longer than 1024 bytes or has control characters", "make it shorter")
	}
}

// path judges a path that stands without slashes at its ends.
func (c *checker) path(field, s string) bool {
	ok := s != "" && len(s) <= maxPath
	for seg := range strings.SplitSeq(s, "/") {
		ok = ok && seg != "" && seg != "." && seg != ".." && onlyNameBytes(seg, "")
	}
	if !ok {
		c.bad(field, fmt.Sprintf("%.80q is not canonical", s),
			"write segments of letters, digits, dots, dashes and underscores with one slash between them and none at the ends")
	}
	return ok
}

func onlyNameBytes(s, extra string) bool {
	for i := range len(s) {
		b := s[i]
		switch {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9', b == '.', b == '-', b == '_':
		case strings.IndexByte(extra, b) >= 0:
		default:
			return false
		}
	}
	return true
}

// address judges a URL. It never repeats the URL, which may hold a password by mistake.
func (c *checker) address(s string, schemes []string, example string) *url.URL {
	if s == "" {
		c.bad("address", "it is missing", "write "+example)
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || !slices.Contains(schemes, u.Scheme) || u.Hostname() == "" || u.Opaque != "" {
		c.bad("address", fmt.Sprintf("it is not an absolute %s:// URL", strings.Join(schemes, ":// or ")), "write "+example)
		return nil
	}
	if u.User != nil {
		c.bad("address", "it holds a user or a password", "leave them out: secrets have fields of their own")
	}
	if u.Fragment != "" || schemes[0] == "http" && (u.RawQuery != "" || u.ForceQuery) {
		c.bad("address", "it has something behind the path", "write "+example)
	}
	return u
}

func (c *checker) certificates(text string) {
	rest := []byte(strings.TrimSpace(text))
	for len(rest) > 0 {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" {
			c.bad("ca_cert", "it is not PEM text of certificates", `write file("ca.pem")`)
			return
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			c.bad("ca_cert", "one of its certificates can't be read", "export it again")
			return
		}
	}
}

func (c *checker) ttls(def, maximum Duration) {
	for _, f := range []struct {
		name string
		d    Duration
	}{{"default_ttl", def}, {"max_ttl", maximum}} {
		if f.d < 0 || time.Duration(f.d) > maxTTL {
			c.bad(f.name, "it must lie between 0 and ten years", `write "1h"`)
		}
	}
	if maximum > 0 && def > maximum {
		c.bad("default_ttl", "it is longer than max_ttl", "make it shorter, or max_ttl longer")
	}
}
