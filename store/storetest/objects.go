package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

func objectTests() map[string]func(*testing.T, Store) {
	return map[string]func(*testing.T, Store){
		"an object comes back as it was written":          objectComesBack,
		"a version counts from one":                       objectVersions,
		"a wrong version is ErrConflict":                  objectConflicts,
		"one wrong version undoes the whole write":        objectAllOrNothing,
		"changes of one write see each other":             objectChangesInOrder,
		"objects are listed by kind and name":             objectOrder,
		"what is not there is ErrNotFound":                objectNotFound,
		"an unknown kind is refused":                      objectUnknownKind,
		"an ended context writes no object and no key":    objectEndedContext,
		"the same name is another object in each kind":    objectKindsApart,
		"an update replaces the secrets with those given": objectSecretsReplaced,
	}
}

// newObject is an object with every field set.
func newObject(kind object.Kind, name string) object.Record {
	return object.Record{
		Kind: kind, Name: name, Body: []byte(`{"name":"` + name + `"}`), Source: "apply", UpdatedAt: epoch(), UpdatedBy: "ann",
		Secrets: map[string]secret.Value{"token": secret.New("token of " + name)},
	}
}

func apply(t testing.TB, s Store, changes ...object.Change) {
	t.Helper()
	if err := s.Apply(t.Context(), changes); err != nil {
		t.Fatal(err)
	}
}

func wantObject(t testing.TB, s Store, want object.Record, version int64) {
	t.Helper()
	want.Version = version
	got, err := s.Object(t.Context(), want.Kind, want.Name)
	if err != nil {
		t.Error(err)
		return
	}
	wantEqual(t, fmt.Sprintf("%s %q", want.Kind, want.Name), got, want)
}

func wantNoObject(t testing.TB, s Store, kind object.Kind, name string) {
	t.Helper()
	if got, err := s.Object(t.Context(), kind, name); !errors.Is(err, object.ErrNotFound) {
		t.Errorf("%s %q: got %v, %v, want ErrNotFound", kind, name, got, err)
	}
}

func objectComesBack(t *testing.T, s Store) {
	for _, name := range []string{"plain", "database/readonly", "größe 🔑", "a|b", "it's", "100%_", ""} {
		o := newObject(object.KindProducer, name)
		apply(t, s, object.Change{Record: o})
		wantObject(t, s, o, 1)
	}
	binary := newObject(object.KindTarget, "binary")
	binary.Secrets = map[string]secret.Value{"bytes": secret.New("\x00\xff\xfe'\""), "empty": {}, "größe": secret.New("🔑")}
	apply(t, s, object.Change{Record: binary})
	wantObject(t, s, binary, 1)
	bare := object.Record{Kind: object.KindTarget, Name: "bare"}
	apply(t, s, object.Change{Record: bare})
	wantObject(t, s, bare, 1)
}

func objectVersions(t *testing.T, s Store) {
	o := newObject(object.KindRole, "r")
	for v := range int64(4) {
		o.Version = 77 // ignored
		o.Body = fmt.Appendf(nil, `{"n":%d}`, v)
		o.UpdatedAt, o.UpdatedBy, o.Source = epoch().Add(time.Duration(v)), fmt.Sprint("user", v), fmt.Sprint("source", v)
		apply(t, s, object.Change{Record: o, Expect: v})
		wantObject(t, s, o, v+1)
	}
	apply(t, s, object.Change{Record: o, Expect: 4, Delete: true})
	wantNoObject(t, s, o.Kind, o.Name)
	apply(t, s, object.Change{Record: o})
	wantObject(t, s, o, 1)
}

func objectConflicts(t *testing.T, s Store) {
	here := newObject(object.KindMount, "here")
	apply(t, s, object.Change{Record: here})
	apply(t, s, object.Change{Record: here, Expect: 1})
	changed := here
	changed.Body = []byte(`{}`)
	for title, c := range map[string]object.Change{
		"create what is there":            {Record: changed, Expect: 0},
		"update from an older version":    {Record: changed, Expect: 1},
		"update from a later version":     {Record: changed, Expect: 3},
		"update from a negative version":  {Record: changed, Expect: -1},
		"update what is not there":        {Record: newObject(object.KindMount, "none"), Expect: 1},
		"delete an older version":         {Record: changed, Expect: 1, Delete: true},
		"delete what is not there":        {Record: newObject(object.KindMount, "none"), Expect: 1, Delete: true},
		"delete what must not be there":   {Record: changed, Expect: 0, Delete: true},
		"update the same name elsewhere":  {Record: newObject(object.KindRole, "here"), Expect: 2},
		"update another case of the name": {Record: newObject(object.KindMount, "Here"), Expect: 2},
	} {
		if err := s.Apply(t.Context(), []object.Change{c}); !errors.Is(err, object.ErrConflict) {
			t.Errorf("%s: got %v, want ErrConflict", title, err)
		}
		wantObject(t, s, here, 2)
	}
	all, err := s.Objects(t.Context())
	if err != nil || len(all) != 1 {
		t.Errorf("got %d objects, %v, want 1", len(all), err)
	}
	apply(t, s, object.Change{Record: newObject(object.KindMount, "none"), Delete: true})
}

func objectAllOrNothing(t *testing.T, s Store) {
	a, b, c := newObject(object.KindTarget, "a"), newObject(object.KindMount, "b"), newObject(object.KindRole, "c")
	apply(t, s, object.Change{Record: a}, object.Change{Record: b})
	changed := a
	changed.Body = []byte(`{"changed":true}`)
	good := []object.Change{{Record: changed, Expect: 1}, {Record: b, Expect: 1, Delete: true}, {Record: c}}
	bad := object.Change{Record: newObject(object.KindPolicy, "p"), Expect: 5}
	for at := range len(good) + 1 {
		changes := append(append(append([]object.Change(nil), good[:at]...), bad), good[at:]...)
		if err := s.Apply(t.Context(), changes); !errors.Is(err, object.ErrConflict) {
			t.Errorf("with the wrong one at %d: got %v, want ErrConflict", at, err)
		}
		wantObject(t, s, a, 1)
		wantObject(t, s, b, 1)
		wantNoObject(t, s, c.Kind, c.Name)
	}
	apply(t, s, good...)
	wantObject(t, s, changed, 2)
	wantNoObject(t, s, b.Kind, b.Name)
	wantObject(t, s, c, 1)
	apply(t, s)
}

func objectChangesInOrder(t *testing.T, s Store) {
	o := newObject(object.KindTarget, "o")
	apply(t, s, object.Change{Record: o}, object.Change{Record: o, Expect: 1}, object.Change{Record: o, Expect: 2, Delete: true}, object.Change{Record: o})
	wantObject(t, s, o, 1)
	twice := []object.Change{{Record: o, Expect: 1}, {Record: o, Expect: 1}}
	if err := s.Apply(t.Context(), twice); !errors.Is(err, object.ErrConflict) {
		t.Errorf("the same version twice: got %v, want ErrConflict", err)
	}
	wantObject(t, s, o, 1)
}

func objectOrder(t *testing.T, s Store) {
	names := []string{"Z", "a", "a/b", "b", "é", "日"}
	var want []object.Record
	for _, kind := range object.Kinds {
		for _, name := range names {
			o := newObject(kind, name)
			o.Version = 1
			want = append(want, o)
		}
	}
	for i := range want {
		apply(t, s, object.Change{Record: want[(i*5+3)%len(want)]})
	}
	got, err := s.Objects(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "the objects", got, want)
}

func objectNotFound(t *testing.T, s Store) {
	apply(t, s, object.Change{Record: newObject(object.KindTarget, "here")})
	wantNoObject(t, s, object.KindTarget, "her")
	wantNoObject(t, s, object.KindTarget, "h%")
	wantNoObject(t, s, object.KindMount, "here")
	wantNoObject(t, s, "", "")
}

func objectUnknownKind(t *testing.T, s Store) {
	for _, kind := range []object.Kind{"", "Target", "unheard-of"} {
		changes := []object.Change{{Record: newObject(object.KindTarget, "good")}, {Record: newObject(kind, "x")}}
		if err := s.Apply(t.Context(), changes); err == nil || errors.Is(err, object.ErrConflict) {
			t.Errorf("kind %q: got %v, want an error that is not ErrConflict", kind, err)
		}
		wantNoObject(t, s, object.KindTarget, "good")
	}
}

func objectEndedContext(t *testing.T, s Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Apply(ctx, []object.Change{{Record: newObject(object.KindTarget, "x")}}); !errors.Is(err, context.Canceled) {
		t.Errorf("Apply: got %v, want context.Canceled", err)
	}
	if err := s.PutKey(ctx, newKey("p", "k")); !errors.Is(err, context.Canceled) {
		t.Errorf("PutKey: got %v, want context.Canceled", err)
	}
	wantNoObject(t, s, object.KindTarget, "x")
	wantKeys(t, s)
}

func objectKindsApart(t *testing.T, s Store) {
	for _, kind := range object.Kinds {
		o := newObject(kind, "same")
		o.Secrets = map[string]secret.Value{"token": secret.New("token of a " + string(kind))}
		apply(t, s, object.Change{Record: o})
		wantObject(t, s, o, 1)
	}
	apply(t, s, object.Change{Record: newObject(object.KindMount, "same"), Expect: 1, Delete: true})
	wantNoObject(t, s, object.KindMount, "same")
	if all, err := s.Objects(t.Context()); err != nil || len(all) != len(object.Kinds)-1 {
		t.Errorf("got %d objects, %v, want %d", len(all), err, len(object.Kinds)-1)
	}
}

func objectSecretsReplaced(t *testing.T, s Store) {
	o := newObject(object.KindTarget, "t")
	apply(t, s, object.Change{Record: o})
	o.Secrets = map[string]secret.Value{"password": secret.New("p")}
	apply(t, s, object.Change{Record: o, Expect: 1})
	wantObject(t, s, o, 2)
	o.Secrets = nil
	apply(t, s, object.Change{Record: o, Expect: 2})
	wantObject(t, s, o, 3)
}

func keyTests() map[string]func(*testing.T, Store) {
	return map[string]func(*testing.T, Store){
		"a key comes back as it was put":      keyComesBack,
		"a key is replaced by its id":         keyReplaced,
		"a key is deleted by both its names":  keyDeleted,
		"keys are listed by access id and id": keyOrder,
	}
}

func newKey(accessID, id string) identity.Key {
	k := identity.Key{ID: id, AccessID: accessID, Note: "of " + id, CreatedAt: epoch(), ExpiresAt: epoch().Add(time.Hour)}
	copy(k.Hash[:], "hash of "+id+"\x00\xff")
	return k
}

func putKey(t testing.TB, s Store, k identity.Key) identity.Key {
	t.Helper()
	if err := s.PutKey(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	return k
}

func wantKeys(t testing.TB, s Store, want ...identity.Key) {
	t.Helper()
	got, err := s.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "the keys", got, want)
}

func keyComesBack(t *testing.T, s Store) {
	wantKeys(t, s)
	full := putKey(t, s, newKey("p-1", "k-1"))
	full.Disabled, full.Note = true, "größe 🔑"
	putKey(t, s, full)
	bare := putKey(t, s, identity.Key{ID: "k-2", AccessID: "p-1"})
	wantKeys(t, s, full, bare)
}

func keyReplaced(t *testing.T, s Store) {
	putKey(t, s, newKey("p-1", "k-1"))
	other := putKey(t, s, newKey("p-1", "k-2"))
	k := newKey("p-2", "k-1")
	k.Hash[0]++
	k.Disabled, k.Note, k.ExpiresAt, k.CreatedAt = true, "", time.Time{}, epoch().Add(1)
	putKey(t, s, k)
	wantKeys(t, s, other, k)
}

func keyDeleted(t *testing.T, s Store) {
	k := putKey(t, s, newKey("p-1", "k-1"))
	other := putKey(t, s, newKey("p-1", "k-2"))
	for _, not := range [][2]string{{"p-2", "k-1"}, {"p-1", "k-3"}, {"p-1", ""}, {"", "k-1"}, {"p-1", "K-1"}, {"k-1", "p-1"}} {
		if err := s.DeleteKey(t.Context(), not[0], not[1]); err != nil {
			t.Errorf("deleting what is not there: %v", err)
		}
	}
	wantKeys(t, s, k, other)
	for range 2 {
		if err := s.DeleteKey(t.Context(), "p-1", "k-1"); err != nil {
			t.Fatal(err)
		}
		wantKeys(t, s, other)
	}
}

func keyOrder(t *testing.T, s Store) {
	want := []identity.Key{newKey("P", "k-6"), newKey("p", "k-3"), newKey("p", "k-4"), newKey("p1", "k-1"), newKey("q", "K-9"), newKey("q", "k-2"), newKey("é", "k-0")}
	for i := range want {
		putKey(t, s, want[(i*3+2)%len(want)])
	}
	wantKeys(t, s, want...)
}
