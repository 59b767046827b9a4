package sys_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/hvp"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

const tokenApp = `path "auth/token/create" { capabilities = ["update"] }
path "auth/token/create/*" { capabilities = ["update"] }
path "auth/token/renew" { capabilities = ["update"] }
path "auth/token/lookup" { capabilities = ["update"] }
path "auth/token/lookup-accessor" { capabilities = ["update"] }
path "auth/token/revoke-orphan" { capabilities = ["update"] }
path "auth/token/create-orphan" { capabilities = ["update", "sudo"] }`

// tokenSides are a real Vault and Bailiff with the same policy and callers, and no mounts.
func tokenSides(t *testing.T) (vault, bailiff *server, w *world) {
	v := testenv.NewVault(t)
	vault = &server{t: t, addr: v.Addr, tokens: map[string]string{"root": v.RootToken, "bad": "nosuch"}}
	body, err := json.Marshal(map[string]string{"policy": tokenApp})
	must(t, err)
	vault.set("PUT", "sys/policies/acl/app", string(body))
	for who, body := range map[string]string{"ci": `{"policies":["app"]}`, "nobody": `{"policies":["default"]}`} {
		vault.tokens[who] = vault.set("POST", "auth/token/create", body)["auth"].(map[string]any)["client_token"].(string)
	}
	w = newWorld(t, tokenApp, nil)
	h, err := hvp.New(hvp.Config{Gate: w.gate, Info: func(context.Context) hvp.Info { return hvp.Info{} }, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	front := httptest.NewServer(h)
	t.Cleanup(front.Close)
	bailiff = &server{t: t, addr: front.URL, tokens: map[string]string{"bad": "nosuch"}}
	for who, token := range w.tokens {
		bailiff.tokens[who] = token.Reveal()
	}
	return vault, bailiff, w
}

// ask is one request of a script: $x and $x.a stand for the token that was kept as x, and its accessor.
type ask struct{ who, method, path, body, keep string }

func asks(script string) []ask {
	var out []ask
	for line := range strings.SplitSeq(script, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		line, keep, _ := strings.Cut(line, " > ")
		f := strings.SplitN(line, " ", 4)
		f = append(f, "")
		out = append(out, ask{f[0], f[1], f[2], f[3], keep})
	}
	return out
}

const tokenScript = `
# making
root POST auth/token/create {} > rootchild
root POST auth/token/create {"policies":["app"]} > app
ci POST auth/token/create {} > inherits
ci POST auth/token/create {"policies":["default"],"ttl":"10m","display_name":"a b/c."} > short
ci POST auth/token/create {"policies":["other"]}
ci POST auth/token/create {"policies":["root"]}
ci POST auth/token/create {"policies":["app"],"no_default_policy":true} > nodefault
ci POST auth/token/create {"policies":["APP"," default "],"meta":{"a":"b"}} > meta
ci POST auth/token/create {"ttl":"800h"}
ci POST auth/token/create {"ttl":3600,"explicit_max_ttl":"30m"} > capped
ci POST auth/token/create {"ttl":"-5s"}
ci POST auth/token/create {"ttl":"x"}
ci POST auth/token/create {"explicit_max_ttl":"-1h"}
ci POST auth/token/create {"period":"1h"}
ci POST auth/token/create {"period":"-1h"}
ci POST auth/token/create {"no_parent":true}
ci POST auth/token/create {"id":"mine"}
ci POST auth/token/create {"num_uses":-1}
ci POST auth/token/create {"type":"odd"}
ci POST auth/token/create {"policies":["app","response-wrapping"]}
root POST auth/token/create {"policies":["response-wrapping"]}
root POST auth/token/create {"entity_alias":"x"}
root POST auth/token/create {"unknown":1,"policies":"app"}
root POST auth/token/create {"policies":["nosuch","app"],"renewable":false} > fixed
root POST auth/token/create {"policies":["app"],"period":"20m"} > periodic
root POST auth/token/create {"policies":["app"],"period":"20m","explicit_max_ttl":"1h"} > bounded
root POST auth/token/create {"policies":["app"],"num_uses":3,"renewable":"true"} > few
root POST auth/token/create {"ttl":"1h"} > rootttl
root POST auth/token/create {"policies":["app"],"no_parent":true} > orphan
ci POST auth/token/create-orphan {"policies":["default"]} > orphan2
$rootttl POST auth/token/create {}
$rootttl POST auth/token/create {"ttl":"5m"} > rootttl2
nobody POST auth/token/create {}
bad POST auth/token/create {}
GET-nothing GET auth/token/lookup-self

# looking
$app GET auth/token/lookup-self
$short GET auth/token/lookup-self
$rootchild GET auth/token/lookup-self
$meta GET auth/token/lookup-self
$capped GET auth/token/lookup-self
$periodic GET auth/token/lookup-self
$bounded GET auth/token/lookup-self
$fixed GET auth/token/lookup-self
$orphan GET auth/token/lookup-self
$orphan2 GET auth/token/lookup-self
$few GET auth/token/lookup-self
$few POST auth/token/create {}
root POST auth/token/lookup {"token":"$few"}
root POST auth/token/lookup {"token":"$short"}
root POST auth/token/lookup {"token":"nosuch"}
root POST auth/token/lookup-accessor {"accessor":"$short.a"}
root POST auth/token/lookup-accessor {"accessor":"nosuch"}
root POST auth/token/lookup-accessor {}
nobody POST auth/token/lookup {"token":"$short"}
root POST sys/capabilities-accessor {"accessor":"$app.a","path":"auth/token/create"}
root POST sys/capabilities-accessor {"accessor":"nosuch","path":"auth/token/create"}
root POST sys/capabilities {"token":"$app","path":"auth/token/create"}
$app POST sys/capabilities-self {"path":"auth/token/create"}
ci LIST auth/token/accessors

# renewing
$app POST auth/token/renew-self {}
$short POST auth/token/renew-self {"increment":"5m"}
$short POST auth/token/renew-self {"increment":"1h"}
$short GET auth/token/lookup-self
$capped POST auth/token/renew-self {"increment":7200}
$periodic POST auth/token/renew-self {"increment":"5h"}
$bounded POST auth/token/renew-self {}
$fixed POST auth/token/renew-self {}
$rootchild POST auth/token/renew-self {}
root POST auth/token/renew {"token":"$short","increment":"15m"}
root POST auth/token/renew {"token":"nosuch"}
root POST auth/token/renew {}
root POST auth/token/renew-accessor {"accessor":"$short.a"}
root POST auth/token/renew-accessor {"accessor":"nosuch"}
root POST auth/token/renew-accessor {}
$app POST auth/token/renew-self {"increment":"1000h"}

# roles
root POST auth/token/roles/r1 {}
root GET auth/token/roles/r1
root POST auth/token/roles/r2 {"allowed_policies":"app,default","orphan":true,"token_period":"1h","path_suffix":"v-1","token_bound_cidrs":["127.0.0.0/8","::1"],"renewable":false}
root GET auth/token/roles/r2
root POST auth/token/roles/r3 {"disallowed_policies":["app"],"period":"2h","token_period":"1h","explicit_max_ttl":"9h","bound_cidrs":"127.0.0.1"}
root GET auth/token/roles/r3
root POST auth/token/roles/r4 {"allowed_policies_glob":["a*"],"disallowed_policies_glob":"*x","token_num_uses":7,"token_explicit_max_ttl":"30m","token_no_default_policy":true}
root GET auth/token/roles/r4
root POST auth/token/roles/r5 {"token_type":"odd"}
root POST auth/token/roles/r5 {"token_type":"batch"}
root POST auth/token/roles/r5 {"token_type":null}
root POST auth/token/roles/r5 {"path_suffix":"a..b"}
root POST auth/token/roles/r5 {"path_suffix":"/"}
root POST auth/token/roles/r6 {"token_explicit_max_ttl":"900h"}
root POST auth/token/roles/r1 {"renewable":false}
root GET auth/token/roles/r1
root GET auth/token/roles/nosuch
root LIST auth/token/roles
nobody LIST auth/token/roles
ci POST auth/token/create/r1 {} > byr1
$byr1 GET auth/token/lookup-self
ci POST auth/token/create/r2 {} > byr2
$byr2 GET auth/token/lookup-self
ci POST auth/token/create/r2 {"policies":["other"]}
ci POST auth/token/create/r2 {"period":"5m"}
root POST auth/token/create/r2 {"period":"5m"} > period2
$period2 GET auth/token/lookup-self
ci POST auth/token/create/r3 {"policies":["app"]}
ci POST auth/token/create/r3 {"policies":["other"],"explicit_max_ttl":"1h"} > byr3
$byr3 GET auth/token/lookup-self
ci POST auth/token/create/r4 {"policies":["abc"]} > byr4
ci POST auth/token/create/r4 {"policies":["abx"]}
ci POST auth/token/create/r4 {"policies":["b"]}
ci POST auth/token/create/r4 {"num_uses":9} > byr4b
ci POST auth/token/create/nosuch {}
$byr2 POST auth/token/renew-self {}
root DELETE auth/token/roles/r1
root DELETE auth/token/roles/r1
root GET auth/token/roles/r1
$byr3 POST auth/token/renew-self {}

# ending
ci POST auth/token/revoke-orphan {"token":"$app"}
root POST auth/token/revoke-orphan {"token":"nosuch"}
root POST auth/token/revoke-orphan {}
$app POST auth/token/create {"ttl":"1h"} > child
$child POST auth/token/create {"policies":["default"]} > grandchild
root POST auth/token/revoke-orphan {"token":"$app"}
$app GET auth/token/lookup-self
$child GET auth/token/lookup-self
$grandchild GET auth/token/lookup-self
root POST auth/token/revoke {"token":"$child"}
$child GET auth/token/lookup-self
$grandchild GET auth/token/lookup-self
root POST auth/token/revoke {"token":"$child"}
root POST auth/token/revoke {}
root POST auth/token/revoke-accessor {"accessor":"$short.a"}
$short GET auth/token/lookup-self
root POST auth/token/revoke-accessor {"accessor":"$short.a"}
root POST auth/token/revoke-accessor {}
$meta POST auth/token/revoke-self
$meta GET auth/token/lookup-self
root POST auth/token/lookup {"token":"$meta"}
root POST auth/token/tidy
$few GET auth/token/lookup-self
$few GET auth/token/lookup-self
root GET auth/token/create
root DELETE auth/token/create
`

// TestTokensAreVaults sends the same script to a real Vault and to Bailiff: every answer must be the same, field by field,
// but for what is new each time.
func TestTokensAreVaults(t *testing.T) {
	vault, bailiff, _ := tokenSides(t)
	sides := []*server{vault, bailiff}
	kept := map[*server]map[string]string{vault: {}, bailiff: {}}
	for n, a := range asks(tokenScript) {
		var answers [2]any
		for i, s := range sides {
			fill := func(text string) string {
				for name, value := range kept[s] {
					text = strings.ReplaceAll(text, "$"+name+`"`, value+`"`)
				}
				return text
			}
			who := a.who
			if name, ok := strings.CutPrefix(who, "$"); ok {
				if s.tokens[who] = kept[s][name]; kept[s][name] == "" {
					t.Fatalf("step %d: there is no %s", n, who)
				}
			}
			code, body := s.send(who, a.method, a.path, fill(a.body))
			if auth, ok := body["auth"].(map[string]any); ok && a.keep != "" {
				kept[s][a.keep], kept[s][a.keep+".a"] = auth["client_token"].(string), auth["accessor"].(string)
			}
			answers[i] = map[string]any{"status": code, "body": lasting("", body)}
		}
		if d := cmp.Diff(answers[0], answers[1]); d != "" {
			t.Errorf("%s %s %s %s (-Vault +Bailiff):\n%s", a.who, a.method, a.path, a.body, d)
		}
	}
}

// lasting is an answer without what is new each time.
func lasting(name string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, x := range v {
			out[k] = lasting(k, x)
		}
		return out
	case []any:
		for i := range v {
			v[i] = lasting("", v[i])
		}
		return v
	case float64:
		switch name {
		case "creation_time", "last_renewal_time":
			return "a time"
		case "ttl", "lease_duration", "creation_ttl":
			return fmt.Sprintf("about %v s", math.Round(v/10)*10)
		}
	case string:
		switch name {
		case "request_id", "client_token", "accessor", "expire_time", "issue_time", "last_renewal", "entity_id", "id":
			if v != "" || name == "entity_id" {
				return "text"
			}
		}
		// A token's time goes on while Vault and Bailiff are asked.
		if i := strings.Index(v, "exceeded the effective max_ttl of "); i >= 0 {
			return v[:i] + "exceeded …"
		}
	}
	return v
}
