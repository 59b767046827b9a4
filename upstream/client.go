package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// client sends single requests to one target. It knows nothing of logins and limits.
//
// It speaks HTTP/1.1 on connections of its own and reads answers with net/http's parser. net/http's Transport would do,
// but that it writes the first bytes of an answer which nobody asked for to the process's standard log, where a secret
// may not be; and it costs two goroutines a connection. A client that hides the connection can't end a request together
// with its context.
type client struct {
	name      string // of the target
	host      string
	prefix    string // of every request target: "/v1/", behind the address's own path if it has one
	fixed     string // header lines that are the same in every request
	timeout   time.Duration
	maxHeader int64
	pool      *pool
	buffers   sync.Pool // of *[copySize]byte
}

const copySize = 32 << 10

func newClient(cfg Config) (*client, error) {
	t := &cfg.Target
	u, err := parseAddress(t.Address)
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", t.Name, err)
	}
	c := &client{
		name: t.Name, host: u.Host,
		prefix:    strings.TrimRight(u.EscapedPath(), "/") + "/v1/",
		timeout:   time.Duration(t.Timeout),
		maxHeader: cfg.MaxAnswerHeader,
	}
	c.buffers.New = func() any { return new([copySize]byte) }
	c.fixed = "User-Agent: " + cfg.UserAgent + "\r\nX-Vault-Request: true\r\n"
	if ns := trimSlashes(t.Namespace); ns != "" {
		c.fixed += "X-Vault-Namespace: " + ns + "\r\n"
	}
	for _, s := range []string{u.Host, c.prefix, cfg.UserAgent, t.Namespace} {
		if !plainHeader(s, 2048) {
			return nil, fmt.Errorf("target %s: the address, namespace or user agent can't be sent in a header", t.Name)
		}
	}
	// A little less than the timeout, so that what can't be reached is told from what is slow.
	c.pool = &pool{addr: withPort(u), timeout: c.timeout, limit: min(dialTimeout, c.timeout*3/4), dialer: net.Dialer{KeepAlive: 15 * time.Second}}
	if u.Scheme == "https" {
		if c.pool.tls, err = tlsConfig(cfg, u.Hostname()); err != nil {
			return nil, fmt.Errorf("target %s: %w", t.Name, err)
		}
	}
	return c, nil
}

func parseAddress(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.Opaque != "":
		return nil, errors.New("the address must be an http:// or https:// URL")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(u.Host+u.EscapedPath(), " ?#"):
		return nil, errors.New("the address must have no user, query or fragment")
	}
	return u, nil
}

func withPort(u *url.URL) string {
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "https":
		port = "443"
	default:
		port = "80"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

func tlsConfig(cfg Config, host string) (*tls.Config, error) {
	t := &cfg.Target
	tc := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"http/1.1"},
		ServerName:         host,
		InsecureSkipVerify: t.TLSSkipVerify, //nolint:gosec // the operator asked for it, and is warned below
		ClientSessionCache: tls.NewLRUClientSessionCache(32),
	}
	if t.TLSServerName != "" {
		tc.ServerName = t.TLSServerName
	}
	if t.CACert != "" {
		tc.RootCAs = x509.NewCertPool()
		if !tc.RootCAs.AppendCertsFromPEM([]byte(t.CACert)) {
			return nil, errors.New("no certificate in ca_cert")
		}
	}
	if t.TLSSkipVerify {
		cfg.Logger.Warn("the certificate of a target is not verified", "target", t.Name)
	}
	return tc, nil
}

// call is one request. Everything in it was judged or made by us.
type call struct {
	method      string
	path        string // canonical, decoded
	query       string // encoded
	token       secret.Value
	index       string
	contentType string
	body        io.Reader // nil: none
	length      int64     // of body, or -1
	safe        bool      // a target that gets it twice does nothing more than one that gets it once
}
