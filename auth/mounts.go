package auth

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/policy"
)

// SystemTTL is what counts where a mount has no TTL of its own, as in Vault.
const SystemTTL = 32 * 24 * time.Hour

// ServeMounts answers sys/auth and what lies below it; path is what stands behind "sys/auth/".
func (b *Backend) ServeMounts(ctx context.Context, r *gate.Request, path string) (*gate.Response, error) {
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	resp, err := b.serveMounts(ctx, r, body, path)
	if err != nil {
		return nil, err
	}
	if err := body.Err(); err != nil {
		return nil, err
	}
	return warned(resp, body), nil
}

func (b *Backend) serveMounts(ctx context.Context, r *gate.Request, body *Body, path string) (*gate.Response, error) {
	path, tune := strings.CutSuffix(path, "/tune")
	switch {
	case r.Op == policy.Read && path == "":
		return b.list(), nil
	case r.Op == policy.Read && tune:
		return b.tuning(path)
	case r.Op == policy.Read:
		return b.show(path)
	case path == "" || r.Op == policy.List || r.Op == policy.Patch || r.Op == policy.Help:
		return nil, &gate.Error{Kind: gate.Unsupported, Msg: "unsupported operation"}
	case tune && r.Op != policy.Delete:
		return b.writeTuning(ctx, body, path)
	case tune:
		return nil, &gate.Error{Kind: gate.Unsupported, Msg: "unsupported operation"}
	case r.Op == policy.Delete && path == "token":
		return nil, Invalid("token credential backend cannot be disabled")
	case r.Op == policy.Delete:
		if err := b.disable(ctx, path+"/"); err != nil {
			return nil, err
		}
		return Done("disabled auth/" + path + "/ and ended its tokens"), nil
	}
	return b.writeMount(ctx, body, path)
}

func (b *Backend) list() *gate.Response {
	data := map[string]any{}
	for _, m := range b.cfg.Own {
		data[strings.TrimPrefix(m.Path, "auth/")] = own(m).show()
	}
	for path, m := range b.table.Load().mounts {
		data[path] = m.show()
	}
	return OK(data)
}

// own is a mount that others serve, as it is shown.
func own(m *gate.Mount) *Mount {
	return &Mount{
		Path: strings.TrimPrefix(m.Path, "auth/"), Type: m.Type, Accessor: m.Accessor, UUID: m.UUID, Description: m.Description,
		Tune: Tune{DefaultTTL: m.DefaultTTL, MaxTTL: m.MaxTTL},
	}
}

func (b *Backend) at(path string) (*Mount, bool) {
	if m, ok := b.table.Load().mounts[path+"/"]; ok {
		return m, true
	}
	for _, m := range b.cfg.Own {
		if m.Path == "auth/"+path+"/" {
			return own(m), true
		}
	}
	return nil, false
}

func (b *Backend) show(path string) (*gate.Response, error) {
	m, ok := b.at(path)
	if !ok {
		return nil, Invalid("No auth engine at %s/", path)
	}
	return OK(m.show()), nil
}

func (b *Backend) tuning(path string) (*gate.Response, error) {
	m, ok := b.at(path)
	if !ok {
		return nil, Invalid("cannot fetch sysview for path %q", "auth/"+path+"/")
	}
	ttl := func(d time.Duration) int64 {
		if d == 0 {
			d = SystemTTL
		}
		return Seconds(d)
	}
	data := map[string]any{
		"default_lease_ttl": ttl(m.Tune.DefaultTTL), "max_lease_ttl": ttl(m.Tune.MaxTTL), "force_no_cache": m.Tune.NoCache,
		"description": m.Description,
	}
	maps.Copy(data, m.shown())
	delete(data, "user_lockout_config")
	if l := m.Tune.Lockout; l != nil {
		maps.Copy(data, l.show())
	}
	if len(m.Options) > 0 {
		data["options"] = m.Options
	}
	return OK(data), nil
}

// Unlock forgets the wrong proofs of a name on this node.
func (b *Backend) Unlock(accessor, name string) {
	b.guard.right(&Mount{Accessor: accessor}, name)
}

// show is a mount as Vault shows it.
func (m *Mount) show() map[string]any {
	config := map[string]any{
		"default_lease_ttl": Seconds(m.Tune.DefaultTTL), "max_lease_ttl": Seconds(m.Tune.MaxTTL), "force_no_cache": m.Tune.NoCache,
	}
	maps.Copy(config, m.shown())
	data := map[string]any{
		"accessor": m.Accessor, "config": config, "description": m.Description, "external_entropy_access": false, "local": m.Local,
		"options": m.Options, "plugin_version": "", "running_plugin_version": "", "running_sha256": "", "seal_wrap": m.SealWrap,
		"type": m.Type, "uuid": m.UUID,
	}
	if m.Type != "token" {
		data["deprecation_status"] = "supported"
		if m.Options == nil {
			data["options"] = map[string]string{}
		}
	}
	return data
}

// shown is what Vault shows of a mount's configuration only where it is an auth method, or set.
func (m *Mount) shown() map[string]any {
	out := map[string]any{"token_type": m.Tune.TokenType}
	if m.Tune.TokenType == "" {
		out["token_type"] = "default-service"
	}
	if m.Tune.Visibility != "" {
		out["listing_visibility"] = m.Tune.Visibility
	}
	for name, list := range map[string][]string{
		"passthrough_request_headers": m.Tune.Passthrough, "allowed_response_headers": m.Tune.Allowed,
		"audit_non_hmac_request_keys": m.Tune.RequestKeys, "audit_non_hmac_response_keys": m.Tune.AnswerKeys,
	} {
		if len(list) > 0 {
			out[name] = list
		}
	}
	if l := m.Tune.Lockout; l != nil {
		out["user_lockout_config"] = l.show()
	}
	return out
}

func (l *Lockout) show() map[string]any {
	return map[string]any{
		"user_lockout_counter_reset_duration": Seconds(l.Reset), "user_lockout_threshold": l.Threshold,
		"user_lockout_duration": Seconds(l.Duration), "user_lockout_disable": l.Disabled,
	}
}

// writeMount enables a method.
func (b *Backend) writeMount(ctx context.Context, body *Body, path string) (*gate.Response, error) {
	m := &Mount{Path: path + "/", Type: body.Text("type"), Description: body.Text("description"), Local: body.Bool("local", false),
		SealWrap: body.Bool("seal_wrap", false), Options: body.Map("options"), store: b.cfg.Store}
	body.Known("path", "plugin_name", "plugin_version", "external_entropy_access")
	var config map[string]any
	if body.JSON("config", &config); config != nil {
		if err := m.configure(configBody(config)); err != nil {
			return nil, err
		}
	}
	if err := body.Err(); err != nil {
		return nil, err
	}
	switch {
	case m.Type == "":
		return nil, Invalid("backend type must be specified as a string")
	case m.Type == "token":
		return nil, Invalid("token credential backend cannot be instantiated")
	case len(m.Path) > maxPath || !printable(m.Path):
		return nil, Invalid("the path is not one that a mount can have")
	case m.Options["version"] != "":
		return nil, Invalid("auth method %q does not allow setting a version", m.Type)
	case b.cfg.Methods[m.Type] == nil:
		return nil, &gate.Error{
			Kind: gate.Invalid, Msg: fmt.Sprintf("plugin not found in the catalog: %s", m.Type),
			Hint: "the types of auth methods are " + strings.Join(slices.Sorted(maps.Keys(b.cfg.Methods)), ", "),
		}
	}
	if err := b.enable(ctx, m); err != nil {
		return nil, err
	}
	return Done("enabled " + m.Type + " at auth/" + m.Path), nil
}

const maxPath = 256

func printable(s string) bool {
	for _, c := range s {
		if c < ' ' || c == 0x7f {
			return false
		}
	}
	return true
}

// configBody is the config of a new mount as a Body.
func configBody(config map[string]any) *Body {
	b := &Body{fields: map[string]jsonText{}, asked: map[string]bool{}}
	for name, v := range config {
		b.fields[name] = toJSON(v)
	}
	return b
}

// configure reads what can be said of a mount when it is made, and when it is tuned.
func (m *Mount) configure(body *Body) error {
	var err error
	t := &m.Tune
	if t.DefaultTTL, err = mountTTL(body, "default_lease_ttl", t.DefaultTTL); err != nil {
		return err
	}
	if t.MaxTTL, err = mountTTL(body, "max_lease_ttl", t.MaxTTL); err != nil {
		return err
	}
	switch {
	case t.MaxTTL != 0 && t.DefaultTTL > t.MaxTTL:
		return Invalid("given default lease TTL greater than given max lease TTL")
	case t.MaxTTL == 0 && t.DefaultTTL > SystemTTL:
		return Invalid("given default lease TTL greater than system max lease TTL of %d", Seconds(SystemTTL))
	}
	if body.Has("token_type") {
		t.TokenType = body.Text("token_type")
		switch t.TokenType {
		case "", "default-service", "default-batch", "service", "batch":
		default:
			return Invalid("invalid value for 'token_type'")
		}
	}
	if body.Has("listing_visibility") {
		if t.Visibility = body.Text("listing_visibility"); t.Visibility != "" && t.Visibility != "hidden" && t.Visibility != "unauth" {
			return Invalid("invalid listing_visibility %s", t.Visibility)
		}
	}
	body.SetBool("force_no_cache", &t.NoCache)
	body.SetList("passthrough_request_headers", &t.Passthrough)
	body.SetList("allowed_response_headers", &t.Allowed)
	body.SetList("audit_non_hmac_request_keys", &t.RequestKeys)
	body.SetList("audit_non_hmac_response_keys", &t.AnswerKeys)
	body.Known("allowed_managed_keys", "plugin_name", "plugin_version", "options")
	return body.Err()
}

func mountTTL(body *Body, name string, now time.Duration) (time.Duration, error) {
	switch text := body.Text(name); text {
	case "":
		return now, nil
	case "system":
		return 0, nil
	default:
		d, err := ParseDuration(text)
		if err != nil || d < 0 {
			return 0, Invalid("unable to parse %s of %.40q", name, text)
		}
		return d, nil
	}
}

// writeTuning changes a mount.
func (b *Backend) writeTuning(ctx context.Context, body *Body, path string) (*gate.Response, error) {
	if path == "token" {
		return nil, Invalid("cannot tune %q", "auth/token/")
	}
	body.Known("path")
	err := b.change(ctx, path+"/", func(m *Mount) error {
		if err := m.configure(body); err != nil {
			return err
		}
		body.SetText("description", &m.Description)
		if err := m.tuneOptions(body.Map("options")); err != nil {
			return err
		}
		return m.tuneLockout(body)
	})
	if err != nil {
		return nil, err
	}
	return Done("tuned auth/" + path + "/"), nil
}

func (m *Mount) tuneOptions(options map[string]string) error {
	if options["version"] != "" {
		return Invalid("auth method %q does not allow setting a version", m.Type)
	}
	next := maps.Clone(m.Options)
	if next == nil {
		next = map[string]string{}
	}
	for k, v := range options {
		if v == "" {
			delete(next, k)
		} else {
			next[k] = v
		}
	}
	m.Options = next
	return nil
}

func (m *Mount) tuneLockout(body *Body) error {
	var in map[string]any
	if !body.JSON("user_lockout_config", &in) || len(in) == 0 {
		return body.Err()
	}
	if _, can := lockRule(&Mount{Type: m.Type}); !can {
		return Invalid("tuning of user lockout configuration for auth type %q not allowed", m.Type)
	}
	l := Lockout{}
	if m.Tune.Lockout != nil {
		l = *m.Tune.Lockout
	}
	fields := configBody(in)
	if text := fields.Text("lockout_threshold"); text != "" {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return Invalid("unable to parse user lockout threshold")
		}
		l.Threshold = n
	}
	fields.SetDuration("lockout_duration", &l.Duration)
	fields.SetDuration("lockout_counter_reset_duration", &l.Reset)
	fields.SetBool("lockout_disable", &l.Disabled)
	fields.SetBool("disable_lockout", &l.Disabled)
	m.Tune.Lockout = &l
	return fields.Err()
}
