package approle_test

import (
	"testing"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/auth/approle"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
	"github.com/bailiff-secrets/bailiff/test/authtest"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func world(t *testing.T) *authtest.World {
	return authtest.New(t, authtest.Options{}, func(keys auth.AccessKeys) map[string]auth.Method {
		return map[string]auth.Method{"approle": approle.New(keys)}
	})
}

// TestAnswersAreVaults sends the same to a real Vault and to Bailiff.
func TestAnswersAreVaults(t *testing.T) {
	w := world(t)
	const at = "auth/cmp/"
	login := []string{"warnings", "auth.lease_duration"} // of what Tokens does with the TTLs
	authtest.Compare(t, authtest.Vault(t), &w.Server, []authtest.Step{
		{Method: "POST", Path: "sys/auth/cmp", Body: `{"type":"approle","description":"d","config":{"max_lease_ttl":"48h"}}`},
		{Method: "LIST", Path: at + "role"},
		{Method: "GET", Path: at + "role/ci"},
		{Method: "GET", Path: at + "nosuch"},
		{Method: "DELETE", Path: at + "role/ci"},
		{Method: "PUT", Path: at + "role/ci/policies", Body: `{"token_policies":"a"}`},
		{Method: "DELETE", Path: at + "role/ci/policies"},
		{Method: "PUT", Path: at + "role/ci", Body: `{"bind_secret_id":false}`, Code: 400},
		{Method: "PUT", Path: at + "role/ci", Body: `{"secret_id_num_uses":-1}`},
		{Method: "PUT", Path: at + "role/ci", Body: `{"token_type":"odd"}`},
		{Method: "PUT", Path: at + "role/ci", Body: `{"token_ttl":"2h","token_max_ttl":"1h"}`},
		{Method: "PUT", Path: at + "role/ci", Body: `{"token_type":"batch","token_num_uses":2}`},
		{Method: "PUT", Path: at + "role/ci", Body: `{"secret_id_bound_cidrs":"nonsense"}`, Code: 400, Words: "invalid CIDR blocks"},
		{Method: "PUT", Path: at + "role/CI", Body: `{"token_policies":"b,a","token_ttl":"20m","token_max_ttl":1800,"secret_id_ttl":"10m","secret_id_num_uses":5,"token_num_uses":"7"}`},
		{Method: "GET", Path: at + "role/ci"},
		{Method: "GET", Path: at + "role/Ci"},
		{Method: "PUT", Path: at + "role/ci", Body: `{"local_secret_ids":true}`},
		{Method: "PUT", Path: at + "role/old", Body: `{"policies":"x,Y","period":"1h","token_type":"default-service","bound_cidr_list":["127.0.0.0/8"]}`},
		{Method: "GET", Path: at + "role/old"},
		{Method: "GET", Path: at + "role/old/policies"},
		{Method: "GET", Path: at + "role/old/period"},
		{Method: "GET", Path: at + "role/old/bound-cidr-list"},
		{Method: "PUT", Path: at + "role/long", Body: `{"token_max_ttl":"100h","nonsense":1}`},
		{Method: "LIST", Path: at + "role"},
		{Method: "GET", Path: at + "role?list=true"},
		{Method: "GET", Path: at + "role/ci/role-id", Keep: "role=data.role_id"},
		{Method: "PUT", Path: at + "role/old/role-id", Body: `{"role_id":"$role"}`, Code: 400},
		{Method: "PUT", Path: at + "role/old/role-id", Body: `{"role_id":""}`},
		{Method: "PUT", Path: at + "role/old/role-id", Body: `{"role_id":"chosen"}`},
		{Method: "GET", Path: at + "role/old/role-id"},
		{Method: "GET", Path: at + "role/nosuch/role-id"},
		// Each part of a role by itself.
		{Method: "GET", Path: at + "role/ci/local-secret-ids"},
		{Method: "PUT", Path: at + "role/ci/policies", Body: `{"policies":"p1,p2"}`},
		{Method: "GET", Path: at + "role/ci/policies"},
		{Method: "PUT", Path: at + "role/ci/policies", Body: `{}`},
		{Method: "DELETE", Path: at + "role/ci/policies"},
		{Method: "GET", Path: at + "role/ci/policies"},
		{Method: "PUT", Path: at + "role/ci/token-ttl", Body: `{"token_ttl":"2h"}`},
		{Method: "PUT", Path: at + "role/ci/token-ttl", Body: `{"token_ttl":"10m"}`},
		{Method: "GET", Path: at + "role/ci/token-ttl"},
		{Method: "DELETE", Path: at + "role/ci/token-ttl"},
		{Method: "GET", Path: at + "role/ci/token-ttl"},
		{Method: "PUT", Path: at + "role/ci/token-max-ttl", Body: `{}`},
		{Method: "PUT", Path: at + "role/ci/token-max-ttl", Body: `{"token_max_ttl":"40m"}`},
		{Method: "GET", Path: at + "role/ci/token-max-ttl"},
		{Method: "PUT", Path: at + "role/ci/token-num-uses", Body: `{"token_num_uses":9}`},
		{Method: "GET", Path: at + "role/ci/token-num-uses"},
		{Method: "PUT", Path: at + "role/ci/secret-id-num-uses", Body: `{"secret_id_num_uses":3}`},
		{Method: "GET", Path: at + "role/ci/secret-id-num-uses"},
		{Method: "PUT", Path: at + "role/ci/secret-id-ttl", Body: `{"secret_id_ttl":"5m"}`},
		{Method: "GET", Path: at + "role/ci/secret-id-ttl"},
		{Method: "PUT", Path: at + "role/ci/bind-secret-id", Body: `{}`},
		{Method: "GET", Path: at + "role/ci/bind-secret-id"},
		{Method: "PUT", Path: at + "role/ci/period", Body: `{}`},
		{Method: "PUT", Path: at + "role/ci/period", Body: `{"token_period":"30m"}`},
		{Method: "GET", Path: at + "role/ci/period"},
		{Method: "DELETE", Path: at + "role/ci/period"},
		{Method: "PUT", Path: at + "role/ci/secret-id-bound-cidrs", Body: `{"secret_id_bound_cidrs":"127.0.0.0/8,10.0.0.0/8"}`},
		{Method: "GET", Path: at + "role/ci/secret-id-bound-cidrs"},
		{Method: "PUT", Path: at + "role/ci/bound-cidr-list", Body: `{"bound_cidr_list":""}`},
		{Method: "PUT", Path: at + "role/ci/token-bound-cidrs", Body: `{"token_bound_cidrs":"127.0.0.0/8"}`},
		{Method: "GET", Path: at + "role/ci/token-bound-cidrs"},
		{Method: "GET", Path: at + "role/ci"},
		// Secret ids.
		{Method: "LIST", Path: at + "role/ci/secret-id"},
		{Method: "LIST", Path: at + "role/nosuch/secret-id", Code: 400},
		{Method: "PUT", Path: at + "role/nosuch/secret-id", Body: `{}`},
		{Method: "PUT", Path: at + "role/ci/secret-id", Body: `{"num_uses":4}`},
		{Method: "PUT", Path: at + "role/ci/secret-id", Body: `{"num_uses":-4}`},
		{Method: "PUT", Path: at + "role/ci/secret-id", Body: `{"ttl":"1h"}`},
		{Method: "PUT", Path: at + "role/ci/secret-id", Body: `{"cidr_list":"192.168.0.0/16"}`, Code: 400,
			Words: `failed to verify subset relationship between CIDR blocks on the role ["127.0.0.0/8" "10.0.0.0/8"] and CIDR blocks on the secret ID ["192.168.0.0/16"]`},
		{Method: "PUT", Path: at + "role/ci/secret-id", Body: `{"metadata":"{\"team\":\"x\"}","num_uses":2,"ttl":"1m","cidr_list":["127.0.0.1/32"]}`,
			Keep: "id=data.secret_id accessor=data.secret_id_accessor"},
		{Method: "LIST", Path: at + "role/ci/secret-id"},
		{Method: "PUT", Path: at + "role/ci/secret-id/lookup", Body: `{"secret_id":"$id"}`},
		{Method: "PUT", Path: at + "role/ci/secret-id/lookup", Body: `{"secret_id":"none"}`},
		{Method: "PUT", Path: at + "role/ci/secret-id/lookup", Body: `{}`},
		{Method: "PUT", Path: at + "role/nosuch/secret-id/lookup", Body: `{"secret_id":"none"}`, Code: 400},
		{Method: "PUT", Path: at + "role/ci/secret-id-accessor/lookup", Body: `{"secret_id_accessor":"$accessor"}`},
		{Method: "PUT", Path: at + "role/ci/secret-id-accessor/lookup", Body: `{"secret_id_accessor":"none"}`, Words: `failed to find accessor entry for secret_id_accessor: "none"`},
		{Method: "PUT", Path: at + "role/ci/custom-secret-id", Body: `{"secret_id":"mine"}`},
		{Method: "PUT", Path: at + "role/ci/custom-secret-id", Body: `{"secret_id":"mine"}`, Code: 400},
		{Method: "PUT", Path: at + "role/ci/custom-secret-id", Body: `{}`},
		{Method: "PUT", Path: at + "role/ci/secret-id/destroy", Body: `{"secret_id":"mine"}`},
		{Method: "PUT", Path: at + "role/ci/secret-id/destroy", Body: `{"secret_id":"mine"}`},
		// Logins.
		{Method: "POST", Path: at + "login", Body: `{}`, NoToken: true, Code: 400, Words: "missing role_id"},
		{Method: "GET", Path: at + "login", NoToken: true, Code: 405, Words: "unsupported operation"},
		{Method: "POST", Path: at + "login", Body: `{"role_id":"$role"}`, NoToken: true},
		{Method: "POST", Path: at + "login", Body: `{"role_id":"$role","secret_id":"wrong"}`, NoToken: true, Code: 400, Words: "invalid role or secret ID"},
		{Method: "POST", Path: at + "login", Body: `{"role_id":"wrong","secret_id":"wrong"}`, NoToken: true, Code: 400, Words: "invalid role or secret ID"},
		{Method: "POST", Path: at + "login", Body: `{"role_id":" $role ","secret_id":" $id "}`, NoToken: true, Ignore: login},
		{Method: "PUT", Path: at + "role/ci/secret-id/lookup", Body: `{"secret_id":"$id"}`},
		{Method: "PUT", Path: at + "login", Body: `{"role_id":"$role","secret_id":"$id"}`, NoToken: true, Ignore: login},
		{Method: "PUT", Path: at + "login", Body: `{"role_id":"$role","secret_id":"$id"}`, NoToken: true, Code: 400, Words: "invalid role or secret ID"},
		{Method: "LIST", Path: at + "role/ci/secret-id"},
		{Method: "PUT", Path: at + "role/ci/secret-id", Body: `{}`, Keep: "id=data.secret_id accessor=data.secret_id_accessor"},
		{Method: "PUT", Path: at + "role/ci/secret-id-accessor/destroy", Body: `{"secret_id_accessor":"$accessor"}`},
		{Method: "PUT", Path: at + "role/ci/secret-id-accessor/destroy", Body: `{"secret_id_accessor":"$accessor"}`, Code: 400, Words: "failed to find accessor entry for secret_id_accessor: \"$accessor\""},
		{Method: "PUT", Path: at + "tidy/secret-id"},
		{Method: "PUT", Path: at + "role/open", Body: `{"bind_secret_id":false,"secret_id_bound_cidrs":"127.0.0.0/8","role_id":"open","token_type":"service","token_no_default_policy":true,"token_policies":"p"}`},
		{Method: "PUT", Path: at + "login", Body: `{"role_id":"open"}`, NoToken: true, Ignore: login},
		{Method: "PUT", Path: at + "role/far", Body: `{"secret_id_bound_cidrs":"10.1.0.0/16","role_id":"far","bind_secret_id":false}`},
		{Method: "PUT", Path: at + "login", Body: `{"role_id":"far"}`, NoToken: true, Words: `source address "127.0.0.1" unauthorized by CIDR restrictions on the role`},
		{Method: "PUT", Path: at + "role/tied", Body: `{"token_bound_cidrs":"10.1.0.0/16","role_id":"tied","bind_secret_id":false}`},
		{Method: "DELETE", Path: at + "role/ci"},
		{Method: "GET", Path: at + "role/ci"},
		{Method: "PUT", Path: at + "login", Body: `{"role_id":"$role","secret_id":"x"}`, NoToken: true, Code: 400, Words: "invalid role or secret ID"},
		{Method: "DELETE", Path: "sys/auth/cmp"},
	})
}
