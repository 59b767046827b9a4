package api

import "time"

// LeaseRetry is the body of POST leases/retry: the next try to end the lease is due now.
type LeaseRetry struct {
	LeaseID string `json:"lease_id"`
}

// LeaseForce is the body of POST leases/force: the lease is given up.
type LeaseForce struct {
	LeaseID string `json:"lease_id"`
	Reason  string `json:"reason"`
}

// LeaseForced is the answer to POST leases/force: what may still be alive, and where.
type LeaseForced struct {
	LeaseID   string `json:"lease_id"`
	Principal string `json:"principal"`
	Target    string `json:"target"`
}

// Selector picks leases. All fields that are set must match; at least one must be.
type Selector struct {
	Prefix   string `json:"prefix,omitempty"` // a path: what is below it
	Identity string `json:"identity,omitempty"`
	Mount    string `json:"mount,omitempty"`
	Role     string `json:"role,omitempty"`
	Producer string `json:"producer,omitempty"` // type
	Target   string `json:"target,omitempty"`
	Token    string `json:"token,omitempty"` // accessor

	Claims map[string]string `json:"claims,omitempty"` // what decided at the login; all that are given must be so
}

// Empty reports whether nothing is selected.
func (s Selector) Empty() bool {
	return s.Prefix == "" && s.Identity == "" && s.Mount == "" && s.Role == "" && s.Producer == "" && s.Target == "" && s.Token == "" &&
		len(s.Claims) == 0
}

// RevocationRequest is the body of POST revocations and POST revocations/preview.
type RevocationRequest struct {
	Selector
	Reason string `json:"reason,omitempty"`
	Sync   bool   `json:"sync,omitempty"` // answer when all have ended, or each has failed once
}

// RevocationPreview is the answer to POST revocations/preview.
type RevocationPreview struct {
	Leases  int             `json:"leases"`
	Targets []PreviewTarget `json:"targets"`
}

// PreviewTarget is what would end on one target.
type PreviewTarget struct {
	Target     string   `json:"target"`
	Leases     int      `json:"leases"`
	Principals []string `json:"principals"` // a few of them
}

// Revocation is the promise to end every lease that was selected, and how far it has come.
type Revocation struct {
	ID        string     `json:"id"`
	State     string     `json:"state"` // running, done
	Selector  Selector   `json:"selector"`
	Selected  string     `json:"selected"` // the selector in words
	By        string     `json:"by,omitempty"`
	Reason    string     `json:"reason,omitempty"`
	RequestID string     `json:"request_id,omitempty"`
	CreatedAt time.Time  `json:"created_at"`
	Expanded  bool       `json:"expanded"` // every lease is marked
	Marked    int64      `json:"marked"`
	Revoked   int64      `json:"revoked"` // of those marked, ended on their targets
	Open      int64      `json:"open"`    // of those marked, not ended yet
	Sessions  int64      `json:"sessions_closed"`
	DoneAt    *time.Time `json:"done_at,omitempty"`
	TookMS    int64      `json:"took_ms,omitempty"` // from the promise to the end of the last
}

// Revocations is the answer to GET revocations: the open ones, oldest first, and the newest that are done.
type Revocations struct {
	Revocations []Revocation `json:"revocations"`
}

// RecoverRequest is the body of POST recover: what is held is carried out.
type RecoverRequest struct {
	Reason string `json:"reason,omitempty"`
}

// RecoverPlan is the answer to GET recover: whether revocations are held, why, and what would be revoked. Leases may be
// fewer than Count.
type RecoverPlan struct {
	Held    bool            `json:"held"`
	Since   *time.Time      `json:"since,omitempty"`
	Why     string          `json:"why,omitempty"`
	Count   int             `json:"count"`
	Targets []PreviewTarget `json:"targets"`
	Leases  []Lease         `json:"leases"`
}

// ReconcileRequest is the body of POST reconcile/TARGET. Action is "" (report), "quarantine" or "remove".
type ReconcileRequest struct {
	Action string `json:"action,omitempty"`
}
