package sys_test

import (
	"strings"
	"testing"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/policy"
	"github.com/bailiff-secrets/bailiff/sys"
)

const app = `path "secret/data/app/*" { capabilities = ["create", "read"] }`

func TestNewWantsItsParts(t *testing.T) {
	if _, err := sys.New(sys.Config{}); err == nil {
		t.Error("a Backend was made of nothing")
	}
}

func TestAnswers(t *testing.T) {
	w := newWorld(t, app, nil)
	const (
		kv       = `"accessor":"kv_1","config":{"default_lease_ttl":0,"force_no_cache":false,"max_lease_ttl":0},"deprecation_status":"supported","description":"key/value secret storage","external_entropy_access":false,"local":false,"options":{"version":"2"}`
		preamble = "forbidden: preflight capability check returned 403, please ensure client's policies grant access to path "
	)
	tests := []struct {
		name, who, ask, body string
		want                 string // how the answer begins; with "…" in it, also how it ends
	}{
		{"a mount that the caller may use", "ci", "read sys/internal/ui/mounts/secret/app/b", "", `ok {` + kv + `,"path":"secret/","plugin_version":""…`},
		{"a mount by its name", "ci", "read sys/internal/ui/mounts/secret", "", `ok {` + kv},
		{"a mount that the caller may not use", "nobody", "read sys/internal/ui/mounts/secret/app/b", "", preamble + `"secret/app/b/"`},
		{"a mount that is not there", "root", "read sys/internal/ui/mounts/nosuch/x", "", preamble + `"nosuch/x/"`},
		{"auth mounts go without their prefix", "ci", "read sys/internal/ui/mounts/auth/token/lookup-self", "", `ok {"accessor":"auth_token_1"…`},
		{"every mount that the caller may use", "nobody", "read sys/internal/ui/mounts", "", `ok {"auth":{"token/":{…`},
		{"a write there is not open", "nobody", "update sys/internal/ui/mounts/secret", "", "denied"},

		{"mounts need a policy", "ci", "read sys/mounts", "", "denied"},
		{"mounts", "root", "read sys/mounts", "", `ok {"database/":{…`},
		{"a mount", "root", "read sys/mounts/secret", "", `ok {` + kv},
		{"a mount's tuning", "root", "read sys/mounts/secret/tune", "", `ok {"default_lease_ttl":2764800,"description":"key/value secret storage","force_no_cache":false,"max_lease_ttl":2764800,"options":{"version":"2"}}`},
		{"a mount's own TTL", "root", "read sys/mounts/database/tune", "", `ok {"default_lease_ttl":2764800,"description":"credentials","force_no_cache":false,"max_lease_ttl":86400}`},
		{"no such mount", "root", "read sys/mounts/nosuch", "", `invalid: No secret engine mount at nosuch/`},
		{"a path in a mount is no mount", "root", "read sys/mounts/secret/app", "", `invalid: No secret engine mount at secret/app/`},
		{"no such mount to tune", "root", "read sys/mounts/nosuch/tune", "", `invalid: cannot fetch sysview`},
		{"mounting", "root", "update sys/mounts/x", `{"type":"kv"}`, "unsupported: mounts are declared in files"},
		{"auth methods", "root", "read sys/auth", "", `ok {"token/":{"accessor":"auth_token_1","config":{"default_lease_ttl":0,"force_no_cache":false,"max_lease_ttl":0,"token_type":"default-service"}…`},
		{"an auth method", "root", "read sys/auth/token", "", `ok {"accessor":"auth_token_1"…`},
		{"an auth method's tuning", "root", "read sys/auth/token/tune", "", `ok {"default_lease_ttl":2764800…`},
		{"no such auth method", "root", "read sys/auth/ldap", "", `invalid: No auth engine at ldap/`},
		{"audit devices", "root", "read sys/audit", "", `ok {"bailiff/":{…`},

		{"policies", "root", "list sys/policies/acl", "", `ok {"keys":["app","default","root"]}`},
		{"policies are listed, not read", "root", "read sys/policies/acl", "", "unsupported: 1 error occurred:\n\t* unsupported operation\n\n"},
		{"a policy", "root", "read sys/policies/acl/app", "", `ok {"name":"app","policy":"path \"secret/data/app/*\"…`},
		{"a policy's name has no capitals", "root", "read sys/policies/acl/APP", "", `ok {"name":"app","policy":…`},
		{"the built-in policy", "root", "read sys/policies/acl/default", "", `ok {"name":"default","policy":"# Its own token…`},
		{"the root policy", "root", "read sys/policies/acl/root", "", `ok {"name":"root","policy":""}`},
		{"no such policy", "root", "read sys/policies/acl/nosuch", "", "missing"},
		{"an empty policy", "root", "update sys/policies/acl/app", `{"policy":""}`, "invalid: 'policy' parameter not supplied or empty"},
		{"old clients' policies", "root", "read sys/policy", "", `ok {"keys":["app","default","root"],"policies":["app","default","root"]}`},
		{"old clients' list of policies", "root", "list sys/policy", "", `ok {"keys":["app","default","root"],"policies":["app","default","root"]}`},
		{"old clients' policy", "root", "read sys/policy/app", "", `ok {"name":"app","rules":…`},

		{"capabilities of one path", "ci", "update sys/capabilities-self", `{"path":"secret/data/app/a","token":"x"}`, `ok {"capabilities":["create","read"],"secret/data/app/a":["create","read"]}`},
		{"capabilities of several", "ci", "update sys/capabilities-self", `{"paths":["secret/data/app/a","x"]}`, `ok {"secret/data/app/a":["create","read"],"x":["deny"]}`},
		{"capabilities of a list with commas", "ci", "update sys/capabilities-self", `{"paths":"secret/data/app/a, x"}`, `ok {"secret/data/app/a":["create","read"],"x":["deny"]}`},
		{"capabilities of root", "root", "update sys/capabilities-self", `{"path":"x"}`, `ok {"capabilities":["root"],"x":["root"]}`},
		{"capabilities of nothing", "ci", "update sys/capabilities-self", `{}`, `invalid: paths must be supplied`},
		{"capabilities with null", "ci", "update sys/capabilities-self", `null`, `invalid: paths must be supplied`},
		{"capabilities of a number", "ci", "update sys/capabilities-self", `{"path":1}`, `invalid: path must be a string or a list of strings`},
		{"capabilities of a bad token", "root", "update sys/capabilities", `{"path":"x","token":"nosuch"}`, "invalid: 1 error occurred:\n\t* invalid token\n\n"},
		{"capabilities of no token", "root", "update sys/capabilities", `{"path":"x"}`, "invalid: token not found"},
		{"capabilities of another's accessor", "root", "update sys/capabilities-accessor", `{"path":"x","accessor":"k-1"}`, "invalid: 1 error occurred:\n\t* invalid accessor\n\n"},
		{"all of root's rules", "root", "read sys/internal/ui/resultant-acl", "", `ok {"root":true}`},
		{"all of a caller's rules", "ci", "read sys/internal/ui/resultant-acl", "", `ok {"exact_paths":{"auth/token/lookup-self":{"capabilities":["read"]}…`},

		{"an unknown lease", "ci", "update sys/leases/lookup", `{"lease_id":"nosuch"}`, "invalid: invalid lease"},
		{"an odd lease", "ci", "update sys/leases/lookup", `{"lease_id":"../x"}`, "invalid: invalid lease"},
		{"no lease", "ci", "update sys/leases/lookup", `{}`, "invalid: lease_id must be specified"},
		{"renewing an unknown lease", "ci", "update sys/leases/renew", `{"lease_id":"nosuch"}`, "invalid: lease not found"},
		{"renewing no lease", "ci", "update sys/leases/renew", `{}`, "invalid: lease_id must be specified"},
		{"renewing by something", "root", "update sys/leases/renew", `{"lease_id":"x","increment":"much"}`, "invalid: increment: not a duration"},
		{"revoking an unknown lease", "root", "update sys/leases/revoke", `{"lease_id":"nosuch"}`, "invalid: invalid lease"},
		{"revoking by sync of something", "root", "update sys/leases/revoke", `{"lease_id":"x","sync":7}`, "invalid: sync must be true or false"},
		{"revoking below a path with nothing", "root", "update sys/leases/revoke-prefix/nosuch", `{}`, "no content"},
		{"promising to", "root", "update sys/leases/revoke-prefix/nosuch", `{"sync":false}`, "accepted"},
		{"giving up below a path with nothing", "root", "update sys/leases/revoke-force/nosuch", "", "no content"},
		{"tidying up", "root", "update sys/leases/tidy", "", "accepted warning: Tidy operation successfully started."},
		{"revoking nothing in particular", "root", "update sys/bailiff/revocations", `{"reason":"x"}`, "invalid: nothing is selected"},
		{"revoking what only narrows", "root", "update sys/bailiff/revocations", `{"children":true}`, "invalid: nothing is selected"},
		{"revoking with two lines", "root", "update sys/bailiff/revocations", `{"role":"ro","reason":"a\nb"}`, "invalid: the reason must be one line"},
		{"a revocation that is none", "root", "read sys/bailiff/revocations/rv-nosuch", "", "not found: there is no such revocation"},
		{"too many revocations", "root", "list sys/bailiff/revocations?limit=1001", "", "invalid: the query parameter limit must be"},
		{"reconciling a target that is none", "root", "update sys/bailiff/reconcile/nosuch", "", "not found: target nosuch is not configured"},
		{"reconciling by eating", "root", "update sys/bailiff/reconcile/pg", `{"action":"eat"}`, "invalid: the action is"},
		{"what is held", "root", "read sys/bailiff/recover", "", `ok {"count":0,"held":false,"leases":[],"targets":[]}`},
		{"carrying out what is not held", "root", "update sys/bailiff/recover", "", "invalid: nothing is held"},
		{"a preview of nothing", "root", "update sys/bailiff/revocations/preview", `{"identity":"nosuch"}`, `ok {"leases":0,"targets":[]}`},
		{"trying no lease again", "root", "update sys/bailiff/leases/database/creds/ro/x/retry", "", "not found: there is no such lease"},
		{"doing something else to a lease", "root", "update sys/bailiff/leases/database/creds/ro/x/eat", "", "unsupported: 1 error occurred:\n\t* unsupported operation\n\n"},
		{"tuning a mount that is none", "root", "update sys/mounts/nosuch/tune", `{"max_lease_ttl":"1h"}`, `invalid: tune of path "nosuch/" failed: no mount entry found`},
		{"tuning with something", "root", "update sys/mounts/database/tune", `{"max_lease_ttl":"much"}`, "invalid: max_lease_ttl: not a duration"},
		{"tuning the wrong way round", "root", "update sys/mounts/database/tune", `{"max_lease_ttl":"1h","default_lease_ttl":"2h"}`, "invalid: backend max lease TTL of 3600 would be less than backend default lease TTL of 7200"},
		{"lease ids below a path with nothing", "root", "list sys/leases/lookup/nosuch", "", "missing"},
		{"irrevocable leases", "root", "read sys/leases?type=irrevocable", "", `ok {"lease_count":0,"leases":[]}`},
		{"leases of no type", "root", "read sys/leases", "", `missing`},
		{"a count of irrevocable leases", "root", "read sys/leases/count?type=irrevocable", "", `ok {"counts":{},"lease_count":0}`},

		{"renewing an access key", "ci", "update auth/token/renew-self", `{"increment":0}`, "invalid: lease is not renewable"},
		{"a bad token", "root", "update auth/token/lookup", `{"token":"nosuch"}`, "forbidden: bad token"},
		{"another's accessor", "root", "update auth/token/lookup-accessor", `{"accessor":"k-1"}`, "invalid: 1 error occurred:\n\t* invalid accessor\n\n"},
		{"no accessor", "root", "update auth/token/lookup-accessor", `{}`, "invalid: 1 error occurred:\n\t* missing accessor\n\n"},
		{"wrapping for no time", "root", "update sys/wrapping/wrap", `{}`, "invalid: endpoint requires response wrapping to be used"},
		{"a wrapping token that is none", "root", "update sys/wrapping/unwrap", `{"token":"hvs.x"}`, "invalid: wrapping token is not valid or does not exist"},
		{"a wrapping token that is another token", "root", "update sys/wrapping/unwrap", "", "invalid: wrapping token is not valid or does not exist"},
		{"an empty wrapping token", "root", "update sys/wrapping/unwrap", `{"token":""}`, "forbidden: error validating wrapping token: empty token in request body"},
		{"a wrapping token that is no string", "root", "update sys/wrapping/unwrap", `{"token":5}`, "forbidden: error validating wrapping token: could not decode token in request body"},
		{"looking at no wrapping token", "root", "update sys/wrapping/lookup", `{}`, "invalid: wrapping token is not valid or does not exist"},
		{"rewrapping nothing", "root", "update sys/wrapping/rewrap", `{}`, "invalid: wrapping token is not valid or does not exist"},
		{"rewrapping without leave", "nobody", "update sys/wrapping/rewrap", `{}`, "denied"},
		{"random bytes of no number", "root", "update sys/tools/random/abc", `{}`, `invalid: error parsing url-set byte count: strconv.Atoi: parsing "abc": invalid syntax`},
		{"no random bytes", "root", "update sys/tools/random/0", `{}`, `invalid: "bytes" cannot be less than 1`},
		{"too many random bytes", "root", "update sys/tools/random", `{"bytes":131073}`, `invalid: "bytes" should be less than 131072`},
		{"random bytes in another format", "root", "update sys/tools/random", `{"format":"bin"}`, `invalid: unsupported encoding format "bin"; must be "hex" or "base64"`},
		{"random bytes from elsewhere", "root", "update sys/tools/random/dice/8", `{}`, `invalid: unsupported entropy source "dice"; must be "platform" or "seal", or "all"`},
		{"a hash", "nobody", "update sys/tools/hash", `{"input":"aGVsbG8="}`, `ok {"sum":"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}`},
		{"another hash", "nobody", "update sys/tools/hash/sha3-256", `{"input":"aGVsbG8=","format":"base64"}`, `ok {"sum":"Mzi+aU9QxfM4gUmGzfBoZFOoiLhPQk15KvS5ICOY85I="}`},
		{"a hash of what is not base64", "root", "update sys/tools/hash", `{"input":"***"}`, "invalid: unable to decode input as base64: illegal base64 data at input byte 0"},
		{"a hash that nobody knows", "root", "update sys/tools/hash/md5", `{"input":""}`, "invalid: unsupported algorithm md5"},
		{"a path that is none", "root", "read sys/nosuch", "", "not found: 1 error occurred:\n\t* unsupported path\n\n"},
		{"the host", "root", "read sys/host-info", "", "unsupported: what the host is like is nobody's business"},
		{"counters of clients", "root", "read sys/internal/counters/activity", "", "unsupported: nothing is counted for licences"},
		{"the description of every path", "root", "read sys/internal/specs/openapi", "", "unsupported: the paths are those of Vault 1.13"},
		{"a seal", "root", "update sys/seal", "{}", "unsupported: there is no seal to turn"},
		{"a key of the Vault behind", "root", "update sys/rotate", "{}", "unsupported: there is no seal to turn"},
		{"raw storage", "root", "read sys/raw/core/keyring", "", "unsupported: this is for whoever runs a Vault"},
		{"raw storage, by somebody", "ci", "read sys/raw/core/keyring", "", "denied"},
		{"help with a path", "root", "help sys/mounts", "", `ok {"help":"Request:        mounts\nMatching Route: mounts\n\nLists the mounts`},
		{"help with a path that varies", "root", "help sys/policies/acl/app", "", `ok {"help":"Request:        policies/acl/app\nMatching Route: policies/acl/{name}\n\nReads, writes`},
		{"help with a mount", "root", "help sys", "", `ok {"help":"## PATHS\n\nWhat there is below sys/.`},
		{"help with a path that is none", "root", "help sys/nosuch", "", "not found: 1 error occurred:\n\t* unsupported path\n\n"},
		{"a list of what is no list", "root", "list sys/capabilities-self", "", "unsupported: 1 error occurred:\n\t* unsupported operation\n\n"},

		{"a field that nobody knows", "ci", "update sys/capabilities-self", `{"path":"x","z":1,"y":2}`, `ok {"capabilities":["deny"],"x":["deny"]} warning: Endpoint ignored these unrecognized parameters: [y z]`},
		{"a body that is no object", "ci", "update sys/capabilities-self", `[1]`, `invalid: error parsing JSON`},
		{"a body that is too large", "ci", "update sys/capabilities-self", `{"path":"` + strings.Repeat("x", 1<<20) + `"}`, `too large: the body is larger than 1048576 bytes`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := w.ask(tt.who, tt.ask, tt.body)
			begin, _, _ := strings.Cut(tt.want, "…")
			if !strings.HasPrefix(got, begin) {
				t.Errorf("%s asks %s %s\n got %s\nwant %s", tt.who, tt.ask, tt.body, got, tt.want)
			}
		})
	}
}

func TestMountsAreShownToThoseWhoMayUseThem(t *testing.T) {
	w := newWorld(t, app, nil)
	for who, want := range map[string]string{"root": "database/ identity/ secret/ sys/", "ci": "identity/ secret/ sys/", "nobody": "identity/ sys/"} {
		shown := w.data(who, "read sys/internal/ui/mounts", "")["secret"].(map[string]any)
		if got := keysOf(shown); got != want {
			t.Errorf("%s: got %s, want %s", who, got, want)
		}
	}
	if got := keysOf(w.data("root", "read sys/mounts", "")); got != "database/ identity/ secret/ sys/" {
		t.Errorf("sys/mounts: got %s", got)
	}
}

func TestPathsThatNeedSudo(t *testing.T) {
	w := newWorld(t, `
path "sys/*" { capabilities = ["create", "read", "update", "delete", "list"] }
path "sys/leases/lookup" { capabilities = ["list"] }`, nil)
	for _, ask := range []string{
		"read sys/audit", "read sys/auth/token", "list sys/leases/lookup", "list sys/leases/lookup/database", "read sys/leases",
		"update sys/leases/revoke-prefix/database", "update sys/revoke-prefix/database", "update sys/leases/revoke-force/database", "update sys/revoke-force/x",
		"update sys/bailiff/leases/database/creds/ro/x/force",
	} {
		if got := w.ask("ci", ask, ""); got != "denied" {
			t.Errorf("%s without sudo: got %s", ask, got)
		}
		if got := w.ask("root", ask, ""); got == "denied" {
			t.Errorf("%s by root: got %s", ask, got)
		}
	}
	for _, ask := range []string{"read sys/auth", "read sys/mounts", "update sys/leases/lookup", "read sys/leases/count", "read sys/bailiff/status", "update sys/bailiff/plan"} {
		if got := w.ask("ci", ask, ""); got == "denied" {
			t.Errorf("%s without sudo: got %s", ask, got)
		}
	}
}

func TestWhatChangesIsRecordedBefore(t *testing.T) {
	w := newWorld(t, app, nil)
	for ask, want := range map[string]bool{
		"read sys/mounts": false, "list sys/bailiff/objects/role": false, "update sys/capabilities-self": false,
		"update sys/leases/lookup": false, "update auth/token/lookup": false, "update sys/bailiff/plan": false,
		"update sys/leases/renew": true, "update sys/leases/revoke/x": true, "update sys/bailiff/apply": true,
		"update sys/bailiff/identities/x": true, "create sys/bailiff/identities/x": true, "delete sys/bailiff/objects/role/x": true,
		"update auth/token/revoke-self": true,
	} {
		op, path, _ := strings.Cut(ask, " ")
		if got := w.own.Changes(&gate.Request{Op: policy.Operation(op), Path: path}); got != want {
			t.Errorf("%s: got %v, want %v", ask, got, want)
		}
	}
}

func keysOf(m map[string]any) string { return strings.Join(sortedKeys(m), " ") }
