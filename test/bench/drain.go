package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
	leaseseed "github.com/bailiff-secrets/bailiff/test/seed"
)

// drained is how a crowd of credentials ended.
type drained struct {
	n      int
	took   time.Duration
	health result
}

// benchDrain measures how fast credentials that end together are gone from a real PostgreSQL, and how a server answers for
// its health meanwhile.
func benchDrain(ctx context.Context, env *testenv.Env, o options, out io.Writer) error {
	vault, err := drainVault(ctx, env, min(o.drain, 1000))
	if err != nil {
		return fmt.Errorf("vault: %w", err)
	}
	bailiff, err := drainBailiff(ctx, env, o.drain)
	if err != nil {
		return fmt.Errorf("bailiff: %w", err)
	}
	fmt.Fprintf(out, "Credentials on a PostgreSQL that end together\n\n| way | credentials | gone after s | a second | of Vault | health p50 ms | p99 ms |\n|---|---|---|---|---|---|---|\n") //nolint:errcheck // see run
	base := float64(vault.n) / vault.took.Seconds()
	for _, w := range []struct {
		name string
		d    drained
	}{{"Vault's database engine, revoke-prefix", vault}, {"**Bailiff**, expiry", bailiff}} {
		rate := float64(w.d.n) / w.d.took.Seconds()
		fmt.Fprintf(out, "| %s | %d | %.1f | %.0f | %.1f | %.1f | %.1f |\n", w.name, w.d.n, w.d.took.Seconds(), rate, rate/base, ms(w.d.health.p50), ms(w.d.health.p99)) //nolint:errcheck // see run
	}
	_, err = fmt.Fprintln(out)
	return err
}

// drainVault lends n credentials and revokes them all by their prefix, which goes through the queue that expiry goes through.
func drainVault(ctx context.Context, env *testenv.Env, n int) (d drained, err error) {
	pg, vault, err := startVaultEngine(ctx, env)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, vault.Close(), pg.Close()) }()
	res, err := loadCount(ctx, traffic{addr: vault.Addr, method: http.MethodGet, path: "/v1/database/creds/ro", token: vault.RootToken}, 16, n)
	if err != nil {
		return d, err
	}
	return gone(ctx, pg, "v-%", res, vault.Addr, func() error {
		return vaultDo(ctx, vault, http.MethodPut, "/v1/sys/leases/revoke-prefix/database/creds/ro", "")
	})
}

// drainBailiff starts a server with n leases that have just expired.
func drainBailiff(ctx context.Context, env *testenv.Env, n int) (d drained, err error) {
	pg, bailiff, _, err := startBailiffLending(ctx, env, "")
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, bailiff.Close(), pg.Close()) }()
	if err := bailiff.Stop(); err != nil {
		return d, err
	}
	statement := fmt.Sprintf(`do $$ begin for i in 0..%d loop execute format('create role %%I login', 'bl-ro-' || translate(lpad(i::text, 20, '0'), '0123456789', 'abcdefghij'));
execute format('grant pg_read_all_data to %%I', 'bl-ro-' || translate(lpad(i::text, 20, '0'), '0123456789', 'abcdefghij')); end loop; end $$`, n-1)
	if _, err := pg.SQL(ctx, pg.AdminUser, pg.AdminPassword, "postgres", statement); err != nil {
		return d, err
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	letters := strings.NewReplacer("0", "a", "1", "b", "2", "c", "3", "d", "4", "e", "5", "f", "6", "g", "7", "h", "8", "i", "9", "j")
	err = leaseseed.Leases(ctx, bailiff.DataDir, n, func(i int, l *broker.Lease) {
		*l = broker.Lease{
			ID: "database/creds/ro/" + strconv.Itoa(i), Mount: "database/", Role: "ro", Producer: "postgres", Target: "pg", Identity: "bench",
			RequestID: "r-" + strconv.Itoa(i), Principal: "bl-ro-" + letters.Replace(fmt.Sprintf("%020d", i)), State: broker.Active,
			IssuedAt: now.Add(-time.Hour), IntentDeadline: now.Add(-time.Hour), ExpiresAt: now, MaxExpiresAt: now.Add(time.Hour), NextAt: now,
		}
	})
	if err != nil {
		return d, err
	}
	return gone(ctx, pg, "bl-%", n, bailiff.Addr, func() error { return bailiff.Restart(ctx) })
}

// gone begins the end of n credentials and waits until none is there.
func gone(ctx context.Context, pg *testenv.PostgresServer, like string, n int, addr string, begin func() error) (d drained, err error) {
	count := func() (int, error) {
		out, err := pg.SQL(ctx, pg.AdminUser, pg.AdminPassword, "postgres", "select count(*) from pg_roles where rolname like '"+like+"'")
		if err != nil {
			return 0, err
		}
		return strconv.Atoi(strings.TrimSpace(out))
	}
	if there, err := count(); err != nil || there != n {
		return d, errors.Join(fmt.Errorf("%d credentials are there, not %d", there, n), err)
	}
	began := time.Now()
	if err := begin(); err != nil {
		return d, err
	}
	hctx, stop := context.WithCancel(ctx)
	defer stop()
	var times []time.Duration
	var asking sync.WaitGroup
	asking.Go(func() { times = askHealth(hctx, addr) })
	for left := n; left > 0; {
		timer := time.NewTimer(100 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return d, ctx.Err()
		}
		if left, err = count(); err != nil {
			return d, err
		}
		if time.Since(began) > 5*time.Minute {
			return d, fmt.Errorf("%d of %d are left after five minutes", left, n)
		}
	}
	took := time.Since(began)
	stop()
	asking.Wait()
	return drained{n: n, took: took, health: summarise(times, took)}, nil
}

// askHealth asks a server fifty times a second until ctx ends.
func askHealth(ctx context.Context, addr string) (times []time.Duration) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	client := &http.Client{Timeout: time.Minute}
	for {
		select {
		case <-ctx.Done():
			return times
		case <-tick.C:
		}
		t := time.Now()
		req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, addr+"/v1/sys/health", http.NoBody)
		if err != nil {
			return times
		}
		resp, err := client.Do(req)
		if err != nil {
			times = append(times, time.Since(t))
			continue
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		times = append(times, time.Since(t))
	}
}

// loadCount sends t n times in all, from conns connections, and says how often it was answered with 200: n, or an error.
func loadCount(ctx context.Context, t traffic, conns, n int) (int, error) {
	var mu sync.Mutex
	left := n
	res, err := repeat(ctx, conns, 5*time.Minute, func(ctx context.Context) error {
		mu.Lock()
		if left == 0 {
			mu.Unlock()
			return errNoMore
		}
		left--
		mu.Unlock()
		req, err := http.NewRequestWithContext(ctx, t.method, t.addr+t.path, strings.NewReader(t.body))
		if err != nil {
			return err
		}
		req.Header.Set("X-Vault-Token", t.token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: status %d", t.path, resp.StatusCode)
		}
		return nil
	})
	_ = res
	if errors.Is(err, errNoMore) {
		err = nil
	}
	return n, err
}

// benchPool measures reads of a login, ten a second so that nothing waits for anything else, made when it is asked for and made before.
func benchPool(ctx context.Context, env *testenv.Env, o options, out io.Writer) error {
	fmt.Fprintf(out, "`vault read` of a PostgreSQL login, ten a second, %d of them\n\n| way | p50 ms | p99 ms |\n|---|---|---|\n", o.reads) //nolint:errcheck // see run
	for _, w := range []struct {
		name, more string
		wait       bool
	}{{"**Bailiff**, made when it is asked for", "", false}, {"**Bailiff**, from the pool", fmt.Sprintf("\n  pool_size = %d", 2*o.reads), true}} {
		if err := poolOf(ctx, env, o, out, w.name, w.more, w.wait); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(out)
	return err
}

func poolOf(ctx context.Context, env *testenv.Env, o options, out io.Writer, name, more string, wait bool) (err error) {
	pg, bailiff, token, err := startBailiffLending(ctx, env, more)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bailiff.Close(), pg.Close()) }()
	t := traffic{addr: bailiff.Addr, method: http.MethodGet, path: "/v1/database/creds/ro", token: token}
	if _, err := loadCount(ctx, t, 8, 2*o.reads); err != nil { // a pool follows demand
		return err
	}
	if wait {
		if err := filled(ctx, bailiff, 2*o.reads); err != nil {
			return err
		}
	}
	var times []time.Duration
	began := time.Now()
	pace := time.NewTicker(100 * time.Millisecond)
	defer pace.Stop()
	for range o.reads {
		<-pace.C
		at := time.Now()
		if _, err := loadCount(ctx, t, 1, 1); err != nil {
			return err
		}
		times = append(times, time.Since(at))
	}
	r := summarise(times, time.Since(began))
	_, err = fmt.Fprintf(out, "| %s | %.1f | %.1f |\n", name, ms(r.p50), ms(r.p99))
	return err
}

// filled waits until n credentials wait in the pool.
func filled(ctx context.Context, b *testenv.BailiffServer, n int) error {
	deadline := time.Now().Add(2 * time.Minute)
	for time.Now().Before(deadline) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.MetricsAddr+"/metrics", http.NoBody)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			if rest, ok := strings.CutPrefix(line, "bailiff_pooled_credentials{"); ok {
				f := strings.Fields(rest)
				if waiting, err := strconv.ParseFloat(f[len(f)-1], 64); err == nil && int(waiting) >= n {
					return nil
				}
			}
		}
		timer := time.NewTimer(100 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("%w: the pool has not filled", os.ErrDeadlineExceeded)
}
