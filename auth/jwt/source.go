package jwt

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/bailiff-secrets/bailiff/auth"
)

const (
	fetchTimeout = 10 * time.Second // of one request to an issuer
	fetchLimit   = 1 << 20          // bytes of its answer
)

// asymmetric lists the algorithms that a token may be signed by. None of them works with a key that both sides know.
func asymmetric() []string {
	return []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA"}
}

// source is where the keys of a configuration come from. It fetches them when they are needed first, keeps them, and fetches
// them again for a key id that it doesn't know.
type source struct {
	config  config
	version int64
	client  *http.Client
	broken  error // in the configuration

	mu       sync.Mutex // held while a provider is asked who it is
	provider *oidc.Provider
	keys     oidc.KeySet
}

func newSource(x *config) *source {
	s := &source{config: *x}
	ca := x.DiscoveryCA
	if x.JWKSURL != "" {
		ca = x.JWKSCA
	}
	s.client, s.broken = clientFor(ca)
	return s
}

// sourceOf finds the source of a mount's configuration as it stands.
func (j *Method) sourceOf(m *auth.Mount, d *configDoc) *source {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.cache[m.Accessor]
	if s == nil || s.version != d.Version() {
		s = newSource(&d.Value)
		s.version = d.Version()
		j.cache[m.Accessor] = s
	}
	return s
}

// clientFor makes a client that trusts the system's authorities, or the one given. It follows no redirect.
func clientFor(ca string) (*http.Client, error) {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: fetchTimeout, IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 4}
	if ca != "" {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM([]byte(ca)) {
			return nil, errors.New("could not parse CA PEM value successfully")
		}
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	}
	return &http.Client{
		Transport: &bounded{transport}, Timeout: fetchTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// bounded reads no more of an answer than anybody should send.
type bounded struct{ next http.RoundTripper }

// RoundTrip sends a request.
func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, fetchLimit), resp.Body}
	}
	return resp, err
}

// lasting is a context for what outlives a request: the keys of an issuer.
func (s *source) lasting(ctx context.Context) context.Context {
	return oidc.ClientContext(context.WithoutCancel(ctx), s.client)
}

// discover asks the provider who it is, once.
func (s *source) discover(ctx context.Context) (*oidc.Provider, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return nil, s.broken
	}
	if s.provider != nil {
		return s.provider, nil
	}
	p, err := oidc.NewProvider(s.lasting(ctx), s.config.DiscoveryURL)
	if err != nil {
		return nil, err
	}
	s.provider = p
	return p, nil
}

// check tries a configuration.
func (s *source) check(ctx context.Context) error {
	switch {
	case s.broken != nil && s.config.JWKSURL != "":
		return auth.Invalid("error checking jwks_ca_pem: %v", s.broken)
	case s.broken != nil:
		return auth.Invalid("error checking oidc discovery URL: %v", s.broken)
	case s.config.DiscoveryURL != "":
		if _, err := s.discover(ctx); err != nil {
			return auth.Invalid("error checking oidc discovery URL: %v", err)
		}
	case s.config.JWKSURL != "":
		if err := s.fetchable(ctx); err != nil {
			return auth.Invalid("error checking jwks URL: %v", err)
		}
	default:
		for _, text := range s.config.PublicKeys {
			if _, err := publicKey(text); err != nil {
				return auth.Invalid("error parsing public key: %v", err)
			}
		}
	}
	return nil
}

func (s *source) fetchable(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.config.JWKSURL, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New("the answer is " + resp.Status)
	}
	return nil
}

// publicKey reads a public key or a certificate in PEM form.
func publicKey(text string) (crypto.PublicKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("data does not contain any valid public keys")
	}
	if block.Type == "CERTIFICATE" {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("data does not contain any valid public keys")
		}
		return cert.PublicKey, nil
	}
	if key, err := x509.ParsePKIXPublicKey(block.Bytes); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS1PublicKey(block.Bytes)
	if err != nil {
		return nil, errors.New("data does not contain any valid public keys")
	}
	return key, nil
}

// algorithms lists what a token may be signed by.
func (s *source) algorithms() []string {
	if len(s.config.Algorithms) > 0 {
		return s.config.Algorithms
	}
	return asymmetric()
}

// maxToken is the limit of a token in bytes.
const maxToken = 64 << 10

// verify checks the signature of a token and returns its claims as they were signed.
func (s *source) verify(ctx context.Context, token string) ([]byte, error) {
	if len(token) > maxToken {
		return nil, errors.New("the token is too large")
	}
	var algs []jose.SignatureAlgorithm
	for _, a := range s.algorithms() {
		algs = append(algs, jose.SignatureAlgorithm(a))
	}
	if _, err := jose.ParseSignedCompact(token, algs); err != nil {
		return nil, errors.New("the token is malformed, or signed by an algorithm that is not allowed")
	}
	keys, err := s.keySet(ctx)
	if err != nil {
		return nil, err
	}
	payload, err := keys.VerifySignature(oidc.ClientContext(ctx, s.client), token)
	if err != nil {
		return nil, errors.New("failed to verify id token signature")
	}
	return payload, nil
}

// keySet finds the keys; those of an issuer stay, and are fetched by it.
func (s *source) keySet(ctx context.Context) (oidc.KeySet, error) {
	if s.config.DiscoveryURL != "" {
		if _, err := s.discover(ctx); err != nil {
			return nil, errors.New("the issuer does not answer")
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.broken != nil:
		return nil, s.broken
	case s.keys != nil:
	case s.config.DiscoveryURL != "":
		var known struct {
			JWKS string `json:"jwks_uri"`
		}
		if err := s.provider.Claims(&known); err != nil || known.JWKS == "" {
			return nil, errors.New("the issuer does not say where its keys are")
		}
		s.keys = oidc.NewRemoteKeySet(s.lasting(ctx), known.JWKS)
	case s.config.JWKSURL != "":
		s.keys = oidc.NewRemoteKeySet(s.lasting(ctx), s.config.JWKSURL)
	default:
		static := &oidc.StaticKeySet{}
		for _, text := range s.config.PublicKeys {
			key, err := publicKey(text)
			if err != nil {
				return nil, err
			}
			static.PublicKeys = append(static.PublicKeys, key)
		}
		s.keys = static
	}
	return s.keys, nil
}

// issuer is whose tokens count; empty where nobody said so.
func (s *source) issuer() string {
	if s.config.BoundIssuer != "" || s.config.DiscoveryURL == "" {
		return s.config.BoundIssuer
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var known struct {
		Issuer string `json:"issuer"`
	}
	if s.provider == nil || s.provider.Claims(&known) != nil {
		return s.config.DiscoveryURL
	}
	return known.Issuer
}
