package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// rival is one way to a secret.
type rival struct {
	name    string
	addr    string
	token   string
	pids    []int  // whose CPU time counts
	metrics string // address of Prometheus metrics, for allocations
}

// shape is one kind of request.
type shape struct {
	verb string // read or write
	size int    // of the value, in bytes
}

var shapes = []shape{{"read", 512}, {"write", 512}, {"read", 64 << 10}, {"write", 64 << 10}}

func (s shape) path() string { return fmt.Sprintf("/v1/secret/data/bench/%s-%d", s.verb, s.size) }

func (s shape) body() string {
	return fmt.Sprintf(`{"data":{"password":%q}}`, strings.Repeat("x", s.size))
}

// traffic is what is sent to r.
func (s shape) traffic(r rival) traffic {
	t := traffic{addr: r.addr, path: s.path(), token: r.token, method: http.MethodGet}
	if s.verb == "write" {
		t.method, t.body = http.MethodPut, s.body()
	}
	return t
}

// benchKV reads and writes KV v2 secrets directly, through Bailiff, through the Vault Agent's API proxy and through nginx.
func benchKV(ctx context.Context, env *testenv.Env, o options, out io.Writer) error {
	vault, err := env.StartVault(ctx, testenv.VaultOptions{})
	if err != nil {
		return err
	}
	for _, s := range shapes {
		if err := vaultDo(ctx, vault, http.MethodPost, s.path(), s.body()); err != nil {
			return err
		}
	}
	rivals, err := kvRivals(ctx, env, o, vault)
	if err != nil {
		return err
	}
	for _, s := range shapes {
		if o.verb != "" && o.verb != s.verb || o.size != 0 && o.size != s.size {
			continue
		}
		for _, conns := range o.conns {
			if err := table(ctx, rivals, s, conns, o, out); err != nil {
				return err
			}
		}
	}
	return nil
}

// table measures every rival in turn and prints what came out.
func table(ctx context.Context, rivals []rival, s shape, conns int, o options, out io.Writer) error {
	fmt.Fprintf(out, "KV v2 %s, %d B, %d connections\n\n", s.verb, s.size, conns)                                                                                //nolint:errcheck // see run
	fmt.Fprintln(out, "| way | req/s | of direct | p50 ms | p99 ms | CPU s per 1000 of the way itself | allocations a request |\n|---|---|---|---|---|---|---|") //nolint:errcheck // see run
	got := make([][]result, len(rivals))
	for round := range o.rounds {
		for i, r := range rivals {
			stop := func() error { return nil }
			if o.profiles != "" && r.metrics != "" {
				stop = profile(ctx, r, o.seconds, filepath.Join(o.profiles, fmt.Sprintf("%s-%d-%d-%d.pprof", s.verb, s.size, conns, round)))
			}
			res, err := measure(ctx, r, s, conns, o.seconds)
			if err := errors.Join(err, stop()); err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
			got[i] = append(got[i], res)
		}
	}
	direct := median(got[0]).rate
	for i, r := range rivals {
		m := median(got[i])
		fmt.Fprintf(out, "| %s | %.0f | %.2f | %.2f | %.2f | %s | %s |\n", r.name, m.rate, m.rate/direct, ms(m.p50), ms(m.p99), //nolint:errcheck // see run
			figure(m.cpu, "%.3f"), figure(m.allocs, "%.0f"))
	}
	fmt.Fprintln(out) //nolint:errcheck // see run
	return nil
}

// profile takes a profile of r's CPU time while it is measured, and of its allocations, and writes them to files. The program must have been built for that.
func profile(ctx context.Context, r rival, d time.Duration, file string) (stop func() error) {
	done := make(chan error, 1)
	go func() {
		seconds := max(1, int(d/time.Second))
		b, err := get(ctx, r.metrics+"/debug/pprof/profile?seconds="+strconv.Itoa(seconds))
		if err == nil {
			err = os.WriteFile(file, b, 0o600)
		}
		if err == nil {
			b, err = get(ctx, r.metrics+"/debug/pprof/allocs")
		}
		if err == nil {
			err = os.WriteFile(strings.TrimSuffix(file, ".pprof")+"-allocs.pprof", b, 0o600)
		}
		done <- err
	}()
	return func() error { return <-done }
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func figure(f float64, format string) string {
	if f == 0 {
		return "–"
	}
	return fmt.Sprintf(format, f)
}

func measure(ctx context.Context, r rival, s shape, conns int, d time.Duration) (result, error) {
	if _, err := load(ctx, s.traffic(r), conns, d/10); err != nil { // warms connections
		return result{}, err
	}
	mallocs, err := r.mallocs(ctx)
	if err != nil {
		return result{}, err
	}
	before, err := cpuSeconds(r.pids...)
	if err != nil {
		return result{}, err
	}
	res, err := load(ctx, s.traffic(r), conns, d)
	if err != nil {
		return result{}, err
	}
	after, err := cpuSeconds(r.pids...)
	if err != nil {
		return result{}, err
	}
	n := res.rate * d.Seconds()
	res.cpu = (after - before) / n * 1000
	more, err := r.mallocs(ctx)
	res.allocs = (more - mallocs) / n
	return res, err
}

// mallocs is how many objects the rival has allocated so far.
func (r rival) mallocs(ctx context.Context) (float64, error) {
	if r.metrics == "" {
		return 0, nil
	}
	b, err := get(ctx, r.metrics+"/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if text, ok := strings.CutPrefix(line, "go_memstats_mallocs_total "); ok {
			return strconv.ParseFloat(strings.TrimSpace(text), 64)
		}
	}
	return 0, errors.New("the metrics don't tell of allocations")
}

func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: status %d: %.200s", url, resp.StatusCode, b)
	}
	return b, err
}

// vaultDo calls a Vault as root.
func vaultDo(ctx context.Context, vault *testenv.VaultServer, method, path, body string) error {
	req, err := http.NewRequestWithContext(ctx, method, vault.Addr+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("X-Vault-Token", vault.RootToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // read as far as needed
	if resp.StatusCode >= 300 {
		b, err := io.ReadAll(resp.Body)
		return errors.Join(fmt.Errorf("%s %s: %d %s", method, path, resp.StatusCode, b), err)
	}
	return nil
}
