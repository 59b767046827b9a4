package testenv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// PostgresServer is a PostgreSQL server with one database, postgres, and one user. It does not survive a power cut: it
// writes nothing through to the disk.
type PostgresServer struct {
	Addr          string // 127.0.0.1:PORT
	AdminUser     string
	AdminPassword string

	*Process
	env     *Env
	command Command
	psql    string
}

// URL is the connection string for a user and database, without TLS, which the server has none of.
func (s *PostgresServer) URL(user, password, db string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(user, password), Host: s.Addr, Path: "/" + db, RawQuery: "sslmode=disable"}
	return u.String()
}

// Client is the path of PostgreSQL's own client, psql.
func (s *PostgresServer) Client() string { return s.psql }

// SQL runs statements as the given user with PostgreSQL's own client and returns its output, one row a line and
// columns parted by "|".
func (s *PostgresServer) SQL(ctx context.Context, user, password, db, statements string) (string, error) {
	host, port, _ := strings.Cut(s.Addr, ":")
	cmd := exec.CommandContext(ctx, s.psql, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1",
		"-h", host, "-p", port, "-U", user, "-d", db, "-c", statements)
	cmd.Env = append(cleanEnviron(os.TempDir()), "PGPASSWORD="+password, "PGCONNECT_TIMEOUT=10", "PGSSLMODE=disable")
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("psql as %s: %w: %s", user, err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimRight(stdout.String(), "\n"), nil
}

// StartPostgres starts a PostgreSQL server and waits until it accepts logins.
func (e *Env) StartPostgres(ctx context.Context) (*PostgresServer, error) {
	bin, err := e.PostgresBinDir(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	return attempts(ctx, 5, func() (*PostgresServer, error) { return e.startPostgres(ctx, bin) })
}

func (e *Env) startPostgres(ctx context.Context, bin string) (*PostgresServer, error) {
	port, err := FreePort(1)
	if err != nil {
		return nil, err
	}
	who, err := postgresUser()
	if err != nil {
		return nil, err
	}
	dir, err := e.NewDir("postgres", who)
	if err != nil {
		return nil, err
	}
	s := &PostgresServer{
		Addr: loopback(port), AdminUser: "postgres", AdminPassword: strings.ToLower(rand.Text()),
		env: e, psql: filepath.Join(bin, "psql"),
	}
	s.command = Command{
		Name: "postgres",
		Path: filepath.Join(bin, "postgres"),
		Args: []string{
			"-D", filepath.Join(dir, "data"), "-p", strconv.Itoa(port), "-c", "listen_addresses=127.0.0.1",
			"-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "max_connections=200", "-c", "shared_buffers=32MB",
		},
		Env: cleanEnviron(dir), Dir: dir, Stop: "INT", Credential: who,
	}
	if err := s.initialise(ctx, bin); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, nil
}

// start starts the server on its port and data.
func (s *PostgresServer) start(ctx context.Context) error {
	p, err := s.env.Start(s.command)
	if err != nil {
		return err
	}
	s.Process = p
	err = p.WaitReady(ctx, func(ctx context.Context) error {
		_, err := s.SQL(ctx, s.AdminUser, s.AdminPassword, "postgres", "select 1")
		return err
	})
	if err != nil {
		return errors.Join(err, p.Stop()) // its files are of use to whoever wants to know why
	}
	return nil
}

// Restart starts the server again with its data and on its port, after Stop or Kill. The processes of a killed server may
// hold its memory for a moment; until they are gone a start fails and is tried again.
func (s *PostgresServer) Restart(ctx context.Context) error {
	if err := s.Stop(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	for {
		err := s.start(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// initialise makes the cluster's files.
func (s *PostgresServer) initialise(ctx context.Context, bin string) error {
	dir := s.command.Dir
	pwfile := filepath.Join(dir, "password")
	if err := os.WriteFile(pwfile, []byte(s.AdminPassword+"\n"), 0o600); err != nil {
		return fmt.Errorf("write the administrator's password: %w", err)
	}
	if who := s.command.Credential; who != nil {
		if err := os.Chown(pwfile, int(who.Uid), int(who.Gid)); err != nil {
			return fmt.Errorf("write the administrator's password: %w", err)
		}
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", filepath.Join(dir, "data"), "-U", s.AdminUser,
		"-A", "scram-sha-256", "--pwfile="+pwfile, "-E", "UTF8", "--locale=C", "--no-sync")
	cmd.Dir, cmd.Env = dir, s.command.Env
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.command.Credential}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, tail(string(out), 20))
	}
	return os.Remove(pwfile)
}

// PostgresBinDir returns the directory of PostgreSQL's programs, and installs the system's package if there is none.
func (e *Env) PostgresBinDir(ctx context.Context) (string, error) {
	if dir, ok := findPostgres(); ok {
		return dir, nil
	}
	unlock, err := e.lock(filepath.Join(e.cache, "packages"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if dir, ok := findPostgres(); ok {
		return dir, nil
	}
	if err := e.install(ctx, postgresPackages()); err != nil {
		return "", err
	}
	if dir, ok := findPostgres(); ok {
		return dir, nil
	}
	return "", errors.New("PostgreSQL was installed, but its programs initdb, postgres and psql were not found")
}

// findPostgres looks where distributions put a version's programs, newest first, and then in PATH.
func findPostgres() (string, bool) {
	var dirs []string
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", "/usr/libexec/postgresql*", "/usr/pgsql-*/bin",
		"/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/postgresql*/bin",
	} {
		found, err := filepath.Glob(pattern)
		if err == nil { // the patterns are well formed
			dirs = append(dirs, found...)
		}
	}
	slices.SortFunc(dirs, func(a, b string) int { return majorVersion(b) - majorVersion(a) })
	if initdb, err := exec.LookPath("initdb"); err == nil {
		dirs = append(dirs, filepath.Dir(initdb))
	}
	for _, dir := range dirs {
		if isExecutable(filepath.Join(dir, "initdb")) && isExecutable(filepath.Join(dir, "postgres")) &&
			isExecutable(filepath.Join(dir, "psql")) {
			return dir, true
		}
	}
	return "", false
}

// majorVersion is the last number in a directory's name, or 0.
func majorVersion(dir string) int {
	digits := strings.FieldsFunc(dir, func(r rune) bool { return r < '0' || r > '9' })
	if len(digits) == 0 {
		return 0
	}
	n, err := strconv.Atoi(digits[len(digits)-1])
	if err != nil {
		return 0
	}
	return n
}
