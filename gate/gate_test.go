package gate_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/policy"
)

// door lets in whoever presents their own name.
type door struct{}

func (door) Authenticate(_ context.Context, token secret.Value, _ netip.Addr) (identity.Caller, error) {
	switch token.Reveal() {
	case "":
		return identity.Caller{}, &identity.Refusal{Reason: "no token"}
	case "nobody":
		return identity.Caller{AccessID: "p-nobody"}, &identity.Refusal{Reason: "wrong key"}
	}
	return identity.Caller{Name: token.Reveal(), Policies: []string{token.Reveal()}}, nil
}

// rules are policies by name, one a caller.
type rules map[string]string

func (r rules) ACL(who *identity.Caller) *policy.ACL {
	var list []*policy.Policy
	for _, n := range who.Policies {
		if p, err := policy.Parse(n, 1, r[n]); err == nil {
			list = append(list, p)
		}
	}
	return policy.Compile(list...)
}

// trail keeps records in memory, in one order with what the backend does. It fails at the n-th append where told to.
type trail struct {
	mu      sync.Mutex
	events  []string
	records []*audit.Record
	failAt  int
	appends int
}

func (t *trail) Append(ctx context.Context, records ...*audit.Record) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.appends++
	if t.appends == t.failAt {
		return errors.New("disk full")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, r := range records {
		t.records = append(t.records, r)
		t.events = append(t.events, string(r.Stage)+":"+string(r.Status))
	}
	return nil
}

func (t *trail) note(event string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, event)
}

// backend writes down that it was reached, and answers as told.
type backend struct {
	trail     *trail
	resp      *gate.Response
	err       error
	panics    bool
	exists    bool
	known     bool
	existsErr error
	open      bool
	sudo      bool
	ops       []policy.Operation
}

func (b *backend) Serve(_ context.Context, r *gate.Request) (*gate.Response, error) {
	b.trail.note("served")
	b.ops = append(b.ops, r.Op)
	if b.panics {
		panic("canary-secret")
	}
	return b.resp, b.err
}

func (b *backend) Exists(context.Context, *gate.Request) (exists, known bool, err error) {
	b.trail.note("asked")
	return b.exists, b.known, b.existsErr
}

func (b *backend) Open(*gate.Request) bool { return b.open }

func (b *backend) Ends(r *gate.Request) bool { return r.Op == policy.Delete }

func (b *backend) NeedsSudo(*gate.Request) bool { return b.sudo }

// body notes that it was closed.
type body struct {
	io.Reader
	closed bool
}

func (b *body) Close() error { b.closed = true; return nil }

func newGate(t *testing.T, b *backend, tr *trail, policies rules, log io.Writer) *gate.Gate {
	t.Helper()
	b.trail = tr
	if b.resp == nil && b.err == nil {
		b.resp = &gate.Response{Status: gate.NoContent}
	}
	mounts, err := gate.NewMounts([]*gate.Mount{{Path: "secret/", Type: "kv", Target: "vault-a", Backend: b}})
	if err != nil {
		t.Fatal(err)
	}
	g, err := gate.New(gate.Config{
		Authenticator: door{}, Policies: policies, Mounts: func() *gate.Mounts { return mounts }, Recorder: tr,
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

var everyone = rules{
	"reader":  `path "secret/*" { capabilities = ["read", "list"] }`,
	"writer":  `path "secret/*" { capabilities = ["create", "update", "patch", "delete"] }`,
	"creator": `path "secret/*" { capabilities = ["create"] }`,
	"updater": `path "secret/*" { capabilities = ["update"] }`,
	"wide":    `path "*" { capabilities = ["read", "update", "create"] }`,
	"chief":   `path "secret/*" { capabilities = ["read", "sudo"] }`,
	"denied":  `path "secret/*" { capabilities = ["deny"] }`,
	"nothing": ``,
}

func TestDo(t *testing.T) {
	boom := errors.New("boom with canary-secret")
	for name, c := range map[string]struct {
		who, path string
		op        policy.Operation
		backend   backend
		want      error     // by errors.Is
		kind      gate.Kind // where want is nil and fails
		fails     bool
		events    string
	}{
		"a read is recorded once, after it was served": {who: "reader", op: policy.Read, events: "served response:ok"},
		"a write is recorded before it is served":      {who: "writer", op: policy.Update, events: "request:begun served response:ok"},
		"a delete is a change":                         {who: "writer", op: policy.Delete, events: "request:begun served response:ok"},
		"a patch is a change":                          {who: "writer", op: policy.Patch, events: "request:begun served response:ok"},
		"no token":                                     {op: policy.Read, want: identity.ErrUnauthenticated, events: "response:denied"},
		"a wrong key":                                  {who: "nobody", op: policy.Read, want: identity.ErrUnauthenticated, events: "response:denied"},
		"no rule":                                      {who: "nothing", op: policy.Read, want: gate.ErrDenied, events: "response:denied"},
		"a deny":                                       {who: "denied", op: policy.Read, want: gate.ErrDenied, events: "response:denied"},
		"a reader may not write":                       {who: "reader", op: policy.Update, want: gate.ErrDenied, events: "response:denied"},
		"a writer may not read":                        {who: "writer", op: policy.Read, want: gate.ErrDenied, events: "response:denied"},
		"no mount and no rule is a denial":             {who: "reader", path: "none/x", op: policy.Read, want: gate.ErrDenied, events: "response:denied"},
		"no mount and a rule":                          {who: "wide", path: "none/x", op: policy.Read, fails: true, kind: gate.NotFound, events: "response:refused"},
		"create only, nothing there":                   {who: "creator", op: policy.Update, backend: backend{known: true}, events: "asked request:begun served response:ok"},
		"create only, something there":                 {who: "creator", op: policy.Update, backend: backend{known: true, exists: true}, want: gate.ErrDenied, events: "asked response:denied"},
		"create only, not known":                       {who: "creator", op: policy.Update, want: gate.ErrDenied, events: "asked response:denied"},
		"update only, nothing there":                   {who: "updater", op: policy.Update, backend: backend{known: true}, want: gate.ErrDenied, events: "asked response:denied"},
		"update only, something there":                 {who: "updater", op: policy.Update, backend: backend{known: true, exists: true}, events: "asked request:begun served response:ok"},
		"update only, the target is down": {who: "updater", op: policy.Update, backend: backend{existsErr: gate.Errorf(gate.TargetDown, "down")},
			fails: true, kind: gate.TargetDown, events: "asked response:error"},
		"an open path needs no rule":        {who: "nothing", op: policy.Read, backend: backend{open: true}, events: "served response:ok"},
		"an open path needs a known caller": {who: "nobody", op: policy.Read, backend: backend{open: true}, want: identity.ErrUnauthenticated, events: "response:denied"},
		"a guarded path needs sudo":         {who: "reader", op: policy.Read, backend: backend{sudo: true}, want: gate.ErrDenied, events: "response:denied"},
		"sudo opens a guarded path":         {who: "chief", op: policy.Read, backend: backend{sudo: true}, events: "served response:ok"},
		"the backend's own no":              {who: "reader", op: policy.Read, backend: backend{err: gate.Errorf(gate.Forbidden, "not yours")}, fails: true, kind: gate.Forbidden, events: "served response:denied"},
		"the target is slow":                {who: "reader", op: policy.Read, backend: backend{err: gate.Errorf(gate.TargetSlow, "slow")}, fails: true, kind: gate.TargetSlow, events: "served response:error"},
		"an unknown error":                  {who: "reader", op: policy.Read, backend: backend{err: boom}, want: boom, events: "served response:error"},
		"a target's own 403 is not served":  {who: "reader", op: policy.Read, backend: backend{resp: &gate.Response{Raw: &gate.Raw{Code: 403, Body: &body{}}}}, events: "served response:error"},
		"a target's own 404 is an answer":   {who: "reader", op: policy.Read, backend: backend{resp: &gate.Response{Raw: &gate.Raw{Code: 404, Body: &body{}}}}, events: "served response:ok"},
	} {
		t.Run(name, func(t *testing.T) {
			var log strings.Builder
			tr := &trail{}
			g := newGate(t, &c.backend, tr, everyone, &log)
			if c.path == "" {
				c.path = "secret/data/a"
			}
			resp, err := g.Do(t.Context(), &gate.Request{Via: gate.HVP, Token: secret.New(c.who), Op: c.op, Path: c.path})
			var said *gate.Error
			switch {
			case c.fails:
				if !errors.As(err, &said) || said.Kind != c.kind {
					t.Errorf("got error %v, want one of kind %d", err, c.kind)
				}
			case !errors.Is(err, c.want):
				t.Errorf("got error %v, want %v", err, c.want)
			case c.want == nil && resp == nil:
				t.Error("got no answer")
			}
			if got := strings.Join(tr.events, " "); got != c.events {
				t.Errorf("got %q, want %q", got, c.events)
			}
			for _, r := range tr.records {
				if r.RequestID == "" || r.Via != "hvp" || r.Path != c.path || strings.Contains(r.Error, "canary") {
					t.Errorf("a bad record: %+v", r)
				}
			}
		})
	}
}

func TestCreateIsRecordedAsCreate(t *testing.T) {
	tr, b := &trail{}, &backend{known: true}
	if _, err := newGate(t, b, tr, everyone, io.Discard).Do(t.Context(),
		&gate.Request{Token: secret.New("creator"), Op: policy.Update, Path: "secret/data/a"}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(b.ops, []policy.Operation{policy.Create}) || tr.records[0].Op != "create" {
		t.Errorf("served as %v and recorded as %q, want create", b.ops, tr.records[0].Op)
	}
}

func TestWhatEndsSomethingIsEssential(t *testing.T) {
	for op, want := range map[policy.Operation]bool{policy.Delete: true, policy.Update: false} {
		tr := &trail{}
		if _, err := newGate(t, &backend{}, tr, everyone, io.Discard).Do(t.Context(),
			&gate.Request{Token: secret.New("writer"), Op: op, Path: "secret/data/a"}); err != nil {
			t.Fatal(err)
		}
		for _, r := range tr.records {
			if r.Essential != want {
				t.Errorf("%s, %s: essential is %v, want %v", op, r.Stage, r.Essential, want)
			}
		}
	}
	tr := &trail{}
	if _, err := newGate(t, &backend{}, tr, everyone, io.Discard).Do(t.Context(),
		&gate.Request{Token: secret.New("reader"), Op: policy.Delete, Path: "secret/data/a"}); err == nil || tr.records[0].Essential {
		t.Error("a denied request is essential: a flood of them would use up the reserve")
	}
}

func TestNoRecordNoSecret(t *testing.T) {
	for name, c := range map[string]struct {
		who    string
		op     policy.Operation
		failAt int
		events string
	}{
		"before a change nothing is done":       {"writer", policy.Update, 1, ""},
		"after a change nothing is released":    {"writer", policy.Update, 2, "request:begun served"},
		"after a read nothing is released":      {"reader", policy.Read, 1, "served"},
		"a denial that can't be kept is an 503": {"nothing", policy.Read, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tr := &trail{failAt: c.failAt}
			raw, abandoned := &body{}, 0
			b := &backend{resp: &gate.Response{Raw: &gate.Raw{Code: 200, Body: raw}, Abandon: func() { abandoned++ }}}
			resp, err := newGate(t, b, tr, everyone, io.Discard).Do(t.Context(),
				&gate.Request{Token: secret.New(c.who), Op: c.op, Path: "secret/data/a"})
			if !errors.Is(err, gate.ErrNoRecord) || resp != nil {
				t.Errorf("got answer %v and error %v, want only ErrNoRecord", resp, err)
			}
			if got := strings.Join(tr.events, " "); got != c.events {
				t.Errorf("got %q, want %q", got, c.events)
			}
			if served := strings.Contains(c.events, "served"); raw.closed != served || (abandoned == 1) != served {
				t.Errorf("body closed %v, abandoned %d times, want served %v", raw.closed, abandoned, served)
			}
		})
	}
}

func TestRecordIsKeptWhenTheClientIsGone(t *testing.T) {
	tr := &trail{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newGate(t, &backend{}, tr, everyone, io.Discard).Do(ctx,
		&gate.Request{Token: secret.New("writer"), Op: policy.Update, Path: "secret/data/a"}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(tr.events, " "); got != "request:begun served response:ok" {
		t.Errorf("got %q", got)
	}
}

func TestPanicIsOneFailedRequest(t *testing.T) {
	var log strings.Builder
	tr := &trail{}
	_, err := newGate(t, &backend{panics: true}, tr, everyone, &log).Do(t.Context(),
		&gate.Request{Token: secret.New("reader"), Op: policy.Read, Path: "secret/data/a"})
	if err == nil || len(tr.records) != 1 || tr.records[0].Status != audit.Failed {
		t.Errorf("got error %v and records %v", err, tr.events)
	}
	if strings.Contains(log.String(), "canary-secret") || strings.Contains(err.Error(), "canary-secret") {
		t.Errorf("the panic's value was printed: %s %v", log.String(), err)
	}
}

func TestRefuse(t *testing.T) {
	for name, c := range map[string]struct {
		who  string
		kind gate.Kind
		want error
	}{
		"an odd path of a known caller":         {"reader", gate.Invalid, nil},
		"an odd path of an unknown caller":      {"nobody", gate.Invalid, nil},
		"what is not there, for a known caller": {"reader", gate.NotFound, nil},
		"what is not there, for an unknown one": {"nobody", gate.NotFound, identity.ErrUnauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			tr := &trail{}
			r := &gate.Request{Token: secret.New(c.who), Path: "secret/\x00" + strings.Repeat("x", 10_000)}
			err := newGate(t, &backend{}, tr, everyone, io.Discard).Refuse(t.Context(), r, c.kind, "because")
			var said *gate.Error
			if c.want != nil && !errors.Is(err, c.want) || c.want == nil && (!errors.As(err, &said) || said.Kind != c.kind || said.Msg != "because") {
				t.Errorf("got %v", err)
			}
			if len(tr.records) != 1 || strings.ContainsRune(tr.records[0].Path, 0) || len(tr.records[0].Path) > 1024 {
				t.Fatalf("got records %v", tr.records)
			}
			if c.who == "reader" && tr.records[0].Identity != "reader" {
				t.Errorf("the record does not name the caller: %+v", tr.records[0])
			}
		})
	}
}

func TestRefusedPathIsFoundInTheTrail(t *testing.T) {
	for path, want := range map[string]string{
		"secret/data/a": "secret/data/a", "secret/ä b": "secret/ä b", "a/../b": "a/../b", "a\nb": `"a\nb"`, "\xff": `"\xff"`, "a\u202eb": `"a\u202eb"`,
	} {
		tr := &trail{}
		newGate(t, &backend{}, tr, everyone, io.Discard).Refuse(t.Context(), &gate.Request{Path: path}, gate.TooLarge, "too large") //nolint:errcheck // it always is one
		if len(tr.records) != 1 || tr.records[0].Path != want {
			t.Errorf("%q: got %+v, want the path %s", path, tr.records, want)
		}
	}
}

func TestMounts(t *testing.T) {
	m, err := gate.NewMounts([]*gate.Mount{{Path: "secret/"}, {Path: "team/a/kv/"}, {Path: "auth/token/"}})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"secret/data/a": "secret/ data/a", "secret": "secret/ ", "secretx/a": "none", "secre": "none",
		"team/a/kv/x": "team/a/kv/ x", "team/a": "none", "auth/token/lookup-self": "auth/token/ lookup-self", "auth/x": "none", "": "none",
	} {
		got := "none"
		if mount, rest, ok := m.Route(path); ok {
			got = mount.Path + " " + rest
		}
		if got != want {
			t.Errorf("Route(%q): got %q, want %q", path, got, want)
		}
	}
	for _, bad := range [][]*gate.Mount{{{Path: ""}}, {{Path: "a"}}, {{Path: "/a/"}}, {{Path: "a/"}, {Path: "a/b/"}}, {{Path: "a/"}, {Path: "a/"}}} {
		if _, err := gate.NewMounts(bad); err == nil {
			t.Errorf("NewMounts(%q…): got no error", bad[0].Path)
		}
	}
}
