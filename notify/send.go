package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	connectWait = 5 * time.Second
	drainWait   = 500 * time.Millisecond
	drainBytes  = 4 << 10
)

// newClient makes a client that follows no redirect: the signature is for one receiver.
func newClient(caCert string) *http.Client {
	t := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: connectWait}).DialContext,
		TLSHandshakeTimeout: connectWait,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost: 1,
		IdleConnTimeout:     time.Minute,
		ForceAttemptHTTP2:   true,
	}
	t.MaxResponseHeaderBytes = 64 << 10
	if caCert != "" {
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		t.TLSClientConfig.RootCAs.AppendCertsFromPEM([]byte(caCert))
	}
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// refusal is an answer that is no 2xx.
type refusal struct {
	status int
	after  time.Duration // as Retry-After says
}

func (r *refusal) Error() string {
	switch {
	case r.status >= 300 && r.status < 400:
		return fmt.Sprintf("it answers %d, and redirects are not followed", r.status)
	default:
		return fmt.Sprintf("it answers %d", r.status)
	}
}

// final says that the same event won't be taken later either.
func (r *refusal) final() bool {
	switch r.status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusRequestTimeout, http.StatusTooEarly,
		http.StatusTooManyRequests: // of the receiver as it is set up, not of the event
		return false
	}
	return r.status >= 400 && r.status < 500
}

// try sends a body once.
func (w *worker) try(ctx context.Context, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, w.m.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.hook.URL, bytes.NewReader(body))
	if err != nil {
		return errors.New("its URL can't be used")
	}
	req.Header.Set("Content-Type", "application/cloudevents+json; charset=utf-8")
	req.Header.Set("User-Agent", "bailiff/"+w.m.cfg.Version)
	req.Header.Set(SignatureHeader, sign(w.hook.Secret, time.Now(), body))
	resp, err := w.client.Do(req)
	if err != nil {
		return unanswered(ctx, err)
	}
	defer resp.Body.Close()
	drain(cancel, resp.Body)
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil
	}
	after, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	return &refusal{status: resp.StatusCode, after: time.Duration(max(after, 0)) * time.Second}
}

// drain reads a short body to its end, so that the connection can be used again. The answer is its status: a body that is
// long or does not end changes nothing.
func drain(cancel context.CancelFunc, body io.Reader) {
	timer := time.AfterFunc(drainWait, cancel)
	defer timer.Stop()
	_, _ = io.CopyN(io.Discard, body, drainBytes)
}

// unanswered says why there was no answer, without the URL.
func unanswered(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return errors.New("it does not answer in time")
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	return err
}
