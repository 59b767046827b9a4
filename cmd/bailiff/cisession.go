package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/api"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// session is a login of a job and what was lent to it.
type session struct {
	app    *app
	client *api.Client // presents the session's token
	alive  time.Duration
	leases []lent
}

// lent is one lease of a session.
type lent struct {
	id       string
	duration time.Duration
	due      time.Time // when it is renewed
}

// cutByToken is in the warning that says that a lease ends with the session's token.
const cutByToken = "the token that it was issued to ends"

// endTime is how long the end of a session is waited for.
const endTime = 30 * time.Second

// open makes the session's token.
func (s *session) open(ctx context.Context, path string, in map[string]any) error {
	answer, err := s.client.Vault(ctx, http.MethodPost, path, in)
	if err != nil {
		return err
	}
	if answer.Auth == nil || answer.Auth.ClientToken == "" {
		return errors.New("the server let nobody in: its answer holds no token")
	}
	s.client = s.client.WithToken(secret.New(answer.Auth.ClientToken))
	return nil
}

// renewSelf lets the session live for alive from now.
func (s *session) renewSelf(ctx context.Context) error {
	_, err := s.client.Vault(ctx, http.MethodPost, "auth/token/renew-self", map[string]any{"increment": s.alive.String()})
	return err
}

// fetch reads every path once and gives the variables of the command.
func (s *session) fetch(ctx context.Context, wants []want, dir string) ([]string, error) {
	answers := make(map[string]map[string]any)
	var env []string
	for _, w := range wants {
		data, ok := answers[w.path]
		if !ok {
			var err error
			if data, err = s.read(ctx, w.path); err != nil {
				return nil, fmt.Errorf("read %s: %w", w.path, err)
			}
			answers[w.path] = data
		}
		value, err := fieldOf(data, w.field)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", w.path, err)
		}
		text := value.Reveal()
		if w.file {
			if text, err = writeFile(dir, w.name, value); err != nil {
				return nil, err
			}
		}
		env = append(env, w.name+"="+text)
	}
	return env, nil
}

// read reads a path and notes its lease.
func (s *session) read(ctx context.Context, path string) (map[string]any, error) {
	answer, err := s.client.Vault(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	if answer.LeaseID != "" {
		l := lent{id: answer.LeaseID, duration: time.Duration(answer.LeaseDuration) * time.Second}
		if answer.Renewable {
			l.due = time.Now().Add(l.duration / 2)
		}
		s.leases = append(s.leases, l)
	}
	for _, w := range answer.Warnings {
		if strings.Contains(w, cutByToken) {
			continue // as it should be: it is renewed with the session
		}
		fmt.Fprintf(s.app.stderr, "bailiff: %s: %s\n", path, plain(w))
	}
	var data map[string]any
	if err := json.Unmarshal(answer.Data, &data); err != nil {
		return nil, errors.New("the answer holds no data")
	}
	if inner, ok := data["data"].(map[string]any); ok {
		if _, v2 := data["metadata"].(map[string]any); v2 {
			return inner, nil // a secret of a KV v2 mount
		}
	}
	return data, nil
}

// fieldOf is one field of an answer as text: a string as it is, anything else as JSON.
func fieldOf(data map[string]any, name string) (secret.Value, error) {
	v, ok := data[name]
	if !ok {
		return secret.Value{}, fmt.Errorf("there is no field %q", name)
	}
	if text, ok := v.(string); ok {
		if strings.ContainsRune(text, 0) {
			return secret.Value{}, fmt.Errorf("the field %q holds a NUL, which no variable can", name)
		}
		return secret.New(text), nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return secret.Value{}, fmt.Errorf("the field %q can't be written", name)
	}
	return secret.New(string(b)), nil
}

// keep renews the session and its leases until ctx ends. What can't be renewed is said once: the command may still have enough
// time.
func (s *session) keep(ctx context.Context) {
	tick := time.NewTicker(s.alive / 3)
	defer tick.Stop()
	said := make(map[string]bool)
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		s.complain(ctx, said, "the login", s.renewSelf(ctx))
		for i := range s.leases {
			l := &s.leases[i]
			if l.due.IsZero() || time.Until(l.due) > s.alive/3 {
				continue
			}
			answer, err := s.client.Vault(ctx, http.MethodPost, "sys/leases/renew", map[string]any{"lease_id": l.id, "increment": int64(l.duration / time.Second)})
			if err == nil {
				l.due = time.Now().Add(time.Duration(answer.LeaseDuration) * time.Second / 2)
			}
			s.complain(ctx, said, l.id, err)
		}
	}
}

func (s *session) complain(ctx context.Context, said map[string]bool, what string, err error) {
	if err == nil {
		delete(said, what)
		return
	}
	if ctx.Err() == nil && !said[what] {
		said[what] = true
		fmt.Fprintf(s.app.stderr, "bailiff: %s is not renewed: %s\n", what, plain(err.Error()))
	}
}

// end ends what was lent and then the session. What doesn't succeed ends by itself: the leases with the token, and that within alive.
func (s *session) end() {
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	for _, l := range s.leases {
		if _, err := s.client.Vault(ctx, http.MethodPost, "sys/leases/revoke", map[string]any{"lease_id": l.id}); err != nil {
			fmt.Fprintf(s.app.stderr, "bailiff: %s is not ended yet: %s\n", l.id, plain(err.Error()))
		}
	}
	if _, err := s.client.Vault(ctx, http.MethodPost, "auth/token/revoke-self", nil); err != nil {
		fmt.Fprintf(s.app.stderr, "bailiff: the login ends within %s: %s\n", s.alive, plain(err.Error()))
	}
	s.client.Close()
}
