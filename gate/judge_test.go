package gate_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
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
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
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
