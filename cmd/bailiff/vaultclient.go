package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// vaultClient asks a Vault that VAULT_ADDR and VAULT_TOKEN name.
type vaultClient struct {
	addr  string
	token secret.Value
	http  *http.Client
}

func (a *app) vaultClient() (*vaultClient, error) {
	v := &vaultClient{
		addr: strings.TrimRight(a.getenv("VAULT_ADDR", ""), "/"), token: secret.New(a.getenv("VAULT_TOKEN", "")), http: &http.Client{Timeout: 30 * time.Second},
	}
	if v.addr == "" || v.token.Empty() {
		return nil, hinted("the token needs list and read on sys/policies/acl and identity, update on auth/token/create and sys/capabilities",
			"VAULT_ADDR and VAULT_TOKEN must name a Vault and a token of it")
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	if name := a.getenv("VAULT_CACERT", ""); name != "" {
		pem, err := os.ReadFile(name) //nolint:gosec // the caller names it
		if err != nil {
			return nil, fmt.Errorf("VAULT_CACERT: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("VAULT_CACERT: %s holds no certificate", name)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	v.http.Transport = transport
	// A token is never sent to where a redirect leads.
	v.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return v, nil
}

// errVaultHasNot is what Vault says of something that isn't there.
var errVaultHasNot = errors.New("it is not there")

// call asks once; in and out may be nil.
func (v *vaultClient) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, v.addr+"/v1/"+path, body)
	if err != nil {
		return err
	}
	r.Header.Set("X-Vault-Token", v.token.Reveal())
	r.Header.Set("X-Vault-Request", "true")
	resp, err := v.http.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	switch {
	case err != nil:
		return err
	case resp.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%s: %w", path, errVaultHasNot)
	case resp.StatusCode >= 300:
		return fmt.Errorf("%s: Vault answers %d: %.200s", path, resp.StatusCode, b)
	case out == nil:
		return nil
	}
	return json.Unmarshal(b, out)
}

// list lists what lies below path; nothing where there is nothing.
func (v *vaultClient) list(ctx context.Context, path string) ([]string, error) {
	var out struct{ Data struct{ Keys []string } }
	if err := v.call(ctx, "LIST", path, nil, &out); err != nil && !errors.Is(err, errVaultHasNot) {
		return nil, err
	}
	return out.Data.Keys, nil
}
