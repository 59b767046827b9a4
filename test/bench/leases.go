package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
	leaseseed "github.com/bailiff-secrets/bailiff/test/seed"
)

// benchLeases measures how long a server takes from exec to ready and how much memory it holds, with few and with many
// active leases.
func benchLeases(ctx context.Context, env *testenv.Env, o options, out io.Writer) error {
	fmt.Fprintf(out, "Start with active leases in SQLite\n\n| leases | exec to ready ms, median of %d | resident MiB when ready |\n|---|---|---|\n", o.rounds) //nolint:errcheck // see run
	for _, n := range []int{1000, o.leases} {
		if err := startWith(ctx, env, o, out, n); err != nil {
			return fmt.Errorf("%d leases: %w", n, err)
		}
	}
	fmt.Fprintln(out) //nolint:errcheck // see run
	return nil
}

func startWith(ctx context.Context, env *testenv.Env, o options, out io.Writer, n int) error {
	b, err := env.StartBailiff(ctx, testenv.BailiffOptions{})
	if err != nil {
		return err
	}
	if err := b.Stop(); err != nil {
		return err
	}
	issued := time.Now().UTC().Truncate(time.Millisecond)
	err = leaseseed.Leases(ctx, b.DataDir, n, func(i int, l *broker.Lease) {
		*l = broker.Lease{
			ID: "database/creds/ro/" + strconv.Itoa(i), Mount: "database/", Role: "ro", Producer: "postgres", Target: "pg",
			Identity: "app-" + strconv.Itoa(i%100), AccessID: "p-1", RequestID: "r-" + strconv.Itoa(i), Principal: "bl-ro-" + strconv.Itoa(i),
			State: broker.Active, IssuedAt: issued, IntentDeadline: issued,
			ExpiresAt: issued.Add(24 * time.Hour), MaxExpiresAt: issued.Add(48 * time.Hour), NextAt: issued.Add(24 * time.Hour),
		}
	})
	if err != nil {
		return err
	}
	var rs []result
	for range o.rounds {
		t := time.Now()
		if err := b.Restart(ctx); err != nil {
			return err
		}
		ready := time.Since(t)
		rss, err := residentMiB(b.Pid())
		if err != nil {
			return err
		}
		rs = append(rs, result{p50: ready, rate: rss})
		if err := b.Stop(); err != nil {
			return err
		}
	}
	m := median(rs)
	fmt.Fprintf(out, "| %d | %.0f | %.1f |\n", n, ms(m.p50), m.rate) //nolint:errcheck // see run
	return b.Close()
}

// residentMiB is the memory that a process holds now.
func residentMiB(pid int) (float64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if text, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(text)[0], 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status is of another form", pid)
}
