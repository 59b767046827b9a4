package server

import (
	"context"
	"errors"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/upstream"
)

// vaultLeases is a Vault as the broker sees it: it keeps leases that it has issued itself.
type vaultLeases struct{ vault *upstream.Vault }

// Create is never asked for: a Vault issues when its own paths are read.
func (vaultLeases) Create(context.Context, broker.Spec) (*broker.Credential, error) {
	return nil, gate.Errorf(gate.Unsupported, "a Vault issues by its own paths")
}

// Revoke ends a lease on the Vault. What a request whose answer was never seen may have left can't be named; it is over when
// the Vault's own longest time is.
func (v vaultLeases) Revoke(ctx context.Context, ref broker.Ref) error {
	if ref.Principal == "" {
		if until := broker.ForeignUntil(ref.Data); time.Now().Before(until) {
			return &broker.RevokeError{
				Cause: broker.Unknown,
				Msg:   "the answer to the request was never seen: what the Vault may have issued for it has no name here, and ends there by its own time",
			}
		}
		return nil
	}
	return classed(v.vault.RevokeLease(ctx, ref.Principal))
}

// RenewForeign asks the Vault for more time.
func (v vaultLeases) RenewForeign(ctx context.Context, ref broker.Ref, increment time.Duration) (time.Duration, []string, error) {
	granted, warnings, err := v.vault.RenewLease(ctx, ref.Principal, increment)
	return granted, warnings, classed(err)
}

// classed says a Vault's error in the broker's words.
func classed(err error) error {
	var said *gate.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, upstream.ErrGone):
		return &broker.RevokeError{Cause: broker.Gone, Msg: "the Vault has no such lease", Err: err}
	case upstream.Refused(err):
		return &broker.RevokeError{Cause: broker.ForbiddenBy, Msg: "the Vault does not let Bailiff's login do that", Err: err}
	case errors.As(err, &said) && (said.Kind == gate.TargetDown || said.Kind == gate.TargetSlow || said.Kind == gate.TooMany):
		return &broker.RevokeError{Cause: broker.Unreachable, Msg: said.Msg, Err: err}
	}
	return err
}
