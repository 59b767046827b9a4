package broker_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/policy"
)

type shownConfig struct{}

func (shownConfig) Describe() map[string]any {
	return map[string]any{"creation_statements": []string{"CREATE ROLE"}}
}

func serveWorld(t *testing.T) *world {
	w := newWorld(t, newMemory()).start()
	t.Cleanup(w.stop)
	w.catalog.set(func() {
		w.catalog.roles["database/good"] = broker.Role{Mount: "database/", Name: "good", Target: "good",
			DefaultTTL: time.Hour, MaxTTL: 24 * time.Hour, Config: shownConfig{}}
	})
	return w
}

func ask(w *world, op policy.Operation, rest string) (*gate.Response, error) {
	r := request("")
	r.Op, r.Rest, r.Path = op, rest, strings.TrimSuffix("database/"+rest, "/")
	return w.b.Serve(context.Background(), r)
}

func TestRolesAreListedAndShown(t *testing.T) {
	w := serveWorld(t)
	resp, err := ask(w, policy.List, "roles")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"keys": []string{"bad", "good"}}, resp.Data); diff != "" {
		t.Error(diff)
	}
	resp, err = ask(w, policy.Read, "roles/good")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"creation_statements": []string{"CREATE ROLE"}, "db_name": "good", "default_ttl": int64(3600), "max_ttl": int64(86400)}
	if diff := cmp.Diff(want, resp.Data); diff != "" {
		t.Error(diff)
	}
	if resp, err = ask(w, policy.Read, "roles/nosuch"); err != nil || resp.Status != gate.Missing {
		t.Errorf("got %+v, %v, want missing", resp, err)
	}
	w.catalog.set(func() { clear(w.catalog.roles) })
	if resp, err = ask(w, policy.List, "roles"); err != nil || resp.Status != gate.Missing {
		t.Errorf("a mount without roles: got %+v, %v, want missing", resp, err)
	}
}

func TestWhatIsNotThereIsSaidSo(t *testing.T) {
	w := serveWorld(t)
	for _, x := range []struct {
		op   policy.Operation
		rest string
		want gate.Kind
	}{
		{policy.Read, "creds/nosuch", gate.NotFound},
		{policy.Update, "creds/good", gate.Unsupported},
		{policy.Delete, "creds/good", gate.Unsupported},
		{policy.List, "creds/good", gate.Unsupported},
		{policy.Read, "creds", gate.NotFound},
		{policy.Read, "roles", gate.Unsupported},
		{policy.Update, "roles/good", gate.Unsupported},
		{policy.Delete, "roles/good", gate.Unsupported},
		{policy.Update, "config/pg", gate.Unsupported},
		{policy.Read, "", gate.NotFound},
		{policy.Read, "nosuch/x", gate.NotFound},
		{policy.Read, "creds/good/more", gate.NotFound},
	} {
		t.Run(fmt.Sprintf("%s_%s", x.op, x.rest), func(t *testing.T) {
			_, err := ask(w, x.op, x.rest)
			(&world{t: t}).wantKind(err, x.want)
		})
	}
	if w.good.creates != 0 {
		t.Error("a credential was made")
	}
}

func TestHelp(t *testing.T) {
	w := serveWorld(t)
	for rest, want := range map[string]string{"": "lends", "creds/good": "Reading issues", "roles": "Listing", "roles/good": "Reading shows"} {
		resp, err := ask(w, policy.Help, rest)
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.Data["help"].(string); !resp.Bare || !strings.Contains(got, want) {
			t.Errorf("help of %q: got %q, want it to say %q", rest, got, want)
		}
	}
}

func TestChanges(t *testing.T) {
	w := serveWorld(t)
	for _, x := range []struct {
		op   policy.Operation
		rest string
		want bool
	}{
		{policy.Read, "creds/good", true},
		{policy.Update, "creds/good", true},
		{policy.Update, "roles/good", true},
		{policy.Delete, "roles/good", true},
		{policy.Read, "roles/good", false},
		{policy.List, "roles", false},
		{policy.Help, "creds/good", false},
	} {
		if got := w.b.Changes(&gate.Request{Op: x.op, Rest: x.rest}); got != x.want {
			t.Errorf("%s %s: got %t, want %t", x.op, x.rest, got, x.want)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := newWorld(t, newMemory()).cfg
	for _, x := range []struct {
		sentence string
		spoil    func(*broker.Config)
	}{
		{"no store", func(c *broker.Config) { c.Store = nil }},
		{"no catalogue", func(c *broker.Config) { c.Catalog = nil }},
		{"no recorder", func(c *broker.Config) { c.Recorder = nil }},
		{"a negative duration", func(c *broker.Config) { c.Poll = -1 }},
		{"a negative count", func(c *broker.Config) { c.Workers = -1 }},
		{"retries that end before they begin", func(c *broker.Config) { c.RetryMax = c.RetryMin / 2 }},
	} {
		cfg := good
		x.spoil(&cfg)
		if _, err := broker.New(cfg); err == nil {
			t.Errorf("%s: got no error", x.sentence)
		}
	}
}

func TestRunTwiceAtATimeIsRefused(t *testing.T) {
	w := serveWorld(t)
	w.issue("good") // so that Run has begun
	w.within(time.Second, "it runs", func() bool {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return w.b.Run(ctx) != nil
	})
}
