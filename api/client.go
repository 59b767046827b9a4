package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/internal/vpath"
)

// maxAnswer is the most that a client reads of one answer, in bytes.
const maxAnswer = 64 << 20

// ClientConfig says which server a client talks to. Addr must be set.
type ClientConfig struct {
	Addr      string           // "https://bailiff.example:8280"
	Token     secret.Value     // sent in a header; empty: none
	CACert    []byte           // PEM; empty: the system's
	Cert      *tls.Certificate // the client's own, for servers that ask for one; nil: none
	Timeout   time.Duration    // of one call; default 60s
	UserAgent string           // default "bailiff"
}

// Client calls a server. It is safe for concurrent use. What the server refuses, and an answer that can't be read, is an
// *Error; a *url.Error means that there was no answer.
type Client struct {
	cfg  ClientConfig
	base string
	http *http.Client
}

// NewClient makes a Client.
func NewClient(cfg ClientConfig) (*Client, error) {
	u, err := url.Parse(cfg.Addr)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("the server's address must be of the form http://host:port or https://host:port")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("the server's address must hold no user, query or fragment")
	}
	tr := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout:     30 * time.Second,
		ForceAttemptHTTP2:   true,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if len(cfg.CACert) > 0 {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(cfg.CACert) {
			return nil, errors.New("the CA file holds no certificate in PEM form")
		}
		tr.TLSClientConfig.RootCAs = pool
	}
	if cfg.Cert != nil {
		tr.TLSClientConfig.Certificates = []tls.Certificate{*cfg.Cert}
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = time.Minute
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "bailiff"
	}
	return &Client{
		cfg:  cfg,
		base: strings.TrimSuffix(u.String(), "/") + Prefix,
		http: &http.Client{
			Transport: tr,
			Timeout:   cfg.Timeout,
			// A redirect would carry the token to where the operator did not send it.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// call sends in (nil: no body) and decodes the answer into out (nil: not wanted). path is decoded and canonical.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	if err := vpath.Check(path); err != nil {
		return err
	}
	target := c.base + vpath.Escape(path)
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if !c.cfg.Token.Empty() {
		req.Header.Set("Authorization", "Bearer "+c.cfg.Token.Reveal())
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return read(resp, out)
}

func read(resp *http.Response, out any) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return unreadable(resp, fmt.Sprintf("the answer broke off: %v", err))
	}
	if len(b) > maxAnswer {
		return unreadable(resp, fmt.Sprintf("the answer is larger than %d bytes", maxAnswer))
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return ReadError(resp.StatusCode, b)
	}
	if out == nil || resp.StatusCode == http.StatusNoContent {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return unreadable(resp, "the answer is not in Bailiff's words") // err may hold a part of it, which may be secret
	}
	return nil
}

// unreadable is an answer that should have been good and can't be used.
func unreadable(resp *http.Response, msg string) error {
	return &Error{Status: resp.StatusCode, Kind: Internal, Message: msg, RequestID: resp.Header.Get("X-Request-Id")}
}

// ReadError reads the body of an answer whose status says that something went wrong.
func ReadError(status int, body []byte) *Error {
	var e errorBody
	if json.Unmarshal(body, &e) != nil || e.Error == nil || e.Error.Kind == "" {
		return &Error{Status: status, Kind: Internal,
			Message: fmt.Sprintf("the server answered %d, and not in Bailiff's words", status),
			Hint:    "is this the address of a Bailiff server?"}
	}
	e.Error.Status = status
	return e.Error
}
