package storetest

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/rotation"
)

// RunAccounts runs the contract of rotation.Store. Each test has a store of its own.
func RunAccounts(t *testing.T, open func(t testing.TB) rotation.Store) {
	for title, test := range map[string]func(*testing.T, rotation.Store){
		"an account comes back as it was put":          accountComesBack,
		"a version counts from one":                    accountVersions,
		"a wrong version is ErrStale":                  accountStale,
		"an account is dropped in its version alone":   accountDropped,
		"what is not there is ErrNoAccount":            accountNotFound,
		"accounts are listed by mount and name":        accountOrder,
		"due ones come oldest first":                   accountsDue,
		"of many who begin a rotation one is let":      accountOneWins,
		"passwords are not on the disk":                accountSealed,
		"an account is there after the store's reopen": accountKept,
	} {
		t.Run(title, func(t *testing.T) { test(t, open(t)) })
	}
}

// newAccount is an account with every field set.
func newAccount(mount, name string, with ...func(*rotation.Account)) *rotation.Account {
	a := &rotation.Account{
		Mount: mount, Name: name, Target: "pg", Username: "user of " + name,
		Current: secret.New("current-of-" + name), Next: secret.New("next-of-" + name),
		Previous: secret.New("previous-of-" + name), Declared: secret.New("declared-of-" + name),
		RotatedAt: epoch(), NextAt: epoch().Add(time.Hour), Attempt: 3, Error: "the target did not answer",
	}
	for _, f := range with {
		f(a)
	}
	return a
}

func putAccount(t testing.TB, s rotation.Store, a *rotation.Account) *rotation.Account {
	t.Helper()
	if err := s.PutAccount(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	return a
}

func wantAccount(t testing.TB, s rotation.Store, want *rotation.Account) {
	t.Helper()
	got, err := s.Account(t.Context(), want.Mount, want.Name)
	if err != nil {
		t.Error(err)
		return
	}
	wantEqual(t, "account "+want.Mount+want.Name, got, want)
}

func accountComesBack(t *testing.T, s rotation.Store) {
	for _, name := range []string{"plain", "größe 🔑", "a|b", "it's", "100%_", ""} {
		wantAccount(t, s, putAccount(t, s, newAccount("database/", name)))
	}
	wantAccount(t, s, putAccount(t, s, newAccount("", "plain")))
	wantAccount(t, s, putAccount(t, s, newAccount("a/b/", "plain")))
	wantAccount(t, s, putAccount(t, s, &rotation.Account{Mount: "database/", Name: "bare"}))
	binary := newAccount("database/", "binary")
	binary.Current = secret.New("\x00\xff\xfe'\"")
	wantAccount(t, s, putAccount(t, s, binary))
}

func accountVersions(t *testing.T, s rotation.Store) {
	a := newAccount("database/", "app")
	for v := range int64(4) {
		a.Username, a.Target, a.Attempt = fmt.Sprint("user", v), fmt.Sprint("target", v), int(v)
		a.Next = secret.New(fmt.Sprint("next", v))
		if v == 2 {
			a.Next, a.NextAt, a.RotatedAt, a.Error = secret.Value{}, time.Time{}, time.Time{}, ""
		}
		putAccount(t, s, a)
		if a.Version != v+1 {
			t.Errorf("after put %d: got version %d", v+1, a.Version)
		}
		wantAccount(t, s, a)
	}
}

func accountStale(t *testing.T, s rotation.Store) {
	here := putAccount(t, s, newAccount("database/", "app"))
	putAccount(t, s, here)
	for title, a := range map[string]*rotation.Account{
		"an earlier version":      newAccount("database/", "app", atVersion(1)),
		"a later version":         newAccount("database/", "app", atVersion(3)),
		"as if it were not there": newAccount("database/", "app", atVersion(0)),
		"one that is not there":   newAccount("database/", "none", atVersion(1)),
		"one of another mount":    newAccount("other/", "app", atVersion(2)),
		"one of no mount":         newAccount("", "app", atVersion(2)),
	} {
		before := a.Version
		a.Username = "changed"
		if err := s.PutAccount(t.Context(), a); !errors.Is(err, rotation.ErrStale) {
			t.Errorf("%s: got %v, want ErrStale", title, err)
		}
		if a.Version != before {
			t.Errorf("%s: the version was changed to %d", title, a.Version)
		}
		wantAccount(t, s, here)
	}
	if all, err := s.Accounts(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("got %d accounts, %v, want 1", len(all), err)
	}
}

func atVersion(v int64) func(*rotation.Account) { return func(a *rotation.Account) { a.Version = v } }

func accountDropped(t *testing.T, s rotation.Store) {
	a := putAccount(t, s, newAccount("database/", "app"))
	other := putAccount(t, s, newAccount("", "app"))
	for title, b := range map[string]*rotation.Account{
		"another version":       newAccount("database/", "app", atVersion(2)),
		"version 0":             newAccount("database/", "app"),
		"one that is not there": newAccount("database/", "none", atVersion(1)),
	} {
		if err := s.DropAccount(t.Context(), b); !errors.Is(err, rotation.ErrStale) {
			t.Errorf("%s: got %v, want ErrStale", title, err)
		}
		wantAccount(t, s, a)
	}
	if err := s.DropAccount(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Account(t.Context(), "database/", "app"); !errors.Is(err, rotation.ErrNoAccount) {
		t.Errorf("after it was dropped: got %v, want ErrNoAccount", err)
	}
	wantAccount(t, s, other)
	a.Version = 0
	wantAccount(t, s, putAccount(t, s, a))
}

func accountNotFound(t *testing.T, s rotation.Store) {
	putAccount(t, s, newAccount("database/", "app"))
	for _, not := range [][2]string{{"database/", "ap"}, {"database/", "a%"}, {"database", "app"}, {"", "app"}, {"", "database/app"}, {"", ""}} {
		if _, err := s.Account(t.Context(), not[0], not[1]); !errors.Is(err, rotation.ErrNoAccount) {
			t.Errorf("%q: got %v, want ErrNoAccount", not, err)
		}
	}
}

func accountOrder(t *testing.T, s rotation.Store) {
	if all, err := s.Accounts(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("an empty store: got %d, %v", len(all), err)
	}
	want := []*rotation.Account{
		newAccount("", "Z"), newAccount("", "pg"), newAccount("a/", "x"), newAccount("b/", "a"), newAccount("b/", "b"), newAccount("é/", "a"),
	}
	for i := range want {
		putAccount(t, s, want[(i*5+3)%len(want)])
	}
	got, err := s.Accounts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "the accounts", got, want)
}

func accountsDue(t *testing.T, s rotation.Store) {
	for i, after := range []time.Duration{3, 1, 0, 5, 2, -time.Hour} {
		putAccount(t, s, newAccount("database/", fmt.Sprint("a", i), func(a *rotation.Account) { a.NextAt = epoch().Add(after) }))
	}
	putAccount(t, s, newAccount("", "never", func(a *rotation.Account) { a.NextAt = time.Time{} }))
	for _, tt := range []struct {
		now   time.Time
		limit int
		want  string
	}{
		{epoch().Add(3), 10, "[a5 a2 a1 a4 a0]"},
		{epoch().Add(3), 2, "[a5 a2]"},
		{epoch().Add(-time.Hour), 10, "[a5]"},
		{epoch().Add(-2 * time.Hour), 10, "[]"},
	} {
		due, err := s.DueAccounts(t.Context(), tt.now, tt.limit)
		if err != nil {
			t.Fatal(err)
		}
		names := make([]string, len(due))
		for i, a := range due {
			names[i] = a.Name
		}
		if got := fmt.Sprint(names); got != tt.want {
			t.Errorf("due at %v, %d of them: got %s, want %s", tt.now, tt.limit, got, tt.want)
		}
	}
}

func accountOneWins(t *testing.T, s rotation.Store) {
	putAccount(t, s, newAccount("database/", "app"))
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			a, err := s.Account(context.Background(), "database/", "app")
			if err != nil {
				t.Error(err)
				return
			}
			a.Version, a.Next = 1, secret.New(fmt.Sprint("next", i))
			switch err := s.PutAccount(context.Background(), a); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, rotation.ErrStale):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d were let, want 1", won.Load())
	}
}

func accountSealed(t *testing.T, s rotation.Store) {
	raw, ok := s.(Raw)
	if !ok {
		return // what is on its disk can't be read here
	}
	a := putAccount(t, s, newAccount("database/", "app"))
	disk := raw.Raw(t)
	if !bytes.Contains(disk, []byte(a.Username)) {
		t.Fatal("the username is not in what Raw gives, so that the test can't see anything")
	}
	for _, v := range []secret.Value{a.Current, a.Next, a.Previous, a.Declared} {
		plain := v.Reveal()
		for _, form := range []string{plain, base64.RawStdEncoding.EncodeToString([]byte(plain))[:12], fmt.Sprintf("%x", plain)} {
			if bytes.Contains(disk, []byte(form)) {
				t.Errorf("a password is readable on the disk as %q", form)
			}
		}
	}
}

func accountKept(t *testing.T, s rotation.Store) {
	a := putAccount(t, s, newAccount("database/", "app"))
	r, ok := s.(Reopener)
	if !ok {
		return // it keeps everything elsewhere
	}
	again, ok := r.Reopen(t).(rotation.Store)
	if !ok {
		t.Fatal("the reopened store keeps no accounts")
	}
	wantAccount(t, again, a)
}
