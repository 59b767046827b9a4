package usc_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/usc"
)

// tree is a target whose folders are given: the names that each holds, by its API path.
func tree(t *testing.T, folders map[string][]string) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		path := strings.TrimPrefix(r.URL.Path, "/v1/")
		switch keys, ok := folders[path]; {
		case strings.HasPrefix(path, "auth/"):
			io.WriteString(w, `{"data":{"ttl":0,"renewable":false}}`)
		case path == "secret/metadata/theirs":
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, `{"errors":["permission denied"]}`)
		case !ok || r.URL.Query().Get("list") != "true":
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, `{"errors":[]}`)
		default:
			json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"keys": keys}})
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestList(t *testing.T) {
	addr := tree(t, map[string][]string{
		"secret/metadata":          {"app/", "hr/", "theirs/", "top"},
		"secret/metadata/app":      {"api", "db", "deep/", "db/"},
		"secret/metadata/app/db":   {"replica"},
		"secret/metadata/app/deep": {"down/"},
		"secret/metadata/app/deep/down": {
			"x",
		},
		"secret/metadata/hr":  {"salaries"},
		"secret/metadata/odd": {"a\x00b", "..", "../", "fine", "//"},
		"team/kv/metadata":    {"ci"},
		"old":                 {"legacy/"},
		"old/legacy":          {"pin"},
	})
	who := rules{
		"ann": everything,
		"ben": everything + ` path "secret/metadata/hr" { capabilities = ["deny"] } path "secret/metadata/hr/" { capabilities = ["deny"] }`,
		"cat": `path "old/*" { capabilities = ["list"] } path "old" { capabilities = ["list"] }`,
		"dan": `path "none" { capabilities = ["list"] }`,
	}
	for _, c := range []struct {
		sentence, who string
		in            usc.ListInput
		limits        usc.Config
		want          string // ids; "(n omitted)", "(truncated)"; or the kind of error
	}{
		{"everything of a target", "ann", usc.ListInput{Connector: "all"}, usc.Config{},
			"old/legacy/pin secret/app/api secret/app/db secret/app/db/replica secret/app/deep/down/x secret/hr/salaries secret/top team/kv/ci (1 omitted)"},
		{"everything of a mount", "ann", usc.ListInput{Connector: "kv1"}, usc.Config{}, "legacy/pin"},
		{"a folder", "ann", usc.ListInput{Connector: "all", Path: "secret/app"}, usc.Config{},
			"secret/app/api secret/app/db secret/app/db/replica secret/app/deep/down/x"},
		{"a folder with a slash", "ann", usc.ListInput{Connector: "one", Path: "app/deep/"}, usc.Config{}, "app/deep/down/x"},
		{"a whole mount by its name", "ann", usc.ListInput{Connector: "all", Path: "old"}, usc.Config{}, "old/legacy/pin"},
		{"the first part of a mount's name", "ann", usc.ListInput{Connector: "all", Path: "team"}, usc.Config{}, "team/kv/ci"},
		{"a folder that is not there", "ann", usc.ListInput{Connector: "one", Path: "none"}, usc.Config{}, ""},
		{"flat", "ann", usc.ListInput{Connector: "one", Path: "app", Flat: true}, usc.Config{}, "app/api app/db app/db/ app/deep/"},
		{"flat, a whole target", "ann", usc.ListInput{Connector: "all", Flat: true}, usc.Config{}, "secret/ team/kv/ old/"},
		{"a denied folder is left out and counted", "ben", usc.ListInput{Connector: "one"}, usc.Config{},
			"app/api app/db app/db/replica app/deep/down/x top (2 omitted)"},
		{"a denied folder itself is an error", "ben", usc.ListInput{Connector: "one", Path: "hr"}, usc.Config{}, "denied"},
		{"a folder that the target refuses is an error", "ann", usc.ListInput{Connector: "one", Path: "theirs"}, usc.Config{}, "forbidden"},
		{"a denied mount is left out of a target", "cat", usc.ListInput{Connector: "all"}, usc.Config{}, "old/legacy/pin (2 omitted)"},
		{"every mount denied is an error", "dan", usc.ListInput{Connector: "all"}, usc.Config{}, "denied"},
		{"a stranger gets nothing", "eve", usc.ListInput{Connector: "all"}, usc.Config{}, "unauthenticated"},
		{"names that can't be asked for are left out", "ann", usc.ListInput{Connector: "one", Path: "odd"}, usc.Config{}, "odd/fine (4 omitted)"},
		{"as many secrets as the limit", "ann", usc.ListInput{Connector: "one", Path: "app"}, usc.Config{MaxSecrets: 2}, "app/api app/db (truncated)"},
		{"as many folders as the limit", "ann", usc.ListInput{Connector: "one", Path: "app"}, usc.Config{MaxFolders: 2}, "app/api app/db (truncated)"},
		{"as deep as the limit", "ann", usc.ListInput{Connector: "one", Path: "app"}, usc.Config{MaxDepth: 1}, "app/api app/db app/db/replica (truncated)"},
		{"limits that are just enough", "ann", usc.ListInput{Connector: "one", Path: "app"}, usc.Config{MaxFolders: 4, MaxDepth: 2}, "app/api app/db app/db/replica app/deep/down/x"},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			e := newEstate(t, addr, "root", who, c.limits)
			l, err := e.List(t.Context(), by(c.who), c.in)
			got := kindOf(err)
			if err == nil {
				got = show(l)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func show(l *usc.Listing) string {
	var parts []string
	for _, e := range l.Entries {
		parts = append(parts, e.ID)
	}
	if l.Omitted > 0 {
		parts = append(parts, "("+string(rune('0'+l.Omitted))+" omitted)")
	}
	if l.Truncated {
		parts = append(parts, "(truncated)")
	}
	return strings.Join(parts, " ")
}

func TestEveryFolderIsRecorded(t *testing.T) {
	addr := tree(t, map[string][]string{"secret/metadata": {"app/", "hr/"}, "secret/metadata/app": {"db"}, "secret/metadata/hr": {"pay"}})
	who := rules{"ben": everything + ` path "secret/metadata/hr/" { capabilities = ["deny"] }`}
	e := newEstate(t, addr, "root", who, usc.Config{})
	call := by("ben")
	call.RequestID = "11111111-2222-3333-4444-555555555555"
	if _, err := e.List(t.Context(), call, usc.ListInput{Connector: "one"}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{
		"ben ok list secret/metadata", "ben ok list secret/metadata/app", "ben denied list secret/metadata/hr",
	}, e.records()); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if n := e.hits.Load(); n != 2 {
		t.Errorf("%d requests reached the target, want 2", n)
	}
}
