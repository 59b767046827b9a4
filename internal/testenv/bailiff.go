package testenv

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// BailiffOptions say how a Bailiff server is started.
type BailiffOptions struct {
	Tags   []string // build tags of the program, such as faults
	Env    []string // variables that the server gets
	Config string   // HCL that goes into the configuration file beside addresses and the data directory
	Port   int      // this one and the next, for metrics; chosen if 0

	NoAdministrator bool // leaves the first administrator to bailiff bootstrap, and Token empty
}

// BailiffServer is a Bailiff server with a configuration file and a data directory of its own. Kill and Restart keep both.
type BailiffServer struct {
	Addr        string // http://127.0.0.1:PORT
	MetricsAddr string // http://127.0.0.1:PORT
	Token       string // the first administrator's
	DataDir     string
	Program     string // the binary, which is the client too

	*Process

	env        *Env
	configFile string
}

// Socket is the path of the local socket on which the server makes its first administrator.
func (s *BailiffServer) Socket() string { return filepath.Join(s.DataDir, "admin.sock") }

// AuditDir is the directory of the server's trail.
func (s *BailiffServer) AuditDir() string { return filepath.Join(s.DataDir, "audit") }

// ConfigFile is the path of the server's configuration file.
func (s *BailiffServer) ConfigFile() string { return s.configFile }

// StartBailiff builds and starts a server, waits until it is ready, and makes the first administrator.
func (e *Env) StartBailiff(ctx context.Context, o BailiffOptions) (*BailiffServer, error) {
	program, err := e.BailiffBinary(ctx, o.Tags...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	return attempts(ctx, 3, func() (*BailiffServer, error) { return e.startBailiff(ctx, program, o) })
}

func (e *Env) startBailiff(ctx context.Context, program string, o BailiffOptions) (*BailiffServer, error) {
	port, err := o.Port, error(nil)
	if port == 0 {
		port, err = FreePort(2)
	}
	if err != nil {
		return nil, err
	}
	dir, err := e.NewDir("server", nil)
	if err != nil {
		return nil, err
	}
	s := &BailiffServer{
		Addr: "http://" + loopback(port), MetricsAddr: "http://" + loopback(port+1), DataDir: filepath.Join(dir, "data"), Program: program, env: e,
	}
	config := fmt.Sprintf("data_dir = %q\nlistener { address = %q }\nmetrics { address = %q }\n%s\n", s.DataDir, loopback(port), loopback(port+1), o.Config)
	file := filepath.Join(dir, "server.hcl")
	s.configFile = file
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	command := Command{
		Name: "bailiff", Path: program, Args: []string{"server", "--config", file}, Env: append(cleanEnviron(dir), o.Env...), Dir: dir,
	}
	if err := s.start(ctx, command); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if o.NoAdministrator {
		return s, nil
	}
	if s.Token, err = s.bootstrap(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *BailiffServer) start(ctx context.Context, c Command) error {
	p, err := s.env.Start(c)
	if err != nil {
		return err
	}
	s.Process = p
	if err := p.WaitReady(ctx, s.probe); err != nil {
		return errors.Join(err, p.Stop()) // its files are of use to whoever wants to know why
	}
	return nil
}

// Restart ends the server, if it still runs, and starts it again with its data and on its ports. env replaces what
// BailiffOptions.Env gave it.
func (s *BailiffServer) Restart(ctx context.Context, env ...string) error {
	if err := s.Stop(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	c := s.command
	c.Env = append(cleanEnviron(c.Dir), env...)
	return s.start(ctx, c)
}

func (s *BailiffServer) probe(ctx context.Context) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", s.Socket()) // which it may open last
	if err != nil {
		return err
	}
	conn.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Addr+"/readyz", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // nothing is read from it
	if resp.StatusCode != http.StatusOK {
		return errors.New("it answers " + strconv.Itoa(resp.StatusCode))
	}
	return nil
}

func (s *BailiffServer) bootstrap(ctx context.Context) (string, error) {
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", s.Socket())
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://bailiff/bootstrap", strings.NewReader(`{"name":"admin"}`))
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("bootstrap: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // nothing more is read from it
	var out struct {
		AccessID  string `json:"access_id"`
		AccessKey string `json:"access_key"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || out.AccessKey == "" {
		return "", errors.Join(fmt.Errorf("bootstrap: it answers %d", resp.StatusCode), err)
	}
	return out.AccessID + ".." + out.AccessKey, nil
}

// CLI runs the client with the given token and returns what it printed; env may add variables. A non-zero status is a
// result, not an error.
func (s *BailiffServer) CLI(ctx context.Context, token string, env []string, args ...string) (stdout, stderr string, code int) {
	cmd := exec.CommandContext(ctx, s.Program, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Env = append(cleanEnviron(s.command.Dir), "BAILIFF_ADDR="+s.Addr, "BAILIFF_TOKEN="+token)
	cmd.Env = append(cmd.Env, env...)
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		return "", err.Error(), -1
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// Apply declares objects, given as HCL, as the first administrator. env holds what env() in them asks for.
func (s *BailiffServer) Apply(ctx context.Context, hcl string, env ...string) error {
	dir, err := os.MkdirTemp("", "bailiff-objects-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // temporary
	if err := os.WriteFile(filepath.Join(dir, "objects.hcl"), []byte(hcl), 0o600); err != nil {
		return err
	}
	out, errs, code := s.CLI(ctx, s.Token, env, "apply", "-f", dir, "--yes")
	if code != 0 {
		return fmt.Errorf("apply ends with status %d:\n%s%s", code, out, errs)
	}
	return nil
}

// NewIdentity makes an identity bound to roles and returns its token.
func (s *BailiffServer) NewIdentity(ctx context.Context, name string, roles ...string) (string, error) {
	args := []string{"identity", "create", name, "--format", "json"}
	for _, r := range roles {
		args = append(args, "--role", r)
	}
	out, errs, code := s.CLI(ctx, s.Token, nil, args...)
	var made struct {
		AccessID  string `json:"access_id"`
		AccessKey string `json:"access_key"`
	}
	if code != 0 {
		return "", fmt.Errorf("identity create ends with status %d: %s", code, errs)
	}
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		return "", fmt.Errorf("identity create: %w", err)
	}
	return made.AccessID + ".." + made.AccessKey, nil
}
