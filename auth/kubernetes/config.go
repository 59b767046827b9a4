package kubernetes

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/gate"
)

// Where a pod finds its cluster's authority and its own token.
const (
	localCA    = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
	localToken = "/var/run/secrets/kubernetes.io/serviceaccount/token" // #nosec G101 -- a path
)

const (
	review  = "review"
	offline = "offline"
)

// config is what is kept of a mount's configuration.
type config struct {
	Host       string
	CACert     string
	Reviewer   string // the token that reviews others; empty: the pod's own, or the one under review
	Keys       []string
	Issuer     string
	NoIssuer   bool // the issuer is not checked
	NoLocal    bool // the pod's own authority and token are not used
	Validation string
}

type configDoc = auth.Doc[config]

func loadConfig(ctx context.Context, m *auth.Mount) (*configDoc, error) {
	return auth.Load[config](ctx, m, "config")
}

func (k *Method) readConfig(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	d, err := loadConfig(ctx, c.At)
	if err != nil {
		return nil, err
	}
	if d == nil {
		return auth.Missing(), nil
	}
	x := &d.Value
	data := map[string]any{
		"kubernetes_host": x.Host, "kubernetes_ca_cert": x.CACert, "pem_keys": auth.Strings(x.Keys), "issuer": x.Issuer,
		"disable_iss_validation": x.NoIssuer, "disable_local_ca_jwt": x.NoLocal,
	}
	if x.Validation == offline {
		data["validation"] = offline
	}
	return auth.OK(data), nil
}

// writeConfig replaces the configuration, as Vault does.
func (k *Method) writeConfig(ctx context.Context, c *auth.Call) (*gate.Response, error) {
	b := c.Body
	x := config{
		Host: strings.TrimSuffix(b.Text("kubernetes_host"), "/"), CACert: b.Text("kubernetes_ca_cert"), Reviewer: b.Text("token_reviewer_jwt"),
		Keys: b.List("pem_keys"), Issuer: b.Text("issuer"), NoIssuer: b.Bool("disable_iss_validation", true),
		NoLocal: b.Bool("disable_local_ca_jwt", false), Validation: review,
	}
	b.SetText("validation", &x.Validation)
	if err := b.Err(); err != nil {
		return nil, err
	}
	if err := x.check(); err != nil {
		return nil, err
	}
	err := auth.Again(func() error {
		d, err := loadConfig(ctx, c.At)
		if err != nil {
			return err
		}
		if d == nil {
			d = &configDoc{Key: "config"}
		}
		d.Value = x
		return c.At.Write(ctx, d.Put(c.At))
	})
	if err != nil {
		return nil, err
	}
	return auth.Done("wrote the configuration"), nil
}

func (x *config) check() error {
	u, err := url.Parse(x.Host)
	switch {
	case x.Validation != review && x.Validation != offline:
		return auth.Invalid("invalid validation %q: use review or offline", x.Validation)
	case x.Host == "" && (x.Validation == review || len(x.Keys) == 0):
		return auth.Invalid("no host provided")
	case x.Host != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == ""):
		return auth.Invalid("kubernetes_host is not a URL such as https://10.0.0.1:6443")
	case x.NoLocal && x.CACert == "" && x.Validation == review:
		return auth.Invalid("kubernetes_ca_cert must be given when disable_local_ca_jwt is true")
	case x.Validation == offline && x.NoIssuer && x.Issuer != "":
		x.NoIssuer = false // it was given to be checked
	}
	for _, text := range x.Keys {
		if _, err := publicKey(text); err != nil {
			return auth.Invalid("%s", err)
		}
	}
	if _, err := x.client(); err != nil {
		return auth.Invalid("%s", err)
	}
	return nil
}

// publicKey reads a public key or a certificate in PEM form.
func publicKey(text string) (any, error) {
	wrong := errors.New("data does not contain any valid RSA or ECDSA public keys")
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, wrong
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, wrong
		}
		key = cert.PublicKey
	}
	switch key.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey:
		return key, nil
	}
	return nil, wrong
}

const reviewTimeout = 10 * time.Second

// client makes a client that trusts the cluster's authority.
func (x *config) client() (*http.Client, error) {
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	ca := x.CACert
	if ca == "" && !x.NoLocal {
		if text, err := os.ReadFile(localCA); err == nil { // there is none outside of a pod
			ca = string(text)
		}
	}
	if ca != "" {
		tlsConfig.RootCAs = x509.NewCertPool()
		if !tlsConfig.RootCAs.AppendCertsFromPEM([]byte(ca)) {
			return nil, errors.New("kubernetes_ca_cert is not a certificate in PEM form")
		}
	}
	return &http.Client{
		Timeout:       reviewTimeout,
		Transport:     &http.Transport{TLSClientConfig: tlsConfig, TLSHandshakeTimeout: reviewTimeout, IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 8},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// bearer is the token by which the API is asked.
func (x *config) bearer(reviewed string) string {
	if x.Reviewer != "" {
		return x.Reviewer
	}
	if !x.NoLocal {
		if text, err := os.ReadFile(localToken); err == nil { // it is another one every hour
			return strings.TrimSpace(string(text))
		}
	}
	return reviewed
}
