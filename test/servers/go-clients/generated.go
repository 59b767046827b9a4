package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/hashicorp/vault-client-go"
	"github.com/hashicorp/vault-client-go/schema"
)

// generated is the client that is made from Vault's OpenAPI document. It writes the slashes inside paths as %2F.
func generated(ctx context.Context) error {
	c, err := vault.New(vault.WithAddress(os.Getenv("VAULT_ADDR")), vault.WithRequestTimeout(10*time.Second))
	if err != nil {
		return err
	}
	login, err := c.Auth.AppRoleLogin(ctx, schema.AppRoleLoginRequest{RoleId: os.Getenv("ROLE_ID"), SecretId: os.Getenv("SECRET_ID")})
	if err != nil {
		return err
	}
	if err := c.SetToken(login.Auth.ClientToken); err != nil {
		return err
	}
	fmt.Println("logged in")
	const at = "clients/generated/a"
	if _, err := c.Secrets.KvV2Write(ctx, at, schema.KvV2WriteRequest{Data: map[string]any{"k": "v"}}, vault.WithMountPath("secret")); err != nil {
		return err
	}
	s, err := c.Secrets.KvV2Read(ctx, at, vault.WithMountPath("secret"))
	if err != nil {
		return err
	}
	if err := want("read what was written", s.Data.Data["k"], "v"); err != nil {
		return err
	}
	list, err := c.Secrets.KvV2List(ctx, "clients/generated", vault.WithMountPath("secret"))
	if err != nil {
		return err
	}
	if err := want("listed", list.Data.Keys, "[a]"); err != nil {
		return err
	}
	wrapped, err := c.Secrets.KvV2Read(ctx, at, vault.WithMountPath("secret"), vault.WithResponseWrapping(time.Minute))
	if err != nil {
		return err
	}
	opened, err := vault.Unwrap[schema.KvV2ReadResponse](ctx, c, wrapped.WrapInfo.Token)
	if err != nil {
		return err
	}
	if err := want("unwrapped", opened.Data.Data["k"], "v"); err != nil {
		return err
	}
	if _, err := c.Secrets.KvV2Read(ctx, "others/a", vault.WithMountPath("secret")); !vault.IsErrorStatus(err, 403) {
		return fmt.Errorf("what policy forbids: got %w", err)
	}
	if _, err := c.Secrets.KvV2DeleteMetadataAndAllVersions(ctx, at, vault.WithMountPath("secret")); err != nil {
		return err
	}
	if _, err := c.Secrets.KvV2Read(ctx, at, vault.WithMountPath("secret")); !vault.IsErrorStatus(err, 404) {
		return errors.New("what was deleted is read")
	}
	if _, err := c.Auth.TokenRevokeSelf(ctx); err != nil {
		return err
	}
	fmt.Println("revoked itself")
	return nil
}
