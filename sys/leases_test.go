package sys_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

const borrower = `
path "database/creds/ro" { capabilities = ["read"] }
path "sys/leases/*" { capabilities = ["update"] }
path "sys/renew/*" { capabilities = ["update"] }
path "sys/revoke/*" { capabilities = ["update"] }
`

// issue borrows one credential as who.
func (w *world) issue(who string) (leaseID, user string) {
	w.t.Helper()
	resp, err := w.do(who, "read database/creds/ro", "")
	must(w.t, err)
	return resp.Lease.ID, fmt.Sprint(resp.Data["username"])
}

// roleExists asks the database itself.
func (w *world) roleExists(user string) bool {
	w.t.Helper()
	pg := testenv.Postgres(w.t)
	out, err := pg.SQL(w.t.Context(), pg.AdminUser, pg.AdminPassword, "postgres", "SELECT count(*) FROM pg_roles WHERE rolname = '"+user+"'")
	must(w.t, err)
	return out == "1"
}

func TestALeaseInItsOwnersHands(t *testing.T) {
	w := newWorldWithDatabase(t, borrower)
	id, user := w.issue("ci")
	if !w.roleExists(user) {
		t.Fatalf("the database does not know %s", user)
	}
	body := `{"lease_id":"` + id + `"}`

	got := w.data("ci", "update sys/leases/lookup", body)
	if got["id"] != id || got["renewable"] != true || got["last_renewal"] != nil || got["ttl"].(float64) < 3590 {
		t.Errorf("lookup: got %v", got)
	}
	for _, name := range []string{"issue_time", "expire_time"} {
		if _, err := time.Parse(time.RFC3339Nano, fmt.Sprint(got[name])); err != nil {
			t.Errorf("lookup: %s: %v", name, err)
		}
	}
	if r := w.last(); r.LeaseID != id || r.Principal != user {
		t.Errorf("lookup was recorded with lease %q, principal %q", r.LeaseID, r.Principal)
	}

	for ask, send := range map[string]string{
		"update sys/leases/renew":         `{"lease_id":"` + id + `","increment":7200}`,
		"update sys/leases/renew/" + id:   `{"increment":"2h"}`,
		"update sys/renew/" + id:          `{"increment":"7200"}`,
		"update sys/leases/renew?ignored": `{"lease_id":"` + id + `","increment":7200}`,
	} {
		if got, want := w.ask("ci", ask, send), fmt.Sprintf("ok lease %s true 2h0m0s", id); got != want {
			t.Errorf("%s: got %s, want %s", ask, got, want)
		}
	}
	if got, want := w.ask("ci", "update sys/leases/renew", body), fmt.Sprintf("ok lease %s true 1h0m0s", id); got != want {
		t.Errorf("by its default: got %s, want %s", got, want)
	}
	if got := w.ask("ci", "update sys/leases/renew", `{"lease_id":"`+id+`","increment":"1000h"}`); !strings.Contains(got, "warning: the role's max_ttl is 24h0m0s") {
		t.Errorf("beyond its end: got %s", got)
	}

	if got := w.ask("ci", "update sys/leases/revoke/"+id, `{"sync":true}`); got != "no content" {
		t.Fatalf("revoke: got %s", got)
	}
	if w.roleExists(user) {
		t.Errorf("the database still knows %s", user)
	}
	for ask, want := range map[string]string{
		"update sys/leases/lookup": "invalid: invalid lease",
		"update sys/leases/renew":  "invalid: lease not found",
		"update sys/leases/revoke": "no content",
	} {
		if got := w.ask("ci", ask, body); got != want {
			t.Errorf("when it is over, %s: got %s, want %s", ask, got, want)
		}
	}
}

func TestWaysToRevoke(t *testing.T) {
	w := newWorldWithDatabase(t, borrower)
	for _, tt := range []struct{ ask, body, want string }{
		{"update sys/leases/revoke", `{"lease_id":"ID"}`, "no content"},
		{"update sys/leases/revoke", `{"lease_id":"ID","sync":false}`, "accepted"},
		{"update sys/leases/revoke", `{"lease_id":"ID","sync":"true"}`, "no content"},
		{"update sys/leases/revoke/ID", `null`, "no content"},
		{"update sys/leases/revoke/ID", `{"sync":false}`, "accepted"},
		{"update sys/revoke/ID", ``, "no content"},
	} {
		id, user := w.issue("ci")
		if got := w.ask("ci", strings.ReplaceAll(tt.ask, "ID", id), strings.ReplaceAll(tt.body, "ID", id)); got != tt.want {
			t.Errorf("%s %s: got %s, want %s", tt.ask, tt.body, got, tt.want)
		}
		l, err := w.db.Lease(t.Context(), id)
		must(t, err)
		if l.State == broker.Active || tt.want == "no content" && (l.State != broker.Revoked || w.roleExists(user)) {
			t.Errorf("%s %s: the lease is %s", tt.ask, tt.body, l.State)
		}
	}
}

func TestALeaseInOthersHands(t *testing.T) {
	w := newWorldWithDatabase(t, borrower)
	w.declare(&object.Role{Name: "also", Policies: []string{"app"}, Identities: []string{"nobody"}})
	id, _ := w.issue("ci")
	body := `{"lease_id":"` + id + `"}`
	const no = "forbidden: the lease belongs to another identity"
	for _, ask := range []string{"update sys/leases/lookup", "update sys/leases/renew", "update sys/renew/" + id, "update sys/leases/revoke", "update sys/revoke/" + id} {
		if got := w.ask("nobody", ask, body); !strings.HasPrefix(got, no) {
			t.Errorf("another's %s: got %s", ask, got)
		}
		if r := w.last(); r.Status != "denied" || r.Identity != "nobody" {
			t.Errorf("another's %s is recorded as %s of %s", ask, r.Status, r.Identity)
		}
	}
	if got := w.ask("ci", "update sys/leases/lookup", body); !strings.HasPrefix(got, "ok") {
		t.Errorf("after it the owner's lookup: got %s", got)
	}
	if got := w.ask("root", "update sys/leases/lookup", body); !strings.HasPrefix(got, "ok") {
		t.Errorf("lookup with sudo: got %s", got)
	}
	if got := w.ask("root", "update sys/leases/revoke", body); got != "no content" {
		t.Errorf("revoke with sudo: got %s", got)
	}
}

func TestRevokingBelowAPath(t *testing.T) {
	w := newWorldWithDatabase(t, borrower)
	a, ua := w.issue("ci")
	b, ub := w.issue("root")

	if got := w.data("root", "list sys/leases/lookup", ""); fmt.Sprint(got["keys"]) != "[database/]" {
		t.Errorf("list of all: got %v", got)
	}
	if got := w.data("root", "list sys/leases/lookup/database/creds", ""); fmt.Sprint(got["keys"]) != "[ro/]" {
		t.Errorf("list of folders: got %v", got)
	}
	if got := w.data("root", "list sys/leases/lookup/database/creds/ro", ""); len(got["keys"].([]any)) != 2 || !strings.Contains(fmt.Sprint(got["keys"]), strings.TrimPrefix(a, "database/creds/ro/")) {
		t.Errorf("list of leases: got %v, want %s and %s", got, a, b)
	}
	if got := w.ask("root", "update sys/leases/revoke-prefix/database/creds/r", ""); got != "no content" || !w.roleExists(ua) {
		t.Errorf("a prefix ends at a slash: got %s, and %s exists: %v", got, ua, w.roleExists(ua))
	}
	if got := w.ask("root", "update sys/leases/revoke-prefix/"+a, `{"sync":true}`); got != "no content" || w.roleExists(ua) || !w.roleExists(ub) {
		t.Errorf("a prefix that is a lease: got %s", got)
	}
	if got := w.ask("root", "update sys/leases/revoke-prefix/database/creds/ro", `{"sync":true}`); got != "no content" || w.roleExists(ub) {
		t.Errorf("all of a role: got %s", got)
	}
	if d := w.last().Detail; !strings.HasPrefix(d, "revoked 1 leases below database/creds/ro in ") {
		t.Errorf("it is recorded as %q", d)
	}
	if got := w.ask("root", "list sys/leases/lookup/database", ""); got != "missing" {
		t.Errorf("list of what is over: got %s", got)
	}
}

func TestLeasesThatCantBeEnded(t *testing.T) {
	w := newWorld(t, app, nil) // its target can't be reached
	now := time.Now().UTC()
	must(t, w.db.Insert(t.Context(), &broker.Lease{
		ID: "database/creds/ro/x1", Mount: "database/", Role: "ro", Producer: "postgres", Target: "pg", Identity: "ci", Principal: "bl-1",
		State: broker.Stuck, IssuedAt: now, ExpiresAt: now, MaxExpiresAt: now, IntentDeadline: now, NextAt: now.Add(time.Hour), Attempt: 9,
		Cause: broker.Unreachable, Error: "no route",
	}))
	if got := w.ask("root", "read sys/leases?type=irrevocable", ""); got != `ok {"lease_count":1,"leases":[{"error":"no route","lease_id":"database/creds/ro/x1","mount_id":"database_1"}]}` {
		t.Errorf("got %s", got)
	}
	if got := w.ask("root", "read sys/leases/count?type=irrevocable", ""); got != `ok {"counts":{"database_1":1},"lease_count":1}` {
		t.Errorf("got %s", got)
	}
	if got := w.data("root", "read sys/bailiff/status", ""); got["stuck_leases"] != 1.0 || got["mounts"] != 5.0 || got["objects"].(map[string]any)["role"] != 2.0 {
		t.Errorf("status: got %v", got)
	}
	got := w.data("root", "read sys/bailiff/leases/database/creds/ro/x1", "")
	if got["state"] != "stuck" || got["cause"] != "unreachable" || got["error"] != "no route" || got["attempt"] != 9.0 || got["identity"] != "ci" {
		t.Errorf("got %v", got)
	}
	if got := w.ask("root", "update sys/leases/renew", `{"lease_id":"database/creds/ro/x1"}`); !strings.HasPrefix(got, "invalid: lease is not renewable") {
		t.Errorf("renew: got %s", got)
	}
	if got := w.data("root", "update sys/leases/lookup", `{"lease_id":"database/creds/ro/x1"}`); got["renewable"] != false || got["ttl"] != 0.0 {
		t.Errorf("lookup: got %v", got)
	}
}

func TestMoreLeasesThanOnePageAreAllCounted(t *testing.T) {
	w := newWorld(t, app, nil)
	const many = 1001
	now := time.Now().UTC()
	var all errgroup.Group
	all.SetLimit(64)
	for i := range many {
		all.Go(func() error {
			return w.db.Insert(t.Context(), &broker.Lease{
				ID: fmt.Sprintf("database/creds/ro/x%d", i), Mount: "database/", Role: "ro", Target: "pg", Identity: "ci", Principal: fmt.Sprintf("bl-%d", i),
				State: broker.Stuck, ExpiresAt: now, MaxExpiresAt: now, IntentDeadline: now, NextAt: now.Add(time.Hour), Cause: broker.Unknown,
			})
		})
	}
	must(t, all.Wait())
	if got, want := w.ask("root", "read sys/leases/count?type=irrevocable", ""), fmt.Sprintf(`ok {"counts":{"database_1":%d},"lease_count":%d}`, many, many); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for limit, want := range map[string]int{"": many, "none": many, "NONE": many, "2": 2, "1000": 1000, "1001": many, "5000": many} {
		resp, err := w.do("root", "read sys/leases?type=irrevocable&limit="+limit, "")
		must(t, err)
		if n := len(resp.Data["leases"].([]any)); n != want || resp.Data["lease_count"] != want || (len(resp.Warnings) == 1) != (want < many) {
			t.Errorf("limit %q: got %d leases, count %v, warnings %q, want %d", limit, n, resp.Data["lease_count"], resp.Warnings, want)
		}
	}
	for _, limit := range []string{"0", "-1", "few"} {
		if got := w.ask("root", "read sys/leases?type=irrevocable&limit="+limit, ""); !strings.HasPrefix(got, "invalid: ") || !strings.Contains(got, "limit") {
			t.Errorf("limit %q: got %s", limit, got)
		}
	}
	if got := w.data("root", "list sys/leases/lookup/database/creds/ro", ""); len(got["keys"].([]any)) != many {
		t.Errorf("list: got %d keys, want %d", len(got["keys"].([]any)), many)
	}
}

func TestListingLeases(t *testing.T) {
	w := newWorld(t, app, nil)
	now := time.Now().UTC()
	for i, state := range []broker.State{broker.Active, broker.Active, broker.Stuck, broker.Revoked, broker.Active} {
		l := &broker.Lease{
			ID: fmt.Sprintf("database/creds/ro/x%d", i), Mount: "database/", Role: "ro", Producer: "postgres", Target: "pg",
			Identity: []string{"ci", "root"}[i%2], Principal: fmt.Sprintf("bl-%d", i), State: state, IssuedAt: now,
			ExpiresAt: now.Add(time.Hour), MaxExpiresAt: now.Add(time.Hour), IntentDeadline: now, Data: []byte(canary),
		}
		if state != broker.Revoked {
			l.NextAt = now.Add(time.Hour)
		}
		must(t, w.db.Insert(t.Context(), l))
	}
	for query, want := range map[string]string{
		"":                         "x0 x1 x2 x4",
		"state=all":                "x0 x1 x2 x3 x4",
		"state=stuck,revoked":      "x2 x3",
		"identity=root":            "x1",
		"target=nosuch":            "",
		"mount=database&role=ro":   "x0 x1 x2 x4",
		"mount=database/":          "x0 x1 x2 x4",
		"prefix=database/creds/ro": "x0 x1 x2 x4",
		"limit=2":                  "x0 x1 …",
	} {
		got := w.data("root", "list sys/bailiff/leases?"+query, "")
		if text := idsOf(got); text != want {
			t.Errorf("%s: got %s, want %s", query, text, want)
		}
		if strings.Contains(fmt.Sprint(got), canary) {
			t.Errorf("%s shows what the producer keeps", query)
		}
	}
	first := w.data("root", "list sys/bailiff/leases?limit=3", "")
	second := w.data("root", fmt.Sprintf("list sys/bailiff/leases?limit=3&after=%.0f", first["next"]), "")
	if a, b := idsOf(first), idsOf(second); a != "x0 x1 x2 …" || b != "x4" {
		t.Errorf("two pages: got %s and %s", a, b)
	}
	for query, want := range map[string]string{
		"limit=1001": "invalid: the query parameter limit must be", "limit=x": "invalid: the query parameter limit", "state=dead": `invalid: state: "dead" is none`,
		"colour=red": `invalid: the query parameter "colour" is not known`, "role=a&role=b": "invalid: the query parameter role is there twice",
	} {
		if got := w.ask("root", "list sys/bailiff/leases?"+query, ""); !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %s, want %s", query, got, want)
		}
	}
	if got := w.ask("root", "read sys/bailiff/leases/nosuch", ""); got != "not found: there is no such lease" {
		t.Errorf("got %s", got)
	}
	if _, err := w.do("ci", "list sys/bailiff/leases", ""); err != gate.ErrDenied { //nolint:errorlint // it comes as it is
		t.Errorf("without a policy: got %v", err)
	}
}

func idsOf(page map[string]any) string {
	var ids []string
	for _, l := range page["leases"].([]any) {
		ids = append(ids, strings.TrimPrefix(l.(map[string]any)["id"].(string), "database/creds/ro/"))
	}
	if page["next"] != 0.0 {
		ids = append(ids, "…")
	}
	return strings.Join(ids, " ")
}
