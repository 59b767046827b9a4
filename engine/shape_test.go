package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/engine"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/policy"
)

// shapes is a catalogue of roles in several shapes, and what issues them.
type shapes map[string]broker.Shape

func (s shapes) Role(mount, name string) (broker.Role, bool) {
	shape, ok := s[name]
	return broker.Role{Mount: mount, Name: name, Target: "t", Shape: shape}, ok
}

func (shapes) Target(string) (object.Target, bool) { return object.Target{}, false }

func (shapes) Serve(_ context.Context, r *gate.Request) (*gate.Response, error) {
	if r.Op != policy.Read || !strings.HasPrefix(r.Rest, "creds/") {
		return nil, errors.New("the broker issues where creds/ is read")
	}
	return &gate.Response{Data: map[string]any{"access_key": "AK", "token": "T", "ttl": "60", "chain": block("A") + block("B"), "names": "a\nb\n"}}, nil
}

func block(name string) string {
	return "-----BEGIN " + name + "-----\nx\n-----END " + name + "-----\n"
}

func TestCredentialsWearWhatTheirTypeSays(t *testing.T) {
	s := shapes{
		"plain": {},
		"cloud": {
			Engine: "aws", Ways: []broker.Way{{Dir: "creds", Read: true}, {Dir: "sts", Read: true, Write: true}},
			Fields: []broker.Field{{Name: "token", As: "security_token"}, {Name: "ttl", Kind: broker.Number}, {Name: "nothing", As: "x"}},
		},
		"certs": {
			Engine: "pki", Ways: []broker.Way{{Dir: "issue", Write: true}},
			Fields: []broker.Field{{Name: "chain", As: "ca_chain", Kind: broker.Blocks}, {Name: "names", Kind: broker.Lines}, {Name: "access_key", Kind: broker.Number}},
		},
	}
	e, err := engine.New(engine.Config{Issuer: s, Catalog: s, Estate: none{}, Connections: none{}, Rotations: none{}})
	if err != nil {
		t.Fatal(err)
	}
	trim := func(name string) string { return strings.TrimSpace(block(name)) }
	for _, tt := range []struct {
		op      policy.Operation
		path    string
		body    string
		want    map[string]any // nil: refused
		kind    gate.Kind
		warning string
		quiet   bool // it doesn't issue, whatever comes of it
	}{
		{op: policy.Read, path: "creds/plain", want: map[string]any{"access_key": "AK", "token": "T", "ttl": "60", "chain": block("A") + block("B"), "names": "a\nb\n"}},
		{op: policy.Read, path: "creds/cloud", want: map[string]any{"access_key": "AK", "security_token": "T", "ttl": json.Number("60"), "chain": block("A") + block("B"), "names": "a\nb\n"}},
		{op: policy.Read, path: "sts/cloud", want: map[string]any{"access_key": "AK", "security_token": "T", "ttl": json.Number("60"), "chain": block("A") + block("B"), "names": "a\nb\n"}},
		{op: policy.Update, path: "sts/cloud", body: `{"ttl":"1h"}`, warning: "Endpoint ignored these unrecognized parameters: [ttl]",
			want: map[string]any{"access_key": "AK", "security_token": "T", "ttl": json.Number("60"), "chain": block("A") + block("B"), "names": "a\nb\n"}},
		{op: policy.Create, path: "issue/certs", want: map[string]any{"access_key": "AK", "token": "T", "ttl": "60", "ca_chain": []string{trim("A"), trim("B")}, "names": []string{"a", "b"}}},
		{op: policy.Update, path: "sts/cloud", body: `[]`, kind: gate.Invalid},
		{op: policy.Update, path: "creds/cloud", kind: gate.Unsupported, quiet: true},
		{op: policy.Read, path: "issue/certs", kind: gate.NotFound, quiet: true},
		{op: policy.Read, path: "creds/certs", kind: gate.Unsupported, quiet: true},
		{op: policy.Read, path: "sts/plain", kind: gate.NotFound, quiet: true},
		{op: policy.Read, path: "sts/cloud/more", kind: gate.NotFound, quiet: true},
		{op: policy.Read, path: "creds/nosuch", kind: gate.Invalid},
		{op: policy.Delete, path: "creds/cloud", kind: gate.Unsupported, quiet: true},
	} {
		what := string(tt.op) + " " + tt.path
		r := &gate.Request{Op: tt.op, Rest: tt.path, Mount: &gate.Mount{Path: "m/"}}
		if tt.body != "" {
			r.Body = strings.NewReader(tt.body)
		}
		if issues := e.Overlaps(r); issues == tt.quiet {
			t.Errorf("%s: it issues: %v", what, issues)
		}
		resp, err := e.Serve(t.Context(), r)
		if tt.want == nil {
			var said *gate.Error
			if !errors.As(err, &said) || said.Kind != tt.kind {
				t.Errorf("%s: got %+v and %v, want an error of kind %d", what, resp, err, tt.kind)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if diff := cmp.Diff(tt.want, resp.Data); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", what, diff)
		}
		if got := strings.Join(resp.Warnings, "; "); got != tt.warning {
			t.Errorf("%s: got warnings %q, want %q", what, got, tt.warning)
		}
		if r.Rest != tt.path || r.Op != tt.op {
			t.Errorf("%s: the record would say %s %s", what, r.Op, r.Rest)
		}
	}
}

// none is the parts that issuing doesn't need.
type none struct {
	engine.Estate
	engine.Connections
	engine.Rotations
}
