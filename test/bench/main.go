// Command bench measures Bailiff beside what people would run instead, in one run on one machine, and prints tables.
//
// Numbers of different runs or machines don't compare; the ratios within a run do. Client, proxy and server share the
// machine's cores.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err) //nolint:errcheck // nothing else can be told
		os.Exit(1)
	}
}

// options say how long and what is measured.
type options struct {
	seconds time.Duration // of one measurement
	rounds  int           // each rival is measured that often, in turn; the median counts
	only    string

	conns    []int  // of the kv section
	verb     string // of the kv section; both where empty
	size     int    // of the kv section; all where 0
	profiles string // where profiles of Bailiff go
	leases   int    // that a server starts with
	drain    int    // credentials that end together
	reads    int    // of the section pool
}

func run(ctx context.Context, args []string, out, progress io.Writer) (err error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.DurationVar(&o.seconds, "t", 3*time.Second, "length of one measurement")
	flags.IntVar(&o.rounds, "rounds", 3, "rounds; the median counts")
	flags.StringVar(&o.only, "only", "", "kv, postgres, pool, drain, bookkeeping, leases or policy; all where empty")
	flags.IntVar(&o.leases, "leases", 1_000_000, "active leases that a server starts with")
	flags.IntVar(&o.drain, "drain", 20_000, "credentials that end together")
	flags.IntVar(&o.reads, "reads", 200, "reads in the section pool")
	flags.StringVar(&o.verb, "verb", "", "of the section kv: read or write; both where empty")
	flags.IntVar(&o.size, "size", 0, "of the section kv: bytes of a value, 512 or 65536; both where 0")
	flags.StringVar(&o.profiles, "profiles", "", "a directory for CPU profiles of Bailiff in the section kv")
	conns := flags.String("conns", "1,16,128", "of the section kv: numbers of connections")
	if err := flags.Parse(args); err != nil {
		return err
	}
	for text := range strings.SplitSeq(*conns, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("-conns: %q is not a number of connections", text)
		}
		o.conns = append(o.conns, n)
	}
	env, err := testenv.New(progress)
	if err != nil {
		return err
	}
	defer func() {
		if e := env.Close(); err == nil {
			err = e
		}
	}()
	fmt.Fprintf(out, "%s, %s/%s, %d cores, %s a measurement, median of %d rounds\n\n", //nolint:errcheck // a broken pipe ends it below
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), o.seconds, o.rounds)
	for _, section := range []struct {
		name  string
		bench func(context.Context, *testenv.Env, options, io.Writer) error
	}{{"kv", benchKV}, {"postgres", benchPostgres}, {"pool", benchPool}, {"drain", benchDrain},
		{"bookkeeping", benchBookkeeping}, {"leases", benchLeases}, {"policy", benchPolicy}} {
		if o.only != "" && o.only != section.name {
			continue
		}
		if err := section.bench(ctx, env, o, out); err != nil {
			return fmt.Errorf("%s: %w", section.name, err)
		}
	}
	return nil
}
