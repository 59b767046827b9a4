package auth_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/test/authtest"
)

func enter(w *authtest.World, name, password string) *authtest.Answer {
	return w.SendAs("", "PUT", "auth/userpass/login/"+name, map[string]string{"password": password})
}

func withUsers(t *testing.T, limits auth.Limits) *authtest.World {
	w := world(t, limits)
	w.Must("POST", "sys/auth/userpass", `{"type":"userpass"}`)
	w.Must("PUT", "auth/userpass/users/ann", `{"password":"x"}`)
	w.Must("PUT", "auth/userpass/users/bob", `{"password":"x"}`)
	return w
}

func TestLoginsFromOneAddressAreLimited(t *testing.T) {
	w := withUsers(t, auth.Limits{PerAddress: auth.Rate{PerSecond: 0.001, Burst: 3}})
	for i, name := range []string{"ann", "bob", "ann"} {
		if a := enter(w, name, "x"); a.Code != http.StatusOK {
			t.Fatalf("login %d: got %d %v", i+1, a.Code, a.Body)
		}
	}
	if a := enter(w, "bob", "x"); a.Code != http.StatusTooManyRequests || a.Header.Get("Retry-After") == "" {
		t.Errorf("got %d %v %v", a.Code, a.Header, a.Body)
	}
}

func TestLoginsWithOneNameAreLimited(t *testing.T) {
	w := withUsers(t, auth.Limits{PerName: auth.Rate{PerSecond: 0.001, Burst: 2}})
	enter(w, "ann", "x")
	enter(w, "ann", "x")
	if a := enter(w, "ann", "x"); a.Code != http.StatusTooManyRequests {
		t.Errorf("ann: got %d %v", a.Code, a.Body)
	}
	if a := enter(w, "bob", "x"); a.Code != http.StatusOK {
		t.Errorf("bob: got %d %v", a.Code, a.Body)
	}
}

func TestAnAddressThatGuessesIsSlowedDownWhateverTheNames(t *testing.T) {
	w := withUsers(t, auth.Limits{Wrong: auth.Rate{PerSecond: 0.001, Burst: 4}})
	for i := range 4 {
		if a := enter(w, fmt.Sprintf("guess%d", i), "x"); a.Code != http.StatusBadRequest {
			t.Fatalf("got %d %v", a.Code, a.Body)
		}
	}
	if a := enter(w, "ann", "x"); a.Code != http.StatusTooManyRequests {
		t.Errorf("got %d %v", a.Code, a.Body)
	}
}

func TestARightProofForgetsTheWrongOnes(t *testing.T) {
	w := withUsers(t, auth.Limits{})
	for range 3 {
		for range 4 {
			enter(w, "ann", "wrong")
		}
		if a := enter(w, "ann", "x"); a.Code != http.StatusOK {
			t.Fatalf("got %d %v", a.Code, a.Body)
		}
	}
}

// TestLockOutsInTime is about what a guard remembers, without servers.
func TestLockOutsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &auth.Mount{Type: "userpass", Accessor: "a"}
		g := auth.NewGuard(auth.Limits{Entries: 8})
		from := netip.MustParseAddr("192.0.2.1")
		for i := range 5 {
			if g.Locked(m, "ann") {
				t.Fatalf("locked out after %d", i)
			}
			g.Wrong(m, "ann", from, true)
		}
		for i := range 100 { // a flood of invented names makes nobody forget
			g.Wrong(m, fmt.Sprint("invented", i), from, false)
		}
		if !g.Locked(m, "ann") {
			t.Error("not locked out")
		}
		if g.Locked(&auth.Mount{Type: "userpass", Accessor: "b"}, "ann") {
			t.Error("locked out at another mount")
		}
		time.Sleep(15*time.Minute + time.Second)
		if g.Locked(m, "ann") {
			t.Error("locked out for longer than a quarter of an hour")
		}
		for range 4 {
			g.Wrong(m, "ann", from, true)
		}
		time.Sleep(16 * time.Minute)
		g.Wrong(m, "ann", from, true)
		if g.Locked(m, "ann") {
			t.Error("what is long past counts")
		}
		tuned := &auth.Mount{Type: "userpass", Accessor: "c", Tune: auth.Tune{Lockout: &auth.Lockout{Threshold: 2, Duration: time.Minute}}}
		g.Wrong(tuned, "ann", from, true)
		if g.Locked(tuned, "ann") {
			t.Error("locked out after one, where two are set")
		}
		g.Wrong(tuned, "ann", from, true)
		if !g.Locked(tuned, "ann") {
			t.Error("not locked out after two, as is set")
		}
		time.Sleep(time.Minute + time.Second)
		if g.Locked(tuned, "ann") {
			t.Error("locked out for longer than is set")
		}
		if n := g.Remembered(); n > 5*8 {
			t.Errorf("%d entries are remembered", n)
		}
	})
}

func TestOneHostsIPv6AddressesAreOne(t *testing.T) {
	m := &auth.Mount{Type: "jwt", Accessor: "a"}
	g := auth.NewGuard(auth.Limits{PerAddress: auth.Rate{PerSecond: 0.001, Burst: 1}})
	if err := g.Enter(m, "", netip.MustParseAddr("2001:db8::1")); err != nil {
		t.Fatal(err)
	}
	if g.Enter(m, "", netip.MustParseAddr("2001:db8::2")) == nil {
		t.Error("another address of the same network counts apart")
	}
	if err := g.Enter(m, "", netip.MustParseAddr("2001:db8:0:1::1")); err != nil {
		t.Errorf("another network does not: %v", err)
	}
}
