package sys_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/broker"
)

func TestRevokingAllOfAnIdentity(t *testing.T) {
	w := newWorldWithDatabase(t, borrower)
	_, ua := w.issue("ci")
	_, ub := w.issue("ci")
	_, uc := w.issue("root")

	p := w.data("root", "update sys/bailiff/revocations/preview", `{"identity":"ci"}`)
	target := p["targets"].([]any)[0].(map[string]any)
	if p["leases"] != 2.0 || target["target"] != "pg" || target["leases"] != 2.0 || !strings.Contains(fmt.Sprint(target["principals"]), ua) {
		t.Fatalf("preview: got %v", p)
	}
	if !w.roleExists(ua) {
		t.Fatal("a preview changed something")
	}
	r := w.data("root", "update sys/bailiff/revocations", `{"identity":"ci","sync":true,"reason":"laptop lost"}`)
	if d := w.last(); d.Detail != "revocation "+fmt.Sprint(r["id"])+" of every lease with identity ci" || d.Identity != "root" {
		t.Errorf("it is recorded as %q by %s", d.Detail, d.Identity)
	}
	if r["state"] != "done" || r["marked"] != 2.0 || r["revoked"] != 2.0 || r["open"] != 0.0 || r["selected"] != "identity ci" || r["by"] != "root" {
		t.Errorf("got %v", r)
	}
	if _, measured := r["took_ms"].(float64); !measured {
		t.Errorf("the end is not measured: %v", r)
	}
	if w.roleExists(ua) || w.roleExists(ub) || !w.roleExists(uc) {
		t.Errorf("the database knows %v %v %v, want only the last", w.roleExists(ua), w.roleExists(ub), w.roleExists(uc))
	}
	if got := w.data("root", "read sys/bailiff/revocations/"+fmt.Sprint(r["id"]), ""); fmt.Sprint(got) != fmt.Sprint(r) {
		t.Errorf("read: got %v, want %v", got, r)
	}
	if got := w.data("root", "list sys/bailiff/revocations", ""); len(got["revocations"].([]any)) != 1 {
		t.Errorf("list: got %v", got)
	}
	if got := w.ask("ci", "update sys/bailiff/revocations", `{"identity":"root"}`); got != "denied" {
		t.Errorf("without a policy: got %s", got)
	}
}

func TestARevocationIsPromised(t *testing.T) {
	w := newWorldWithDatabase(t, borrower)
	_, user := w.issue("ci")
	resp, err := w.do("root", "update sys/bailiff/revocations", `{"mount":"database","role":"ro"}`)
	must(t, err)
	id := fmt.Sprint(resp.Data["id"])
	if !strings.HasPrefix(id, "rv-") || resp.Data["state"] != "running" {
		t.Fatalf("got %v", resp.Data)
	}
	w.until(func() bool {
		return w.data("root", "read sys/bailiff/revocations/"+id, "")["state"] == "done"
	})
	if w.roleExists(user) {
		t.Errorf("the database still knows %s", user)
	}
}

func (w *world) until(cond func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			w.t.Fatal("it did not come about")
		}
	}
}

// stuck puts a lease into the store that can't be ended: its target can't be reached.
func (w *world) stuck(id string) {
	w.t.Helper()
	now := time.Now().UTC()
	must(w.t, w.db.Insert(w.t.Context(), &broker.Lease{
		ID: id, Mount: "database/", Role: "ro", Producer: "postgres", Target: "pg", Identity: "ci", Principal: "bl-1", Token: "k-9",
		State: broker.Stuck, IssuedAt: now, ExpiresAt: now, MaxExpiresAt: now, IntentDeadline: now, NextAt: now.Add(time.Hour), Attempt: 9,
		Cause: broker.Unreachable, Error: "no route",
	}))
}

func TestAStuckLeaseIsTriedAgainOrGivenUp(t *testing.T) {
	w := newWorld(t, app, nil)
	const id = "database/creds/ro/x1"
	w.stuck(id)
	for query, want := range map[string]string{
		"state=stuck&cause=unreachable&producer=postgres&token=k-9": "x1", "producer=mysql": "", "token=k-1": "", "cause=forbidden": "",
	} {
		if got := idsOf(w.data("root", "list sys/bailiff/leases?"+query, "")); got != want {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
	if got := w.ask("root", "update sys/bailiff/leases/"+id+"/retry", ""); got != "accepted" {
		t.Errorf("retry: got %s", got)
	}
	w.until(func() bool { return w.data("root", "read sys/bailiff/leases/"+id, "")["attempt"] == 10.0 })

	if got := w.ask("root", "update sys/bailiff/leases/"+id+"/force", `{}`); got != "invalid: reason must say why the lease is given up" {
		t.Errorf("force without a reason: got %s", got)
	}
	if got := w.ask("root", "update sys/bailiff/leases/"+id+"/force", `{"reason":"host is gone"}`); got != `ok {"lease_id":"`+id+`","principal":"bl-1","target":"pg"}` {
		t.Errorf("force: got %s", got)
	}
	w.mayBeAlive(id, "bl-1 may still be alive on pg, issued to ci; reason: host is gone")
	if got := w.ask("root", "update sys/bailiff/leases/"+id+"/force", `{"reason":"again"}`); got != "invalid: the lease is revoked already" {
		t.Errorf("force twice: got %s", got)
	}
	if got := w.ask("root", "update sys/bailiff/leases/"+id+"/retry", ""); got != "invalid: the lease is not being revoked" {
		t.Errorf("retry of what is over: got %s", got)
	}
}

// mayBeAlive wants an event in the trail that says so.
func (w *world) mayBeAlive(id, words string) {
	w.t.Helper()
	found := false
	must(w.t, w.trail.Query(w.t.Context(), audit.Query{LeaseID: id}, func(r *audit.Record) error {
		found = found || r.Stage == audit.StageEvent && strings.Contains(r.Detail, words)
		return nil
	}))
	if !found {
		w.t.Errorf("no record of %s says %q", id, words)
	}
}

func TestRevokeForceGivesUpWhatCantBeEnded(t *testing.T) {
	w := newWorld(t, app, nil)
	w.stuck("database/creds/ro/x1")
	w.stuck("database/creds/ro/x2")
	w.stuck("database/creds/rw/x3")
	if got := w.ask("root", "update sys/leases/revoke-prefix/database/creds/ro", ""); !strings.HasPrefix(got, "target down: 2 of 2 leases are not revoked yet") {
		t.Errorf("revoke-prefix: got %s", got)
	}
	if got := w.ask("root", "update sys/leases/revoke-force/database/creds/ro", ""); got != "no content" {
		t.Errorf("revoke-force: got %s", got)
	}
	w.mayBeAlive("database/creds/ro/x2", "reason: revoke-force")
	if got := idsOf(w.data("root", "list sys/bailiff/leases", "")); got != "database/creds/rw/x3" {
		t.Errorf("left: got %s", got)
	}
	if got := w.ask("root", "update sys/leases/revoke-force/database/creds/rw/x3", `{"reason":"gone"}`); got != "no content" {
		t.Errorf("revoke-force of one: got %s", got)
	}
	w.mayBeAlive("database/creds/rw/x3", "reason: gone")
}

func TestTuningAMount(t *testing.T) {
	w := newWorld(t, app, nil)
	for _, tt := range []struct{ body, want string }{
		{`{"default_lease_ttl":"30m","max_lease_ttl":"7200s","options":null}`, "1800 7200 credentials"},
		{`{"default_lease_ttl":"","max_lease_ttl":"3h","description":"others"}`, "1800 10800 others"},
		{`{"default_lease_ttl":"system"}`, "2764800 10800 others"},
		{`{}`, "2764800 10800 others"},
	} {
		if got := w.ask("root", "update sys/mounts/database/tune", tt.body); got != "no content" {
			t.Errorf("%s: got %s", tt.body, got)
		}
		data := w.data("root", "read sys/mounts/database/tune", "")
		if got := fmt.Sprintf("%.0f %.0f %s", data["default_lease_ttl"], data["max_lease_ttl"], data["description"]); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.body, got, tt.want)
		}
	}
	if got := w.last(); got.Op != "read" {
		t.Errorf("the last record is of %s", got.Op)
	}
	if got := w.ask("ci", "update sys/mounts/database/tune", `{}`); got != "denied" {
		t.Errorf("without a policy: got %s", got)
	}
}
