package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/api/auth/approle"
)

// official is the client of Vault's own.
func official(ctx context.Context) error {
	c, err := api.NewClient(api.DefaultConfig())
	if err != nil {
		return err
	}
	method, err := approle.NewAppRoleAuth(os.Getenv("ROLE_ID"), &approle.SecretID{FromEnv: "SECRET_ID"})
	if err != nil {
		return err
	}
	login, err := c.Auth().Login(ctx, method)
	if err != nil {
		return err
	}
	fmt.Println("logged in")
	alive := make(chan error, 1)
	go func() { alive <- watch(ctx, c, "token", login) }()
	for _, do := range []func(context.Context, *api.Client) error{secrets, wrapping, lease} {
		if err := do(ctx, c); err != nil {
			return err
		}
	}
	if err := <-alive; err != nil {
		return err
	}
	for ctx.Err() == nil { // it is over a moment after the last renewal
		var no *api.ResponseError
		if _, err := c.Auth().Token().LookupSelfWithContext(ctx); errors.As(err, &no) && no.StatusCode == http.StatusForbidden {
			fmt.Println("the token has ended")
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return ctx.Err()
}

func secrets(ctx context.Context, c *api.Client) error {
	kv := c.KVv2("secret")
	if _, err := kv.Put(ctx, "clients/go/a", map[string]any{"k": "v"}); err != nil {
		return err
	}
	s, err := kv.Get(ctx, "clients/go/a")
	if err != nil {
		return err
	}
	if err := want("read what was written", s.Data["k"], "v"); err != nil {
		return err
	}
	if _, err := kv.Patch(ctx, "clients/go/a", map[string]any{"l": "w"}); err != nil {
		return err
	}
	if s, err = kv.Get(ctx, "clients/go/a"); err != nil {
		return err
	}
	if err := want("patched", fmt.Sprint(s.Data, s.VersionMetadata.Version), "map[k:v l:w] 2"); err != nil {
		return err
	}
	if _, err := kv.Put(ctx, "clients/go/a", nil, api.WithCheckAndSet(1)); err == nil {
		return errors.New("a check and set of a stale version is done")
	}
	if _, err = kv.Get(ctx, "clients/go/none"); !errors.Is(err, api.ErrSecretNotFound) {
		return fmt.Errorf("what is not there: %w", err)
	}
	list, err := c.Logical().ListWithContext(ctx, "secret/metadata/clients/go")
	if err != nil {
		return err
	}
	if err := want("listed", list.Data["keys"], "[a]"); err != nil {
		return err
	}
	if _, err := c.Logical().ReadWithContext(ctx, "secret/data/others/a"); err == nil {
		return errors.New("what policy forbids is read")
	}
	can, err := c.Sys().CapabilitiesSelfWithContext(ctx, "secret/data/clients/go/a")
	if err != nil {
		return err
	}
	return want("capabilities", can, "[create delete patch read update]")
}

func wrapping(ctx context.Context, c *api.Client) error {
	w, err := c.Clone()
	if err != nil {
		return err
	}
	w.SetToken(c.Token())
	w.SetWrappingLookupFunc(func(string, string) string { return "60s" })
	wrapped, err := w.Logical().ReadWithContext(ctx, "secret/data/clients/go/a")
	if err != nil {
		return err
	}
	if wrapped.WrapInfo == nil {
		return errors.New("the answer is not wrapped")
	}
	s, err := c.Logical().UnwrapWithContext(ctx, wrapped.WrapInfo.Token)
	if err != nil {
		return err
	}
	if err := want("unwrapped", s.Data["data"], "map[k:v l:w]"); err != nil {
		return err
	}
	if _, err := c.Logical().UnwrapWithContext(ctx, wrapped.WrapInfo.Token); err == nil {
		return errors.New("unwrapped twice")
	}
	return nil
}

func lease(ctx context.Context, c *api.Client) error {
	s, err := c.Logical().ReadWithContext(ctx, os.Getenv("DATABASE"))
	if err != nil {
		return err
	}
	fmt.Println("user", s.Data["username"])
	return watch(ctx, c, "lease", s)
}

// watch keeps a secret alive until it can't be.
func watch(ctx context.Context, c *api.Client, what string, s *api.Secret) error {
	w, err := c.NewLifetimeWatcher(&api.LifetimeWatcherInput{Secret: s})
	if err != nil {
		return err
	}
	go w.Start()
	defer w.Stop()
	renewals := 0
	for {
		select {
		case err := <-w.DoneCh():
			if renewals < 2 {
				return fmt.Errorf("%s: renewed %d times before its end: %w", what, renewals, err)
			}
			fmt.Println(what, "renewed, then over")
			return nil
		case <-w.RenewCh():
			renewals++
		case <-ctx.Done():
			return fmt.Errorf("%s: renewed %d times and not over: %w", what, renewals, ctx.Err())
		}
	}
}
