package jwt

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/gate"
)

// flowTime is how long somebody may take to log in at the provider.
const flowTime = 5 * time.Minute

// flow is one login on its way: it begins with auth_url and ends, whatever comes of it, with the first callback that has its
// state.
type flow struct {
	Role        string
	Nonce       string // which the provider puts into the token
	Verifier    string // of the code's challenge: only who began the flow can end it
	Redirect    string
	ClientNonce string // of the client, optional
}

type flowDoc = auth.Doc[flow]

func flowKey(state string) string {
	sum := sha256.Sum256([]byte(state))
	return "flow/" + hex.EncodeToString(sum[:])
}

type jsonText = json.RawMessage

func randomText() string {
	b := make([]byte, 32)
	rand.Read(b) //nolint:errcheck // never fails: see crypto/rand
	return base64.RawURLEncoding.EncodeToString(b)
}

// authURL begins a flow. Where the redirect is not allowed the answer is an empty URL, as Vault's is.
func (j *Method) authURL(ctx context.Context, c *auth.Call) (*auth.Outcome, error) {
	name, redirect, nonce := lower(c.Body.Text("role")), c.Body.Text("redirect_uri"), c.Body.Text("client_nonce")
	if err := c.Body.Err(); err != nil {
		return nil, err
	}
	x, err := loadConfig(ctx, c.At)
	switch {
	case err != nil:
		return nil, err
	case x == nil:
		return nil, auth.Refuse("", "could not load configuration")
	case x.Value.ClientID == "":
		return nil, auth.Refuse("", "OIDC login is not configured for this mount")
	}
	x, name, d, err := j.find(ctx, c, name)
	if err != nil {
		return nil, err
	}
	if redirect == "" {
		return nil, auth.Refuse("", "missing redirect_uri")
	}
	if d.Value.Type != "oidc" || !allowedRedirect(redirect, d.Value.Redirects) {
		return answer(""), nil
	}
	s := j.sourceOf(c.At, x)
	provider, err := s.discover(ctx)
	if err != nil {
		return nil, &gate.Error{Kind: gate.TargetDown, Msg: "the provider does not answer", Err: err}
	}
	f := &flowDoc{
		Value:     flow{Role: name, Nonce: randomText(), Verifier: oauth2.GenerateVerifier(), Redirect: redirect, ClientNonce: nonce},
		ExpiresAt: time.Now().Add(flowTime),
	}
	state := randomText()
	f.Key = flowKey(state)
	if err := c.At.Write(ctx, f.Put(c.At)); err != nil {
		return nil, err
	}
	options := []oauth2.AuthCodeOption{oidc.Nonce(f.Value.Nonce), oauth2.S256ChallengeOption(f.Value.Verifier)}
	if age := d.Value.MaxAge; age > 0 {
		options = append(options, oauth2.SetAuthURLParam("max_age", strconv.FormatInt(auth.Seconds(age), 10)))
	}
	return answer(s.oauth(provider, &d.Value, redirect).AuthCodeURL(state, options...)), nil
}

func answer(u string) *auth.Outcome {
	return &auth.Outcome{Answer: auth.OK(map[string]any{"auth_url": u})}
}

func (s *source) oauth(p *oidc.Provider, r *role, redirect string) *oauth2.Config {
	scopes := []string{oidc.ScopeOpenID}
	for _, scope := range r.Scopes {
		if !slices.Contains(scopes, scope) {
			scopes = append(scopes, scope)
		}
	}
	return &oauth2.Config{
		ClientID: s.config.ClientID, ClientSecret: s.config.ClientSecret, Endpoint: p.Endpoint(), RedirectURL: redirect, Scopes: scopes,
	}
}

// allowedRedirect tells whether a redirect is one of those allowed; for a loopback address the port doesn't count (RFC 8252).
func allowedRedirect(uri string, allowed []string) bool {
	u, err := url.Parse(uri)
	if err != nil {
		return false
	}
	if !slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, u.Hostname()) {
		return slices.Contains(allowed, uri)
	}
	u.Host = u.Hostname()
	return slices.ContainsFunc(allowed, func(a string) bool {
		other, err := url.Parse(a)
		if err != nil {
			return false
		}
		other.Host = other.Hostname()
		return other.String() == u.String()
	})
}

const failed = "Vault login failed."

// callback ends a flow.
func (j *Method) callback(ctx context.Context, c *auth.Call) (*auth.Outcome, error) {
	state, code, nonce := c.Query.Get("state"), c.Query.Get("code"), c.Query.Get("client_nonce")
	x, err := loadConfig(ctx, c.At)
	if err != nil {
		return nil, err
	}
	if x == nil {
		return nil, auth.Refuse("", failed+" Could not load configuration")
	}
	f, err := take(ctx, c.At, state)
	switch {
	case err != nil:
		return nil, err
	case f == nil:
		return nil, wrong("", failed+" Expired or missing OAuth state.")
	case f.ClientNonce != "" && subtle.ConstantTimeCompare([]byte(f.ClientNonce), []byte(nonce)) != 1:
		return nil, wrong("", "invalid client_nonce")
	}
	d, err := loadRole(ctx, c.At, f.Role)
	switch {
	case err != nil:
		return nil, err
	case d == nil:
		return nil, auth.Refuse("", failed+" Role could not be found")
	case !d.Value.Allow(c.ClientAddr):
		return nil, &auth.Refused{Msg: "permission denied", Kind: gate.Forbidden, Reason: "the address is none that tokens of the role are bound to"}
	case code == "":
		return nil, wrong("", failed+" No code or id_token received.")
	}
	all, err := j.sourceOf(c.At, x).exchange(ctx, &d.Value, f, code)
	if err != nil {
		return nil, err
	}
	return d.Value.admit(f.Role, all)
}

// take takes a flow out: whoever comes second finds none.
func take(ctx context.Context, m *auth.Mount, state string) (*flow, error) {
	d, err := auth.Load[flow](ctx, m, flowKey(state))
	if err != nil || d == nil {
		return nil, err
	}
	if err := m.Write(ctx, d.Remove(m)); err != nil {
		return nil, nil //nolint:nilerr // somebody else took it, or the store is away: nobody is let in
	}
	return &d.Value, nil
}

// exchange gets the token for a code, checks it, and returns what it and the provider say of the user.
func (s *source) exchange(ctx context.Context, r *role, f *flow, code string) (claims, error) {
	provider, err := s.discover(ctx)
	if err != nil {
		return nil, &gate.Error{Kind: gate.TargetDown, Msg: "the provider does not answer", Err: err}
	}
	ctx = oidc.ClientContext(ctx, s.client)
	tokens, err := s.oauth(provider, r, f.Redirect).Exchange(ctx, code, oauth2.VerifierOption(f.Verifier))
	if err != nil {
		return nil, wrong("", failed+" Error exchanging oidc code: %q.", exchangeError(err))
	}
	raw, ok := tokens.Extra("id_token").(string)
	if !ok {
		return nil, wrong("", failed+" No id_token received.")
	}
	payload, err := s.checkIDToken(ctx, provider, r, f, raw, tokens.AccessToken)
	if err != nil {
		return nil, err
	}
	all, err := parseClaims(payload)
	if err != nil {
		return nil, wrong("", "Token verification failed. %s", err)
	}
	subject, _ := text(all["sub"])
	if r.Subject != "" && subject != r.Subject {
		return nil, wrong(subject, "sub claim does not match bound subject")
	}
	delete(all, "nonce")
	s.addUserInfo(ctx, provider, tokens, subject, all)
	return all, nil
}

// exchangeError is what a provider said, without what it was sent.
func exchangeError(err error) string {
	var said *oauth2.RetrieveError
	if errors.As(err, &said) && said.ErrorCode != "" {
		return said.ErrorCode
	}
	return "the provider refused the code"
}

func (s *source) checkIDToken(ctx context.Context, p *oidc.Provider, r *role, f *flow, raw, access string) ([]byte, error) {
	if len(raw) > maxToken {
		return nil, wrong("", "Token verification failed. the token is too large")
	}
	verifier := p.VerifierContext(s.lasting(ctx), &oidc.Config{ClientID: s.config.ClientID, SupportedSigningAlgs: s.algorithms()})
	id, err := verifier.Verify(ctx, raw)
	if err != nil {
		return nil, wrong("", "Token verification failed. %s", err)
	}
	switch {
	case subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(f.Nonce)) != 1:
		return nil, wrong(id.Subject, "Token verification failed. invalid id_token nonce")
	case id.AccessTokenHash != "" && id.VerifyAccessToken(access) != nil:
		return nil, wrong(id.Subject, "Token verification failed. invalid id_token at_hash")
	case len(r.Audiences) > 0 && !slices.ContainsFunc(id.Audience, func(a string) bool { return slices.Contains(r.Audiences, a) }):
		return nil, wrong(id.Subject, "Token verification failed. invalid id_token audiences")
	}
	var all struct {
		AuthTime int64 `json:"auth_time"`
	}
	if err := id.Claims(&all); err != nil {
		return nil, wrong(id.Subject, "Token verification failed. %s", err)
	}
	if r.MaxAge > 0 && time.Since(time.Unix(all.AuthTime, 0)) > r.MaxAge+skewLeeway {
		return nil, wrong(id.Subject, "Token verification failed. the login at the provider is too old")
	}
	var payload jsonText
	if err := id.Claims(&payload); err != nil {
		return nil, wrong(id.Subject, "Token verification failed. %s", err)
	}
	return payload, nil
}

// addUserInfo adds what the provider says of the user beside the token. What the token says counts.
func (s *source) addUserInfo(ctx context.Context, p *oidc.Provider, tokens *oauth2.Token, subject string, all claims) {
	info, err := p.UserInfo(ctx, oauth2.StaticTokenSource(tokens))
	if err != nil || info.Subject != subject {
		return
	}
	var text jsonText
	if info.Claims(&text) != nil {
		return
	}
	more, err := parseClaims(text)
	if err != nil {
		return
	}
	for name, v := range more {
		if _, ok := all[name]; !ok {
			all[name] = v
		}
	}
}
