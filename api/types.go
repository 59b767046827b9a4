package api

import (
	"encoding/json"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/audit/index"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

// Prefix is the path below which the server answers.
const Prefix = "/api/v1/"

// ObjectInput is one object that apply is to bring about. Secrets are values by field name; they are only ever sent.
type ObjectInput struct {
	Kind    object.Kind       `json:"kind"`
	Name    string            `json:"name"`
	Body    json.RawMessage   `json:"body"`
	Secrets map[string]string `json:"secrets,omitempty"`
}

// PlanRequest is the body of POST plan and POST apply. Expect holds, by "kind/name", the version of each object that the
// plan was made from (0: there was none); only apply reads it.
type PlanRequest struct {
	Objects []ObjectInput    `json:"objects"`
	Prune   bool             `json:"prune,omitempty"`
	Expect  map[string]int64 `json:"expect,omitempty"`

	SkipPreflight bool `json:"skip_preflight,omitempty"` // apply: don't try new and changed producers on their targets
}

// Object is an object as it is stored, without its secrets.
type Object struct {
	Kind      object.Kind     `json:"kind"`
	Name      string          `json:"name"`
	Version   int64           `json:"version"`
	UpdatedAt time.Time       `json:"updated_at"`
	UpdatedBy string          `json:"updated_by,omitempty"`
	Source    string          `json:"source,omitempty"`
	Body      json.RawMessage `json:"body"`
}

// Objects is the answer to GET objects/KIND.
type Objects struct {
	Objects []Object `json:"objects"`
}

// IdentityRequest is the body of POST identities/NAME: it makes an identity, or with Disabled changes one that is there.
type IdentityRequest struct {
	Description string            `json:"description,omitempty"`
	Roles       []string          `json:"roles,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
	Disabled    *bool             `json:"disabled,omitempty"`
}

// NewKey is an access key at the only time it is shown.
type NewKey struct {
	Name      string     `json:"name"`
	AccessID  string     `json:"access_id"`
	KeyID     string     `json:"key_id"`
	AccessKey string     `json:"access_key"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// KeyRequest is the body of POST identities/NAME/keys. TTL is in words ("720h"); empty: the key does not expire.
type KeyRequest struct {
	Note string `json:"note,omitempty"`
	TTL  string `json:"ttl,omitempty"`
}

// KeyChange is the body of PATCH identities/NAME/keys/ID.
type KeyChange struct {
	Disabled *bool `json:"disabled"`
}

// Key is an access key without the key itself.
type Key struct {
	ID        string     `json:"id"`
	Note      string     `json:"note,omitempty"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	Disabled  bool       `json:"disabled"`
}

// Keys is the answer to GET identities/NAME/keys.
type Keys struct {
	Keys []Key `json:"keys"`
}

// WhoHad is the answer to GET audit/who-had.
type WhoHad struct {
	Holders []index.Holder `json:"holders"`
}

// AuditKey is the answer to GET audit/key.
type AuditKey struct {
	Key string `json:"key"`
}

// AuditCheckpoint is the answer to GET audit/checkpoint.
type AuditCheckpoint struct {
	Checkpoint string `json:"checkpoint"`
}

// AuditProof is the answer to GET audit/proofs/SEQ.
type AuditProof struct {
	Proof string `json:"proof"`
}

// AuditPage is the answer to GET audit: newest first. Next, where it is not 0, is the "before" of the page that follows.
type AuditPage struct {
	Records []audit.Record `json:"records"`
	Next    uint64         `json:"next,omitempty"`
}

// Lease is one lease as it stands. Times that are not set are left out.
type Lease struct {
	ID           string            `json:"id"`
	Mount        string            `json:"mount"`
	Role         string            `json:"role"`
	Producer     string            `json:"producer,omitempty"`
	Target       string            `json:"target"`
	Identity     string            `json:"identity"`
	AccessID     string            `json:"access_id,omitempty"`
	RequestID    string            `json:"request_id,omitempty"`
	Principal    string            `json:"principal"`
	Token        string            `json:"token,omitempty"`    // accessor of the token or access key that it was issued to
	Claims       map[string]string `json:"claims,omitempty"`   // what decided when that token was made
	Outlives     bool              `json:"outlives,omitempty"` // it stays when that token ends
	Holders      int               `json:"holders,omitempty"`  // callers who share it, where there are several
	State        string            `json:"state"`
	IssuedAt     *time.Time        `json:"issued_at,omitempty"`
	ExpiresAt    *time.Time        `json:"expires_at,omitempty"`
	MaxExpiresAt *time.Time        `json:"max_expires_at,omitempty"`
	NextAt       *time.Time        `json:"next_at,omitempty"`
	Attempt      int               `json:"attempt,omitempty"`
	Cause        string            `json:"cause,omitempty"`
	Error        string            `json:"error,omitempty"`
}

// LeasePage is the answer to GET leases. Next, where it is not 0, is the "after" of the page that follows.
type LeasePage struct {
	Leases []Lease `json:"leases"`
	Next   int64   `json:"next,omitempty"`
}

// LeaseRequest is the body of POST leases/renew and leases/revoke.
type LeaseRequest struct {
	LeaseID   string `json:"lease_id"`
	Increment int64  `json:"increment,omitempty"` // seconds, of renew
	Sync      bool   `json:"sync,omitempty"`      // of revoke: answer when it is done, not when it is promised
}

// LeaseTerm is the answer to POST leases/renew.
type LeaseTerm struct {
	LeaseID   string   `json:"lease_id"`
	Renewable bool     `json:"renewable"`
	Duration  int64    `json:"lease_duration"` // seconds
	Warnings  []string `json:"warnings,omitempty"`
}

// USCList is the body of POST usc/list. With Flat only the folder Path itself is listed.
type USCList struct {
	Name string `json:"usc-name"`
	Path string `json:"path,omitempty"`
	Flat bool   `json:"flat,omitempty"`
}

// USCListed is the answer to POST usc/list. Omitted counts what the caller may not list; Truncated says that there may
// be more.
type USCListed struct {
	Secrets   []USCEntry `json:"secrets_list"`
	Omitted   int        `json:"omitted,omitempty"`
	Truncated bool       `json:"truncated,omitempty"`
}

// USCEntry is one secret of a list. Type is kv-v1, kv-v2 or, in a flat list, folder.
type USCEntry struct {
	SecretID string `json:"secret_id"`
	Name     string `json:"name"`
	Type     string `json:"type"`
	Status   bool   `json:"status"`
}

// USCGet is the body of POST usc/get.
type USCGet struct {
	Name     string `json:"usc-name"`
	SecretID string `json:"secret-id"`
	Version  string `json:"version-id,omitempty"`
}

// USCSecret is the answer to POST usc/get. Value is the base64 form of a JSON object: the secret's keys and values.
type USCSecret struct {
	Name     string      `json:"name"`
	Value    string      `json:"value"`
	Binary   bool        `json:"binary_value"`
	Metadata USCMetadata `json:"metadata"`
}

// USCMetadata is about the version that was read. It is empty on KV v1, which keeps none.
type USCMetadata struct {
	Created *time.Time        `json:"created,omitempty"`
	Updated *time.Time        `json:"updated,omitempty"`
	Version int64             `json:"version,omitempty"`
	Custom  map[string]string `json:"custom,omitempty"`
}

// USCCreate is the body of POST usc/create. Value is a JSON object, or a string that ParseValue reads.
type USCCreate struct {
	Name       string          `json:"usc-name"`
	SecretName string          `json:"secret-name"`
	Value      json.RawMessage `json:"value"`
}

// USCUpdate is the body of POST usc/update. Where Expect is set, another version than that one is a conflict.
type USCUpdate struct {
	Name     string          `json:"usc-name"`
	SecretID string          `json:"secret-id"`
	Value    json.RawMessage `json:"value"`
	Expect   int64           `json:"expect-version,omitempty"`
}

// USCDelete is the body of POST usc/delete.
type USCDelete struct {
	Name        string `json:"usc-name"`
	SecretID    string `json:"secret-id"`
	AllVersions bool   `json:"all-versions,omitempty"`
}

// USCWritten is the answer to POST usc/create, usc/update and usc/delete (which has the name alone).
type USCWritten struct {
	Name     string `json:"name,omitempty"`
	SecretID string `json:"secret_id,omitempty"`
	Version  string `json:"version_id,omitempty"`
}
