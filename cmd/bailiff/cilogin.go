package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// login is how a job proves itself.
type login struct {
	mount, role, jwtEnv, jwtFile, audience string
}

// Where GitHub Actions offers a job its token.
const (
	githubURL   = "ACTIONS_ID_TOKEN_REQUEST_URL"
	githubToken = "ACTIONS_ID_TOKEN_REQUEST_TOKEN" //nolint:gosec // the name of a variable
)

// begin logs in. The session's token lives for alive, and is renewed.
func (l *login) begin(ctx context.Context, a *app, alive time.Duration) (*session, error) {
	s := &session{app: a, alive: alive}
	var err error
	if l.mount == "" {
		if s.client, err = a.client(); err != nil {
			return nil, err
		}
		return s, s.open(ctx, "auth/token/create", map[string]any{"ttl": alive.String(), "display_name": "ci"})
	}
	if s.client, err = a.clientWith(secret.Value{}); err != nil {
		return nil, err
	}
	jwt, err := l.jobToken(ctx, a)
	if err != nil {
		return nil, err
	}
	if err := s.open(ctx, "auth/"+strings.Trim(l.mount, "/")+"/login", map[string]any{"role": l.role, "jwt": jwt.Reveal()}); err != nil {
		return nil, err
	}
	return s, s.renewSelf(ctx) // from now on it lives as long as it is kept alive
}

// jobToken finds the token that the CI system gave the job.
func (l *login) jobToken(ctx context.Context, a *app) (secret.Value, error) {
	switch {
	case l.jwtFile != "":
		b, err := os.ReadFile(l.jwtFile)
		if err != nil {
			return secret.Value{}, fmt.Errorf("--jwt-file: %w", err)
		}
		return secret.New(strings.TrimSpace(string(b))), nil
	case l.jwtEnv != "":
		if v := a.getenv(l.jwtEnv, ""); v != "" {
			return secret.New(v), nil
		}
		return secret.Value{}, fmt.Errorf("--jwt-env: the variable %s is not set", l.jwtEnv)
	case a.getenv(githubURL, "") != "":
		return l.github(ctx, a)
	}
	return secret.Value{}, hinted("name where the job's token is with --jwt-env or --jwt-file; on GitHub give the job \"permissions: id-token: write\"",
		"there is no token of a job")
}

// github asks GitHub Actions for the job's token.
func (l *login) github(ctx context.Context, a *app) (secret.Value, error) {
	u, err := url.Parse(a.getenv(githubURL, ""))
	if err != nil {
		return secret.Value{}, errors.New(githubURL + " is not an address")
	}
	audience := l.audience
	if audience == "" {
		audience = a.addr()
	}
	q := u.Query()
	q.Set("audience", audience)
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return secret.Value{}, errors.New(githubURL + " is not an address")
	}
	req.Header.Set("Authorization", "Bearer "+a.getenv(githubToken, ""))
	client := &http.Client{Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return secret.Value{}, fmt.Errorf("ask GitHub for the job's token: %w", err)
	}
	defer resp.Body.Close()
	var out struct {
		Value string `json:"value"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&out); err != nil || resp.StatusCode != http.StatusOK || out.Value == "" {
		return secret.Value{}, fmt.Errorf("ask GitHub for the job's token: it answered %d", resp.StatusCode)
	}
	return secret.New(out.Value), nil
}

// clean takes out of an environment what was used to log in.
func (l *login) clean(env []string) []string {
	out := []string{"BAILIFF_TOKEN", "BAILIFF_TOKEN_FILE", "VAULT_TOKEN"}
	if l.jwtEnv != "" {
		out = append(out, l.jwtEnv)
	}
	if l.mount != "" && l.jwtEnv == "" && l.jwtFile == "" {
		out = append(out, githubURL, githubToken)
	}
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(out, name)
	})
}
