package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

// Role is how credentials are made, as it was validated: a broker.Role.Config. It is immutable.
type Role struct {
	shown object.Producer // as it was declared

	creation, renewal, revocation []string // single statements with their placeholders
	iterations                    int      // of the SCRAM verifier
	plain                         bool     // send the password itself
}

// How passwords reach the server.
const (
	authSCRAM    = "scram-sha-256"
	authPassword = "password"

	defaultIterations = 4096
	maxIterations     = 1_000_000
)

const exampleCreation = `CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{{name}}";`

var placeholder = regexp.MustCompile(`\{\{[^}]*\}\}`)

// NewRole validates a producer object.
func NewRole(o object.Producer) (*Role, error) {
	r := &Role{shown: o, iterations: o.ScramIterations}
	switch o.PasswordAuth {
	case "", authSCRAM:
	case authPassword:
		r.plain = true
	default:
		return nil, fmt.Errorf("password_authentication is %q: it can be %q or %q", o.PasswordAuth, authSCRAM, authPassword)
	}
	switch {
	case r.iterations < 0 || r.iterations > maxIterations:
		return nil, fmt.Errorf("scram_iterations must be between 1 and %d", maxIterations)
	case r.iterations == 0:
		r.iterations = defaultIterations
	}
	for _, f := range []struct {
		field string
		from  []string
		to    *[]string
	}{
		{"creation_statements", o.CreationStatements, &r.creation},
		{"renew_statements", o.RenewStatements, &r.renewal},
		{"revocation_statements", o.RevocationStatements, &r.revocation},
	} {
		list, err := statements(f.from)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.field, err)
		}
		if err := checkPlaceholders(list, f.field == "creation_statements"); err != nil {
			return nil, fmt.Errorf("%s: %w", f.field, err)
		}
		*f.to = list
	}
	if len(r.creation) == 0 {
		return nil, errors.New("creation_statements are required, for example: " + exampleCreation)
	}
	return r, nil
}

// checkPlaceholders refuses what would reach the server as it stands. Statements that create must name the role and set its
// password.
func checkPlaceholders(list []string, creates bool) error {
	name, password := false, false
	for i, s := range list {
		for _, x := range placeholder.FindAllString(s, -1) {
			switch {
			case x == "{{name}}" || x == "{{username}}":
				name = true
			case x == "{{password}}" && creates:
				password = true
			case x == "{{expiration}}":
			default:
				return fmt.Errorf("statement %d has the unknown placeholder %s", i+1, x)
			}
		}
	}
	switch {
	case creates && len(list) > 0 && !(name && password):
		return errors.New("{{name}} and {{password}} must both be in them, for example: " + exampleCreation)
	case len(list) > 0 && !name:
		return errors.New("{{name}} must be in them")
	}
	return nil
}

// Describe shows the role in Vault's names. It is a broker.Describer.
func (r *Role) Describe() map[string]any {
	auth := authSCRAM
	if r.plain {
		auth = authPassword
	}
	return map[string]any{
		"creation_statements":   notNil(r.shown.CreationStatements),
		"renew_statements":      notNil(r.shown.RenewStatements),
		"revocation_statements": notNil(r.shown.RevocationStatements),
		"rollback_statements":   []string{},
		"credential_type":       "password",
		"credential_config":     map[string]any{"password_authentication": auth, "scram_iterations": r.iterations},
	}
}

func notNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// snapshot is what Revoke needs when the role is gone.
type snapshot struct {
	Revocation []string `json:"revocation_statements,omitempty"`
}

// Snapshot keeps the revocation statements with the lease. It is a broker.Snapshotter.
func (p *Producer) Snapshot(role broker.Role) ([]byte, error) {
	r, err := roleOf(role)
	if err != nil {
		return nil, err
	}
	if len(r.revocation) == 0 {
		return nil, nil
	}
	return json.Marshal(snapshot{Revocation: r.revocation})
}

// revocationOf finds the revocation statements for ref: those of the role as it is now, else those that were kept. None
// means the default.
func revocationOf(ref broker.Ref) ([]string, error) {
	if ref.Role != nil {
		r, err := roleOf(*ref.Role)
		if err != nil {
			return nil, err
		}
		return r.revocation, nil
	}
	if len(ref.Data) == 0 {
		return nil, nil
	}
	var s snapshot
	if err := json.Unmarshal(ref.Data, &s); err != nil {
		return nil, &broker.RevokeError{Cause: broker.Unknown, Msg: "what was kept with the lease is not readable"}
	}
	return s.Revocation, nil
}

func roleOf(role broker.Role) (*Role, error) {
	r, ok := role.Config.(*Role)
	if !ok {
		return nil, &broker.RevokeError{Cause: broker.Unknown, Msg: "the role is not one of a postgres target"}
	}
	return r, nil
}
