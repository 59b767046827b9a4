package identity_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// keys is a KeyStore in memory, which can be told to fail.
type keys struct {
	mu   sync.Mutex
	m    map[string]identity.Key
	fail error
}

func (s *keys) PutKey(_ context.Context, k identity.Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	if s.m == nil {
		s.m = map[string]identity.Key{}
	}
	s.m[k.ID] = k
	return nil
}

func (s *keys) DeleteKey(_ context.Context, _, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, id)
	return s.fail
}

func (s *keys) Keys(context.Context) ([]identity.Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []identity.Key
	for _, k := range s.m {
		out = append(out, k)
	}
	return out, nil
}

const aliceID = "p-aaaaaaaaaaaaaaaa"

func manager(t *testing.T, store *keys) *identity.Manager {
	t.Helper()
	m, err := identity.NewManager(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	m.Use(identity.NewDirectory(
		[]identity.Identity{{Name: "alice", AccessID: aliceID, Roles: []string{"dev"}}, {Name: "off", AccessID: "p-bbbbbbbbbbbbbbbb", Disabled: true}},
		[]identity.Role{{Name: "dev", Policies: []string{"z", "a"}}, {Name: "ops", Policies: []string{"ops", "a"}, Identities: []string{"alice"}}}))
	return m
}

func addKey(t *testing.T, m *identity.Manager, id string, ttl time.Duration) (identity.Key, string) {
	t.Helper()
	k, v, err := m.AddKey(t.Context(), id, "", ttl)
	if err != nil {
		t.Fatal(err)
	}
	return k, v.Reveal()
}

func reason(t *testing.T, m *identity.Manager, token string) string {
	t.Helper()
	_, err := m.Authenticate(t.Context(), secret.New(token), netip.Addr{})
	if err == nil {
		return "let in"
	}
	if !errors.Is(err, identity.ErrUnauthenticated) || err.Error() != "permission denied" {
		t.Errorf("Authenticate(%q): got error %v, want one that says only permission denied", token, err)
	}
	var r *identity.Refusal
	if !errors.As(err, &r) {
		t.Fatalf("Authenticate(%q): no reason in %v", token, err)
	}
	return r.Reason
}

func TestAuthenticate(t *testing.T) {
	m := manager(t, &keys{})
	good, key := addKey(t, m, aliceID, 0)
	_, second := addKey(t, m, aliceID, 0)
	off, offKey := addKey(t, m, aliceID, 0)
	if err := m.SetKeyDisabled(t.Context(), aliceID, off.ID, true); err != nil {
		t.Fatal(err)
	}
	_, disabledIdentity := addKey(t, m, "p-bbbbbbbbbbbbbbbb", 0)

	for token, want := range map[string]string{
		"":                           "no token",
		"root":                       "malformed token",
		"hvs.CAESIabc":               "malformed token",
		aliceID:                      "malformed token",
		aliceID + "..":               "malformed token",
		".." + key:                   "malformed token",
		aliceID + "." + key:          "malformed token",
		"P-AAAAAAAAAAAAAAAA.." + key: "malformed token",
		aliceID + "\x00.." + key:     "malformed token",
		aliceID + ".." + strings.Repeat("k", 1e5): "malformed token",
		"p-cccccccccccccccc.." + key:              "unknown access id",
		aliceID + ".." + key + "x":                "wrong key",
		aliceID + ".." + strings.ToUpper(key):     "wrong key",
		aliceID + ".." + disabledIdentity:         "wrong key",
		aliceID + ".." + offKey:                   "key disabled",
		"p-bbbbbbbbbbbbbbbb.." + disabledIdentity: "identity disabled",
		aliceID + ".." + key:                      "let in",
		aliceID + ".." + second:                   "let in",
	} {
		if got := reason(t, m, token); got != want {
			t.Errorf("%.40q: got %q, want %q", token, got, want)
		}
	}

	c, err := m.Authenticate(t.Context(), secret.New(aliceID+".."+key), netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	want := identity.Caller{
		Name: "alice", AccessID: aliceID, KeyID: good.ID, Method: "api-key", Accessor: good.ID,
		Policies: []string{"a", "default", "ops", "z"}, IssuedAt: good.CreatedAt,
		DisplayName: "alice", EntityID: identity.EntityIDOf(aliceID), TokenPolicies: []string{"a", "default", "ops", "z"},
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("caller (-want +got):\n%s", diff)
	}
}

func TestKeysEndAtOnce(t *testing.T) {
	m := manager(t, &keys{})
	k, key := addKey(t, m, aliceID, 0)
	token := aliceID + ".." + key
	steps := []struct {
		do   func() error
		want string
	}{
		{func() error { return nil }, "let in"},
		{func() error { return m.SetKeyDisabled(t.Context(), aliceID, k.ID, true) }, "key disabled"},
		{func() error { return m.SetKeyDisabled(t.Context(), aliceID, k.ID, false) }, "let in"},
		{func() error { return m.DeleteKey(t.Context(), aliceID, k.ID) }, "wrong key"},
	}
	for i, s := range steps {
		if err := s.do(); err != nil {
			t.Fatal(err)
		}
		if got := reason(t, m, token); got != s.want {
			t.Errorf("step %d: got %q, want %q", i, got, s.want)
		}
	}
	if err := m.DeleteKey(t.Context(), aliceID, k.ID); !errors.Is(err, identity.ErrNoKey) {
		t.Errorf("second delete: got %v, want ErrNoKey", err)
	}
}

func TestKeyExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := manager(t, &keys{})
		_, key := addKey(t, m, aliceID, time.Hour)
		if got := reason(t, m, aliceID+".."+key); got != "let in" {
			t.Errorf("at first: got %q", got)
		}
		time.Sleep(time.Hour)
		if got := reason(t, m, aliceID+".."+key); got != "key expired" {
			t.Errorf("after an hour: got %q", got)
		}
	})
}

func TestKeysOutliveTheProcess(t *testing.T) {
	store := &keys{}
	_, key := addKey(t, manager(t, store), aliceID, 0)
	if got := reason(t, manager(t, store), aliceID+".."+key); got != "let in" {
		t.Errorf("after a restart: got %q, want let in", got)
	}
	for _, k := range store.m {
		if strings.Contains(string(k.Hash[:]), key) || strings.Contains(k.Note+k.ID, key) {
			t.Error("the store holds the key itself")
		}
	}
}

func TestKeyThatCouldNotBeKeptDoesNotCount(t *testing.T) {
	store := &keys{fail: errors.New("disk full")}
	m := manager(t, store)
	if _, v, err := m.AddKey(t.Context(), aliceID, "", 0); err == nil || !v.Empty() {
		t.Errorf("got key %v and error %v, want none and an error", v, err)
	}
	if n := len(m.Keys(aliceID)); n != 0 {
		t.Errorf("got %d keys, want none", n)
	}
}

func TestKeysAreRecognisable(t *testing.T) {
	m := manager(t, &keys{})
	_, key := addKey(t, m, aliceID, 0)
	if !identity.LooksLikeKey(key) {
		t.Errorf("a key of ours is not recognised")
	}
	flipped := []byte(key)
	flipped[10] ^= 1
	for _, other := range []string{string(flipped), key[1:], key + "a", "", "bk_"} {
		if identity.LooksLikeKey(other) {
			t.Errorf("%q is taken for a key", other)
		}
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	m, err := identity.NewManager(b.Context(), &keys{})
	if err != nil {
		b.Fatal(err)
	}
	m.Use(identity.NewDirectory([]identity.Identity{{Name: "alice", AccessID: aliceID}}, nil))
	_, v, err := m.AddKey(b.Context(), aliceID, "", 0)
	if err != nil {
		b.Fatal(err)
	}
	for name, token := range map[string]string{"good": aliceID + ".." + v.Reveal(), "wrong": aliceID + "..x", "unknown": "p-zzzzzzzzzzzzzzzz..x"} {
		tok := secret.New(token)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				m.Authenticate(b.Context(), tok, netip.Addr{}) //nolint:errcheck // refusals are part of it
			}
		})
	}
}
