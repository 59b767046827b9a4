package server

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
	"github.com/bailiff-secrets/bailiff/policy"
)

// family is a server with a PostgreSQL behind it, an identity with a key, and what was issued to that.
type family struct {
	*server
	t      *testing.T
	pg     *testenv.PostgresServer
	key    identity.NewKey
	caller identity.Caller
}

// newFamily declares two roles on one database; children is what the mount says of leases whose token ends.
func newFamily(t *testing.T, children string, keyTTL time.Duration) *family {
	t.Helper()
	f := &family{server: newServer(t), t: t, pg: testenv.Postgres(t)}
	address := f.pg.URL("", "", "postgres")
	_, rest, _ := strings.Cut(address, "@")
	apply(t, f.server,
		&object.Target{Name: "pg", Type: "postgres", Address: "postgres://" + rest, Username: f.pg.AdminUser, Password: secret.New(f.pg.AdminPassword)},
		&object.Mount{Path: "database", Type: "broker", Children: children},
		role("app"), role("other"), ci)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.leases.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	var err error
	if f.key, err = f.who().AddKey(t.Context(), "test", "ci", "", keyTTL); err != nil {
		t.Fatal(err)
	}
	if f.caller, err = f.estate.manager.Authenticate(t.Context(), secret.New(f.key.AccessID+".."+f.key.Key.Reveal()), addrNone); err != nil {
		t.Fatal(err)
	}
	return f
}

func role(name string) *object.Producer {
	return &object.Producer{Mount: "database", Name: name, Target: "pg", DefaultTTL: object.Duration(30 * time.Minute), MaxTTL: object.Duration(time.Hour),
		CreationStatements: []string{`CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'`}}
}

func (f *family) who() identities { return identities{f.estate} }

func (f *family) request(role string) *gate.Request {
	f.t.Helper()
	mount, rest, ok := f.estate.mounts().Route("database/creds/" + role)
	if !ok {
		f.t.Fatal("the mount is not there")
	}
	return &gate.Request{ID: "r-1", Op: policy.Read, Path: "database/creds/" + role, Rest: rest, Mount: mount, Caller: f.caller}
}

func (f *family) issue(role string) *gate.Response {
	f.t.Helper()
	resp, err := f.leases.Serve(f.t.Context(), f.request(role))
	if err != nil {
		f.t.Fatal(err)
	}
	return resp
}

// alive says whether a credential is on the database.
func (f *family) alive(principal string) bool {
	f.t.Helper()
	out, err := f.pg.SQL(f.t.Context(), f.pg.AdminUser, f.pg.AdminPassword, "postgres", "SELECT count(*) FROM pg_roles WHERE rolname = '"+principal+"'")
	if err != nil {
		f.t.Fatal(err)
	}
	return strings.Contains(out, "1")
}

// ended waits until a credential is gone and its lease revoked.
func (f *family) ended(resp *gate.Response) {
	f.t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		l, err := f.leases.Lookup(f.t.Context(), resp.Lease.ID)
		if err == nil && l.State == broker.Revoked {
			break
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			f.t.Fatalf("the lease is not revoked: %+v, %v", l, err)
		}
	}
	if f.alive(resp.Principal) {
		f.t.Error("the lease is revoked and the credential is alive")
	}
}

// TestChildrenEndWithTheirParent: a key, an identity, a role or a mount goes, and what was issued under it with it.
func TestChildrenEndWithTheirParent(t *testing.T) {
	without := func(f *family, kind object.Kind, name string) error {
		return f.estate.DeleteObject(f.t.Context(), "test", kind, name, 0)
	}
	for sentence, end := range map[string]func(f *family) error{
		"the key is disabled":      func(f *family) error { return f.who().SetKeyDisabled(f.t.Context(), "test", "ci", f.key.KeyID, true) },
		"the key is deleted":       func(f *family) error { return f.who().DeleteKey(f.t.Context(), "test", "ci", f.key.KeyID) },
		"the identity is disabled": func(f *family) error { return f.who().SetDisabled(f.t.Context(), "test", "ci", true) },
		"the identity is disabled by a file": func(f *family) error {
			_, err := f.estate.Apply(f.t.Context(), "test", encode(f.t, &object.Identity{Name: "ci", Disabled: true}), false, nil)
			return err
		},
		"the identity is deleted": func(f *family) error { return without(f, object.KindIdentity, "ci") },
		"the role is deleted":     func(f *family) error { return without(f, object.KindProducer, "database/app") },
		"the mount is deleted with its roles": func(f *family) error {
			for _, name := range []string{"database/app", "database/other"} {
				if err := without(f, object.KindProducer, name); err != nil {
					return err
				}
			}
			return without(f, object.KindMount, "database")
		},
		"everything but the target is pruned": func(f *family) error {
			rec, err := f.estate.Object(f.t.Context(), object.KindTarget, "pg")
			if err != nil {
				return err
			}
			_, err = f.estate.Apply(f.t.Context(), "test", []object.Record{rec}, true, nil)
			return err
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			f := newFamily(t, "", 0)
			child := f.issue("app")
			if !f.alive(child.Principal) {
				t.Fatal("the credential was not made")
			}
			if err := end(f); err != nil {
				t.Fatal(err)
			}
			if l, err := f.leases.Lookup(t.Context(), child.Lease.ID); err != nil || l.State != broker.Revoking && l.State != broker.Revoked {
				t.Errorf("at once: got %+v, %v, want it revoking", l, err)
			}
			f.ended(child)
		})
	}
}

// TestWhatStaysWhenAnotherGoes: other keys' leases stay, as do other roles', and those that were promised to outlive.
func TestWhatStaysWhenAnotherGoes(t *testing.T) {
	f := newFamily(t, "outlive", 0)
	child := f.issue("app")
	if err := f.who().SetKeyDisabled(t.Context(), "test", "ci", f.key.KeyID, true); err != nil {
		t.Fatal(err)
	}
	if err := f.estate.DeleteObject(t.Context(), "test", object.KindProducer, "database/other", 0); err != nil {
		t.Fatal(err)
	}
	if l, err := f.leases.Lookup(t.Context(), child.Lease.ID); err != nil || l.State != broker.Active {
		t.Errorf("got %+v, %v, want it active", l, err)
	}
	if err := f.estate.DeleteObject(t.Context(), "test", object.KindTarget, "pg", 0); err == nil {
		t.Error("the target of an open lease was removed")
	}
}

// TestLeaseEndsWithItsToken: the key has two minutes and the role half an hour.
func TestLeaseEndsWithItsToken(t *testing.T) {
	f := newFamily(t, "", 2*time.Minute)
	resp := f.issue("app")
	if d := resp.Lease.Duration; d > 2*time.Minute || d < 110*time.Second {
		t.Errorf("got %v, want the two minutes that the token has", d)
	}
	if all := strings.Join(resp.Warnings, "; "); !strings.Contains(all, "the token that it was issued to ends at") || !strings.Contains(all, "and not 30m0s") {
		t.Errorf("got warnings %q", all)
	}
	_, warnings, err := f.leases.Renew(t.Context(), resp.Lease.ID, time.Hour)
	if all := strings.Join(warnings, "; "); err != nil || !strings.Contains(all, "the token that it was issued to ends at") {
		t.Errorf("renewed: got %q, %v", all, err)
	}
}

// TestNextStartEndsWhatACrashLeft: the key was switched off, and the process was killed before its leases were.
func TestNextStartEndsWhatACrashLeft(t *testing.T) {
	f := newFamily(t, "", 0)
	child := f.issue("app")
	if err := f.estate.manager.SetKeyDisabled(t.Context(), f.key.AccessID, f.key.KeyID, true); err != nil {
		t.Fatal(err)
	}
	if err := f.estate.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.ended(child)
}
