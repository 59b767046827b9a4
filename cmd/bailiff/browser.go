package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"runtime"
	"strconv"
	"time"

	"github.com/bailiff-secrets/bailiff/api"
)

// browseTime is how long somebody may take to log in in their browser.
const browseTime = 5 * time.Minute

const (
	closing = `<!doctype html><meta charset="utf-8"><title>Bailiff</title><p>You are logged in. You can close this window.`
	failing = `<!doctype html><meta charset="utf-8"><title>Bailiff</title><p>The login did not succeed. The command line says why.`
)

// browse logs in at an OpenID Connect provider, in the user's browser, which comes back to a listener on this machine.
func (s *signIn) browse(ctx context.Context, c *api.Client) (api.VaultAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, browseTime)
	defer cancel()
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)))
	if err != nil {
		return api.VaultAnswer{}, hinted("--callback-port takes another one", "listen for the browser: %w", err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	nonce := rand.Text()
	begun, err := c.Vault(ctx, http.MethodPut, "auth/"+s.mount+"/oidc/auth_url", map[string]any{
		"role": s.fields["role"], "redirect_uri": fmt.Sprintf("http://localhost:%d/oidc/callback", port), "client_nonce": nonce,
	})
	if err != nil {
		return api.VaultAnswer{}, errors.Join(err, ln.Close())
	}
	var to struct {
		URL string `json:"auth_url"`
	}
	if json.Unmarshal(begun.Data, &to) != nil || to.URL == "" {
		return api.VaultAnswer{}, errors.Join(hinted(fmt.Sprintf("its allowed_redirect_uris must have http://localhost:%d/oidc/callback", port),
			"the role %q does not let this machine in", s.fields["role"]), ln.Close())
	}
	back := &comeback{answers: make(chan result, 1), finish: func(q url.Values) (api.VaultAnswer, error) {
		q.Set("client_nonce", nonce)
		return c.VaultQuery(ctx, http.MethodGet, "auth/"+s.mount+"/oidc/callback", q)
	}}
	srv := &http.Server{Handler: back, ReadTimeout: 10 * time.Second}
	go srv.Serve(ln) //nolint:errcheck // it ends with Shutdown, and the answer tells
	fmt.Fprintf(s.app.stderr, "Log in at\n\n    %s\n\n", to.URL)
	if !s.noBrowser {
		if err := s.app.openBrowser(ctx, to.URL); err != nil {
			fmt.Fprintln(s.app.stderr, "The browser could not be opened: open the address by hand.")
		}
	}
	var r result
	select {
	case r = <-back.answers:
	case <-ctx.Done():
		r.err = errors.New("nobody came back from the browser in time")
	}
	shut, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer stop()
	return r.answer, errors.Join(r.err, srv.Shutdown(shut))
}

type result struct {
	answer api.VaultAnswer
	err    error
}

// comeback is where the browser comes back to. The first that comes ends the login.
type comeback struct {
	finish  func(q url.Values) (api.VaultAnswer, error)
	answers chan result
}

func (b *comeback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'")
	if r.URL.Path != "/oidc/callback" || r.Method != http.MethodGet {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	q := r.URL.Query()
	var out result
	if said := q.Get("error"); said != "" {
		out.err = fmt.Errorf("the provider refused: %.100s %.200s", said, q.Get("error_description"))
	} else {
		out.answer, out.err = b.finish(url.Values{"state": {q.Get("state")}, "code": {q.Get("code")}})
	}
	page := closing
	if out.err != nil {
		w.WriteHeader(http.StatusBadRequest)
		page = failing
	}
	fmt.Fprint(w, page)
	select {
	case b.answers <- out:
	default: // somebody else was first
	}
}

// openBrowser opens an address with what BAILIFF_BROWSER names, or what the system has.
func (a *app) openBrowser(ctx context.Context, address string) error {
	name, args := "xdg-open", []string{address}
	switch {
	case a.getenv("BAILIFF_BROWSER", "") != "":
		name = a.getenv("BAILIFF_BROWSER", "")
	case runtime.GOOS == "darwin":
		name = "open"
	case runtime.GOOS == "windows":
		name, args = "rundll32", []string{"url.dll,FileProtocolHandler", address}
	}
	cmd := exec.CommandContext(ctx, name, args...)
	if err := cmd.Start(); err != nil {
		return err
	}
	go cmd.Wait() //nolint:errcheck // what becomes of a browser is the user's to see
	return nil
}
