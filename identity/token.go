package identity

import (
	"net/netip"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// TokenParams is what a new token shall be; the zero value is Vault's default everywhere.
type TokenParams struct {
	Policies        []string
	NoDefaultPolicy bool
	TTL             time.Duration // zero: the mount's or the system's default
	MaxTTL          time.Duration // zero: the mount's or the system's
	ExplicitMaxTTL  time.Duration // also a periodic token ends then; zero: no such end
	Period          time.Duration // zero: not periodic
	Uses            int           // 0: any number
	BoundCIDRs      []netip.Prefix
	Type            string // "service", "batch"; empty: service
	NotRenewable    bool
}

// LoginSpec is who an auth method let in, and what their token shall be.
type LoginSpec struct {
	MountPath     string // "auth/approle/"
	MountAccessor string
	MountType     string // "approle"
	Path          string // of the login: "auth/userpass/login/joe"; empty: MountPath and "login"
	Alias         string // who that is there; unique in the mount; never empty
	AliasMetadata map[string]string
	// Identity is the name of a declared identity that logged in with an access key: the token is its entity's, and ends
	// when the key does; Alias is the access id, and Metadata["key_id"] names the key. Empty: the alias tells the entity.
	Identity    string
	DisplayName string            // "approle-ci"; for people
	Groups      []string          // as the outside system names them
	Metadata    map[string]string // of the token
	Claims      map[string]string // what decided, for the record and for roles that bind claims
	Params      TokenParams
	Role        string // of the method; for role-bound renewals and for the record
}

// Admission is whom an auth method let in, and how.
type Admission struct {
	MountAccessor string
	Alias         string
	Role          string // of the method
	Metadata      map[string]string
	Policies      []string // of the token
}

// NewToken is a token at the one moment when it can be seen.
type NewToken struct {
	Token  secret.Value
	Caller Caller // as Authenticate would give it from now on
	TTL    time.Duration
	Params TokenParams // as they count
	Orphan bool
	// Warnings say what was cut.
	Warnings []string
}
