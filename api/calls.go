package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"

	"github.com/bailiff-secrets/bailiff/audit/index"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

// Status asks how the server is, as it tells it.
func (c *Client) Status(ctx context.Context) (json.RawMessage, error) {
	return get[json.RawMessage](ctx, c, "status", nil)
}

// Audit asks the trail. The names in q are those of the route.
func (c *Client) Audit(ctx context.Context, q url.Values) (AuditPage, error) {
	return get[AuditPage](ctx, c, "audit", q)
}

// WhoHad asks who had what lies at a path; since and until are as in Audit.
func (c *Client) WhoHad(ctx context.Context, path, since, until string) ([]index.Holder, error) {
	q := url.Values{"path": {path}}
	for name, v := range map[string]string{"since": since, "until": until} {
		if v != "" {
			q.Set(name, v)
		}
	}
	out, err := get[WhoHad](ctx, c, "audit/who-had", q)
	return out.Holders, err
}

// AuditKey asks for the public key of the trail.
func (c *Client) AuditKey(ctx context.Context) (string, error) {
	out, err := get[AuditKey](ctx, c, "audit/key", nil)
	return out.Key, err
}

// AuditCheckpoint asks for the newest signature for the trail.
func (c *Client) AuditCheckpoint(ctx context.Context) (string, error) {
	out, err := get[AuditCheckpoint](ctx, c, "audit/checkpoint", nil)
	return out.Checkpoint, err
}

// AuditProof asks for a proof that the record with number seq is in the trail.
func (c *Client) AuditProof(ctx context.Context, seq uint64) (string, error) {
	out, err := get[AuditProof](ctx, c, "audit/proofs/"+strconv.FormatUint(seq, 10), nil)
	return out.Proof, err
}

// Plan asks what an apply would do.
func (c *Client) Plan(ctx context.Context, in PlanRequest) (object.Plan, error) {
	return send[object.Plan](ctx, c, http.MethodPost, "plan", in)
}

// Apply brings the objects about. The plan that comes back is what was done.
func (c *Client) Apply(ctx context.Context, in PlanRequest) (object.Plan, error) {
	return send[object.Plan](ctx, c, http.MethodPost, "apply", in)
}

// Objects lists the objects of a kind.
func (c *Client) Objects(ctx context.Context, kind object.Kind) ([]Object, error) {
	out, err := get[Objects](ctx, c, "objects/"+string(kind), nil)
	return out.Objects, err
}

// Object finds one object.
func (c *Client) Object(ctx context.Context, kind object.Kind, name string) (Object, error) {
	return get[Object](ctx, c, "objects/"+string(kind)+"/"+name, nil)
}

// DeleteObject deletes an object whose version is the given one.
func (c *Client) DeleteObject(ctx context.Context, kind object.Kind, name string, version int64) error {
	q := url.Values{"version": {strconv.FormatInt(version, 10)}}
	return c.call(ctx, http.MethodDelete, "objects/"+string(kind)+"/"+name, q, nil, nil)
}

// CreateIdentity makes an identity with its first key.
func (c *Client) CreateIdentity(ctx context.Context, name string, in IdentityRequest) (NewKey, error) {
	in.Disabled = nil
	return send[NewKey](ctx, c, http.MethodPost, "identities/"+name, in)
}

// DisableIdentity makes every key of an identity useless, or with false useful again.
func (c *Client) DisableIdentity(ctx context.Context, name string, disabled bool) error {
	return c.call(ctx, http.MethodPost, "identities/"+name, nil, IdentityRequest{Disabled: &disabled}, nil)
}

// Keys lists an identity's access keys.
func (c *Client) Keys(ctx context.Context, identity string) ([]Key, error) {
	out, err := get[Keys](ctx, c, "identities/"+identity+"/keys", nil)
	return out.Keys, err
}

// CreateKey makes a further access key.
func (c *Client) CreateKey(ctx context.Context, identity string, in KeyRequest) (NewKey, error) {
	return send[NewKey](ctx, c, http.MethodPost, "identities/"+identity+"/keys", in)
}

// DisableKey makes an access key useless, or with false useful again.
func (c *Client) DisableKey(ctx context.Context, identity, id string, disabled bool) error {
	return c.call(ctx, http.MethodPatch, "identities/"+identity+"/keys/"+id, nil, KeyChange{Disabled: &disabled}, nil)
}

// DeleteKey deletes an access key.
func (c *Client) DeleteKey(ctx context.Context, identity, id string) error {
	return c.call(ctx, http.MethodDelete, "identities/"+identity+"/keys/"+id, nil, nil, nil)
}

// Leases lists leases. The names in q are those of the route.
func (c *Client) Leases(ctx context.Context, q url.Values) (LeasePage, error) {
	return get[LeasePage](ctx, c, "leases", q)
}

// Lease finds one lease, in whatever state it is.
func (c *Client) Lease(ctx context.Context, id string) (Lease, error) {
	return get[Lease](ctx, c, "leases/"+id, nil)
}

// RenewLease asks for increment more seconds, 0: as long as its role gives.
func (c *Client) RenewLease(ctx context.Context, id string, increment int64) (LeaseTerm, error) {
	return send[LeaseTerm](ctx, c, http.MethodPost, "leases/renew", LeaseRequest{LeaseID: id, Increment: increment})
}

// RevokeLease ends a lease; with sync it has ended on return, otherwise its end is promised.
func (c *Client) RevokeLease(ctx context.Context, id string, sync bool) error {
	return c.call(ctx, http.MethodPost, "leases/revoke", nil, LeaseRequest{LeaseID: id, Sync: sync}, nil)
}

// RetryLease makes the next try to end a lease due now.
func (c *Client) RetryLease(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodPost, "leases/retry", nil, LeaseRetry{LeaseID: id}, nil)
}

// ForceLease gives a lease up, whatever is still alive on its target.
func (c *Client) ForceLease(ctx context.Context, id, reason string) (LeaseForced, error) {
	return send[LeaseForced](ctx, c, http.MethodPost, "leases/force", LeaseForce{LeaseID: id, Reason: reason})
}

// PreviewRevocation counts what a revocation would end.
func (c *Client) PreviewRevocation(ctx context.Context, in RevocationRequest) (RevocationPreview, error) {
	return send[RevocationPreview](ctx, c, http.MethodPost, "revocations/preview", in)
}

// RevokeMany promises to end what is selected; with in.Sync it has ended on return.
func (c *Client) RevokeMany(ctx context.Context, in RevocationRequest) (Revocation, error) {
	return send[Revocation](ctx, c, http.MethodPost, "revocations", in)
}

// Revocations lists the open ones and the newest that are done.
func (c *Client) Revocations(ctx context.Context) ([]Revocation, error) {
	out, err := get[Revocations](ctx, c, "revocations", nil)
	return out.Revocations, err
}

// Revocation finds one.
func (c *Client) Revocation(ctx context.Context, id string) (Revocation, error) {
	return get[Revocation](ctx, c, "revocations/"+id, nil)
}

// RecoverPlan says whether revocations are held, and which.
func (c *Client) RecoverPlan(ctx context.Context) (RecoverPlan, error) {
	return get[RecoverPlan](ctx, c, "recover", nil)
}

// Recover lets what is held be carried out, and returns what was.
func (c *Client) Recover(ctx context.Context, reason string) (RecoverPlan, error) {
	return send[RecoverPlan](ctx, c, http.MethodPost, "recover", RecoverRequest{Reason: reason})
}

// Reconcile compares a target with its leases.
func (c *Client) Reconcile(ctx context.Context, target string, in ReconcileRequest) (json.RawMessage, error) {
	return send[json.RawMessage](ctx, c, http.MethodPost, "reconcile/"+target, in)
}

// ListSecrets lists the secrets of a connector.
func (c *Client) ListSecrets(ctx context.Context, in USCList) (USCListed, error) {
	return send[USCListed](ctx, c, http.MethodPost, "usc/list", in)
}

// GetSecret reads a secret.
func (c *Client) GetSecret(ctx context.Context, in USCGet) (USCSecret, error) {
	return send[USCSecret](ctx, c, http.MethodPost, "usc/get", in)
}

// CreateSecret makes a secret that must not be there yet.
func (c *Client) CreateSecret(ctx context.Context, in USCCreate) (USCWritten, error) {
	return send[USCWritten](ctx, c, http.MethodPost, "usc/create", in)
}

// UpdateSecret changes a secret that must be there.
func (c *Client) UpdateSecret(ctx context.Context, in USCUpdate) (USCWritten, error) {
	return send[USCWritten](ctx, c, http.MethodPost, "usc/update", in)
}

// DeleteSecret deletes a secret.
func (c *Client) DeleteSecret(ctx context.Context, in USCDelete) (USCWritten, error) {
	return send[USCWritten](ctx, c, http.MethodPost, "usc/delete", in)
}

func get[T any](ctx context.Context, c *Client, path string, q url.Values) (T, error) {
	var out T
	err := c.call(ctx, http.MethodGet, path, q, nil, &out)
	return out, err
}

func send[T any](ctx context.Context, c *Client, method, path string, in any) (T, error) {
	var out T
	err := c.call(ctx, method, path, nil, in, &out)
	return out, err
}
