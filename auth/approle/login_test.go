package approle_test

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/test/authtest"
)

// enabled is a world with AppRole at approle/ and the role ci.
func enabled(t *testing.T, role string) (w *authtest.World, roleID string) {
	w = world(t)
	w.Must("POST", "sys/auth/approle", `{"type":"approle"}`)
	w.Must("PUT", "auth/approle/role/ci", role)
	return w, w.Must("GET", "auth/approle/role/ci/role-id", nil).Text("data.role_id")
}

func login(w *authtest.World, roleID, id string) *authtest.Answer {
	return w.SendAs("", "POST", "auth/approle/login", map[string]string{"role_id": roleID, "secret_id": id})
}

func TestALoginSaysWhoItIs(t *testing.T) {
	w, roleID := enabled(t, `{"token_policies":"a","token_ttl":"5m","token_max_ttl":"10m","token_period":"1m","token_bound_cidrs":"127.0.0.1","token_num_uses":3}`)
	id := w.Must("PUT", "auth/approle/role/ci/secret-id", `{"metadata":"team=x"}`).Text("data.secret_id")
	if a := login(w, roleID, id); a.Code != http.StatusOK || a.Text("auth.metadata.team") != "x" {
		t.Fatalf("got %d %v", a.Code, a.Body)
	}
	s := w.Spec()
	if s.Alias != roleID || s.DisplayName != "approle-ci" || s.Role != "ci" || s.MountPath != "auth/approle/" || s.MountType != "approle" ||
		!strings.HasPrefix(s.MountAccessor, "auth_approle_") || s.Metadata["role_name"] != "ci" || s.AliasMetadata["team"] != "x" {
		t.Errorf("got %+v", s)
	}
	p := s.Params
	if p.TTL.Minutes() != 5 || p.MaxTTL.Minutes() != 10 || p.Period.Minutes() != 1 || p.Uses != 3 || p.Policies[0] != "a" || p.BoundCIDRs[0].String() != "127.0.0.1/32" {
		t.Errorf("got %+v", p)
	}
	end := w.Records("auth/approle/login")[0]
	if end.Stage != audit.StageResponse || end.Status != audit.OK || end.Identity != "approle-ci" || end.Method != "approle" || end.Mount != "auth/approle/" {
		t.Errorf("got the record %+v", end)
	}
}

func TestARefusedLoginIsRecordedWithItsNameAndNotItsProof(t *testing.T) {
	w, roleID := enabled(t, `{}`)
	if a := login(w, roleID, "sesame"); a.Code != http.StatusBadRequest || a.Errors() != "invalid role or secret ID" {
		t.Fatalf("got %d %v", a.Code, a.Body)
	}
	end := w.Records("auth/approle/login")[0]
	if end.Status != audit.Denied || !strings.Contains(end.Error, roleID) || !strings.Contains(end.Error, "wrong secret id") || strings.Contains(end.Error, "sesame") {
		t.Errorf("got the record %+v", end)
	}
}

func TestASecretIDIsGoodForSoManyLoginsAlsoWhenTheyMeet(t *testing.T) {
	w, roleID := enabled(t, `{"secret_id_num_uses":5}`)
	id := w.Must("PUT", "auth/approle/role/ci/secret-id", nil).Text("data.secret_id")
	var in, out atomic.Int32
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() {
			switch a := login(w, roleID, id); a.Code {
			case http.StatusOK:
				in.Add(1)
			case http.StatusBadRequest, http.StatusForbidden:
				out.Add(1)
			default:
				t.Errorf("got %d %v", a.Code, a.Body)
			}
		})
	}
	all.Wait()
	if in.Load() != 5 || out.Load() != 7 {
		t.Errorf("%d were let in and %d not, want 5 and 7", in.Load(), out.Load())
	}
}

func TestASecretIDIsGoodFromItsAddressesAlone(t *testing.T) {
	w, roleID := enabled(t, `{"secret_id_num_uses":1}`)
	id := w.Must("PUT", "auth/approle/role/ci/secret-id", `{"cidr_list":"10.0.0.0/8"}`).Text("data.secret_id")
	for range 2 { // a refused one does not use it up
		if a := login(w, roleID, id); a.Code != http.StatusBadRequest || !strings.Contains(a.Errors(), "unauthorized through CIDR restrictions on the secret ID") {
			t.Errorf("got %d %v", a.Code, a.Body)
		}
	}
	w.Must("PUT", "auth/approle/role/ci/token-bound-cidrs", `{"token_bound_cidrs":"10.0.0.0/8"}`)
	id = w.Must("PUT", "auth/approle/role/ci/secret-id", nil).Text("data.secret_id")
	if a := login(w, roleID, id); a.Code != http.StatusForbidden || w.Logins() != 0 {
		t.Errorf("a token bound to other addresses: got %d %v", a.Code, a.Body)
	}
}

func TestSecretIDsAreNotKept(t *testing.T) {
	w, _ := enabled(t, `{}`)
	id := w.Must("PUT", "auth/approle/role/ci/custom-secret-id", `{"secret_id":"a-canary-of-mine"}`)
	if id.Text("data.secret_id") != "a-canary-of-mine" {
		t.Fatal(id.Body)
	}
	if found := w.Kept("a-canary-of-mine"); found != "" {
		t.Errorf("it is in %s", found)
	}
}

func TestAnAccessKeyLogsInAsItsIdentity(t *testing.T) {
	w, _ := enabled(t, `{}`)
	if a := login(w, w.AccessID, w.Key); a.Code != http.StatusOK {
		t.Fatalf("got %d %v", a.Code, a.Body)
	}
	if s := w.Spec(); s.Identity != "app" || s.Alias != w.AccessID || s.Metadata["key_id"] == "" {
		t.Errorf("got %+v", s)
	}
	for _, wrong := range [][2]string{{w.AccessID, w.Key + "x"}, {w.AccessID, ""}, {"p-nosuchnosuchnos2", w.Key}} {
		if a := login(w, wrong[0], wrong[1]); a.Code != http.StatusBadRequest || a.Errors() != "invalid role or secret ID" {
			t.Errorf("got %d %v", a.Code, a.Body)
		}
	}
	if w.Logins() != 1 {
		t.Errorf("%d logins", w.Logins())
	}
}

func TestADeletedRoleLetsInNobodyAndItsNameCanBeUsedAgain(t *testing.T) {
	w, roleID := enabled(t, `{"role_id":"same"}`)
	id := w.Must("PUT", "auth/approle/role/ci/secret-id", nil).Text("data.secret_id")
	w.Must("DELETE", "auth/approle/role/ci", nil)
	w.Must("PUT", "auth/approle/role/ci", `{"role_id":"same"}`)
	if a := login(w, roleID, id); a.Code != http.StatusBadRequest {
		t.Errorf("got %d %v", a.Code, a.Body)
	}
}
