package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/bailiff-secrets/bailiff/internal/testenv"
)

// kvRivals starts the ways to a secret that are compared.
func kvRivals(ctx context.Context, env *testenv.Env, o options, vault *testenv.VaultServer) ([]rival, error) {
	var how testenv.BailiffOptions
	if o.profiles != "" {
		how.Tags = []string{"profiles"}
	}
	bailiff, err := env.StartBailiff(ctx, how)
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
  rules = "path \"secret/data/bench/*\" { capabilities = [\"create\", \"read\", \"update\"] }"
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
  access_log off; client_max_body_size 64m; client_body_buffer_size 256k; proxy_buffers 32 8k;
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
