package postgres_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
	"github.com/bailiff-secrets/bailiff/producers/postgres"
	"github.com/bailiff-secrets/bailiff/producers/producertest"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const creation = `CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'; GRANT SELECT ON orders TO "{{username}}"`

// env is a server with a database of the test's own, in which there is a table orders.
type env struct {
	t      *testing.T
	server *testenv.PostgresServer
	db     string
	logs   syncBuffer
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func newEnv(t *testing.T, server *testenv.PostgresServer) *env {
	t.Helper()
	e := &env{t: t, server: server, db: "db" + strings.ToLower(rand.Text())}
	e.adminIn("postgres", `CREATE DATABASE "`+e.db+`"`)
	e.admin(`CREATE TABLE orders (id int); INSERT INTO orders VALUES (7); CREATE TABLE payroll (id int); GRANT CREATE ON SCHEMA public TO public`)
	return e
}

// admin runs SQL as the superuser in the test's database.
func (e *env) admin(sql string) { e.t.Helper(); e.adminIn(e.db, sql) }

func (e *env) adminIn(db, sql string) {
	e.t.Helper()
	if err := e.run(e.t.Context(), e.server.AdminUser, e.server.AdminPassword, db, sql); err != nil {
		e.t.Fatalf("%s: %v", sql, err)
	}
}

// run logs in and runs SQL.
func (e *env) run(ctx context.Context, user, password, db, sql string) error {
	conn, err := pgx.Connect(ctx, e.server.URL(user, password, db))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, sql)
	return err
}

// value asks the superuser's session for one text.
func (e *env) value(sql string, args ...any) string {
	e.t.Helper()
	conn, err := pgx.Connect(e.t.Context(), e.server.URL(e.server.AdminUser, e.server.AdminPassword, e.db))
	if err != nil {
		e.t.Fatal(err)
	}
	defer conn.Close(e.t.Context())
	var s string
	if err := conn.QueryRow(e.t.Context(), sql, args...).Scan(&s); err != nil {
		e.t.Fatalf("%s: %v", sql, err)
	}
	return s
}

func (e *env) target() object.Target {
	return object.Target{
		Name: "pg", Type: "postgres", Address: "postgres://" + e.server.Addr + "/" + e.db + "?sslmode=disable",
		Username: e.server.AdminUser, Password: secret.New(e.server.AdminPassword),
	}
}

func (e *env) producer(target object.Target) *postgres.Producer {
	e.t.Helper()
	p, err := postgres.New(postgres.Config{Target: target, Logger: slog.New(slog.NewTextHandler(&e.logs, nil))})
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() {
		if err := p.Close(); err != nil {
			e.t.Error(err)
		}
	})
	return p
}

func role(t *testing.T, o object.Producer) broker.Role {
	t.Helper()
	cfg, err := postgres.NewRole(o)
	if err != nil {
		t.Fatal(err)
	}
	return broker.Role{Mount: "database/", Name: "readonly", Target: "pg", Config: cfg}
}

func newName() string {
	var buf [10]byte
	rand.Read(buf[:])
	return "bl-readonly-" + strings.ToLower(base32.StdEncoding.EncodeToString(buf[:]))
}

func spec(r broker.Role) broker.Spec {
	name := newName()
	return broker.Spec{
		LeaseID: "database/creds/readonly/" + name, Principal: name, Role: r,
		ExpiresAt: time.Now().Add(time.Hour), Deadline: time.Now().Add(20 * time.Second),
	}
}

func refOf(s broker.Spec) broker.Ref {
	return broker.Ref{LeaseID: s.LeaseID, Principal: s.Principal, Role: &s.Role}
}

func (e *env) use(ctx context.Context, c *broker.Credential, sql string) error {
	return e.run(ctx, c.Fields["username"].Reveal(), c.Fields["password"].Reveal(), e.db, sql)
}

func (e *env) hold(ctx context.Context, c *broker.Credential) (func(context.Context) error, error) {
	conn, err := pgx.Connect(ctx, e.server.URL(c.Fields["username"].Reveal(), c.Fields["password"].Reveal(), e.db))
	if err != nil {
		return nil, err
	}
	e.t.Cleanup(func() { _ = conn.Close(context.Background()) }) // it may be closed already
	return func(ctx context.Context) error { return conn.Ping(ctx) }, nil
}

func (e *env) exists(_ context.Context, name string) (bool, error) {
	return e.value("SELECT count(*)::text FROM pg_roles WHERE rolname = $1", name) != "0", nil
}

// stick gives the role something in another database.
func (e *env) stick(ctx context.Context, c *broker.Credential) (func(), error) {
	name := c.Fields["username"].Reveal()
	other := newEnv(e.t, e.server)
	err := e.run(ctx, name, c.Fields["password"].Reveal(), other.db, "CREATE TABLE far (id int)")
	return func() { other.admin("DROP TABLE IF EXISTS far") }, err
}

// closedPort is an address that nobody listens on.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (e *env) harness(target object.Target, o object.Producer) producertest.Harness {
	dead, refused := target, target
	dead.Address = "postgres://" + closedPort(e.t) + "/x?sslmode=disable"
	refused.Password = secret.New("wrong")
	broken := o
	broken.CreationStatements = []string{creation, "SELECT 1 FROM nosuchtable"}
	return producertest.Harness{
		Producer: e.producer(target), Dead: e.producer(dead), Refused: e.producer(refused),
		Role: role(e.t, o), Broken: role(e.t, broken), Name: newName,
		Use: func(ctx context.Context, c *broker.Credential) error { return e.use(ctx, c, "SELECT id FROM orders") },
		Forbidden: func(ctx context.Context, c *broker.Credential) error {
			return e.use(ctx, c, "SELECT id FROM payroll")
		},
		Hold: e.hold, Exists: e.exists,
		HalfMade: func(ctx context.Context, name string) error {
			return e.run(ctx, e.server.AdminUser, e.server.AdminPassword, e.db, fmt.Sprintf(`CREATE ROLE %q LOGIN PASSWORD 'x'`, name))
		},
		Stick: e.stick, Logs: e.logs.String,
	}
}

func TestContract(t *testing.T) {
	e := newEnv(t, testenv.Postgres(t))
	producertest.Run(t, e.harness(e.target(), object.Producer{CreationStatements: []string{creation}}))
}

func TestContractWithPlainPasswordsAndStatementsOfOnesOwn(t *testing.T) {
	e := newEnv(t, testenv.Postgres(t))
	producertest.Run(t, e.harness(e.target(), object.Producer{
		CreationStatements:   []string{creation},
		RenewStatements:      []string{`ALTER ROLE "{{name}}" VALID UNTIL '{{expiration}}'; SELECT 1`},
		RevocationStatements: []string{`REASSIGN OWNED BY "{{name}}" TO postgres; DROP OWNED BY "{{name}}"`, `DROP ROLE IF EXISTS "{{name}}";`},
		PasswordAuth:         "password",
	}))
}

// leastPrivileges are those of README.md.
const leastPrivileges = `CREATE ROLE %[1]s LOGIN CREATEROLE PASSWORD 'adminpw';
	GRANT CONNECT ON DATABASE %[2]s TO %[1]s; GRANT SELECT ON ALL TABLES IN SCHEMA public TO %[1]s WITH GRANT OPTION`

func TestContractWithTheLeastPrivileges(t *testing.T) {
	e := newEnv(t, testenv.Postgres(t))
	user := "admin" + strings.ToLower(rand.Text())
	e.admin(fmt.Sprintf(leastPrivileges, user, e.db))
	target := e.target()
	target.Username, target.Password = user, secret.New("adminpw")
	producertest.Run(t, e.harness(target, object.Producer{CreationStatements: []string{creation}, ScramIterations: 1}))
}
