package audit

import (
	"time"

	"github.com/bailiff-secrets/bailiff/policy"
)

// Schema is the version of Record.
const Schema = 1

// Stage says when a record was made: before a target was reached, or before an answer was released.
type Stage string

// The stages. An Event is neither: it is something that Bailiff did by itself (start, expiry, a revocation).
const (
	StageRequest  Stage = "request"
	StageResponse Stage = "response"
	StageEvent    Stage = "event"
)

// Status says how a request ended.
type Status string

// The statuses.
const (
	OK      Status = "ok"      // served
	Denied  Status = "denied"  // a policy said no, or the caller is not known
	Refused Status = "refused" // not a request that can be judged: odd path, too large, unsupported
	Failed  Status = "error"   // allowed, but the target or Bailiff could not serve it
	Begun   Status = "begun"   // StageRequest only: about to reach the target
)

// Record is one line of the trail. It never holds a secret value.
// V, Seq, Time and Node are set by Log.Append; Time and Node only where they are empty.
type Record struct {
	V          int          `json:"v"`
	Seq        uint64       `json:"seq"` // 1, 2, 3, …, without a gap
	Time       time.Time    `json:"time"`
	Stage      Stage        `json:"stage"`
	Status     Status       `json:"status"`
	RequestID  string       `json:"request_id,omitempty"`
	Node       string       `json:"node,omitempty"`
	Via        string       `json:"via,omitempty"` // hvp, usc, api, console, system
	Identity   string       `json:"identity,omitempty"`
	AccessID   string       `json:"access_id,omitempty"` // also of a refused credential, where its form was right
	KeyID      string       `json:"key_id,omitempty"`    // of the access key, or the accessor of the token
	Method     string       `json:"auth_method,omitempty"`
	ClientAddr string       `json:"client_addr,omitempty"`
	ProxyAddr  string       `json:"proxy_addr,omitempty"` // the trusted proxy that named the client
	UserAgent  string       `json:"user_agent,omitempty"`
	Op         string       `json:"op,omitempty"`
	Path       string       `json:"path,omitempty"`
	Mount      string       `json:"mount,omitempty"`
	Target     string       `json:"target,omitempty"`
	Rule       *policy.Rule `json:"rule,omitempty"`
	Code       int          `json:"code,omitempty"`  // the target's own answer code, where it gave one
	Error      string       `json:"error,omitempty"` // a class or a message without values
	Micros     int64        `json:"micros,omitempty"`
	LeaseID    string       `json:"lease_id,omitempty"`
	Principal  string       `json:"principal,omitempty"` // the name made or ended on the target
	Detail     string       `json:"detail,omitempty"`    // for events and changes: what changed, in words
	Event      string       `json:"event,omitempty"`     // of StageEvent: its name, where others are told of it ("lease.revoked")

	// Essential is set by the caller on a record that ends something (a request to revoke a lease or a token, and its
	// answer): it is taken even when the volume has less than Config.ReserveBytes free. It is not written. Every record of
	// StageEvent counts as essential without it, but for those that may wait.
	Essential bool `json:"-"`

	// MayWait is set by the caller on an event that ends nothing: it is not taken as essential. It is not written.
	MayWait bool `json:"-"`
}

// class says how far into the reserve of free space a record may go.
type class int

const (
	ordinary class = iota // not at all
	refusal               // down to half of it: a flood of these must leave room for revocations
	ending                // all of it
)

func (r *Record) class() class {
	switch {
	case r.Essential || r.Stage == StageEvent && !r.MayWait:
		return ending
	case r.Status == Denied || r.Status == Refused:
		return refusal
	default:
		return ordinary
	}
}
