package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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

// client sends single requests to one target. It knows nothing of logins and limits.
//
// It stands on net/http's Transport: a request there ends with its context, an answer with two lengths or a broken one is
// an error, and a request is sent again only where nothing of it was written or a read met a connection closed while idle.
type client struct {
	name      string // of the target
	scheme    string
	host      string
	prefix    string // of every request target: "/v1/", behind the address's own path if it has one
	namespace []string
	agent     []string
	yes       []string
	timeout   time.Duration
	transport *http.Transport
}

func newClient(cfg Config) (*client, error) {
	t := &cfg.Target
	u, err := url.Parse(t.Address)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.Opaque != "" {
		return nil, fmt.Errorf("target %s: the address must be an http:// or https:// URL", t.Name)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("target %s: the address must have no user, query or fragment", t.Name)
	}
	tc, err := tlsConfig(cfg)
	if err != nil {
		return nil, err
	}
	c := &client{
		name: t.Name, scheme: u.Scheme, host: u.Host,
		prefix:  strings.TrimRight(u.EscapedPath(), "/") + "/v1/",
		agent:   []string{cfg.UserAgent},
		yes:     []string{"true"},
		timeout: time.Duration(t.Timeout),
	}
	if ns := trimSlashes(t.Namespace); ns != "" {
		if !plainHeader(ns, 1024) {
			return nil, fmt.Errorf("target %s: the namespace can't be sent in a header", t.Name)
		}
		c.namespace = []string{ns}
	}
	dial := min(dialTimeout, c.timeout*3/4) // so that what can't be reached is told from what is slow
	c.transport = &http.Transport{
		DialContext:            (&net.Dialer{Timeout: dial, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:        tc,
		TLSHandshakeTimeout:    dial,
		DisableCompression:     true, // what comes is passed on as it is
		MaxIdleConnsPerHost:    min(cfg.MaxInFlight, 64),
		IdleConnTimeout:        time.Minute, // below Vault's five
		MaxResponseHeaderBytes: cfg.MaxAnswerHeader,
		WriteBufferSize:        8 << 10,
		ReadBufferSize:         8 << 10,
	}
	return c, nil
}

func tlsConfig(cfg Config) (*tls.Config, error) {
	t := &cfg.Target
	tc := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         t.TLSServerName,
		InsecureSkipVerify: t.TLSSkipVerify, //nolint:gosec // the operator asked for it, and is warned below
		ClientSessionCache: tls.NewLRUClientSessionCache(32),
	}
	if t.CACert != "" {
		tc.RootCAs = x509.NewCertPool()
		if !tc.RootCAs.AppendCertsFromPEM([]byte(t.CACert)) {
			return nil, fmt.Errorf("target %s: no certificate in ca_cert", t.Name)
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
}

// answer is what came back. Its Body must be closed.
type answer struct {
	code   int
	header http.Header
	length int64 // of body, or -1
	body   *answerBody
}

// do sends k once and returns when the header of the answer is there. An error is ctx's own, a *gate.Error that k.body
// gave, or of kind TargetDown or TargetSlow.
func (c *client) do(ctx context.Context, k *call) (*answer, outcome, error) {
	w := newWatch(ctx, c.timeout)
	req := c.request(k, w)
	resp, err := c.transport.RoundTrip(req.WithContext(w.ctx))
	if err != nil {
		err, o := c.explain(ctx, w, err)
		w.end()
		return nil, o, err
	}
	w.pause()
	a := &answer{
		code: resp.StatusCode, header: resp.Header, length: resp.ContentLength,
		body: &answerBody{rc: resp.Body, w: w, name: c.name},
	}
	if why := unfit(resp); why != "" {
		a.body.Close() //nolint:errcheck // nothing is read from it
		return nil, reached, nonsense(c.name, why)
	}
	return a, reached, nil
}

func (c *client) request(k *call, w *watch) *http.Request {
	h := make(http.Header, 6)
	h["User-Agent"] = c.agent
	h["X-Vault-Request"] = c.yes
	if !k.token.Empty() {
		h["X-Vault-Token"] = []string{k.token.Reveal()}
	}
	if c.namespace != nil {
		h["X-Vault-Namespace"] = c.namespace
	}
	if k.index != "" {
		h["X-Vault-Index"] = []string{k.index}
	}
	req := &http.Request{
		Method: k.method,
		// Opaque is written as it is: net/http has no say in how the path is encoded.
		URL:    &url.URL{Scheme: c.scheme, Host: c.host, Opaque: c.prefix + vpath.Escape(k.path), RawQuery: k.query},
		Host:   c.host,
		Header: h,
		Proto:  "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	if k.body != nil {
		if k.contentType != "" {
			h["Content-Type"] = []string{k.contentType}
		}
		req.Body, req.ContentLength = &sentBody{r: k.body, w: w}, k.length
	}
	return req
}
