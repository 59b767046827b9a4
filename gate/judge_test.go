package gate_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/policy"
)

// reader is a backend that reads bodies.
type reader struct {
	backend
	got    []string
	length []int64
}

func (b *reader) Serve(ctx context.Context, r *gate.Request) (*gate.Response, error) {
	text := ""
	if r.Body != nil {
		all, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		text = string(all)
	}
	b.got, b.length = append(b.got, text), append(b.length, r.BodyLen)
	return b.backend.Serve(ctx, r)
}

// serving is a gate with b alone.
func serving(t *testing.T, b gate.Backend, tr *trail, policies rules) *gate.Gate {
	t.Helper()
	mounts, err := gate.NewMounts([]*gate.Mount{{Path: "secret/", Type: "kv", Backend: b}})
	if err != nil {
		t.Fatal(err)
	}
	g, err := gate.New(gate.Config{
		Authenticator: door{}, Policies: policies, Mounts: func() *gate.Mounts { return mounts }, Recorder: tr, Logger: slog.New(slog.DiscardHandler),
		Wrapper: wraps{},
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// wraps keeps nothing.
type wraps struct{}

func (wraps) Wrap(context.Context, *gate.Request, *gate.Response) (*gate.Wrap, error) {
	return &gate.Wrap{}, nil
}

func TestParametersAreJudged(t *testing.T) {
	limited := rules{
		"limited": `path "secret/*" {
  capabilities = ["create", "read", "update", "patch", "delete"]
  allowed_parameters = { "a" = ["x"] }
}`,
		"wrapped": `path "secret/*" { capabilities = ["read", "update"] max_wrapping_ttl = "1h" }`,
		"plain":   `path "secret/*" { capabilities = ["update"] }`,
	}
	denied, invalid := gate.ErrDenied, &gate.Error{Kind: gate.Invalid, Msg: "error parsing JSON"}
	for _, c := range []struct {
		name, who string
		op        policy.Operation
		body      string
		kind      string
		query     url.Values
		wrap      time.Duration
		want      error
	}{
		{"what is allowed passes", "limited", policy.Update, " {\"a\" :\t\"x\"}\n", "", nil, 0, nil},
		{"what is not is refused", "limited", policy.Update, `{"a":"y"}`, "", nil, 0, denied},
		{"so it is in a patch", "limited", policy.Patch, `{"a":"y"}`, "application/merge-patch+json", nil, 0, denied},
		{"and in a form", "limited", policy.Update, `a=y`, "application/x-www-form-urlencoded", nil, 0, denied},
		{"a form may be right too", "limited", policy.Update, `a=x`, "application/x-www-form-urlencoded", nil, 0, nil},
		{"no body has no parameters", "limited", policy.Update, "", "", nil, 0, nil},
		{"null has none either", "limited", policy.Update, "null", "", nil, 0, nil},
		{"what is no object can't be judged", "limited", policy.Update, `["a"]`, "", nil, 0, invalid},
		{"nor what is no JSON", "limited", policy.Update, `a: x`, "", nil, 0, invalid},
		{"a read has those of its query", "limited", policy.Read, "", "", url.Values{"a": {"x"}}, 0, nil},
		{"which are judged", "limited", policy.Read, "", "", url.Values{"version": {"1"}}, 0, denied},
		{"those of a delete are not", "limited", policy.Delete, "", "", url.Values{"version": {"1"}}, 0, nil},
		{"an answer that must be wrapped is not given otherwise", "wrapped", policy.Read, "", "", nil, 0, denied},
		{"nor for too long", "wrapped", policy.Read, "", "", nil, 2 * time.Hour, denied},
		{"it is where it shall be", "wrapped", policy.Read, "", "", nil, time.Hour, nil},
		{"a body that nobody judges is not looked at", "plain", policy.Update, `rubbish`, "", nil, 0, nil},
	} {
		tr := &trail{}
		b := &reader{backend: backend{trail: tr, resp: &gate.Response{Status: gate.NoContent}}}
		r := &gate.Request{Op: c.op, Path: "secret/a", Token: secret.New(c.who), ContentType: c.kind, Query: c.query, WrapTTL: c.wrap, BodyLen: -1}
		if c.body != "" {
			r.Body = strings.NewReader(c.body)
		}
		_, err := serving(t, b, tr, limited).Do(t.Context(), r)
		var said *gate.Error
		switch {
		case c.want == nil && err != nil, c.want != nil && err == nil, c.want == denied && !errors.Is(err, gate.ErrDenied),
			c.want == error(invalid) && (!errors.As(err, &said) || said.Kind != invalid.Kind || said.Msg != invalid.Msg):
			t.Errorf("%s: got error %v, want %v", c.name, err, c.want)
			continue
		}
		if c.want == nil && (len(b.got) != 1 || b.got[0] != c.body) {
			t.Errorf("%s: the backend got %q, want %q", c.name, b.got, c.body)
		}
		if c.want != nil && len(b.got) != 0 {
			t.Errorf("%s: the backend was reached", c.name)
		}
		judged := c.body != "" && c.who == "limited"
		if c.want == nil && judged && b.length[0] != int64(len(c.body)) {
			t.Errorf("%s: the backend was told of %d bytes, want %d", c.name, b.length[0], len(c.body))
		}
		if !judged && c.body != "" && b.length[0] != -1 {
			t.Errorf("%s: the body was read", c.name)
		}
	}
}

func TestABodyThatCannotBeReadIsNotJudged(t *testing.T) {
	tr := &trail{}
	b := &reader{}
	g := newGate(t, &b.backend, tr, rules{"limited": `path "secret/*" { capabilities = ["update"] required_parameters = ["a"] }`}, io.Discard)
	broken := &gate.Error{Kind: gate.TooLarge, Msg: "too large"}
	r := &gate.Request{Op: policy.Update, Path: "secret/a", Token: secret.New("limited"), Body: failing{broken}}
	if _, err := g.Do(t.Context(), r); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestARefusalNamesTheNearestRuleInTheRecordAlone(t *testing.T) {
	tr := &trail{}
	g := newGate(t, &backend{}, tr, rules{"shadowed": `path "secret/*" { capabilities = ["read"] }
path "secret/prod/*" { capabilities = ["list"] }`}, io.Discard)
	_, err := g.Do(t.Context(), &gate.Request{Op: policy.Read, Path: "secret/prod/x", Token: secret.New("shadowed")})
	if !errors.Is(err, gate.ErrDenied) || err.Error() != "permission denied" {
		t.Errorf("got %v, want a bare refusal", err)
	}
	want := `the rule does not grant it; the nearest that would: policy "shadowed" version 1, line 1: "secret/*"`
	if got := tr.records[0].Error; got != want {
		t.Errorf("got record %q, want %q", got, want)
	}
	if tr.records[0].Rule == nil || tr.records[0].Rule.Line != 2 {
		t.Errorf("got rule %+v, want the one of line 2", tr.records[0].Rule)
	}
}

// counter takes uses from memory.
type counter struct {
	left int
	err  error
}

func (c *counter) Take(context.Context, string, int64) (bool, error) {
	if c.err != nil || c.left == 0 {
		return false, c.err
	}
	c.left--
	return true, nil
}

func TestWhatIsCountedIsTakenOnce(t *testing.T) {
	counted := rules{"counted": `path "secret/*" { capabilities = ["read"] valid { uses = 2 } }`}
	do := func(uses gate.Uses) error {
		tr := &trail{}
		b := &backend{trail: tr, resp: &gate.Response{Status: gate.NoContent}}
		mounts, err := gate.NewMounts([]*gate.Mount{{Path: "secret/", Type: "kv", Backend: b}})
		if err != nil {
			t.Fatal(err)
		}
		g, err := gate.New(gate.Config{
			Authenticator: door{}, Policies: counted, Mounts: func() *gate.Mounts { return mounts }, Recorder: tr, Logger: slog.New(slog.DiscardHandler), Uses: uses,
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = g.Do(t.Context(), &gate.Request{Op: policy.Read, Path: "secret/a", Token: secret.New("counted")})
		return err
	}
	c := &counter{left: 2}
	for i, want := range []error{nil, nil, gate.ErrDenied} {
		if err := do(c); !errors.Is(err, want) {
			t.Errorf("use %d: got %v, want %v", i, err, want)
		}
	}
	if err := do(nil); !errors.Is(err, gate.ErrDenied) {
		t.Errorf("where nobody counts: got %v, want it refused", err)
	}
	var said *gate.Error
	if err := do(&counter{err: errors.New("disk full")}); !errors.As(err, &said) || said.Kind != gate.Unavailable {
		t.Errorf("where it can't be counted: got %v, want unavailable", err)
	}
}

// only takes uses of one rule.
type only struct{ spent map[string]bool }

func (o only) Take(_ context.Context, name string, _ int64) (bool, error) {
	left := len(o.spent) > 0 && !o.spent[name]
	o.spent[name] = true
	return left, nil
}

func TestWhatIsUsedUpMakesWayForAnotherRule(t *testing.T) {
	tr := &trail{}
	two := rules{"two": `path "secret/*" { capabilities = ["read"] valid { uses = 1 } }
path "secret/*" { capabilities = ["read"] valid { uses = 2 } }`}
	mounts, err := gate.NewMounts([]*gate.Mount{{Path: "secret/", Type: "kv", Backend: &backend{trail: tr, resp: &gate.Response{Status: gate.NoContent}}}})
	if err != nil {
		t.Fatal(err)
	}
	g, err := gate.New(gate.Config{
		Authenticator: door{}, Policies: two, Mounts: func() *gate.Mounts { return mounts }, Recorder: tr, Logger: slog.New(slog.DiscardHandler),
		Uses: only{map[string]bool{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &gate.Request{Op: policy.Read, Path: "secret/a", Token: secret.New("two")}
	if _, err := g.Do(t.Context(), r); err != nil || r.Decision.Rule.Line != 2 {
		t.Errorf("got %v by %+v, want it allowed by the second rule", err, r.Decision.Rule)
	}
}

func TestConditionsSeeTheRequest(t *testing.T) {
	conditions := rules{
		"reasoned": `path "secret/*" { capabilities = ["read"] when = "reason != '' && ticket == 'OPS-1' && identity.name == 'reasoned' && address == '10.0.0.1'" }`,
		"creates":  `path "secret/*" { capabilities = ["create", "update"] when = "op == 'create'" }`,
	}
	for _, c := range []struct {
		name   string
		r      gate.Request
		exists bool
		want   error
	}{
		{"with a reason", gate.Request{Op: policy.Read, Token: secret.New("reasoned"), Reason: "x", Ticket: "OPS-1", ClientAddr: netip.MustParseAddr("10.0.0.1")}, false, nil},
		{"without", gate.Request{Op: policy.Read, Token: secret.New("reasoned"), Ticket: "OPS-1", ClientAddr: netip.MustParseAddr("10.0.0.1")}, false, gate.ErrDenied},
		{"from elsewhere", gate.Request{Op: policy.Read, Token: secret.New("reasoned"), Reason: "x", Ticket: "OPS-1", ClientAddr: netip.MustParseAddr("10.0.0.2")}, false, gate.ErrDenied},
		{"a create", gate.Request{Op: policy.Update, Token: secret.New("creates")}, false, nil},
		{"an update", gate.Request{Op: policy.Update, Token: secret.New("creates")}, true, gate.ErrDenied},
	} {
		tr := &trail{}
		r := c.r
		r.Path = "secret/a"
		g := serving(t, &backend{trail: tr, resp: &gate.Response{Status: gate.NoContent}, known: true, exists: c.exists}, tr, conditions)
		if _, err := g.Do(t.Context(), &r); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
}
