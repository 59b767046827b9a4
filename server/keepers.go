package server

import (
	"context"
	"errors"
	"net/netip"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/bailiff-secrets/bailiff/cubbyhole"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/wrapping"
)

// keepers keep what callers leave: wrapped answers, and each token's own small store.
type keepers struct {
	wraps *wrapping.Keeper
	cubby *cubbyhole.Backend
}

func (s *server) openKeepers() (err error) {
	if s.keepers.wraps, err = wrapping.New(wrapping.Config{Store: s.db, Logger: s.logger}); err != nil {
		return err
	}
	s.keepers.cubby, err = cubbyhole.New(cubbyhole.Config{Store: s.db, Alive: s.alive, Logger: s.logger})
	return err
}

// mount is where callers find their own small store.
func (k *keepers) mount() *gate.Mount {
	return &gate.Mount{
		Path: "cubbyhole/", Type: "cubbyhole", Description: "per-token private secret storage", Internal: true, Backend: k.cubby,
		Accessor: stableID("cubbyhole_", "cubbyhole"), UUID: stableUUID("cubbyhole"),
	}
}

// spender is an Authenticator that knows wrapping tokens too: as callers they may do nothing, and are spent by trying.
type spender struct {
	gate.Authenticator
	wraps *wrapping.Keeper
}

func (s spender) Authenticate(ctx context.Context, token secret.Value, from netip.Addr) (identity.Caller, error) {
	if !wrapping.IsToken(token) {
		return s.Authenticator.Authenticate(ctx, token, from)
	}
	about, err := s.wraps.Spend(ctx, token)
	if errors.Is(err, wrapping.ErrNoToken) {
		err = &identity.Refusal{Reason: "a wrapping token that opens nothing"}
	}
	return identity.Caller{Method: "wrapping-token", Accessor: about.Accessor}, err
}

// run removes what nobody can come for any more.
func (k *keepers) run(ctx context.Context, group *errgroup.Group) {
	group.Go(func() error { return k.wraps.Run(ctx) })
	group.Go(func() error { return k.cubby.Run(ctx) })
}

const keyAccessor = "k-" // what the accessors of access keys begin with

// alive tells whether the credential with that accessor still counts. An access key that is switched off may be switched on
// again.
func (s *server) alive(ctx context.Context, accessor string) (bool, error) {
	if !strings.HasPrefix(accessor, keyAccessor) {
		_, counts := s.estate.tokens.Token(accessor)
		return counts, nil
	}
	keys, err := s.db.Keys(ctx)
	if err != nil {
		return false, err
	}
	for _, k := range keys {
		if k.ID == accessor {
			return true, nil
		}
	}
	return false, nil
}
