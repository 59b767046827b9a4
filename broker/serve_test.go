package broker_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/policy"
)

func serveWorld(t *testing.T) *world {
	w := newWorld(t, newMemory()).start()
	t.Cleanup(w.stop)
	w.catalog.set(func() {
		w.catalog.roles["database/good"] = broker.Role{Mount: "database/", Name: "good", Target: "good",
			DefaultTTL: time.Hour, MaxTTL: 24 * time.Hour}
	})
	return w
}

func ask(w *world, op policy.Operation, rest string) (*gate.Response, error) {
	r := request("")
	r.Op, r.Rest, r.Path = op, rest, strings.TrimSuffix("database/"+rest, "/")
	return w.b.Serve(context.Background(), r)
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
		{policy.Read, "creds/", gate.NotFound},
		{policy.Read, "roles/good", gate.NotFound},
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

func TestChanges(t *testing.T) {
	w := serveWorld(t)
	for op, want := range map[policy.Operation]bool{policy.Read: true, policy.Update: true, policy.Delete: true, policy.List: false, policy.Help: false} {
		if got := w.b.Changes(&gate.Request{Op: op, Rest: "creds/good"}); got != want {
			t.Errorf("%s: got %t, want %t", op, got, want)
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
	_, l := w.issue("good")
	if err := w.b.Revoke(t.Context(), l.ID, true); err != nil { // Run has begun
		t.Fatal(err)
	}
	w.within(time.Second, "it runs", func() bool {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return w.b.Run(ctx) != nil
	})
}
