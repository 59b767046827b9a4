package config

import (
	"maps"

	"github.com/hashicorp/hcl/v2"

	"github.com/bailiff-secrets/bailiff/internal/object"
)

// root says which objects a file may declare.
func (f *objectFile) root() block {
	kind := func(label string, read func(b *hcl.Block)) inner { return inner{label: label, many: true, read: read} }
	return block{blocks: map[string]inner{
		"target":      kind("name", f.target),
		"mount":       kind("path", f.mount),
		"producer":    kind("mount/name", f.producer),
		"static_role": kind("mount/name", f.staticRole),
		"connector":   kind("name", f.connector),
		"policy":      kind("name", f.policy),
		"role":        kind("name", f.role),
		"identity":    kind("name", f.identity),
		"notify":      kind("name", f.notify),
	}}
}

func (f *objectFile) target(b *hcl.Block) {
	t := &object.Target{Name: b.Labels[0]}
	inAuth := map[string]hcl.Range{}
	where := f.read(b.Body, block{
		attrs: f.shownAttrs(map[string]attr{
			"type":                     text(&t.Type),
			"address":                  text(&t.Address),
			"namespace":                text(&t.Namespace),
			"default":                  truth(&t.Default),
			"ca_cert":                  text(&t.CACert),
			"tls_server_name":          text(&t.TLSServerName),
			"tls_skip_verify":          truth(&t.TLSSkipVerify),
			"timeout":                  durationWords(&t.Timeout),
			"username":                 text(&t.Username),
			"max_connections":          whole(&t.MaxConnections),
			"max_ttl":                  durationWords(&t.MaxTTL),
			"reconcile":                text(&t.Reconcile),
			"mount":                    text(&t.Mount),
			"allowed_roles":            texts(&t.AllowedRoles),
			"root_rotation_statements": texts(&t.RotationStatements),
		}, map[string]attr{
			object.SecretPassword: f.secretText(&t.Password),
		}),
		blocks: map[string]inner{"auth": {read: func(b *hcl.Block) { inAuth = f.auth(t, b) }}},
	})
	for name, at := range inAuth {
		where["auth."+name] = at
	}
	f.keep(t, b, where)
}

func (f *objectFile) auth(t *object.Target, b *hcl.Block) map[string]hcl.Range {
	t.Auth = &object.VaultAuth{}
	return f.read(b.Body, block{attrs: f.shownAttrs(map[string]attr{
		"method":  text(&t.Auth.Method),
		"mount":   text(&t.Auth.Mount),
		"role_id": text(&t.Auth.RoleID),
	}, map[string]attr{
		object.SecretToken:    f.secretText(&t.Auth.Token),
		object.SecretSecretID: f.secretText(&t.Auth.SecretID),
	})})
}

func (f *objectFile) mount(b *hcl.Block) {
	m := &object.Mount{Path: b.Labels[0]}
	f.keep(m, b, f.read(b.Body, block{attrs: f.shownAttrs(map[string]attr{
		"type":           text(&m.Type),
		"target":         text(&m.Target),
		"remote_path":    text(&m.RemotePath),
		"engine":         text(&m.Engine),
		"kv_version":     whole(&m.KVVersion),
		"description":    text(&m.Description),
		"default_ttl":    durationWords(&m.DefaultTTL),
		"max_ttl":        durationWords(&m.MaxTTL),
		"child_leases":   text(&m.Children),
		"max_leases":     whole(&m.MaxLeases),
		"max_issue_rate": text(&m.IssueRate),
	}, nil)}))
}

func (f *objectFile) producer(b *hcl.Block) {
	p := &object.Producer{}
	p.Mount, p.Name = object.SplitProducer(b.Labels[0])
	f.keep(p, b, f.read(b.Body, block{attrs: f.shownAttrs(map[string]attr{
		"target":                  text(&p.Target),
		"default_ttl":             durationWords(&p.DefaultTTL),
		"max_ttl":                 durationWords(&p.MaxTTL),
		"creation_statements":     texts(&p.CreationStatements),
		"renew_statements":        texts(&p.RenewStatements),
		"revocation_statements":   texts(&p.RevocationStatements),
		"scram_iterations":        whole(&p.ScramIterations),
		"password_authentication": text(&p.PasswordAuth),
		"max_leases":              whole(&p.MaxLeases),
		"max_issue_rate":          text(&p.IssueRate),
		"ready_timeout":           durationWords(&p.ReadyTimeout),
		"pool_size":               whole(&p.PoolSize),
		"pool_max_age":            durationWords(&p.PoolMaxAge),
		"share":                   text(&p.Share),
	}, nil)}))
}

func (f *objectFile) staticRole(b *hcl.Block) {
	s := &object.StaticRole{}
	s.Mount, s.Name = object.SplitProducer(b.Labels[0])
	f.keep(s, b, f.read(b.Body, block{attrs: f.shownAttrs(map[string]attr{
		"target":              text(&s.Target),
		"username":            text(&s.Username),
		"rotation_period":     durationWords(&s.RotationPeriod),
		"rotation_schedule":   text(&s.RotationSchedule),
		"rotation_statements": texts(&s.RotationStatements),
	}, nil)}))
}

func (f *objectFile) connector(b *hcl.Block) {
	c := &object.Connector{Name: b.Labels[0]}
	f.keep(c, b, f.read(b.Body, block{attrs: f.shownAttrs(map[string]attr{
		"target":      text(&c.Target),
		"mount":       text(&c.Mount),
		"description": text(&c.Description),
	}, nil)}))
}

func (f *objectFile) policy(b *hcl.Block) {
	p := &object.Policy{Name: b.Labels[0]}
	f.keep(p, b, f.read(b.Body, block{attrs: f.shownAttrs(map[string]attr{"rules": text(&p.Rules)}, nil)}))
}

func (f *objectFile) role(b *hcl.Block) {
	r := &object.Role{Name: b.Labels[0]}
	f.keep(r, b, f.read(b.Body, block{attrs: f.shownAttrs(map[string]attr{
		"policies":   texts(&r.Policies),
		"identities": texts(&r.Identities),
	}, nil), blocks: map[string]inner{"bind": {many: true, read: func(b *hcl.Block) { f.bind(r, b) }}}}))
}

func (f *objectFile) bind(r *object.Role, b *hcl.Block) {
	var bind object.Bind
	f.read(b.Body, block{attrs: f.shownAttrs(map[string]attr{"mount": text(&bind.Mount), "claims": listMap(&bind.Claims)}, nil)})
	r.Binds = append(r.Binds, bind)
}

func (f *objectFile) alias(i *object.Identity, b *hcl.Block) {
	var alias object.Alias
	f.read(b.Body, block{attrs: f.shownAttrs(map[string]attr{"mount": text(&alias.Mount), "name": text(&alias.Name)}, nil)})
	i.Aliases = append(i.Aliases, alias)
}

// identity has no access id and is not disabled by a file: the one is Bailiff's choice, the other is done at once and stays
// whatever is applied later.
func (f *objectFile) identity(b *hcl.Block) {
	i := &object.Identity{Name: b.Labels[0]}
	f.keep(i, b, f.read(b.Body, block{attrs: f.shownAttrs(map[string]attr{
		"description":    text(&i.Description),
		"roles":          texts(&i.Roles),
		"metadata":       textMap(&i.Metadata),
		"max_leases":     whole(&i.MaxLeases),
		"max_issue_rate": text(&i.IssueRate),
	}, nil), blocks: map[string]inner{"alias": {many: true, read: func(b *hcl.Block) { f.alias(i, b) }}}}))
}

func (f *objectFile) notify(b *hcl.Block) {
	n := &object.Notify{Name: b.Labels[0]}
	f.keep(n, b, f.read(b.Body, block{attrs: f.shownAttrs(map[string]attr{
		"url":        text(&n.URL),
		"events":     texts(&n.Events),
		"before":     durationWords(&n.Before),
		"mounts":     texts(&n.Mounts),
		"roles":      texts(&n.Roles),
		"identities": texts(&n.Identities),
		"ca_cert":    text(&n.CACert),
	}, map[string]attr{
		object.SecretNotify: f.secretText(&n.Secret),
	})}))
}

// shownAttrs are the keys of a block: those that are shown, and its secrets.
func (f *objectFile) shownAttrs(shown, secrets map[string]attr) map[string]attr {
	out := maps.Clone(secrets)
	if out == nil {
		out = map[string]attr{}
	}
	for name, set := range shown {
		out[name] = f.noting(set, f.shown)
	}
	return out
}
