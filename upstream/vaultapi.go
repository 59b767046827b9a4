package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// errDead says that a token is not good (any more).
var errDead = errors.New("the token is not valid")

// errBlind says that a token is alive but may not look itself up.
var errBlind = errors.New("the token may not look itself up")

// maxOwnAnswer is how much of an answer to a request of our own is read.
const maxOwnAnswer = 8 << 20

// ask sends a request of our own and decodes the answer into out, which may be nil. A status other than 2xx is a *refusal.
func (c *client) ask(ctx context.Context, k *call, out any) error {
	a, _, err := c.do(ctx, k)
	if err != nil {
		return err
	}
	return c.decode(a, out)
}

// decode reads the answer to a request of our own, as ask says.
func (c *client) decode(a *answer, out any) error {
	b, err := drain(a, maxOwnAnswer)
	if err != nil {
		return c.down("broke off or answered too much", err)
	}
	if a.code > 299 {
		return refused(c.name, a.code, b)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		// The error of encoding/json is not kept: it may quote what it could not read.
		return nonsense(c.name, "answered what is not the JSON of a Vault")
	}
	return nil
}

// refusal is a Vault's no to a request of our own.
type refusal struct {
	said gate.Error
	code int
	acl  bool // the token is known there, but its policies don't allow this

	missing bool // it says that there is no such lease
}

func refused(name string, code int, body []byte) *refusal {
	r := &refusal{code: code}
	r.said.Kind, r.said.Msg = gate.TargetDown, "target "+name+" refused a request of Bailiff's own with status "+http.StatusText(code)
	var e struct {
		Errors []string `json:"errors"`
	}
	if json.Unmarshal(body, &e) == nil && code == http.StatusForbidden && len(e.Errors) == 1 {
		// A dead token is "permission denied" alone, or comes with "invalid token" beside it in later versions.
		r.acl = strings.HasPrefix(e.Errors[0], "1 error occurred:") && strings.Contains(e.Errors[0], "* permission denied")
	}
	for _, said := range e.Errors {
		r.missing = r.missing || strings.Contains(said, "lease not found") || strings.Contains(said, "invalid lease")
	}
	return r
}

func (r *refusal) Error() string { return r.said.Msg }

// Unwrap lets errors.As find the *gate.Error.
func (r *refusal) Unwrap() error { return &r.said }

type authAnswer struct {
	Auth *struct {
		ClientToken   string `json:"client_token"`
		LeaseDuration int64  `json:"lease_duration"`
		Renewable     bool   `json:"renewable"`
	} `json:"auth"`
}

// appRole logs in with an AppRole.
func (c *client) appRole(ctx context.Context, a *object.VaultAuth) (*login, error) {
	in := map[string]string{"role_id": a.RoleID}
	if !a.SecretID.Empty() {
		in["secret_id"] = a.SecretID.Reveal()
	}
	var out authAnswer
	err := c.ask(ctx, post("auth/"+a.Mount+"/login", secret.Value{}, in), &out)
	var no *refusal
	switch {
	case errors.As(err, &no) && no.code < 500:
		return nil, c.down("does not accept Bailiff's AppRole login", err)
	case err != nil:
		return nil, err
	case out.Auth == nil || out.Auth.ClientToken == "" || !plainHeader(out.Auth.ClientToken, 8192):
		return nil, nonsense(c.name, "answered a login without a token")
	}
	ttl := seconds(out.Auth.LeaseDuration)
	return newLogin(secret.New(out.Auth.ClientToken), ttl, ttl, out.Auth.Renewable), nil
}

// lookup asks how long a token has to live: 0 where it does not end. errDead and errBlind say what else may be.
func (c *client) lookup(ctx context.Context, token secret.Value) (ttl time.Duration, renewable bool, err error) {
	var out struct {
		Data *struct {
			TTL       int64 `json:"ttl"`
			Renewable bool  `json:"renewable"`
		} `json:"data"`
	}
	err = c.ask(ctx, &call{method: http.MethodGet, safe: true, path: "auth/token/lookup-self", token: token}, &out)
	if err != nil {
		return 0, false, c.tokenError(err)
	}
	if out.Data == nil {
		return 0, false, nonsense(c.name, "answered a lookup without data")
	}
	return seconds(out.Data.TTL), out.Data.Renewable, nil
}

// renew renews l and returns it with its new time.
func (c *client) renew(ctx context.Context, l *login) (*login, error) {
	var out authAnswer
	if err := c.ask(ctx, post("auth/token/renew-self", l.token, map[string]string{}), &out); err != nil {
		return nil, c.tokenError(err)
	}
	if out.Auth == nil {
		return nil, nonsense(c.name, "answered a renewal without a token")
	}
	return newLogin(l.token, seconds(out.Auth.LeaseDuration), l.full, out.Auth.Renewable), nil
}

// tokenError tells a token that died from other trouble.
func (c *client) tokenError(err error) error {
	var no *refusal
	switch {
	case !errors.As(err, &no) || no.code != http.StatusForbidden:
		return err
	case no.acl:
		return errBlind
	default:
		return &gate.Error{Kind: gate.TargetDown, Msg: "Bailiff's token at target " + c.name + " is not valid", Err: errDead}
	}
}

func post(path string, token secret.Value, in map[string]string) *call {
	b, _ := json.Marshal(in) //nolint:errcheck // a map of strings can't fail
	return &call{
		method: http.MethodPut, path: path, token: token,
		contentType: "application/json", body: bytes.NewReader(b), length: int64(len(b)),
	}
}

// seconds is n as a target means it; what can't be is 0.
func seconds(n int64) time.Duration {
	if n < 0 || n > int64(100*365*24*time.Hour/time.Second) {
		return 0
	}
	return time.Duration(n) * time.Second
}
