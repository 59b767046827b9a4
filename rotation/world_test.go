package rotation_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/seal"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
	"github.com/bailiff-secrets/bailiff/producers/postgres"
	"github.com/bailiff-secrets/bailiff/rotation"
	"github.com/bailiff-secrets/bailiff/store/sqlite"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// world is a store, a PostgreSQL with a superuser of the test's own as which Bailiff works, and an application's account
// on it that the static role database/app stands for.
type world struct {
	t      *testing.T
	server *testenv.PostgresServer
	db     *sqlite.DB
	app    string // the account of the application
	admin  string // the user as which Bailiff works

	mu       sync.Mutex
	role     *rotation.Role // as declared; nil: there is none
	target   object.Target  // as declared
	producer *postgres.Producer
	wrap     func(*postgres.Producer) broker.Producer // what stands before the producer; nil: nothing
	records  []audit.Record
	mute     bool        // the trail can't be written
	storeErr func() bool // the store fails at the next commit; nil: never
}

const firstPassword = "FirstPassword1234567890"

func newWorld(t *testing.T, server *testenv.PostgresServer) *world {
	t.Helper()
	random := strings.ToLower(rand.Text())[:12]
	w := &world{t: t, server: server, app: "app-" + random, admin: "boss-" + random}
	w.sql(fmt.Sprintf(`CREATE ROLE %q LOGIN PASSWORD 'unknown'; CREATE ROLE %q LOGIN SUPERUSER PASSWORD '%s'`, w.app, w.admin, firstPassword))
	db, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "bailiff.db"), Fault: w.storeFault})
	if err != nil {
		t.Fatal(err)
	}
	w.db = db
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	root, err := seal.CreateRootKey(filepath.Join(t.TempDir(), "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	_, keyset, err := seal.NewKeyset(root)
	if err != nil {
		t.Fatal(err)
	}
	db.UseSealer(keyset)
	w.role = &rotation.Role{Mount: "database/", Name: "app", Target: "pg", Username: w.app, Period: time.Hour}
	w.declare(secret.New(firstPassword))
	t.Cleanup(func() { w.producer.Close() })
	return w
}

// sql runs statements as the server's superuser.
func (w *world) sql(text string) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.server.URL(w.server.AdminUser, w.server.AdminPassword, "postgres"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(w.t.Context(), text); err != nil {
		w.t.Fatalf("%s: %v", text, err)
	}
}

// declare makes the target with a password for Bailiff's own user, and a producer for it, as an apply does.
func (w *world) declare(password secret.Value) {
	w.t.Helper()
	target := object.Target{
		Name: "pg", Type: "postgres", Address: "postgres://" + w.server.Addr + "/postgres?sslmode=disable",
		Username: w.admin, Password: password, MaxConnections: 8, Timeout: object.Duration(5 * time.Second),
	}
	p, err := postgres.New(postgres.Config{Target: target})
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if old := w.producer; old != nil {
		w.t.Cleanup(func() { old.Close() }) // requests may still hold it, as in a server
	}
	w.target, w.producer = target, p
}

// SetPassword makes the world a rotation.Targets.
func (w *world) SetPassword(_ context.Context, target string, password secret.Value) error {
	if target != "pg" {
		return fmt.Errorf("there is no target %q", target)
	}
	w.declare(password)
	return nil
}

// StaticRole, StaticRoles, Admin and Producer make the world a rotation.Catalog.
func (w *world) StaticRole(mount, name string) (rotation.Role, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.role == nil || w.role.Mount != mount || w.role.Name != name {
		return rotation.Role{}, false
	}
	return *w.role, true
}

func (w *world) StaticRoles() []rotation.Role {
	if r, ok := w.StaticRole("database/", "app"); ok {
		return []rotation.Role{r}
	}
	return nil
}

func (w *world) Admin(target string) (rotation.Admin, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return rotation.Admin{Username: w.target.Username, Password: w.target.Password}, target == w.target.Name
}

func (w *world) Producer(target string) (broker.Producer, string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if target != w.target.Name {
		return nil, "", fmt.Errorf("target %q is not configured", target)
	}
	if w.wrap != nil {
		return w.wrap(w.producer), "postgres", nil
	}
	return w.producer, "postgres", nil
}

// Append makes the world a gate.Recorder.
func (w *world) Append(_ context.Context, records ...*audit.Record) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mute {
		return errors.New("disk full")
	}
	for _, r := range records {
		w.records = append(w.records, *r)
	}
	return nil
}

func (w *world) storeFault(string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.storeErr != nil && w.storeErr() {
		return errors.New("the disk of the store hangs")
	}
	return nil
}

// set changes what the world is, safely.
func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// manager makes one on what the store holds, as a start does.
func (w *world) manager(with ...func(*rotation.Config)) *rotation.Manager {
	w.t.Helper()
	c := rotation.Config{
		Store: w.db, Catalog: w, Targets: w, Recorder: w, Timeout: 10 * time.Second,
		RetryMin: 20 * time.Millisecond, RetryMax: 100 * time.Millisecond, Poll: 20 * time.Millisecond,
	}
	for _, f := range with {
		f(&c)
	}
	m, err := rotation.New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

// run runs the loop until the test ends or stop is called.
func (w *world) run(m *rotation.Manager) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run: %v", err)
		}
	})
	w.t.Cleanup(stop)
	return stop
}

// login tries a password on the server itself.
func (w *world) login(username string, password secret.Value) error {
	conn, err := pgx.Connect(context.Background(), w.server.URL(username, password.Reveal(), "postgres"))
	if err != nil {
		return err
	}
	return conn.Close(context.Background())
}

// credential reads the role as a client does and makes sure that what it gets works.
func (w *world) credential(m *rotation.Manager) rotation.Credential {
	w.t.Helper()
	c, err := m.Credential(w.t.Context(), "database/", "app")
	if err != nil {
		w.t.Fatalf("Credential: %v", err)
	}
	if c.Username != w.app {
		w.t.Errorf("got the username %q, want %q", c.Username, w.app)
	}
	if err := w.login(c.Username, c.Password); err != nil {
		w.t.Fatalf("the password that was given doesn't work: %v", err)
	}
	return c
}

func (w *world) rotate(m *rotation.Manager) {
	w.t.Helper()
	if err := m.Rotate(w.t.Context(), "database/", "app"); err != nil {
		w.t.Fatalf("Rotate: %v", err)
	}
}

// ownLogin makes sure that Bailiff's own user gets in with the password that its target's object holds.
func (w *world) ownLogin() {
	w.t.Helper()
	admin, _ := w.Admin("pg")
	if err := w.login(admin.Username, admin.Password); err != nil {
		w.t.Errorf("the target takes not the password of its object: %v", err)
	}
	w.mu.Lock()
	p := w.producer
	w.mu.Unlock()
	if err := p.Health(w.t.Context()); err != nil {
		w.t.Errorf("the producer can't work: %v", err)
	}
}

// account is what the store holds.
func (w *world) account(mount, name string) *rotation.Account {
	w.t.Helper()
	a, err := w.db.Account(w.t.Context(), mount, name)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// details are the details of the records about a principal.
func (w *world) details(principal string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, r := range w.records {
		if r.Principal == principal {
			out = append(out, string(r.Status)+": "+r.Detail)
		}
	}
	return out
}

// eventually waits until f is true.
func (w *world) eventually(what string, f func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			w.t.Fatalf("it never came true that %s", what)
		}
	}
}

func contains(list []string, part string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.Contains(s, part) })
}
