package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// rival is one way to read a secret.
type rival struct {
	name    string
	addr    string
	token   string
	pids    []int  // whose CPU time counts
	metrics string // address of Prometheus metrics, for allocations
}

const (
	secretPath = "/v1/secret/data/bench/a"
	valueSize  = 512
)

// benchKV reads one KV v2 secret of 512 bytes directly, through Bailiff, through the Vault Agent's API proxy and through nginx.
func benchKV(ctx context.Context, env *testenv.Env, o options, out io.Writer) error {
	vault, err := env.StartVault(ctx, testenv.VaultOptions{})
	if err != nil {
		return err
	}
	if err := seed(ctx, vault); err != nil {
		return err
	}
	rivals, err := kvRivals(ctx, env, vault)
	if err != nil {
		return err
	}
	for _, conns := range []int{1, 16, 64} {
		fmt.Fprintf(out, "KV v2 read, %d B, %d connections\n\n", valueSize, conns)                                                                                   //nolint:errcheck // see run
		fmt.Fprintln(out, "| way | req/s | of direct | p50 ms | p99 ms | CPU s per 1000 of the way itself | allocations a request |\n|---|---|---|---|---|---|---|") //nolint:errcheck // see run
		got := make([][]result, len(rivals))
		for range o.rounds {
			for i, r := range rivals {
				res, err := measure(ctx, r, conns, o.seconds)
				if err != nil {
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
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func figure(f float64, format string) string {
	if f == 0 {
		return "–"
	}
	return fmt.Sprintf(format, f)
}

func measure(ctx context.Context, r rival, conns int, d time.Duration) (result, error) {
	if _, err := load(ctx, r.addr, secretPath, r.token, conns, d/10); err != nil { // warms connections
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
	res, err := load(ctx, r.addr, secretPath, r.token, conns, d)
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
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.metrics+"/metrics", http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	b, err := io.ReadAll(resp.Body)
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

func seed(ctx context.Context, vault *testenv.VaultServer) error {
	body := fmt.Sprintf(`{"data":{"password":%q}}`, strings.Repeat("x", valueSize))
	return vaultDo(ctx, vault, http.MethodPost, secretPath, body)
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

func kvRivals(ctx context.Context, env *testenv.Env, vault *testenv.VaultServer) ([]rival, error) {
	bailiff, err := env.StartBailiff(ctx, testenv.BailiffOptions{})
	if err != nil {
		return nil, err
	}
	objects := fmt.Sprintf(`
target "vault-a" {
  type    = "vault"
  address = %q
  auth {
    method = "token"
    token  = env("BENCH_TOKEN")
  }
}
mount "secret" {
  type   = "vault"
  target = "vault-a"
}
policy "bench" {
  rules = "path \"secret/data/bench/*\" { capabilities = [\"read\"] }"
}
role "bench" {
  policies = ["bench"]
}
`, vault.Addr)
	if err := bailiff.Apply(ctx, objects, "BENCH_TOKEN="+vault.RootToken); err != nil {
		return nil, err
	}
	token, err := bailiff.NewIdentity(ctx, "bench", "bench")
	if err != nil {
		return nil, err
	}
	agent, agentAddr, err := startAgent(ctx, env, vault)
	if err != nil {
		return nil, err
	}
	nginx, nginxAddr, err := startNginx(ctx, env, vault)
	if err != nil {
		return nil, err
	}
	return []rival{
		{name: "direct", addr: vault.Addr, token: vault.RootToken},
		{name: "**Bailiff** (policy, fsynced audit)", addr: bailiff.Addr, token: token, pids: []int{bailiff.Pid()}, metrics: bailiff.MetricsAddr},
		{name: "Vault Agent `api_proxy`", addr: agentAddr, token: vault.RootToken, pids: []int{agent.Pid()}},
		{name: "nginx `proxy_pass`", addr: nginxAddr, token: vault.RootToken, pids: []int{nginx.Pid()}},
	}, nil
}

// startAgent starts the proxy that Vault itself offers.
func startAgent(ctx context.Context, env *testenv.Env, vault *testenv.VaultServer) (*testenv.Process, string, error) {
	program, err := env.VaultBinary(ctx)
	if err != nil {
		return nil, "", err
	}
	return startProxy(ctx, env, "agent", program, func(port int, _ string) (string, []string) {
		return fmt.Sprintf("vault { address = %q }\napi_proxy {}\nlistener \"tcp\" {\n  address = \"127.0.0.1:%d\"\n  tls_disable = true\n}\n", vault.Addr, port),
			[]string{"agent", "-log-level=error", "-config"}
	})
}

func startNginx(ctx context.Context, env *testenv.Env, vault *testenv.VaultServer) (*testenv.Process, string, error) {
	program, err := nginxBinary(ctx)
	if err != nil {
		return nil, "", err
	}
	return startProxy(ctx, env, "nginx", program, func(port int, dir string) (string, []string) {
		return fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  upstream vault { server %[2]s; keepalive 128; }
  server {
    listen 127.0.0.1:%[3]d; keepalive_requests 1000000000;
    location / { proxy_pass http://vault; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }
}
`, dir, strings.TrimPrefix(vault.Addr, "http://"), port), []string{"-p", dir, "-c"}
	})
}

// nginxBinary finds nginx, and installs the system's package where there is none.
func nginxBinary(ctx context.Context) (string, error) {
	for _, p := range []string{"/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"} {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	cmd := exec.CommandContext(ctx, "apt-get", "install", "-y", "--no-install-recommends", "nginx-light")
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("install nginx: %w: %s", err, out)
	}
	return "/usr/sbin/nginx", nil
}

// startProxy starts a program with one configuration file, whose path is its last argument, and waits until it forwards.
func startProxy(ctx context.Context, env *testenv.Env, name, program string, config func(port int, dir string) (text string, args []string),
) (*testenv.Process, string, error) {
	port, err := testenv.FreePort(1)
	if err != nil {
		return nil, "", err
	}
	dir, err := env.NewDir(name, nil)
	if err != nil {
		return nil, "", err
	}
	text, args := config(port, dir)
	file := filepath.Join(dir, name+".conf")
	if name == "agent" {
		file = filepath.Join(dir, "agent.hcl")
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, "", err
	}
	p, err := env.Start(testenv.Command{Name: name, Path: program, Args: append(args, file), Env: []string{"HOME=" + dir, "PATH=/usr/bin:/bin"}, Dir: dir})
	if err != nil {
		return nil, "", err
	}
	addr := "http://127.0.0.1:" + strconv.Itoa(port)
	err = p.WaitReady(ctx, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, addr+"/v1/sys/health", http.NoBody)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
	if err != nil {
		return nil, "", errors.Join(err, errors.New(p.LogTail(20)), p.Close())
	}
	return p, addr, nil
}
