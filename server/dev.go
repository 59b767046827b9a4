package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/config"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// devTarget is what --dev calls the Vault that it is given, and the connector to it.
const devTarget = "vault"

// runDev serves from a temporary directory, which goes when the process does.
func runDev(ctx context.Context, opts Options) (err error) {
	dir, err := os.MkdirTemp("", "bailiff-dev-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	cfg := config.Default(dir)
	cfg.Node = "dev"
	cfg.Log = config.Log{Level: "warn", Format: "text"}
	cfg.Metrics.Address = ""
	if opts.DevListen != "" {
		cfg.Listener.Address = opts.DevListen
	}
	s, err := open(ctx, cfg, opts)
	if err != nil {
		return err
	}
	return s.run(ctx, opts, func(ctx context.Context, address string) error {
		return s.welcome(ctx, opts, dir, address)
	})
}

// welcome makes the identities of a dev server and says how to use it.
func (s *server) welcome(ctx context.Context, opts Options, dir, address string) error {
	mounts, err := s.govern(ctx, opts)
	if err != nil {
		return err
	}
	admin, err := s.boot.first(ctx, "admin")
	if err != nil {
		return err
	}
	reader, err := s.reader(ctx)
	if err != nil {
		return err
	}
	var b strings.Builder
	url := "http://" + address
	fmt.Fprintf(&b, "Bailiff %s serves at %s. This is a dev server: its data is in %s and goes with it.\n", opts.Version, url, dir)
	for _, m := range mounts {
		fmt.Fprintf(&b, "  %-20s governed, from %s\n", m.Path+"/", opts.DevVault)
	}
	for _, who := range []struct {
		what string
		key  identity.NewKey
	}{{"An administrator", admin}, {"A reader", reader}} {
		token := who.key.AccessID + identity.Separator + who.key.Key.Reveal()
		fmt.Fprintf(&b, "\n%s, for vault and for bailiff:\n  export VAULT_ADDR=%s VAULT_TOKEN=%s\n  export BAILIFF_ADDR=%s BAILIFF_TOKEN=%s\n", who.what, url, token, url, token)
	}
	fmt.Fprintln(&b)
	_, err = fmt.Fprint(opts.Stdout, b.String())
	return err
}

func (s *server) reader(ctx context.Context) (identity.NewKey, error) {
	if err := s.declare(ctx, &object.Policy{Name: "reader", Rules: ReadPolicy}, &object.Role{Name: "reader", Policies: []string{"reader"}}); err != nil {
		return identity.NewKey{}, err
	}
	return identities{s.estate}.Create(ctx, "dev", object.Identity{Name: "reader", Description: "may read everything", Roles: []string{"reader"}}, "dev")
}

// govern puts every mount of the Vault that --dev was given under governance, as it is called there.
func (s *server) govern(ctx context.Context, opts Options) ([]*object.Mount, error) {
	if opts.DevVault == "" {
		return nil, nil
	}
	token, err := readToken(opts.DevVaultTokenFile)
	if err != nil {
		return nil, err
	}
	target := &object.Target{
		Name: devTarget, Type: "vault", Address: opts.DevVault, Auth: &object.VaultAuth{Method: "token", Token: token},
	}
	if err := s.declare(ctx, target); err != nil {
		return nil, err
	}
	ask := s.estate.newAsker(nil)
	defer ask.close()
	found, err := ask.mounts(ctx, devTarget)
	if err != nil {
		return nil, fmt.Errorf("ask %s for its mounts: %w", opts.DevVault, err)
	}
	own := []string{"sys", "identity", "cubbyhole"}
	var mounts []*object.Mount
	want := []any{}
	for _, path := range sortedKeys(found) {
		if slices.Contains(own, path) {
			continue
		}
		m := &object.Mount{
			Path: path, Type: "vault", Target: devTarget, Engine: found[path].engine, KVVersion: found[path].kvVersion,
			Description: found[path].description,
		}
		mounts, want = append(mounts, m), append(want, m)
	}
	want = append(want, &object.Connector{Name: devTarget, Target: devTarget})
	return mounts, s.declare(ctx, want...)
}

func readToken(file string) (secret.Value, error) {
	if file == "" {
		return secret.Value{}, errors.New("a token for the Vault is needed: --vault-token-file FILE")
	}
	b, err := os.ReadFile(file) //nolint:gosec // the operator names it
	if err != nil {
		return secret.Value{}, fmt.Errorf("the Vault's token: %w", err)
	}
	return secret.New(strings.TrimSpace(string(b))), nil
}

// declare applies objects as the dev server's own.
func (s *server) declare(ctx context.Context, list ...any) error {
	var records []object.Record
	for _, v := range list {
		rec, err := object.Encode(v)
		if err != nil {
			return err
		}
		records = append(records, rec)
	}
	s.estate.mu.Lock()
	defer s.estate.mu.Unlock()
	_, err := s.estate.apply(ctx, "dev", "dev", records, false, nil, tried) // not "apply": a pruning apply leaves them alone
	return err
}
