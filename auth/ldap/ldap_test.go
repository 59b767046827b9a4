package ldap_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	goldap "github.com/go-ldap/ldap/v3"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/auth/ldap"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
	"github.com/bailiff-secrets/bailiff/test/authtest"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func world(t *testing.T) *authtest.World {
	return authtest.New(t, authtest.Options{}, func(auth.AccessKeys) map[string]auth.Method {
		return map[string]auth.Method{"ldap": ldap.New()}
	})
}

// directory is a real server with a subtree of the test's own: ann, who is in staff and admins, and bob, who is in nothing.
type directory struct {
	*testenv.LDAPServer
	t    *testing.T
	conn *goldap.Conn
	base string
}

func newDirectory(t *testing.T) *directory {
	d := &directory{LDAPServer: testenv.LDAP(t), t: t}
	var err error
	d.conn, err = goldap.DialURL(d.URL)
	d.must(err)
	t.Cleanup(func() { d.conn.Close() })
	d.must(d.conn.Bind(d.AdminDN, d.AdminPassword))
	const root = "dc=example,dc=org"
	if err := d.add(root, "objectClass", "dcObject", "objectClass", "organization", "o", "ex", "dc", "example"); err != nil && !goldap.IsErrorWithCode(err, goldap.LDAPResultEntryAlreadyExists) {
		t.Fatal(err)
	}
	d.base = "ou=" + strings.ToLower(t.Name()) + "," + root
	d.must(d.add(d.base, "objectClass", "organizationalUnit", "ou", strings.ToLower(t.Name())))
	for _, ou := range []string{"people", "groups"} {
		d.must(d.add("ou="+ou+","+d.base, "objectClass", "organizationalUnit", "ou", ou))
	}
	d.person("ann", "Ann Other", "ann's password")
	d.person("bob", "Bob (the 2nd), Jr.", "bob's password")
	d.must(d.add("cn=Staff,ou=groups,"+d.base, "objectClass", "groupOfNames", "cn", "Staff", "member", d.dn("ann")))
	d.must(d.add("cn=admins,ou=groups,"+d.base, "objectClass", "groupOfUniqueNames", "cn", "admins", "uniqueMember", d.dn("ann")))
	return d
}

func (d *directory) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *directory) dn(uid string) string { return "uid=" + uid + ",ou=people," + d.base }

func (d *directory) add(dn string, attrs ...string) error {
	r := goldap.NewAddRequest(dn, nil)
	values := map[string][]string{}
	for i := 0; i < len(attrs); i += 2 {
		values[attrs[i]] = append(values[attrs[i]], attrs[i+1])
	}
	for name, v := range values {
		r.Attribute(name, v)
	}
	return d.conn.Add(r)
}

func (d *directory) person(uid, cn, password string) {
	d.must(d.add(d.dn(uid), "objectClass", "inetOrgPerson", "uid", uid, "cn", cn, "sn", uid, "userPassword", password))
}

// searching is a configuration that searches for users as the administrator.
func (d *directory) searching() map[string]any {
	return map[string]any{
		"url": d.URL, "userdn": "ou=people," + d.base, "userattr": "uid", "binddn": d.AdminDN, "bindpass": d.AdminPassword, "groupdn": "ou=groups," + d.base,
	}
}

func setUp(t *testing.T, config map[string]any) *authtest.World {
	w := world(t)
	w.Must("POST", "sys/auth/ldap", `{"type":"ldap"}`)
	w.Must("POST", "auth/ldap/config", config)
	return w
}

func try(w *authtest.World, name, password string) *authtest.Answer {
	return w.SendAs("", "POST", "auth/ldap/login/"+name, map[string]string{"password": password})
}

func TestADirectoryKnowsPasswordsAndGroups(t *testing.T) {
	d := newDirectory(t)
	w := setUp(t, d.searching())
	w.Must("POST", "auth/ldap/groups/staff", `{"policies":"p-staff"}`)
	w.Must("POST", "auth/ldap/groups/local", `{"policies":"p-local"}`)
	w.Must("POST", "auth/ldap/users/ann", `{"policies":"p-ann","groups":"local"}`)
	if a := try(w, "ANN", "ann's password"); a.Code != http.StatusOK {
		t.Fatalf("got %d %v", a.Code, a.Body)
	}
	s := w.Spec()
	if s.Alias != "ann" || !slices.Equal(s.Groups, []string{"Staff", "admins", "local"}) || !slices.Equal(s.Params.Policies, []string{"p-ann", "p-local", "p-staff"}) ||
		s.DisplayName != "ldap-ANN" || s.Claims["dn"] != d.dn("ann") {
		t.Errorf("got %+v", s)
	}
	if a := try(w, "bob", "bob's password"); a.Code != http.StatusOK || len(w.Spec().Groups) != 0 || !strings.Contains(fmt.Sprint(a.Body["warnings"]), "no LDAP groups found") {
		t.Errorf("bob: got %d %v", a.Code, a.Body)
	}
	d.must(d.conn.Del(goldap.NewDelRequest(d.dn("bob"), nil)))
	if a := try(w, "bob", "bob's password"); a.Code != http.StatusBadRequest {
		t.Errorf("bob, who is gone: got %d %v", a.Code, a.Body)
	}
}

func TestWrongPasswordsAndOddNamesAreRefusedAlike(t *testing.T) {
	d := newDirectory(t)
	direct := map[string]any{"url": d.URL, "userdn": "ou=people," + d.base, "userattr": "uid", "username_as_alias": true}
	for what, config := range map[string]map[string]any{"searching": d.searching(), "binding directly": direct} {
		w := setUp(t, config)
		for _, c := range [][2]string{
			{"ann", "wrong"}, {"nobody", "ann's password"}, {"*", "ann's password"}, {"ann)(uid=*", "ann's password"}, {"an*", "ann's password"},
			{"ann,ou=people", "ann's password"}, {"ann\\00", "ann's password"}, {"ann" + strings.Repeat("x", 300), "x"},
		} {
			a := try(w, c[0], c[1])
			if a.Code != http.StatusBadRequest || a.Errors() != "ldap operation failed: failed to bind as user" {
				if a.Code == http.StatusBadRequest && strings.Contains(a.Errors(), "path") {
					continue // not a path at all
				}
				t.Errorf("%s, %q: got %d %v", what, c[0], a.Code, a.Body)
			}
		}
		if a := try(w, "ann", ""); a.Code != http.StatusBadRequest || !strings.Contains(a.Errors(), "zero length") {
			t.Errorf("%s, no password: got %d %v", what, a.Code, a.Body)
		}
		if w.Logins() != 0 {
			t.Errorf("%s: somebody was let in", what)
		}
		if end := w.Records("auth/ldap/login/ann")[0]; end.Status != audit.Denied || !strings.Contains(end.Error, `"ann"`) {
			t.Errorf("%s: got the record %+v", what, end)
		}
		if a := try(w, "ann", "ann's password"); a.Code != http.StatusOK {
			t.Errorf("%s: got %d %v", what, a.Code, a.Body)
		}
		if found := w.Kept("ann's password"); found != "" {
			t.Errorf("the password is in %s", found)
		}
	}
}

func TestANameIsLockedOut(t *testing.T) {
	d := newDirectory(t)
	w := setUp(t, d.searching())
	for range 5 {
		try(w, "ann", "wrong")
	}
	if a := try(w, "Ann", "ann's password"); a.Code != http.StatusForbidden || a.Errors() != "permission denied" {
		t.Errorf("got %d %v", a.Code, a.Body)
	}
}

func TestADirectoryThatIsAwayIsNoJudgement(t *testing.T) {
	d := newDirectory(t)
	config := d.searching()
	config["url"] = "ldap://127.0.0.1:1"
	w := setUp(t, config)
	for range 6 {
		if a := try(w, "ann", "ann's password"); a.Code != http.StatusBadGateway {
			t.Fatalf("got %d %v", a.Code, a.Body)
		}
	}
	w.Must("POST", "auth/ldap/config", map[string]any{"url": "ldap://127.0.0.1:1," + d.URL})
	if a := try(w, "ann", "ann's password"); a.Code != http.StatusOK {
		t.Errorf("the second server: got %d %v", a.Code, a.Body)
	}
	w.Must("POST", "auth/ldap/config", map[string]any{"bindpass": "not the administrator's"})
	if a := try(w, "ann", "ann's password"); a.Code != http.StatusBadGateway {
		t.Errorf("a wrong bindpass: got %d %v", a.Code, a.Body)
	}
}

// TestAnswersAreVaults sends the same to a real Vault and to Bailiff, both in front of the same directory.
func TestAnswersAreVaults(t *testing.T) {
	d := newDirectory(t)
	w := world(t)
	const at = "auth/cmpldap/"
	config := fmt.Sprintf(`{"url":%q,"userdn":%q,"userattr":"uid","binddn":%q,"bindpass":%q,"groupdn":%q,"token_policies":"all","token_ttl":"10m"}`,
		d.URL, "ou=people,"+d.base, d.AdminDN, d.AdminPassword, "ou=groups,"+d.base)
	authtest.Compare(t, authtest.Vault(t), &w.Server, []authtest.Step{
		{Method: "POST", Path: "sys/auth/cmpldap", Body: `{"type":"ldap"}`},
		{Method: "PUT", Path: at + "login/ann", Body: `{"password":"x"}`, NoToken: true, Words: "auth method not configured", Code: 400},
		{Method: "POST", Path: at + "config", Body: `{"url":"ldap://x"}`, Code: 400, Words: "cannot derive UserBindDN"}, // Vault says so at the first login
		{Method: "POST", Path: at + "config", Body: `{"userdn":"x","tls_min_version":"odd"}`},
		{Method: "POST", Path: at + "config", Body: `{"userdn":"x","tls_min_version":"tls13","tls_max_version":"tls12"}`},
		{Method: "POST", Path: at + "config", Body: config},
		{Method: "GET", Path: at + "config"},
		{Method: "LIST", Path: at + "groups"},
		{Method: "GET", Path: at + "groups/x"},
		{Method: "POST", Path: at + "groups/Staff", Body: `{"policies":"b,A"}`},
		{Method: "GET", Path: at + "groups/staff"},
		{Method: "LIST", Path: at + "groups"},
		{Method: "POST", Path: at + "users/Ann", Body: `{"policies":"own","groups":"local,Other"}`},
		{Method: "GET", Path: at + "users/ann"},
		{Method: "LIST", Path: at + "users"},
		{Method: "PUT", Path: at + "login/ann", Body: `{}`, NoToken: true},
		{Method: "PUT", Path: at + "login/ann", Body: `{"password":"wrong"}`, NoToken: true, Code: 400, Words: "ldap operation failed: failed to bind as user"},
		{Method: "PUT", Path: at + "login/nobody", Body: `{"password":"wrong"}`, NoToken: true},
		{Method: "PUT", Path: at + "login/ann", Body: `{"password":"ann's password"}`, NoToken: true},
		{Method: "PUT", Path: at + "login/bob", Body: `{"password":"bob's password"}`, NoToken: true},
		{Method: "DELETE", Path: at + "users/ann"},
		{Method: "DELETE", Path: at + "groups/staff"},
		{Method: "GET", Path: at + "groups/staff"},
		{Method: "DELETE", Path: "sys/auth/cmpldap"},
	})
}
