package testenv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// vaultModule holds nothing but the go.mod and go.sum that Vault is built from, so that its dependencies stay out of
// Bailiff's own.
const vaultModule = "test/servers/vault"

// VaultVersion is the version of Vault, server and command line in one, that tests run against.
const VaultVersion = "1.13.0"

const startWait = 60 * time.Second

// VaultServer is a Vault server in dev mode: unsealed, in memory, with KV version 2 at secret/.
type VaultServer struct {
	*Process
	Addr      string // http://127.0.0.1:PORT
	RootToken string
}

// VaultOptions are the wishes that [Env.StartVault] takes; the zero value is all right.
type VaultOptions struct {
	RootToken string // made up if empty
	Port      int    // this one and the next; chosen if 0
}

// StartVault starts a Vault server and waits until it answers.
func (e *Env) StartVault(ctx context.Context, o VaultOptions) (*VaultServer, error) {
	bin, err := e.VaultBinary(ctx)
	if err != nil {
		return nil, err
	}
	if o.RootToken == "" {
		o.RootToken = "root-" + strings.ToLower(rand.Text())
	}
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	return attempts(ctx, 5, func() (*VaultServer, error) { return e.startVault(ctx, bin, o) })
}

func (e *Env) startVault(ctx context.Context, bin string, o VaultOptions) (*VaultServer, error) {
	if o.Port == 0 {
		port, err := FreePort(2) // the second is for the cluster, which a dev server listens on too
		if err != nil {
			return nil, err
		}
		o.Port = port
	}
	dir, err := e.NewDir("vault", nil)
	if err != nil {
		return nil, err
	}
	p, err := e.Start(Command{
		Name: "vault",
		Path: bin,
		Args: []string{"server", "-dev", "-dev-no-store-token", "-dev-listen-address=" + loopback(o.Port)},
		Env:  append(cleanEnviron(dir), "VAULT_DEV_ROOT_TOKEN_ID="+o.RootToken),
		Dir:  dir,
	})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	v := &VaultServer{Process: p, Addr: "http://" + loopback(o.Port), RootToken: o.RootToken}
	if err := p.WaitReady(ctx, v.probe); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return v, nil
}

// probe asks for what only our own server can answer: another one on the same port does not know our token. The dev
// server is ready once its first mount is there.
func (v *VaultServer) probe(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.Addr+"/v1/secret/config", http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("X-Vault-Token", v.RootToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// VaultBinary returns the path of the Vault program, which it builds first if the cache has none.
func (e *Env) VaultBinary(ctx context.Context) (string, error) {
	dir := filepath.Join(e.cache, "servers", "vault-"+VaultVersion)
	bin := filepath.Join(dir, "vault")
	if isExecutable(bin) {
		return bin, nil
	}
	unlock, err := e.lock(dir)
	if err != nil {
		return "", err
	}
	defer unlock()
	if isExecutable(bin) { // somebody else was building it
		return bin, nil
	}
	module := filepath.Join(e.root, filepath.FromSlash(vaultModule))
	if err := checkVaultModule(filepath.Join(module, "go.mod")); err != nil {
		return "", err
	}
	build := exec.CommandContext(ctx, "go", "build", "-mod=readonly", "-buildvcs=false", "-ldflags", "-s -w",
		"-o", bin+".new", "github.com/hashicorp/vault")
	build.Dir = module
	build.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=", "CGO_ENABLED=0", "GOOS=", "GOARCH=")
	if err := e.run(build, "building Vault "+VaultVersion); err != nil {
		return "", err
	}
	if err := os.Rename(bin+".new", bin); err != nil {
		return "", fmt.Errorf("keep the built Vault: %w", err)
	}
	return bin, nil
}

// checkVaultModule looks for the settings without which the built program would be the wrong one or panic at start.
func checkVaultModule(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read Vault's module: %w", err)
	}
	for _, want := range []string{
		"x509negativeserial=1", // one of its dependencies carries a certificate that newer Go versions refuse
		"github.com/hashicorp/vault v" + VaultVersion,
	} {
		if !strings.Contains(string(b), want) {
			return fmt.Errorf("%s: no %q in it", path, want)
		}
	}
	return nil
}

func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
