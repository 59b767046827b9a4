package usc_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/internal/vpath/vpathtest"
	"github.com/bailiff-secrets/bailiff/usc"
)

func TestASecretsLife(t *testing.T) {
	v := realVault(t)
	e := newEstate(t, v.Addr, v.RootToken, rules{"ann": everything}, usc.Config{})
	for _, c := range []struct {
		connector, id string
		versions      bool
	}{{"all", "secret/app/db", true}, {"one", "app/other", true}, {"all", "team/kv/db", true}, {"all", "old/app/db", false}, {"kv1", "app/other", false}} {
		t.Run(c.connector+" "+c.id, func(t *testing.T) {
			get := func(version int64) (*usc.Secret, error) {
				return e.Get(t.Context(), by("ann"), usc.GetInput{Connector: c.connector, SecretID: c.id, Version: version})
			}
			write := func(value string) usc.WriteInput {
				return usc.WriteInput{Connector: c.connector, SecretID: c.id, Value: object1("password", value)}
			}
			_, err := get(0)
			want(t, "get what is not there", err, "not found")
			_, err = e.Update(t.Context(), by("ann"), write("x"))
			want(t, "update what is not there", err, "not found")

			w, err := e.Create(t.Context(), by("ann"), write("first"))
			if err != nil {
				t.Fatalf("create: %v", err)
			}
			if w.ID != c.id || c.versions && w.Version != 1 {
				t.Errorf("created %+v, want %s in version 1", w, c.id)
			}
			_, err = e.Create(t.Context(), by("ann"), write("again"))
			want(t, "create what is there", err, "conflict")
			if _, err = e.Update(t.Context(), by("ann"), write("second")); err != nil {
				t.Fatalf("update: %v", err)
			}
			got, err := get(0)
			if err != nil {
				t.Fatalf("get: %v", err)
			}
			if got.Value.Reveal() != `{"password":"second"}` || got.Name != c.id {
				t.Errorf("got %s of %s", got.Value.Reveal(), got.Name)
			}
			first, err := get(1)
			if c.versions {
				if err != nil || first.Value.Reveal() != `{"password":"first"}` || first.Version != 1 || first.Created.IsZero() {
					t.Errorf("version 1: got %+v, %v", first, err)
				}
				_, err = get(7)
				want(t, "get a version that never was", err, "not found")
			} else {
				want(t, "get a version on KV v1", err, "invalid")
			}

			del := usc.DeleteInput{Connector: c.connector, SecretID: c.id}
			for range 2 {
				if _, err := e.Delete(t.Context(), by("ann"), del); err != nil {
					t.Fatalf("delete: %v", err)
				}
			}
			_, err = get(0)
			want(t, "get what is deleted", err, "not found")
			_, err = e.Update(t.Context(), by("ann"), write("x"))
			want(t, "update what is deleted", err, "not found")
			w, err = e.Create(t.Context(), by("ann"), write("third"))
			if err != nil || c.versions && w.Version != 3 {
				t.Errorf("create after delete: got %+v, %v, want version 3", w, err)
			}
			del.AllVersions = true
			if _, err := e.Delete(t.Context(), by("ann"), del); err != nil {
				t.Fatalf("delete all versions: %v", err)
			}
			if w, err = e.Create(t.Context(), by("ann"), write("anew")); err != nil || c.versions && w.Version != 1 {
				t.Errorf("create after deleting everything: got %+v, %v, want version 1", w, err)
			}
		})
	}
}

func TestBothWaysAtOnce(t *testing.T) {
	v := realVault(t)
	e := newEstate(t, v.Addr, v.RootToken, rules{"ann": everything}, usc.Config{})
	direct(t, v, http.MethodPost, "secret/data/app/native", `{"data":{"n":1234567,"f":1.5,"deep":{"a":[1,null]}}}`)
	got, err := e.Get(t.Context(), by("ann"), usc.GetInput{Connector: "all", SecretID: "secret/app/native"})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"deep":{"a":[1,null]},"f":1.5,"n":1234567}`; got.Value.Reveal() != want {
		t.Errorf("a value written at the Vault: got %s, want %s", got.Value.Reveal(), want)
	}
	in := usc.WriteInput{Connector: "all", SecretID: "secret/app/ours", Value: secret.New(`{"n":1234567}`)}
	if _, err := e.Create(t.Context(), by("ann"), in); err != nil {
		t.Fatal(err)
	}
	if _, body := direct(t, v, http.MethodGet, "secret/data/app/ours", ""); !strings.Contains(body, `{"n":1234567}`) {
		t.Errorf("a value written by USC: the Vault says %s", body)
	}
}

func TestNumbersAreKeptAsTheyCame(t *testing.T) {
	addr := fake(t, 200, `{"data":{"data":{ "n": 12345678901234567890, "f": 1.10, "t": "<&>" },"metadata":{"version":1}}}`)
	e := newEstate(t, addr, "root", rules{"ann": everything}, usc.Config{})
	got, err := e.Get(t.Context(), by("ann"), usc.GetInput{Connector: "one", SecretID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"n":12345678901234567890,"f":1.10,"t":"<&>"}`; got.Value.Reveal() != want {
		t.Errorf("got %s, want %s", got.Value.Reveal(), want)
	}
}

func TestOfManyWritersOneWins(t *testing.T) {
	v := realVault(t)
	e := newEstate(t, v.Addr, v.RootToken, rules{"ann": everything}, usc.Config{})
	race := func(write func(usc.WriteInput) error) (won, lost int) {
		var wg sync.WaitGroup
		errs := make([]error, 12)
		for i := range errs {
			wg.Go(func() {
				errs[i] = write(usc.WriteInput{Connector: "one", SecretID: "race", Value: object1("by", fmt.Sprint(i)), Expect: 1})
			})
		}
		wg.Wait()
		for _, err := range errs {
			switch kindOf(err) {
			case "ok":
				won++
			case "conflict":
				lost++
			default:
				t.Error(err)
			}
		}
		return won, lost
	}
	won, lost := race(func(in usc.WriteInput) error { _, err := e.Create(t.Context(), by("ann"), in); return err })
	if won != 1 || lost != 11 {
		t.Errorf("create: %d won and %d lost, want 1 and 11", won, lost)
	}
	won, lost = race(func(in usc.WriteInput) error { _, err := e.Update(t.Context(), by("ann"), in); return err })
	if won != 1 || lost != 11 {
		t.Errorf("update of version 1: %d won and %d lost, want 1 and 11", won, lost)
	}
}

func TestOneRuleGovernsBothDoors(t *testing.T) {
	v := realVault(t)
	who := rules{
		"ann": everything,
		"ben": `path "secret/data/app/*"  { capabilities = ["read"] }
		        path "secret/data/app/db" { capabilities = ["deny"] }`,
		"writer": `path "secret/data/app/*" { capabilities = ["update"] }`,
		"maker":  `path "secret/data/app/*" { capabilities = ["create"] }`,
		"reader": `path "secret/data/app/*" { capabilities = ["read", "update"] }`,
	}
	e := newEstate(t, v.Addr, v.RootToken, who, usc.Config{})
	direct(t, v, http.MethodPost, "secret/data/app/db", `{"data":{"a":"b"}}`)
	direct(t, v, http.MethodPost, "secret/data/app/api", `{"data":{"a":"b"}}`)
	get := func(id string) func(string) error {
		return func(who string) error {
			_, err := e.Get(t.Context(), by(who), usc.GetInput{Connector: "all", SecretID: id})
			return err
		}
	}
	write := func(op func(string, string, int64) error, id string, expect int64) func(string) error {
		return func(who string) error { return op(who, id, expect) }
	}
	create := func(who, id string, _ int64) error {
		_, err := e.Create(t.Context(), by(who), usc.WriteInput{Connector: "all", SecretID: id, Value: object1("a", "c")})
		return err
	}
	update := func(who, id string, expect int64) error {
		_, err := e.Update(t.Context(), by(who), usc.WriteInput{Connector: "all", SecretID: id, Value: object1("a", "c"), Expect: expect})
		return err
	}
	for _, c := range []struct {
		sentence, who string
		do            func(string) error
		want          string
	}{
		{"ben reads what his rule allows", "ben", get("secret/app/api"), "ok"},
		{"ben may not read what is denied", "ben", get("secret/app/db"), "denied"},
		{"ben may not read what no rule names", "ben", get("old/app/api"), "denied"},
		{"ben may not create", "ben", write(create, "secret/app/new", 0), "denied"},
		{"ben may not update", "ben", write(update, "secret/app/api", 0), "denied"},
		{"a stranger is not told apart", "eve", get("secret/app/api"), "unauthenticated"},
		{"a stranger doesn't learn which secrets there are", "eve", get("secret/app/none"), "unauthenticated"},
		{"one who may only create creates", "maker", write(create, "secret/app/made", 0), "ok"},
		{"one who may only create can't overwrite", "maker", write(create, "secret/app/api", 0), "denied"},
		{"one who may only update must know the version", "writer", write(update, "secret/app/api", 0), "denied"},
		{"one who may only update does so with the version", "writer", write(update, "secret/app/api", 1), "ok"},
		{"a wrong version is a conflict", "writer", write(update, "secret/app/api", 1), "conflict"},
		{"one who may read and update need not know it", "reader", write(update, "secret/app/api", 0), "ok"},
	} {
		t.Run(c.sentence, func(t *testing.T) { want(t, c.sentence, c.do(c.who), c.want) })
	}
}

func TestADeniedCallNeverReachesTheTarget(t *testing.T) {
	addr := fake(t, 200, `{"data":{"keys":["a"]}}`)
	e := newEstate(t, addr, "root", rules{"ben": `path "none" { capabilities = ["read"] }`}, usc.Config{})
	e.Get(t.Context(), by("ben"), usc.GetInput{Connector: "all", SecretID: "secret/app/db"})
	e.Delete(t.Context(), by("ben"), usc.DeleteInput{Connector: "all", SecretID: "secret/app/db", AllVersions: true})
	_, err := e.List(t.Context(), by("ben"), usc.ListInput{Connector: "one"})
	want(t, "list", err, "denied")
	if n := e.hits.Load(); n != 0 {
		t.Errorf("%d requests reached the target", n)
	}
	if diff := cmp.Diff([]string{
		"ben denied read secret/data/app/db", "ben denied delete secret/metadata/app/db", "ben denied list secret/metadata",
	}, e.records()); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

func TestOddSecretIDsAreRefusedAndRecorded(t *testing.T) {
	e := newEstate(t, fake(t, 200, `{"data":{}}`), "root", rules{"ann": everything}, usc.Config{})
	tried := 0
	for _, odd := range vpathtest.Odd {
		id, err := url.PathUnescape(odd.Escaped)
		if err != nil || strings.HasSuffix(id, "/") && !strings.HasSuffix(strings.TrimSuffix(id, "/"), "/") {
			continue // odd as a request target only
		}
		tried++
		in := usc.WriteInput{Connector: "all", SecretID: id, Value: object1("a", "b")}
		_, err = e.Get(t.Context(), by("ann"), usc.GetInput{Connector: "all", SecretID: id})
		want(t, "get with "+odd.Why, err, "invalid")
		_, err = e.Create(t.Context(), by("ann"), in)
		want(t, "create with "+odd.Why, err, "invalid")
		_, err = e.Update(t.Context(), by("ann"), in)
		want(t, "update with "+odd.Why, err, "invalid")
		_, err = e.Delete(t.Context(), by("ann"), usc.DeleteInput{Connector: "all", SecretID: id})
		want(t, "delete with "+odd.Why, err, "invalid")
		if id == "" {
			continue // everything
		}
		_, err = e.List(t.Context(), by("ann"), usc.ListInput{Connector: "all", Path: id})
		want(t, "list with "+odd.Why, err, "invalid")
	}
	if tried < 50 {
		t.Errorf("only %d odd ids were tried", tried)
	}
	if n := e.hits.Load(); n != 0 {
		t.Errorf("%d requests reached the target", n)
	}
	recs := e.records()
	if i := slices.IndexFunc(recs, func(r string) bool { return !strings.HasPrefix(r, "ann refused ") }); i >= 0 || len(recs) < tried*4 {
		t.Errorf("%d records, want at least %d, each a refusal", len(recs), tried*4)
	}
}

func TestWhatIsNotThere(t *testing.T) {
	e := newEstate(t, fake(t, 200, `{"data":{}}`), "root", rules{"ann": everything}, usc.Config{})
	for _, c := range []struct{ sentence, who, connector, id, want string }{
		{"a connector that is not there", "ann", "none", "secret/a", "not found"},
		{"a stranger can't tell a connector that is not there", "eve", "none", "secret/a", "unauthenticated"},
		{"a stranger can't tell a mount that is not there", "eve", "all", "elsewhere/a", "unauthenticated"},
		{"an id in no mount of the connector", "ann", "all", "elsewhere/a", "not found"},
		{"an id that is only a mount", "ann", "all", "secret", "not found"},
		{"a mount whose version is not known yet", "ann", "blank", "a", "unavailable"},
	} {
		_, err := e.Get(t.Context(), by(c.who), usc.GetInput{Connector: c.connector, SecretID: c.id})
		want(t, c.sentence, err, c.want)
	}
	_, err := e.List(t.Context(), by("ann"), usc.ListInput{Connector: "all", Path: "elsewhere"})
	want(t, "list in no mount of the connector", err, "not found")
	_, err = e.Create(t.Context(), by("ann"), usc.WriteInput{Connector: "all", SecretID: "secret/a", Value: secret.New(`["a"]`)})
	want(t, "a value that is no object", err, "invalid")
	_, err = e.Create(t.Context(), by("ann"), usc.WriteInput{Connector: "all", SecretID: "secret/a", Value: secret.New(`null`)})
	want(t, "a value that is null", err, "invalid")
	if n := e.hits.Load(); n != 0 {
		t.Errorf("%d requests reached the target", n)
	}
}

func TestWhatATargetAnswers(t *testing.T) {
	for _, c := range []struct {
		sentence string
		code     int
		body     string
		want     string
	}{
		{"its own no", 403, `{"errors":["1 error occurred:\n\t* permission denied\n\n"]}`, "forbidden"},
		{"a bad request", 400, `{"errors":["bad"]}`, "invalid"},
		{"no such route", 404, `{"errors":["no handler for route"]}`, "not found"},
		{"nothing there", 404, `{"errors":[]}`, "not found"},
		{"too many", 429, `{"errors":[]}`, "too many"},
		{"a failure", 500, `{"errors":["boom"]}`, "target down"},
		{"sealed", 503, `{"errors":["Vault is sealed"]}`, "target down"},
		{"not JSON", 200, `<html>secret</html>`, "target down"},
		{"not that of KV v2", 200, `{"data":{"password":"p4ss"}}`, "target down"},
		{"no data", 200, `{}`, "target down"},
		{"data that is no object", 200, `{"data":{"data":["x"],"metadata":{"version":1}}}`, "target down"},
		{"larger than the limit", 200, `{"data":{"data":{"a":"` + strings.Repeat("x", 5000) + `"},"metadata":{"version":1}}}`, "too large"},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			e := newEstate(t, fake(t, c.code, c.body), "root", rules{"ann": everything}, usc.Config{MaxAnswer: 4096})
			_, err := e.Get(t.Context(), by("ann"), usc.GetInput{Connector: "one", SecretID: "a"})
			want(t, "get", err, c.want)
			if err != nil && (strings.Contains(err.Error(), "p4ss") || strings.Contains(err.Error(), "<html>")) {
				t.Errorf("the error repeats the answer: %v", err)
			}
		})
	}
}

func TestAListOfAMountThatIsGoneIsNotEmpty(t *testing.T) {
	e := newEstate(t, fake(t, 404, `{"errors":["no handler for route"]}`), "root", rules{"ann": everything}, usc.Config{})
	_, err := e.List(t.Context(), by("ann"), usc.ListInput{Connector: "one"})
	want(t, "list", err, "not found")
}

func TestASecretThatWillBeDeletedIsStillThere(t *testing.T) {
	for at, expect := range map[string]string{"2999-01-02T03:04:05.6Z": "ok", "2001-01-02T03:04:05Z": "not found", "nonsense": "not found"} {
		body := `{"data":{"version":2,"current_version":1,"versions":{"1":{"deletion_time":"` + at + `","destroyed":false}}}}`
		e := newEstate(t, fake(t, 200, body), "root", rules{"ann": everything}, usc.Config{})
		_, err := e.Update(t.Context(), by("ann"), usc.WriteInput{Connector: "one", SecretID: "a", Value: object1("a", "b")})
		want(t, "update of a secret to be deleted at "+at, err, expect)
	}
}

func TestASecretIsNotPrinted(t *testing.T) {
	got := usc.Secret{ID: "a", Value: secret.New("hunter2")}
	in := usc.WriteInput{SecretID: "a", Value: secret.New("hunter2")}
	if s := fmt.Sprintf("%v %+v %#v %v", got, got, got, in); strings.Contains(s, "hunter2") {
		t.Errorf("printed: %s", s)
	}
}

func TestNoRecordNoSecret(t *testing.T) {
	e := newEstate(t, fake(t, 200, `{"data":{"data":{"a":"b"},"metadata":{"version":1}}}`), "root", rules{"ann": everything}, usc.Config{})
	e.trail.Close()
	got, err := e.Get(t.Context(), by("ann"), usc.GetInput{Connector: "one", SecretID: "a"})
	if !errors.Is(err, gate.ErrNoRecord) || got != nil {
		t.Errorf("got %v, %v, want no record", got, err)
	}
}
