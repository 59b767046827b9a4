package server

import (
	"context"

	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/auth/approle"
	"github.com/bailiff-secrets/bailiff/auth/aws"
	"github.com/bailiff-secrets/bailiff/auth/cert"
	"github.com/bailiff-secrets/bailiff/auth/jwt"
	"github.com/bailiff-secrets/bailiff/auth/kubernetes"
	"github.com/bailiff-secrets/bailiff/auth/ldap"
	"github.com/bailiff-secrets/bailiff/auth/userpass"
	"github.com/bailiff-secrets/bailiff/gate"
)

// methods is the catalogue of auth methods, by their type.
func methods(keys auth.AccessKeys) map[string]auth.Method {
	signed := jwt.New()
	return map[string]auth.Method{
		"approle":    approle.New(keys),
		"aws":        aws.New(),
		"cert":       cert.New(),
		"jwt":        signed,
		"kubernetes": kubernetes.New(),
		"ldap":       ldap.New(),
		"oidc":       signed,
		"userpass":   userpass.New(keys),
	}
}

// openAuth reads the auth methods that are mounted.
func (s *server) openAuth(ctx context.Context, token *gate.Mount) (err error) {
	s.estate.auth, err = auth.New(ctx, auth.Config{
		Store: s.db, Methods: methods(s.estate.manager), Tokens: s.estate.tokens, Logger: s.logger, Changed: s.estate.remount, Own: []*gate.Mount{token},
		End: func(ctx context.Context, m *auth.Mount) error { return s.estate.tokens.RevokeMount(ctx, m.Accessor) },
	})
	return err
}

// remount takes over what auth methods are mounted now.
func (e *estate) remount() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.swap(context.Background(), e.live.Load().set.records)
}
