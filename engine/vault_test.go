package engine_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

const (
	jsonConfig = `{"plugin_name":"postgresql-database-plugin","connection_url":"postgresql://{{username}}:{{password}}@«addr»/postgres?sslmode=disable",` +
		`"username":"«admin»","password":"«password»","allowed_roles":"ro,app,second,no-*"}`
	jsonRole = `{"db_name":"pg","creation_statements":"CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'","default_ttl":"1h","max_ttl":86400}`
)

// TestAnswersAreThoseOfVaultsEngine sends the same to a real Vault's database engine and to Bailiff, in one order: status
// and errors must be the same, and each answer must have the same fields of the same types. What differs says why.
func TestAnswersAreThoseOfVaultsEngine(t *testing.T) {
	vault, bailiff := newVault(t), newBailiff(t, testenv.BailiffOptions{})
	for _, x := range []struct {
		method, path, body string
		differs            string // why the answers are not the same; Bailiff's status and what it says
	}{
		{"LIST", "database/config", "", ""},
		{"LIST", "database/roles", "", ""},
		{"LIST", "database/static-roles", "", ""},
		{"GET", "database/config/pg", "", ""},
		{"GET", "database/roles/ro", "", ""},
		{"GET", "database/static-roles/app", "", ""},
		{"GET", "database/creds/ro", "", ""},
		{"GET", "database/static-creds/app", "", ""},
		{"DELETE", "database/config/pg", "", ""},
		{"DELETE", "database/roles/ro", "", ""},
		{"DELETE", "database/static-roles/app", "", ""},
		{"POST", "database/rotate-role/app", "", ""},
		{"POST", "database/rotate-root/pg", "", "400, where Vault has 500: it is the client's mistake"},
		{"POST", "database/reset/pg", "", "400, where Vault has 500: it is the client's mistake"},

		{"POST", "database/config/pg", `{}`, ""},
		{"POST", "database/config/pg", `{"plugin_name":"postgresql-database-plugin"}`, ""},
		{"POST", "database/config/pg", `{"plugin_name":"oracle-database-plugin"}`, "400 not served"},
		{"POST", "database/config/pg", strings.Replace(jsonConfig, "«password»", "wrong", 1), "400 error creating database object: error verifying"},
		{"POST", "database/config/pg", jsonConfig, ""},
		{"GET", "database/config/pg", "", ""},
		{"LIST", "database/config", "", ""},
		{"POST", "database/config/pg", `{"max_open_connections":5,"max_idle_connections":2,"max_connection_lifetime":"5s"}`, ""},

		{"POST", "database/roles/ro", `{}`, ""},
		{"POST", "database/roles/ro", strings.Replace(jsonRole, `"1h"`, `"soon"`, 1), "400 Field validation failed"},
		{"POST", "database/roles/ro", `{"db_name":"pg","credential_type":"nonsense"}`, ""},
		{"POST", "database/roles/ro", jsonRole, ""},
		{"GET", "database/roles/ro", "", ""},
		{"LIST", "database/roles", "", ""},
		{"POST", "database/roles/ro", `{"max_ttl":"48h","nonsense":1}`, "200 ignored these unrecognized parameters, where Vault says nothing"},
		{"GET", "database/creds/ro", "", ""},
		{"POST", "database/creds/ro", "", ""},
		{"GET", "database/creds/none", "", ""},
		{"POST", "database/roles/unlisted", jsonRole, ""},
		{"GET", "database/creds/unlisted", "", "403, where Vault has 500: it is a permission that is missing"},
		{"POST", "database/roles/no-one", jsonRole, ""},
		{"GET", "database/creds/no-one", "", ""},

		{"POST", "database/static-roles/app", `{}`, ""},
		{"POST", "database/static-roles/app", `{"db_name":"pg"}`, ""},
		{"POST", "database/static-roles/app", `{"db_name":"pg","username":"«app»"}`, ""},
		{"POST", "database/static-roles/app", `{"db_name":"pg","username":"«app»","rotation_period":3}`, ""},
		{"POST", "database/static-roles/app", `{"db_name":"pg","username":"«app»","rotation_period":"24h"}`, ""},
		{"GET", "database/static-roles/app", "", ""},
		{"LIST", "database/static-roles", "", ""},
		{"GET", "database/static-creds/app", "", ""},
		{"POST", "database/static-roles/app", `{"username":"other","rotation_period":"24h"}`, ""},
		{"POST", "database/static-roles/app", `{"username":"«app»","rotation_period":"12h"}`, ""},
		{"GET", "database/static-roles/app", "", ""},
		{"POST", "database/static-roles/ro", `{"db_name":"pg","username":"«app»","rotation_period":"24h"}`, ""},
		{"POST", "database/roles/app", jsonRole, ""},
		{"POST", "database/rotate-role/app", "", ""},
		{"POST", "database/rotate-role/none", "", ""},
		{"POST", "database/rotate-root/pg", "", ""},
		{"POST", "database/reset/pg", "", ""},
		{"GET", "database/creds/ro", "", ""},
		{"GET", "database/static-creds/app", "", ""},

		{"GET", "database/config", "", ""},
		{"GET", "database/nonsense", "", ""},
		{"GET", "database/rotate-root/pg", "", ""},
		{"DELETE", "database/creds/ro", "", ""},
		{"DELETE", "database/static-roles/app", "", ""},
		{"DELETE", "database/roles/ro", "", ""},
		{"GET", "database/roles/ro", "", ""},
	} {
		title := fmt.Sprintf("%s %s %.60s", x.method, x.path, x.body)
		vaultCode, vaultBody := vault.send(x.method, x.path, x.body)
		code, body := bailiff.send(x.method, x.path, x.body)
		if x.differs != "" {
			want, words, _ := strings.Cut(x.differs, " ")
			words, _, _ = strings.Cut(words, ", where")
			if want = strings.TrimSuffix(want, ","); want != fmt.Sprint(code) || !strings.HasPrefix(words, "where") && !strings.Contains(fmt.Sprint(body), words) {
				t.Errorf("%s: got %d %v, want %s (Vault: %d %v)", title, code, body, x.differs, vaultCode, vaultBody)
			}
			continue
		}
		if code != vaultCode {
			t.Errorf("%s: got %d %v, Vault has %d %v", title, code, body, vaultCode, vaultBody)
			continue
		}
		if d := cmp.Diff(shape(vaultBody), shape(body)); d != "" {
			t.Errorf("%s differs (-vault +bailiff):\n%s", title, d)
		}
	}
}

// shape is a body with what is known to differ, and the values of answers, left out: errors and warnings stay.
func shape(body map[string]any) any {
	out := map[string]any{}
	for name, v := range body {
		if name == "errors" || name == "warnings" {
			out[name] = v
			continue
		}
		out[name] = types(v)
	}
	return out
}

// types is a value with each leaf replaced by its type.
func types(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for _, k := range slices.Sorted(maps.Keys(v)) {
			out[k] = types(v[k])
		}
		return out
	case []any:
		if len(v) == 0 {
			return []any{}
		}
		return []any{types(v[0])}
	}
	return fmt.Sprintf("%T", v)
}
