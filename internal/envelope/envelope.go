// Package envelope writes Vault's JSON around an answer, field by field in Vault's order.
package envelope

import (
	"bytes"
	"encoding/json"
	"time"
)

// Envelope is Vault's answer around Data. Its zero value is an answer that says nothing.
type Envelope struct {
	RequestID     string         `json:"request_id"`
	LeaseID       string         `json:"lease_id"`
	Renewable     bool           `json:"renewable"`
	LeaseDuration int64          `json:"lease_duration"` // seconds
	Data          map[string]any `json:"data"`
	WrapInfo      *WrapInfo      `json:"wrap_info"`
	Warnings      []string       `json:"warnings"`
	Auth          *Auth          `json:"auth"`
}

// WrapInfo is the token for an answer that is kept.
type WrapInfo struct {
	Token           string    `json:"token"`
	Accessor        string    `json:"accessor"`
	TTL             int64     `json:"ttl"` // seconds
	CreationTime    time.Time `json:"creation_time"`
	CreationPath    string    `json:"creation_path"`
	WrappedAccessor string    `json:"wrapped_accessor,omitempty"`
}

// Auth is a new token.
type Auth struct {
	ClientToken      string            `json:"client_token"`
	Accessor         string            `json:"accessor"`
	Policies         []string          `json:"policies"`
	TokenPolicies    []string          `json:"token_policies,omitempty"`
	IdentityPolicies []string          `json:"identity_policies,omitempty"`
	Metadata         map[string]string `json:"metadata"`
	LeaseDuration    int64             `json:"lease_duration"` // seconds
	Renewable        bool              `json:"renewable"`
	EntityID         string            `json:"entity_id"`
	TokenType        string            `json:"token_type"`
	Orphan           bool              `json:"orphan"`
	MFARequirement   *struct{}         `json:"mfa_requirement"`
	NumUses          int               `json:"num_uses"`
}

// Marshal writes JSON as Vault does: < > & escaped, and a line feed at the end.
func Marshal(v any) ([]byte, error) {
	var out bytes.Buffer
	err := json.NewEncoder(&out).Encode(v)
	return out.Bytes(), err
}

const idField = `{"request_id":"`

// WithRequestID is body, an envelope as Vault or Marshal writes it, with another request's id. A body that begins
// otherwise is returned as it is.
func WithRequestID(body []byte, id string) []byte {
	rest, ok := bytes.CutPrefix(body, []byte(idField))
	if !ok {
		return body
	}
	end := bytes.IndexByte(rest, '"')
	if end < 0 {
		return body
	}
	quoted, err := json.Marshal(id)
	if err != nil {
		return body // a string always marshals
	}
	out := make([]byte, 0, len(body)+len(quoted))
	out = append(out, idField[:len(idField)-1]...)
	out = append(out, quoted...)
	return append(out, rest[end+1:]...)
}
