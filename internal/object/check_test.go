package object_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

const canary = "canary-7d41f0"

// rec is an object with a body and, as "name=value", secrets.
func rec(kind object.Kind, name, body string, secrets ...string) object.Record {
	r := object.Record{Kind: kind, Name: name, Body: json.RawMessage(body), Source: object.SourceApply}
	for _, s := range secrets {
		field, value, _ := strings.Cut(s, "=")
		if r.Secrets == nil {
			r.Secrets = map[string]secret.Value{}
		}
		r.Secrets[field] = secret.New(value)
	}
	return r
}

// estate is a set of objects in which nothing is wrong.
func estate() []object.Record {
	return []object.Record{
		rec("target", "vault-a", `{"type":"vault","address":"http://127.0.0.1:8200","auth":{"method":"token"}}`, "token="+canary),
		rec("target", "vault-b", `{"type":"vault","address":"https://v.example.com/base","auth":{"method":"approle","role_id":"r","mount":"approle"}}`, "secret_id="+canary),
		rec("target", "pg", `{"type":"postgres","address":"postgres://127.0.0.1:5432/app?sslmode=disable","username":"bailiff","timeout":"5s"}`, "password="+canary),
		rec("target", "mine", `{"type":"postgres","address":"postgres://h/db","username":"b","mount":"team/db","allowed_roles":[],"root_rotation_statements":["x"]}`),
		rec("mount", "secret", `{"type":"vault","target":"vault-a","engine":"kv","kv_version":2}`),
		rec("mount", "transit", `{"type":"vault","target":"vault-a","engine":"transit"}`),
		rec("mount", "database", `{"type":"broker","max_ttl":"24h"}`),
		rec("mount", "team/db", `{"type":"broker"}`),
		rec("producer", "database/readonly", `{"target":"pg","default_ttl":"1h","max_ttl":"24h","creation_statements":["CREATE ROLE x"]}`),
		rec("producer", "team/db/ro", `{"target":"pg","creation_statements":["CREATE ROLE x"]}`),
		rec("static_role", "database/app", `{"target":"pg","username":"app","rotation_period":"24h"}`),
		rec("static_role", "team/db/app", `{"target":"mine","username":"app","rotation_schedule":"@daily"}`),
		rec("connector", "demo", `{"target":"vault-a"}`),
		rec("connector", "demo2", `{"mount":"secret"}`),
		rec("policy", "app", `{"rules":"path \"secret/data/app/*\" { capabilities = [\"read\"] }"}`),
		rec("role", "app", `{"policies":["app","default"],"identities":["ci"]}`),
		rec("role", "admin", `{"policies":["root"]}`),
		rec("identity", "ci", `{"roles":["app"],"metadata":{"team":"x"}}`),
		rec("identity", "anna@example.com", `{"access_id":"p-abc123"}`),
		rec("notify", "ops", `{"url":"https://alerts.example.com/b","events":["lease.expiring","lease.revoked"],"before":"10m","mounts":["database"],"roles":["team/db/ro"],"identities":["ci"]}`, "secret="+canary+"-of-16-bytes"),
	}
}

// hook is a webhook with a secret.
func hook(body string) object.Record {
	return rec("notify", "x", body, "secret="+canary+"-of-16-bytes")
}

func TestCheckFindsNothingInAGoodEstate(t *testing.T) {
	if err := object.Check(estate()); err != nil {
		t.Errorf("Check: %v", err)
	}
}

func TestCheck(t *testing.T) {
	tests := []struct {
		name string
		add  object.Record // added to the good estate, or put in the place of the object with its name
		want string        // in the error: where and what
	}{
		{"an unknown field", rec("target", "x", `{"tipe":"vault"}`), `target "x": tipe: there is no such field`},
		{"a secret in the body", rec("target", "x", `{"type":"vault","token":"`+canary+`"}`), `token: there is no such field: secrets stand beside`},
		{"a body of the wrong shape", rec("target", "x", `[]`), `it can't be a JSON array`},
		{"a body with a tail", rec("connector", "x", `{"target":"vault-a"} {}`), `more behind the end`},
		{"a body that is cut", rec("connector", "x", `{"target":`), `not one JSON object`},
		{"a field of the wrong type", rec("target", "x", `{"address":7}`), `address: it can't be a JSON number`},
		{"a body that names another", rec("mount", "x", `{"path":"y"}`), `path: the body names another object`},
		{"a duration that is none", rec("mount", "x", `{"type":"broker","max_ttl":"`+canary+`"}`), `max_ttl: not a duration`},
		{"a kind that is none", rec("widget", "x", `{}`), `kind: there is no such kind`},
		{"a secret that is none", rec("mount", "x", `{"type":"broker"}`, "token="+canary), `token: there is no such secret field`},
		{"a token without auth", rec("target", "x", `{"type":"vault","address":"http://a"}`, "token="+canary), `token: it is given, but`},

		{"a name with a slash", rec("target", "a/b", `{"type":"postgres"}`), `name: "a/b" can't be used: use letters`},
		{"a name that begins with a dot", rec("role", ".a", `{"policies":["app"]}`), `name: ".a" can't be used`},
		{"a name of 65 bytes", rec("role", strings.Repeat("a", 65), `{"policies":["app"]}`), `can't be used`},
		{"no name", rec("role", "", `{"policies":["app"]}`), `name: it is empty`},
		{"a target without a type", rec("target", "x", `{}`), `type: it is missing: write vault or postgres`},
		{"a target of no type", rec("target", "x", `{"type":"oracle"}`), `type: "oracle" is no type of target`},
		{"a relative address", rec("target", "vault-a", `{"type":"vault","address":"127.0.0.1:8200","auth":{"method":"token"}}`, "token=t"), `address: it is not an absolute http:// or https:// URL`},
		{"an address with a password", rec("target", "pg", `{"type":"postgres","username":"u","address":"postgres://u:`+canary+`@h/db"}`), `address: it holds a user or a password`},
		{"an address with a password parameter", rec("target", "pg", `{"type":"postgres","username":"u","address":"postgres://h/db?password=`+canary+`"}`), `address: it can't stand here: leave password out`},
		{"an address that can't be read", rec("target", "pg", `{"type":"postgres","username":"u","address":"postgres://u:`+canary+`@h:x/db"}`), `address: it is not an absolute postgres://`},
		{"an address of another kind", rec("target", "pg", `{"type":"postgres","username":"u","address":"http://h/db"}`), `address: it is not an absolute postgres://`},
		{"a vault address with a query", rec("target", "vault-a", `{"type":"vault","address":"http://h?x=1","auth":{"method":"token"}}`, "token=t"), `something behind the path`},
		{"a vault without auth", rec("target", "x", `{"type":"vault","address":"http://h"}`), `auth: it is missing`},
		{"a way to log in that is none", rec("target", "x", `{"type":"vault","address":"http://h","auth":{"method":"ldap"}}`), `auth.method: "ldap" is no way to log in`},
		{"a token that is missing", rec("target", "x", `{"type":"vault","address":"http://h","auth":{"method":"token"}}`), `token: it is missing`},
		{"an approle without its ids", rec("target", "x", `{"type":"vault","address":"http://h","auth":{"method":"approle"}}`), `secret_id: it is missing`},
		{"a database without a user", rec("target", "x", `{"type":"postgres","address":"postgres://h/db"}`), `username: it is missing`},
		{"a timeout below zero", rec("target", "pg", `{"type":"postgres","username":"u","address":"postgres://h/db","timeout":"-1s"}`), `timeout: it must lie between`},
		{"certificates that are none", rec("target", "pg", `{"type":"postgres","username":"u","address":"postgres://h/db","ca_cert":"x"}`), `ca_cert: it is not PEM`},

		{"a mount with an empty segment", rec("mount", "a//b", `{"type":"broker"}`), `path: "a//b" is not canonical`},
		{"a mount with a slash at its end", rec("mount", "a/", `{"type":"broker"}`), `is not canonical`},
		{"a mount with dots", rec("mount", "a/../b", `{"type":"broker"}`), `is not canonical`},
		{"a mount under sys", rec("mount", "sys/x", `{"type":"broker"}`), `path: paths under sys/ are Vault's own`},
		{"a mount under auth", rec("mount", "auth/x", `{"type":"broker"}`), `paths under auth/`},
		{"a mount named identity", rec("mount", "identity", `{"type":"broker"}`), `paths under identity/`},
		{"a mount named cubbyhole", rec("mount", "cubbyhole", `{"type":"broker"}`), `paths under cubbyhole/`},
		{"a mount in a mount", rec("mount", "secret/inner", `{"type":"broker"}`), `mount "secret/inner": path: it lies inside mount "secret"`},
		{"a mount of no type", rec("mount", "x", `{"type":"kv"}`), `type: "kv" is no type of mount`},
		{"a mount without a target", rec("mount", "x", `{"type":"vault"}`), `target: it is missing`},
		{"a mount on a database", rec("mount", "x", `{"type":"vault","target":"pg"}`), `target: target "pg" is of type postgres`},
		{"a mount on nothing", rec("mount", "x", `{"type":"vault","target":"nosuch"}`), `target: there is no target "nosuch"`},
		{"a broker mount with a target", rec("mount", "x", `{"type":"broker","target":"pg"}`), `target: it can't stand here`},
		{"a default over the max", rec("mount", "x", `{"type":"broker","default_ttl":"2h","max_ttl":"1h"}`), `default_ttl: it is longer than max_ttl`},
		{"a kv version of transit", rec("mount", "transit", `{"type":"vault","target":"vault-a","engine":"transit","kv_version":2}`), `kv_version: it can't stand here`},

		{"a producer without a mount", rec("producer", "x", `{"target":"pg","creation_statements":["x"]}`), `name: it has no mount`},
		{"a producer under a pass-through mount", rec("producer", "secret/x", `{"target":"pg","creation_statements":["x"]}`), `mount: mount "secret" is of type vault`},
		{"a producer under no mount", rec("producer", "nosuch/x", `{"target":"pg","creation_statements":["x"]}`), `mount: there is no mount "nosuch"`},
		{"a producer on a vault", rec("producer", "database/x", `{"target":"vault-a","creation_statements":["x"]}`), `target: target "vault-a" is of type vault`},
		{"a producer without statements", rec("producer", "database/x", `{"target":"pg"}`), `creation_statements: they are missing`},
		{"a default over the mount's max", rec("producer", "database/x", `{"target":"pg","creation_statements":["x"],"default_ttl":"48h"}`), `default_ttl: it is longer than the mount's`},

		{"a producer on another mount's target", rec("producer", "database/x", `{"target":"mine","creation_statements":["x"]}`), `target: target "mine" belongs to mount "team/db"`},
		{"a target of a pass-through mount", rec("target", "pg", `{"type":"postgres","username":"u","address":"postgres://h/db","mount":"transit"}`), `target "pg": mount: mount "transit" is of type vault`},
		{"a target of no mount", rec("target", "x", `{"type":"postgres","username":"u","address":"postgres://h/db","mount":"nosuch"}`), `mount: there is no mount "nosuch"`},
		{"allowed roles of a vault", rec("target", "x", `{"type":"vault","address":"http://h","allowed_roles":[]}`), `allowed_roles: it can't stand here`},

		{"a static role without a mount", rec("static_role", "x", `{"target":"pg","username":"app","rotation_period":"24h"}`), `name: it has no mount`},
		{"a static role on nothing", rec("static_role", "database/x", `{"target":"nosuch","username":"app","rotation_period":"24h"}`), `target: there is no target "nosuch"`},
		{"a static role on a vault", rec("static_role", "database/x", `{"target":"vault-a","username":"app","rotation_period":"24h"}`), `target: target "vault-a" is of type vault`},
		{"a static role under a pass-through mount", rec("static_role", "secret/x", `{"target":"pg","username":"app","rotation_period":"24h"}`), `mount: mount "secret" is of type vault`},
		{"a static role without an account", rec("static_role", "database/x", `{"target":"pg","rotation_period":"24h"}`), `username: it is missing`},
		{"a static role without a period", rec("static_role", "database/x", `{"target":"pg","username":"app"}`), `rotation_period: it is missing`},
		{"a static role of a second", rec("static_role", "database/x", `{"target":"pg","username":"app","rotation_period":"1s"}`), `rotation_period: it must lie between 5s`},
		{"a static role on another mount's target", rec("static_role", "database/x", `{"target":"mine","username":"app","rotation_period":"24h"}`), `target: target "mine" belongs to mount "team/db"`},
		{"a second static role of one account", rec("static_role", "team/db/x", `{"target":"pg","username":"app","rotation_period":"24h"}`), `username: static role "database/app" has the same account`},
		{"a period that is none", rec("static_role", "database/x", `{"target":"pg","username":"app","rotation_period":"soon"}`), `rotation_period: not a duration`},
		{"a static role of two times", rec("static_role", "database/x", `{"target":"pg","username":"app","rotation_period":"24h","rotation_schedule":"@daily"}`), `rotation_schedule: it is given beside`},
		{"a static role of Bailiff's own user", rec("static_role", "database/x", `{"target":"pg","username":"bailiff","rotation_period":"24h"}`), `username: as "bailiff" Bailiff itself works`},

		{"a connector of nothing", rec("connector", "x", `{}`), `target: it is missing`},
		{"a connector of two", rec("connector", "x", `{"target":"vault-a","mount":"secret"}`), `mount: a connector has a target or a mount`},
		{"a connector of transit", rec("connector", "x", `{"mount":"transit"}`), `mount: mount "transit" is no KV mount`},
		{"a connector of a broker mount", rec("connector", "x", `{"mount":"database"}`), `mount "database" is no KV mount`},
		{"a connector of a database", rec("connector", "x", `{"target":"pg"}`), `target "pg" is of type postgres`},

		{"a policy named root", rec("policy", "root", `{"rules":"x"}`), `name: it can't stand here`},
		{"a policy in capitals", rec("policy", "App", `{"rules":"x"}`), `name: it has capital letters`},
		{"a policy without rules", rec("policy", "x", `{"rules":" "}`), `rules: it is missing`},
		{"a role of an unknown policy", rec("role", "x", `{"policies":["nosuch"]}`), `policies: there is no policy "nosuch"`},
		{"a role of an unknown identity", rec("role", "x", `{"policies":["app"],"identities":["nosuch"]}`), `identities: there is no identity "nosuch"`},
		{"a role with root and more", rec("role", "x", `{"policies":["app","root"]}`), `policies: root stands alone`},
		{"a role without policies", rec("role", "x", `{}`), `policies: they are missing`},
		{"a role that says it twice", rec("role", "x", `{"policies":["app","app"]}`), `policies: "app" is there twice`},
		{"an identity of an unknown role", rec("identity", "x", `{"roles":["nosuch"]}`), `roles: there is no role "nosuch"`},
		{"an access id of another form", rec("identity", "x", `{"access_id":"abc"}`), `access_id: it has not the form`},
		{"an access id of another", rec("identity", "x", `{"access_id":"p-abc123"}`), `access_id: identity "anna@example.com" has the same`},

		{"a webhook without a URL", hook(`{"events":["lease.revoked"]}`), `url: it is missing`},
		{"a webhook's URL with a user", hook(`{"url":"https://u:` + canary + `@h/x","events":["lease.revoked"]}`), `url: it holds a user`},
		{"a webhook's URL with a query", hook(`{"url":"https://h/x?token=` + canary + `","events":["lease.revoked"]}`), `url: it holds a user, or something behind the path`},
		{"a webhook's URL of another kind", hook(`{"url":"ftp://h/x","events":["lease.revoked"]}`), `url: it is not an absolute https:// or http://`},
		{"a webhook without a secret", rec("notify", "x", `{"url":"https://h","events":["lease.revoked"]}`), `secret: it is missing`},
		{"a webhook with a short secret", rec("notify", "x", `{"url":"https://h","events":["lease.revoked"]}`, "secret=too-short"), `secret: it is shorter than 16 bytes`},
		{"a webhook's secret in its body", hook(`{"url":"https://h","events":["lease.revoked"],"secret":"` + canary + `"}`), `secret: there is no such field: secrets stand beside`},
		{"a webhook with a token", rec("notify", "x", `{"url":"https://h","events":["lease.revoked"]}`, "token="+canary), `token: there is no such secret field`},
		{"a webhook of nothing", hook(`{"url":"https://h"}`), `events: it is missing`},
		{"a webhook of an event that is none", hook(`{"url":"https://h","events":["lease.lost"]}`), `events: there is no event "lease.lost": use lease.expiring,`},
		{"a webhook that says it twice", hook(`{"url":"https://h","events":["lease.revoked","lease.revoked"]}`), `events: "lease.revoked" is there twice`},
		{"a webhook that doesn't say when", hook(`{"url":"https://h","events":["lease.expiring"]}`), `before: it is missing`},
		{"a webhook that says when of nothing", hook(`{"url":"https://h","events":["lease.revoked"],"before":"1m"}`), `before: it is for lease.expiring`},
		{"a webhook long before", hook(`{"url":"https://h","events":["lease.expiring"],"before":"721h"}`), `before: it must lie between`},
		{"a webhook of a mount with a slash", hook(`{"url":"https://h","events":["lease.revoked"],"mounts":["database/"]}`), `mounts: "database/" is not canonical`},
		{"a webhook with certificates that are none", hook(`{"url":"https://h","events":["lease.revoked"],"ca_cert":"x"}`), `ca_cert: it is not PEM`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := object.Check(replace(estate(), tt.add))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want an error with %q", err, tt.want)
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("the error shows a value: %v", err)
			}
			var p *object.Problem
			if !errors.As(err, &p) || p.Kind != tt.add.Kind || p.Name != tt.add.Name {
				t.Errorf("got problem %+v, want one of %s %q", p, tt.add.Kind, tt.add.Name)
			}
		})
	}
}

func TestCheckRefusesAnObjectThatIsThereTwice(t *testing.T) {
	err := object.Check(append(estate(), rec("role", "app", `{"policies":["app"]}`)))
	if err == nil || !strings.Contains(err.Error(), `role "app": it is there twice`) {
		t.Errorf("got %v", err)
	}
}

func TestCheckReportsEverything(t *testing.T) {
	err := object.Check([]object.Record{
		rec("role", "a", `{"policies":["x"]}`), rec("role", "b", `{"policies":["y"]}`), rec("mount", "m", `{"type":"q"}`),
	})
	for _, want := range []string{`"x"`, `"y"`, `"q"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to say %s", err, want)
		}
	}
}

func TestCheckWithAsksItsHooks(t *testing.T) {
	var asked []string
	no := func(what string) error { asked = append(asked, what); return fmt.Errorf("no to %s", what) }
	err := object.CheckWith(estate(), object.Hooks{
		Policy: func(name, _ string) error { return no("policy " + name) },
		Producer: func(p object.Producer, typ string) error {
			return no("producer " + p.Mount + "/" + p.Name + " on " + typ)
		},
		Target: func(x object.Target) error { return no("target " + x.Name) },
	})
	if got, want := len(asked), 7; got != want {
		t.Errorf("got %d questions %q, want %d", got, asked, want)
	}
	for _, what := range asked {
		if err == nil || !strings.Contains(err.Error(), "no to "+what) {
			t.Errorf("the answer to %q is lost: %v", what, err)
		}
	}
}

func replace(list []object.Record, r object.Record) []object.Record {
	for i := range list {
		if list[i].Kind == r.Kind && list[i].Name == r.Name {
			list[i] = r
			return list
		}
	}
	return append(list, r)
}
