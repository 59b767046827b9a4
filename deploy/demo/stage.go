package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// vaultPolicy is what Bailiff's own token may do on a Vault behind it.
const vaultPolicy = `path "secret/*" {
  capabilities = ["create", "read", "update", "patch", "delete", "list"]
}
path "sys/mounts" {
  capabilities = ["read"]
}
`

// databaseSetup is run by the database's owner: Bailiff may make and drop logins and hand out one role.
const databaseSetup = `
CREATE TABLE orders (id int PRIMARY KEY, customer text, total numeric(8,2));
INSERT INTO orders VALUES (1, 'Ada', 12.50), (2, 'Grace', 99.00), (3, 'Edsger', 7.25);
CREATE ROLE readonly NOLOGIN;
GRANT SELECT ON orders TO readonly;
CREATE ROLE bailiff LOGIN CREATEROLE PASSWORD '%s';
GRANT readonly TO bailiff WITH ADMIN OPTION;
GRANT pg_signal_backend TO bailiff;
`

const databasePassword = "demo-bailiff-on-postgres"

// setUp starts the servers as somebody would find them before Bailiff comes, and Bailiff, which knows nothing yet.
func (d *demo) setUp() error {
	d.out.chapter("Setting the stage")
	if err := d.startServers(); err != nil {
		return err
	}
	vault, err := d.env.VaultBinary(d.ctx)
	if err != nil {
		return err
	}
	d.programs = map[string]string{"vault": vault, "bailiff": d.bailiff.Program, "psql": d.pg.Client()}
	d.direct = &shell{who: "A terminal as it was before Bailiff: straight to the Vault of team A.", vars: []string{
		"VAULT_ADDR=" + d.vaultA.Addr, "VAULT_TOKEN=" + d.vaultA.RootToken,
	}}
	for _, s := range []struct{ what, where string }{
		{"Vault of team A", d.vaultA.Addr},
		{"Vault of team B", d.vaultB.Addr},
		{"PostgreSQL", d.pg.Addr},
		{"Bailiff", d.bailiff.Addr},
	} {
		d.out.ok(fmt.Sprintf("%-16s %s", s.what, s.where))
	}
	return d.seed()
}

func (d *demo) startServers() error {
	starts := []func() error{
		func() (err error) {
			d.vaultA, err = d.env.StartVault(d.ctx, testenv.VaultOptions{RootToken: "root-of-team-a"})
			return err
		},
		func() (err error) {
			d.vaultB, err = d.env.StartVault(d.ctx, testenv.VaultOptions{RootToken: "root-of-team-b"})
			return err
		},
		func() (err error) { d.pg, err = d.env.StartPostgres(d.ctx); return err },
		func() (err error) {
			d.bailiff, err = d.env.StartBailiff(d.ctx, testenv.BailiffOptions{NoAdministrator: true})
			return err
		},
	}
	errs := make([]error, len(starts))
	var wg sync.WaitGroup
	for i, start := range starts {
		wg.Go(func() { errs[i] = start() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// seed writes what the teams had before.
func (d *demo) seed() error {
	policy := filepath.Join(d.home, "bailiff-on-vault.hcl")
	if err := os.WriteFile(policy, []byte(vaultPolicy), 0o600); err != nil {
		return err
	}
	d.auditFile = filepath.Join(d.home, "vault-a-audit.log")
	teamB := &shell{vars: []string{"VAULT_ADDR=" + d.vaultB.Addr, "VAULT_TOKEN=" + d.vaultB.RootToken}}
	tokens := map[*shell]string{}
	for _, c := range []struct {
		s    *shell
		line string
	}{
		{d.direct, "vault kv put secret/myapp/db-password password=demo-Sup3rS3cret"},
		{d.direct, "vault kv put secret/myapp/api-key key=demo-ak-7f3e"},
		{d.direct, "vault audit enable file file_path=" + d.auditFile},
		{d.direct, "vault policy write bailiff " + policy},
		{teamB, "vault kv put secret/billing/stripe key=demo-sk-team-b"},
		{teamB, "vault policy write bailiff " + policy},
		{d.direct, "vault token create -policy=bailiff -orphan -period=24h -field=token"},
		{teamB, "vault token create -policy=bailiff -orphan -period=24h -field=token"},
	} {
		r, err := d.exec(c.s, c.line)
		if err != nil || r.code != 0 {
			return fmt.Errorf("%s: %w\n%s", c.line, err, r.text())
		}
		tokens[c.s] = strings.TrimSpace(r.stdout)
	}
	_, err := d.pg.SQL(d.ctx, d.pg.AdminUser, d.pg.AdminPassword, "postgres", fmt.Sprintf(databaseSetup, databasePassword))
	if err != nil {
		return err
	}
	d.operator = &shell{who: "The operator of Bailiff, on its machine.", vars: []string{
		"BAILIFF_ADDR=" + d.bailiff.Addr,
		"VAULT_A_ADDR=" + d.vaultA.Addr, "VAULT_A_TOKEN=" + tokens[d.direct],
		"VAULT_B_ADDR=" + d.vaultB.Addr, "VAULT_B_TOKEN=" + tokens[teamB],
		"ORDERS_DB_URL=postgres://" + d.pg.Addr + "/postgres?sslmode=disable", "ORDERS_DB_PASSWORD=" + databasePassword,
	}}
	return nil
}

func cut(v string) (name, value string) {
	name, value, _ = strings.Cut(v, "=")
	return name, value
}
