package postgres_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/producers/postgres"
)

func TestTargetIsChecked(t *testing.T) {
	for _, x := range []struct {
		sentence string
		spoil    func(*object.Target)
		want     string // in the error; empty: none
	}{
		{"a plain address", func(*object.Target) {}, ""},
		{"no database in it", func(o *object.Target) { o.Address = "postgres://db:5432" }, ""},
		{"a certificate and verify-full by default", func(o *object.Target) { o.TLSServerName = "db.internal" }, ""},
		{"not a URL", func(o *object.Target) { o.Address = "postgres://%zz" }, "not a URL"},
		{"another scheme", func(o *object.Target) { o.Address = "mysql://db" }, "must have the form"},
		{"no host", func(o *object.Target) { o.Address = "postgres:///app" }, "must have the form"},
		{"a password in it", func(o *object.Target) { o.Address = "postgres://u:canary-p@db/app" }, "fields of their own"},
		{"an unknown parameter", func(o *object.Target) { o.Address = "postgres://db/app?passfile=/etc/shadow" }, `unknown parameter "passfile"`},
		{"an unknown sslmode", func(o *object.Target) { o.Address = "postgres://db/app?sslmode=perhaps" }, "sslmode"},
		{"no user", func(o *object.Target) { o.Username = "" }, "username"},
		{"a certificate that is none", func(o *object.Target) { o.CACert = "x" }, "no PEM"},
		{"TLS settings without TLS", func(o *object.Target) {
			o.Address, o.TLSSkipVerify = "postgres://db/app?sslmode=disable", true
		}, "turns TLS off"},
	} {
		t.Run(x.sentence, func(t *testing.T) {
			o := object.Target{Name: "pg", Type: "postgres", Address: "postgres://db:5432/app", Username: "bailiff", Password: secret.New("canary-p")}
			x.spoil(&o)
			p, err := postgres.New(postgres.Config{Target: o})
			if err == nil {
				defer p.Close()
			}
			switch {
			case x.want == "" && err != nil:
				t.Errorf("got %v", err)
			case x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)):
				t.Errorf("got %v, want it to say %q", err, x.want)
			case err != nil && strings.Contains(err.Error(), "canary-p"):
				t.Errorf("the password is in %v", err)
			}
		})
	}
}

func TestRoleIsChecked(t *testing.T) {
	for _, x := range []struct {
		sentence string
		o        object.Producer
		want     string
	}{
		{"no creation statements", object.Producer{}, "CREATE ROLE"},
		{"nothing but a comment", object.Producer{CreationStatements: []string{"-- later;"}}, "CREATE ROLE"},
		{"no name in them", object.Producer{CreationStatements: []string{"CREATE ROLE x PASSWORD '{{password}}'"}}, "{{name}} and {{password}}"},
		{"no password in them", object.Producer{CreationStatements: []string{`CREATE ROLE "{{name}}"`}}, "{{name}} and {{password}}"},
		{"an unknown placeholder", object.Producer{CreationStatements: []string{creation, "SELECT '{{nmae}}'"}}, "{{nmae}}"},
		{"a password in a revocation", object.Producer{CreationStatements: []string{creation}, RevocationStatements: []string{`DROP ROLE "{{name}}" -- {{password}}` + "\n;SELECT '{{password}}'"}}, "{{password}}"},
		{"a revocation of nobody", object.Producer{CreationStatements: []string{creation}, RevocationStatements: []string{"SELECT 1"}}, "{{name}} must be"},
		{"a quote without an end", object.Producer{CreationStatements: []string{creation + "; SELECT 'x"}}, "no end"},
		{"an unknown way of passwords", object.Producer{CreationStatements: []string{creation}, PasswordAuth: "md5"}, "md5"},
		{"rounds below one", object.Producer{CreationStatements: []string{creation}, ScramIterations: -1}, "scram_iterations"},
		{"too many rounds", object.Producer{CreationStatements: []string{creation}, ScramIterations: 1 << 30}, "scram_iterations"},
	} {
		if _, err := postgres.NewRole(x.o); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: got %v, want it to say %q", x.sentence, err, x.want)
		}
	}
}

func TestRoleIsShownInVaultsNames(t *testing.T) {
	r, err := postgres.NewRole(object.Producer{CreationStatements: []string{creation}, RevocationStatements: []string{`DROP ROLE "{{name}}"`}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"creation_statements":   []string{creation},
		"renew_statements":      []string{},
		"revocation_statements": []string{`DROP ROLE "{{name}}"`},
		"rollback_statements":   []string{},
		"credential_type":       "password",
		"credential_config":     map[string]any{"password_authentication": "scram-sha-256", "scram_iterations": 4096},
	}
	if diff := cmp.Diff(want, r.Describe()); diff != "" {
		t.Error(diff)
	}
}
