// Package object owns what an operator declares: targets, mounts, producers, connectors, policies, roles, identities.
package object

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// Kind is the type of an object.
type Kind string

// The kinds, in the order in which apply creates them.
const (
	KindTarget     Kind = "target"
	KindMount      Kind = "mount"
	KindProducer   Kind = "producer"
	KindStaticRole Kind = "static_role"
	KindConnector  Kind = "connector"
	KindPolicy     Kind = "policy"
	KindRole       Kind = "role"
	KindIdentity   Kind = "identity"
	KindNotify     Kind = "notify"
)

// Kinds lists every kind in the order in which apply creates them; deletion goes the other way.
var Kinds = []Kind{KindTarget, KindMount, KindProducer, KindStaticRole, KindConnector, KindPolicy, KindRole, KindIdentity, KindNotify}

// Valid says whether k is one of Kinds.
func (k Kind) Valid() bool { return slices.Contains(Kinds, k) }

// ErrNotFound is returned for an object that is not there.
var ErrNotFound = errors.New("object not found")

// ErrConflict is returned when an object's version is not the expected one.
var ErrConflict = errors.New("the object has changed meanwhile")

// Record is an object as it is stored.
type Record struct {
	Kind      Kind
	Name      string // for a producer "<mount>/<name>"
	Version   int64  // 1, 2, 3, …: set by the store
	Body      json.RawMessage
	Secrets   map[string]secret.Value // by field name, as "token"; sealed at rest
	Source    string                  // "apply" for objects that came from files, else "api"
	UpdatedAt time.Time
	UpdatedBy string // identity
}

// Change is one step of an atomic write.
type Change struct {
	Record Record // Version is ignored
	Expect int64  // the version that must be there now; 0: the object must not exist
	Delete bool
}

// Store keeps objects. Apply is durable on return and all or nothing: with one wrong version it fails with ErrConflict
// and changes nothing. All methods are safe for concurrent use.
type Store interface {
	Apply(ctx context.Context, changes []Change) error
	// Object finds one; ErrNotFound where there is none.
	Object(ctx context.Context, kind Kind, name string) (Record, error)
	// Objects lists every object by kind (in the order of Kinds) and name.
	Objects(ctx context.Context) ([]Record, error)
}

// Target is an outside system and how to reach it.
type Target struct {
	Name           string       `json:"name"`
	Type           string       `json:"type"`              // vault, postgres
	Address        string       `json:"address,omitempty"` // vault: base URL; postgres: a postgres:// URL without user and password
	Namespace      string       `json:"namespace,omitempty"`
	Default        bool         `json:"default,omitempty"` // vault: where secrets engines are enabled that nobody says more of
	CACert         string       `json:"ca_cert,omitempty"` // PEM
	TLSServerName  string       `json:"tls_server_name,omitempty"`
	TLSSkipVerify  bool         `json:"tls_skip_verify,omitempty"`
	Timeout        Duration     `json:"timeout,omitzero"` // of one call; default 10s
	Auth           *VaultAuth   `json:"auth,omitempty"`   // vault
	Username       string       `json:"username,omitempty"`
	Password       secret.Value `json:"-"`
	MaxConnections int          `json:"max_connections,omitempty"` // postgres; default 16
	MaxTTL         Duration     `json:"max_ttl,omitzero"`          // no credential on it lives longer
	Reconcile      string       `json:"reconcile,omitempty"`       // cron expression of the sweep for orphans; empty: only when asked

	Mount              string   `json:"mount,omitempty"`                    // the broker mount under whose config/ it was written; empty: declared
	AllowedRoles       []string `json:"allowed_roles,omitzero"`             // names and globs of roles that may use it; nil: all, empty: none
	RotationStatements []string `json:"root_rotation_statements,omitempty"` // change the password of username; empty: the producer's own
}

// VaultAuth is how Bailiff logs in to a Vault target.
type VaultAuth struct {
	Method   string       `json:"method"` // token, approle
	Mount    string       `json:"mount,omitempty"`
	RoleID   string       `json:"role_id,omitempty"`
	Token    secret.Value `json:"-"`
	SecretID secret.Value `json:"-"`
}

// Mount is a path prefix and what serves it.
type Mount struct {
	Path        string   `json:"path"` // "secret", without slashes at its ends
	Type        string   `json:"type"` // vault (pass-through), broker
	Target      string   `json:"target,omitempty"`
	RemotePath  string   `json:"remote_path,omitempty"` // the mount's name on the target; default Path
	Engine      string   `json:"engine,omitempty"`      // kv, transit, …: as the target calls it; broker: "database"
	KVVersion   int      `json:"kv_version,omitempty"`
	Description string   `json:"description,omitempty"`
	DefaultTTL  Duration `json:"default_ttl,omitzero"`
	MaxTTL      Duration `json:"max_ttl,omitzero"`
	Children    string   `json:"child_leases,omitempty"`   // broker: when the token ends: "revoke" (default), "outlive"
	MaxLeases   int      `json:"max_leases,omitempty"`     // broker: open at a time; 0: no limit
	IssueRate   string   `json:"max_issue_rate,omitempty"` // broker: "10/s", "100/m"; empty: no limit
}

// Producer says how one kind of credential is made: what Vault calls a role of a secrets engine.
type Producer struct {
	Mount                string   `json:"mount"`
	Name                 string   `json:"name"`
	Target               string   `json:"target"`
	DefaultTTL           Duration `json:"default_ttl,omitzero"`
	MaxTTL               Duration `json:"max_ttl,omitzero"`
	CreationStatements   []string `json:"creation_statements,omitempty"`
	RenewStatements      []string `json:"renew_statements,omitempty"`
	RevocationStatements []string `json:"revocation_statements,omitempty"`
	ScramIterations      int      `json:"scram_iterations,omitempty"`
	PasswordAuth         string   `json:"password_authentication,omitempty"` // scram-sha-256 (default), password
	MaxLeases            int      `json:"max_leases,omitempty"`              // open at a time, of the role; 0: no limit
	IssueRate            string   `json:"max_issue_rate,omitempty"`          // "10/s", "100/m"; empty: no limit
	ReadyTimeout         Duration `json:"ready_timeout,omitzero"`            // how long a new credential may take to work; 0: it is not tried
	PoolSize             int      `json:"pool_size,omitempty"`               // credentials made ahead of demand, at most; 0: none
	PoolMaxAge           Duration `json:"pool_max_age,omitzero"`             // default 10m
	Share                string   `json:"share,omitempty"`                   // "identity": callers of one identity share a lease; empty: nobody does
}

// StaticRole is an account that stays on its target, whose password Bailiff knows and rotates.
type StaticRole struct {
	Mount              string   `json:"mount"`
	Name               string   `json:"name"`
	Target             string   `json:"target"`
	Username           string   `json:"username"`
	RotationPeriod     Duration `json:"rotation_period,omitzero"`
	RotationSchedule   string   `json:"rotation_schedule,omitempty"` // cron expression; instead of a period
	RotationStatements []string `json:"rotation_statements,omitempty"`
}

// Connector is a USC name for one KV mount, or for every KV mount of a Vault target.
type Connector struct {
	Name        string `json:"name"`
	Target      string `json:"target,omitempty"` // secret ids are <mount>/<path>
	Mount       string `json:"mount,omitempty"`  // secret ids are <path>
	Description string `json:"description,omitempty"`
}

// Policy is a set of rules in Vault's ACL language.
type Policy struct {
	Name  string `json:"name"`
	Rules string `json:"rules"`
}

// Role binds policies to identities.
type Role struct {
	Name       string   `json:"name"`
	Policies   []string `json:"policies,omitempty"`
	Identities []string `json:"identities,omitempty"`
	Binds      []Bind   `json:"binds,omitempty"` // logins that have the role through what they proved
}

// Bind is what a login must have proved: at that mount, of every claim one of the values.
type Bind struct {
	Mount  string              `json:"mount"` // of the auth method: "jwt"
	Claims map[string][]string `json:"claims"`
}

// Alias is what an identity is called at an auth mount: who logs in there by that name is that identity.
type Alias struct {
	Mount string `json:"mount"` // "userpass"
	Name  string `json:"name"`
}

// Identity is who may call. Its access keys are kept apart.
type Identity struct {
	Name        string            `json:"name"`
	AccessID    string            `json:"access_id,omitempty"` // chosen by Bailiff at creation
	Description string            `json:"description,omitempty"`
	Roles       []string          `json:"roles,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
	Disabled    bool              `json:"disabled,omitempty"`
	MaxLeases   int               `json:"max_leases,omitempty"`     // open at a time; 0: no limit
	IssueRate   string            `json:"max_issue_rate,omitempty"` // "10/s", "100/m"; empty: no limit
	Aliases     []Alias           `json:"aliases,omitempty"`
}
