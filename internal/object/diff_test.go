package object_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/google/go-cmp/cmp"
)

// say writes a plan as one line a step.
func say(p object.Plan) string {
	var b strings.Builder
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "%s %s %s v%d", s.Action, s.Kind, s.Name, s.Version)
		for _, c := range s.Changes {
			fmt.Fprintf(&b, " %s:%s>%s", c.Field, c.Old, c.New)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func version(r object.Record, v int64) object.Record { r.Version = v; return r }

func source(r object.Record, s string) object.Record { r.Source = s; return r }

func TestDiff(t *testing.T) {
	vault := func(body string, secrets ...string) object.Record { return rec("target", "v", body, secrets...) }
	tests := []struct {
		name      string
		now, want []object.Record
		prune     bool
		plan      string
	}{
		{"things are made in the order of kinds",
			nil,
			[]object.Record{rec("identity", "i", `{}`), rec("role", "r", `{"policies":["p"]}`), rec("target", "b", `{"type":"x"}`), rec("target", "a", `{"type":"x"}`)}, false,
			"create target a v0 type:>\"x\"\ncreate target b v0 type:>\"x\"\ncreate role r v0 policies:>[\"p\"]\ncreate identity i v0\n"},
		{"things go in the other order, and only those from files, and only when asked to",
			[]object.Record{version(rec("target", "a", `{}`), 3), version(rec("role", "r", `{}`), 4), source(rec("identity", "i", `{}`), "api")}, nil, true,
			"delete role r v4\ndelete target a v3\n"},
		{"nothing goes when not asked to", []object.Record{rec("target", "a", `{}`)}, nil, false, ""},
		{"an object that is the same stays, however its body is written",
			[]object.Record{version(vault(`{"name":"v","type":"vault","auth":{"method":"token"}}`, "token=t"), 2)},
			[]object.Record{vault(`{ "auth": {"method":"token"}, "type":"vault" }`, "token=t")}, true,
			"unchanged target v v2\n"},
		{"a changed secret is named and not shown",
			[]object.Record{version(vault(`{"type":"vault","auth":{"method":"token"}}`, "token="+canary), 2)},
			[]object.Record{vault(`{"type":"vault","auth":{"method":"token"}}`, "token="+canary+"2")}, true,
			"update target v v2 token:[redacted]>[redacted]\n"},
		{"a secret that goes and one that comes",
			[]object.Record{version(vault(`{"auth":{"method":"token"}}`, "token="+canary), 2)},
			[]object.Record{vault(`{"auth":{"method":"approle","role_id":"r"}}`, "secret_id="+canary)}, true,
			"update target v v2 auth.method:\"token\">\"approle\" auth.role_id:>\"r\" secret_id:>[redacted] token:[redacted]>\n"},
		{"an identity keeps what its file does not say",
			[]object.Record{version(rec("identity", "i", `{"access_id":"p-1","disabled":true,"description":"a"}`), 5)},
			[]object.Record{rec("identity", "i", `{"description":"b"}`)}, false,
			"update identity i v5 description:\"a\">\"b\"\n"},
		{"files adopt what a request made",
			[]object.Record{version(source(rec("policy", "p", `{"rules":"<x>"}`), "api"), 1)},
			[]object.Record{rec("policy", "p", `{"rules":"<x>"}`)}, false,
			"update policy p v1 source:\"api\">\"apply\"\n"},
		{"a policy's text is shown as it is",
			[]object.Record{version(rec("policy", "p", `{"rules":"<x>"}`), 1)},
			[]object.Record{rec("policy", "p", `{"rules":"<y>"}`)}, false,
			"update policy p v1 rules:\"<x>\">\"<y>\"\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := say(object.Diff(tt.now, tt.want, tt.prune))
			if d := cmp.Diff(tt.plan, got); d != "" {
				t.Errorf("plan (-want +got):\n%s", d)
			}
			if strings.Contains(got, canary) {
				t.Errorf("the plan shows a secret: %s", got)
			}
		})
	}
}

func TestDiffNeverShowsABodyThatItCantRead(t *testing.T) {
	got := say(object.Diff(nil, []object.Record{rec("target", "v", `{"token":"`+canary+`"}`)}, false))
	if strings.Contains(got, canary) || !strings.Contains(got, "unreadable") {
		t.Errorf("got %s", got)
	}
}
