package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

const creation = `CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'; GRANT pg_read_all_data TO "{{name}}";`

// benchPostgres makes database credentials with a bare pgx loop, with Vault's database engine and with Bailiff. Each has a
// PostgreSQL of its own, so that nobody pays for another's roles.
func benchPostgres(ctx context.Context, env *testenv.Env, o options, out io.Writer) error {
	ways, err := credentialWays(ctx, env)
	if err != nil {
		return err
	}
	for _, callers := range []int{1, 16, 64} {
		fmt.Fprintf(out, "PostgreSQL credentials, %d callers\n\n| way | credentials/s | of bare pgx | p50 ms | p99 ms |\n|---|---|---|---|---|\n", callers) //nolint:errcheck // see run
		got := make([][]result, len(ways))
		for range o.rounds {
			for i, w := range ways {
				res, err := w.issue(ctx, callers, o.seconds)
				if err != nil {
					return fmt.Errorf("%s: %w", w.name, err)
				}
				got[i] = append(got[i], res)
			}
		}
		bare := median(got[0]).rate
		for i, w := range ways {
			m := median(got[i])
			fmt.Fprintf(out, "| %s | %.0f | %.2f | %.1f | %.1f |\n", w.name, m.rate, m.rate/bare, ms(m.p50), ms(m.p99)) //nolint:errcheck // see run
		}
		fmt.Fprintln(out) //nolint:errcheck // see run
	}
	return nil
}

// way is one way to make a credential.
type way struct {
	name  string
	issue func(ctx context.Context, callers int, d time.Duration) (result, error)
}

func credentialWays(ctx context.Context, env *testenv.Env) ([]way, error) {
	bare, err := bareWay(ctx, env)
	if err != nil {
		return nil, err
	}
	vault, err := vaultWay(ctx, env)
	if err != nil {
		return nil, err
	}
	bailiff, err := bailiffWay(ctx, env)
	if err != nil {
		return nil, err
	}
	return []way{bare, vault, bailiff}, nil
}

func bareWay(ctx context.Context, env *testenv.Env) (way, error) {
	pg, err := env.StartPostgres(ctx)
	if err != nil {
		return way{}, err
	}
	cfg, err := pgxpool.ParseConfig(pg.URL(pg.AdminUser, pg.AdminPassword, "postgres"))
	if err != nil {
		return way{}, err
	}
	cfg.MaxConns = 16
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return way{}, err
	}
	return way{"bare pgx, 16 connections", func(ctx context.Context, callers int, d time.Duration) (result, error) {
		return repeat(ctx, callers, d, func(ctx context.Context) error { return makeRole(ctx, pool) })
	}}, nil
}

// makeRole runs the statements that the others run, in one transaction.
func makeRole(ctx context.Context, pool *pgxpool.Pool) error {
	sql := strings.NewReplacer("{{name}}", "bl-bench-"+strings.ToLower(rand.Text()), "{{password}}", rand.Text(),
		"{{expiration}}", time.Now().Add(time.Hour).UTC().Format("2006-01-02 15:04:05-0700")).Replace(creation)
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		for stmt := range strings.SplitSeq(sql, ";") {
			if stmt = strings.TrimSpace(stmt); stmt == "" {
				continue
			}
			if _, err := tx.Exec(ctx, stmt); err != nil {
				return err
			}
		}
		return nil
	})
}

func repeat(ctx context.Context, callers int, d time.Duration, do func(context.Context) error) (result, error) {
	var (
		mu   sync.Mutex
		all  []time.Duration
		fail error
		wg   sync.WaitGroup
	)
	start := time.Now()
	for range callers {
		wg.Go(func() {
			for time.Since(start) < d {
				t := time.Now()
				err := do(ctx)
				mu.Lock()
				if err != nil {
					fail = err
				}
				all = append(all, time.Since(t))
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return summarise(all, time.Since(start)), fail
}

func vaultWay(ctx context.Context, env *testenv.Env) (way, error) {
	_, vault, err := startVaultEngine(ctx, env)
	if err != nil {
		return way{}, err
	}
	return way{"Vault's database engine, defaults", func(ctx context.Context, callers int, d time.Duration) (result, error) {
		return load(ctx, traffic{addr: vault.Addr, method: http.MethodGet, path: "/v1/database/creds/ro", token: vault.RootToken}, callers, d)
	}}, nil
}

// startVaultEngine starts a PostgreSQL and a Vault that lends logins of it.
func startVaultEngine(ctx context.Context, env *testenv.Env) (*testenv.PostgresServer, *testenv.VaultServer, error) {
	pg, err := env.StartPostgres(ctx)
	if err != nil {
		return nil, nil, err
	}
	vault, err := env.StartVault(ctx, testenv.VaultOptions{})
	if err != nil {
		return nil, nil, err
	}
	for _, step := range [][3]string{
		{http.MethodPost, "/v1/sys/mounts/database", `{"type":"database"}`},
		{http.MethodPost, "/v1/database/config/pg", fmt.Sprintf(`{"plugin_name":"postgresql-database-plugin","allowed_roles":"*","username":%q,"password":%q,"connection_url":%q}`,
			pg.AdminUser, pg.AdminPassword, "postgresql://{{username}}:{{password}}@"+pg.Addr+"/postgres?sslmode=disable")},
		{http.MethodPost, "/v1/database/roles/ro", fmt.Sprintf(`{"db_name":"pg","creation_statements":%q,"default_ttl":"1h"}`, creation)},
	} {
		if err := vaultDo(ctx, vault, step[0], step[1], step[2]); err != nil {
			return nil, nil, err
		}
	}
	return pg, vault, nil
}

func bailiffWay(ctx context.Context, env *testenv.Env) (way, error) {
	_, bailiff, token, err := startBailiffLending(ctx, env, "")
	if err != nil {
		return way{}, err
	}
	return way{"**Bailiff**, defaults", func(ctx context.Context, callers int, d time.Duration) (result, error) {
		return load(ctx, traffic{addr: bailiff.Addr, method: http.MethodGet, path: "/v1/database/creds/ro", token: token}, callers, d)
	}}, nil
}

// startBailiffLending starts a PostgreSQL and a Bailiff that lends logins of it to whoever has the token; more goes into the
// role.
func startBailiffLending(ctx context.Context, env *testenv.Env, more string) (*testenv.PostgresServer, *testenv.BailiffServer, string, error) {
	pg, err := env.StartPostgres(ctx)
	if err != nil {
		return nil, nil, "", err
	}
	bailiff, err := env.StartBailiff(ctx, testenv.BailiffOptions{})
	if err != nil {
		return nil, nil, "", err
	}
	objects := fmt.Sprintf(`
target "pg" {
  type     = "postgres"
  address  = "postgres://%s/postgres?sslmode=disable"
  username = %q
  password = env("BENCH_PASSWORD")
}
mount "database" {
  type = "broker"
}
producer "database/ro" {
  target              = "pg"
  default_ttl         = "1h"
  creation_statements = [%q]%s
}
policy "bench" {
  rules = "path \"database/creds/*\" { capabilities = [\"read\"] }"
}
role "bench" {
  policies = ["bench"]
}
`, pg.Addr, pg.AdminUser, creation, more)
	if err := bailiff.Apply(ctx, objects, "BENCH_PASSWORD="+pg.AdminPassword); err != nil {
		return nil, nil, "", err
	}
	token, err := bailiff.NewIdentity(ctx, "bench", "bench")
	return pg, bailiff, token, err
}
