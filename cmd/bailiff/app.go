package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/api"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// app is one run of the program.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            func(string) (string, bool)
	format         string // of what is printed: set by the command's flag
}

const defaultAddr = "http://127.0.0.1:8280"

// answerTime is how long a server is waited for: longer than it waits for the end of a revocation.
const answerTime = 90 * time.Second

func (a *app) addr() string { return a.getenv("BAILIFF_ADDR", defaultAddr) }

func (a *app) getenv(name, otherwise string) string {
	if v, ok := a.env(name); ok && v != "" {
		return v
	}
	return otherwise
}

// token finds the credential. It is never a flag: other users of a machine see the arguments of processes.
func (a *app) token() (secret.Value, error) {
	if t := a.getenv("BAILIFF_TOKEN", ""); t != "" {
		return secret.New(t), nil
	}
	if name := a.getenv("BAILIFF_TOKEN_FILE", ""); name != "" {
		return tokenFile(name)
	}
	if t := a.getenv("VAULT_TOKEN", ""); t != "" {
		return secret.New(t), nil
	}
	if name := a.keptToken(); name != "" {
		if _, err := os.Stat(name); err == nil {
			return tokenIn(name, "the token of bailiff login")
		}
	}
	return secret.Value{}, hinted("log in with bailiff login, or set BAILIFF_TOKEN to <access id>..<access key>, or BAILIFF_TOKEN_FILE to a file that holds it",
		"there is no token")
}

func tokenFile(name string) (secret.Value, error) { return tokenIn(name, "BAILIFF_TOKEN_FILE") }

// tokenIn reads a token from a file that others must not be able to read; what says who named the file.
func tokenIn(name, what string) (secret.Value, error) {
	f, err := os.Open(name)
	if err != nil {
		return secret.Value{}, fmt.Errorf("%s: %w", what, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return secret.Value{}, fmt.Errorf("%s: %w", what, err)
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o007 != 0 {
		return secret.Value{}, hinted("chmod 600 "+name, "%s: every user of this machine has access to %s", what, name)
	}
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return secret.Value{}, fmt.Errorf("%s: %w", what, err)
	}
	token := secret.New(strings.TrimSpace(string(b)))
	if token.Empty() {
		return secret.Value{}, fmt.Errorf("%s: %s is empty", what, name)
	}
	return token, nil
}

// client makes a client of the server that the environment names.
func (a *app) client() (*api.Client, error) {
	token, err := a.token()
	if err != nil {
		return nil, err
	}
	return a.clientWith(token)
}

// clientWith makes one that presents a token, or with an empty one none.
func (a *app) clientWith(token secret.Value) (*api.Client, error) {
	var err error
	cfg := api.ClientConfig{Addr: a.addr(), Token: token, UserAgent: "bailiff/" + buildVersion(), Timeout: answerTime}
	if name := a.getenv("BAILIFF_CACERT", ""); name != "" {
		if cfg.CACert, err = os.ReadFile(name); err != nil {
			return nil, fmt.Errorf("BAILIFF_CACERT: %w", err)
		}
	}
	if name := a.getenv("BAILIFF_CLIENT_CERT", ""); name != "" {
		pair, err := tls.LoadX509KeyPair(name, a.getenv("BAILIFF_CLIENT_KEY", name))
		if err != nil {
			return nil, fmt.Errorf("BAILIFF_CLIENT_CERT, BAILIFF_CLIENT_KEY: %w", err)
		}
		cfg.Cert = &pair
	}
	c, err := api.NewClient(cfg)
	if err != nil {
		return nil, fmt.Errorf("BAILIFF_ADDR: %w", err)
	}
	return c, nil
}

// ask makes a client, calls the server once and prints the answer.
func ask[T any](ctx context.Context, a *app, call func(context.Context, *api.Client) (T, error), table func(T) table) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	out, err := call(ctx, c)
	if err != nil {
		return err
	}
	return a.print(out, table(out))
}
