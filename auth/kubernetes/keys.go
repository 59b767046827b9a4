package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// algorithms are those that clusters sign with.
func algorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.PS384, jose.PS512,
	}
}

// maxToken is the limit of a token in bytes.
const maxToken = 64 << 10

var errSignature = errors.New("verifying token signature")

// payload is what a token says. Its signature is checked where there are keys for that; else the API is asked.
func (c *cluster) payload(ctx context.Context, token string) ([]byte, error) {
	if len(token) > maxToken {
		return nil, errors.New("the token is too large")
	}
	signed, err := jose.ParseSignedCompact(token, algorithms())
	if err != nil {
		return nil, errors.New("the token is malformed, or signed by an algorithm that is not allowed")
	}
	switch {
	case len(c.config.Keys) > 0:
		for _, text := range c.config.Keys {
			key, err := publicKey(text)
			if err != nil {
				return nil, err
			}
			if payload, err := signed.Verify(key); err == nil {
				return payload, nil
			}
		}
		return nil, errSignature
	case c.config.Validation == offline:
		return c.verify(ctx, signed)
	}
	return signed.UnsafePayloadWithoutVerification(), nil
}

// keys are the cluster's, as it tells them; they are fetched again for one that isn't known, but not all the time.
type keys struct {
	mu      sync.Mutex
	set     jose.JSONWebKeySet
	fetched time.Time
}

const (
	keysLast  = time.Hour
	keysPause = 10 * time.Second
)

func (c *cluster) verify(ctx context.Context, signed *jose.JSONWebSignature) ([]byte, error) {
	id := signed.Signatures[0].Header.KeyID
	set, err := c.keySet(ctx, id)
	if err != nil {
		return nil, err
	}
	for _, key := range set.Keys {
		if id != "" && key.KeyID != id {
			continue
		}
		if payload, err := signed.Verify(key.Key); err == nil {
			return payload, nil
		}
	}
	return nil, errSignature
}

func (c *cluster) keySet(ctx context.Context, id string) (jose.JSONWebKeySet, error) {
	c.keys.mu.Lock()
	defer c.keys.mu.Unlock()
	age := time.Since(c.keys.fetched)
	known := len(c.keys.set.Key(id)) > 0 || id == "" && len(c.keys.set.Keys) > 0
	if known && age < keysLast || age < keysPause {
		return c.keys.set, nil
	}
	set, err := c.fetchKeys(ctx)
	switch {
	case err == nil:
		c.keys.set, c.keys.fetched = set, time.Now()
	case !known:
		return set, err
	}
	return c.keys.set, nil
}

func (c *cluster) fetchKeys(ctx context.Context) (set jose.JSONWebKeySet, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.config.Host+"/openid/v1/jwks", http.NoBody)
	if err != nil {
		return set, err
	}
	if token := c.config.bearer(""); token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return set, down(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return set, down(errors.New("its keys can't be read: " + resp.Status))
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, answerLimit)).Decode(&set); err != nil {
		return set, down(err)
	}
	return set, nil
}
