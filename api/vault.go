package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/internal/vpath"
)

// VaultAnswer is an answer of the Vault dialect, as far as the command line needs it. What it holds may be secret.
type VaultAnswer struct {
	LeaseID       string          `json:"lease_id"`
	LeaseDuration int64           `json:"lease_duration"` // seconds
	Renewable     bool            `json:"renewable"`
	Data          json.RawMessage `json:"data"`
	Warnings      []string        `json:"warnings"`
	Auth          *VaultAuth      `json:"auth"`
}

// VaultAuth is a new token in an answer of the Vault dialect.
type VaultAuth struct {
	ClientToken   string            `json:"client_token"`
	Accessor      string            `json:"accessor"`
	Policies      []string          `json:"policies"`
	LeaseDuration int64             `json:"lease_duration"` // seconds
	Renewable     bool              `json:"renewable"`
	EntityID      string            `json:"entity_id"`
	Metadata      map[string]string `json:"metadata"`
}

// WithToken is a client of the same server that presents another token.
func (c *Client) WithToken(token secret.Value) *Client {
	other := *c
	other.cfg.Token = token
	return &other
}

// Vault sends a request to a path of the Vault dialect. in is its body; nil: none.
func (c *Client) Vault(ctx context.Context, method, path string, in any) (VaultAnswer, error) {
	return c.vault(ctx, method, path, nil, in)
}

// VaultQuery sends a request with parameters and without a body.
func (c *Client) VaultQuery(ctx context.Context, method, path string, query url.Values) (VaultAnswer, error) {
	return c.vault(ctx, method, path, query, nil)
}

func (c *Client) vault(ctx context.Context, method, path string, query url.Values, in any) (VaultAnswer, error) {
	var out VaultAnswer
	if err := vpath.Check(path); err != nil {
		return out, err
	}
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return out, fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	target := strings.TrimSuffix(c.base, Prefix) + "/v1/" + vpath.Escape(path)
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return out, err
	}
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	req.Header.Set("X-Vault-Request", "true")
	if !c.cfg.Token.Empty() {
		req.Header.Set("X-Vault-Token", c.cfg.Token.Reveal())
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return out, unreadable(resp, fmt.Sprintf("the answer broke off: %v", err))
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return out, vaultError(resp.StatusCode, b)
	}
	if len(b) > 0 && json.Unmarshal(b, &out) != nil {
		return VaultAnswer{}, unreadable(resp, "the answer is not in Vault's words")
	}
	return out, nil
}

// vaultError reads an error of the Vault dialect.
func vaultError(status int, body []byte) *Error {
	var e struct {
		Errors []string `json:"errors"`
	}
	msg := ""
	if json.Unmarshal(body, &e) == nil {
		msg = strings.TrimSpace(strings.Join(e.Errors, "; "))
	}
	out := &Error{Status: status, Kind: Internal, Message: msg}
	switch {
	case status == http.StatusForbidden:
		out.Kind = Denied
	case status == http.StatusNotFound:
		out.Kind = NotFound
	case status == http.StatusTooManyRequests:
		out.Kind = TooMany
	case status == http.StatusServiceUnavailable:
		out.Kind = Unavailable
	case status < http.StatusInternalServerError:
		out.Kind = Invalid
	}
	if out.Message == "" {
		out.Message = fmt.Sprintf("the server answered %d", status)
	}
	return out
}
