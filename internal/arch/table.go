package arch

// module is the path that our own packages begin with.
const module = "github.com/bailiff-secrets/bailiff"

// levels lists our packages from the top to the bottom. A package stands for what lies below it too, unless that is
// listed itself; "x/*" stands for each folder in x on its own. An import may go to any lower level.
func levels() [][]string {
	return [][]string{
		{"cmd", "deploy", "test", "tools"},
		{"server"},
		{"producers"}, // the catalogue
		{"hvp", "api", "console", "gateway", "sys", "engine", "producers/*", "auth/*", "store/*"},
		{"store/rows"},
		{"rotation", "auth", "cubbyhole", "wrapping", "notify"},
		{"broker", "usc", "upstream"},
		{"gate"},
		{"audit"}, // a record names the rule of policy that decided
		{"policy"},
		{"identity"},
		{"internal/*"},
	}
}

// only lists packages that may import less than their level allows.
func only() map[string][]string {
	return map[string][]string{
		"producers/*":       {"broker", "internal/object", "internal/secret"},
		"internal/arch":     {},
		"internal/config":   {"internal/object", "internal/secret"},
		"internal/document": {},
		"internal/envelope": {},
		"internal/h1":       {},
		"internal/keyed":    {},
		"internal/object":   {"internal/secret"},
		"internal/peer":     {},
		"internal/seal":     {"internal/secret"},
		"internal/secret":   {},
		"internal/testenv":  {},
		"internal/vpath":    {},
	}
}

// fenced lists packages that only some may import, whatever their level. So is every package whose name ends in "test":
// only tests import it.
func fenced() map[string][]string {
	return map[string][]string{
		"internal/testenv": {"deploy", "test"},
		"internal/arch":    {},
	}
}

// noHTTP lists the packages that have never heard of HTTP.
func noHTTP() []string {
	return []string{"broker", "rotation", "cubbyhole", "wrapping", "gate", "policy", "audit", "identity"}
}

// homes lists the folders that may import what isn't ours and isn't Go's own; the longest entry counts.
// What is not listed may not be imported at all. "test" and packages whose name ends in "test" may import anything.
func homes() map[string][]string {
	return map[string][]string{
		"golang.org/x": {anywhere},

		"filippo.io/age":                      {"internal/seal"},
		"github.com/aws/aws-sdk-go-v2":        {"producers/aws"},
		"github.com/google/cel-go":            {"policy"},
		"github.com/coreos/go-oidc/v3":        {"auth/jwt", "auth/kubernetes"},
		"github.com/go-jose/go-jose/v4":       {"auth/jwt", "auth/kubernetes"},
		"github.com/go-ldap/ldap/v3":          {"auth/ldap"},
		"github.com/hashicorp/hcl":            {"policy"},
		"github.com/hashicorp/hcl/v2":         {"internal/config"},
		"github.com/hashicorp/vault/api":      {}, // tests are clients of ours as others are
		"github.com/jackc/pgx/v5":             {"producers/postgres", "store/postgres"},
		"github.com/pressly/goose/v3":         {"store/sqlite", "store/postgres"},
		"github.com/prometheus/client_golang": {"server"},
		"github.com/robfig/cron/v3":           {"broker", "rotation"},
		"github.com/rogpeppe/go-internal":     {"internal/testenv"},
		"github.com/spf13/cobra":              {"cmd/bailiff"},
		"github.com/spf13/pflag":              {"cmd/bailiff"},
		"github.com/tink-crypto/tink-go/v2":   {"internal/seal"},
		"github.com/valyala/fasthttp":         {"upstream", "hvp"},
		"github.com/zclconf/go-cty":           {"internal/config"},
		"k8s.io/api":                          {"producers/kubernetes"},
		"k8s.io/apimachinery":                 {"producers/kubernetes"},
		"k8s.io/client-go":                    {"producers/kubernetes"},
		"modernc.org/sqlite":                  {"store/sqlite", "audit/index"},
		"sigs.k8s.io/yaml":                    {"cmd/bailiff"},
	}
}

const anywhere = "*"
