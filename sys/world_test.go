package sys_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/auth"
	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/seal"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/internal/testenv"
	"github.com/bailiff-secrets/bailiff/policy"
	"github.com/bailiff-secrets/bailiff/producers/postgres"
	"github.com/bailiff-secrets/bailiff/store/sqlite"
	"github.com/bailiff-secrets/bailiff/sys"
	"github.com/bailiff-secrets/bailiff/wrapping"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const (
	canary   = "canary-6be02f" // of every secret that goes in
	creation = `CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'`
)

// world is a gate with sys behind it, on a real store, trail, broker and database.
type world struct {
	t       testing.TB
	db      *sqlite.DB
	trail   *audit.Log
	manager *identity.Manager
	issued  *identity.Tokens
	broker  *broker.Broker
	gate    *gate.Gate
	own     *sys.Backend
	logs    *logs
	tokens  map[string]secret.Value

	producer broker.Producer // of target "pg"; nil where the test has no database

	mu       sync.Mutex // held by whoever changes objects
	mounts   atomic.Pointer[gate.Mounts]
	records  atomic.Pointer[[]object.Record]
	failNext atomic.Bool // the next record of an answer can't be kept
}

// logs gathers what is logged.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newWorld has three callers: root, who may do everything; ci, who has the policy app; and nobody, who has only the default one.
func newWorld(t testing.TB, app string, producer broker.Producer) *world {
	w := &world{t: t, logs: &logs{}, tokens: map[string]secret.Value{}, producer: producer}
	logger := slog.New(slog.NewTextHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	dir := t.TempDir()
	root, err := seal.CreateRootKey(filepath.Join(dir, "root.key"))
	must(t, err)
	_, keys, err := seal.NewKeyset(root)
	must(t, err)
	w.db, err = sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(dir, "db"), Sealer: keys, Logger: logger})
	must(t, err)
	t.Cleanup(func() { must(t, w.db.Close()) })
	w.trail, err = audit.Open(audit.Config{Dir: filepath.Join(dir, "audit"), Node: "n", ReserveBytes: -1, Logger: logger})
	must(t, err)
	t.Cleanup(func() { must(t, w.trail.Close()) })
	w.manager, err = identity.NewManager(t.Context(), w.db)
	must(t, err)
	w.broker, err = broker.New(broker.Config{Store: w.db, Catalog: w, Recorder: w.trail, Node: "n", Logger: logger})
	must(t, err)
	w.issued, err = identity.NewTokens(t.Context(), identity.TokensConfig{Store: w.db, Keys: w.manager, Logger: logger, Ended: w.broker.RevokeToken, HasPolicy: func(name string) bool {
		return name == "default" || name == "root" || name == "app"
	}})
	must(t, err)
	wraps, err := wrapping.New(wrapping.Config{Store: w.db, Logger: logger})
	must(t, err)
	methods, err := auth.New(t.Context(), auth.Config{
		Store: w.db, Methods: map[string]auth.Method{}, Tokens: noLogins{}, Logger: logger,
		Own: []*gate.Mount{{Path: "auth/token/", Type: "token", Description: "token based credentials", Accessor: "auth_token_1", UUID: "u-token"}},
	})
	must(t, err)
	w.own, err = sys.New(sys.Config{
		Auth:   methods,
		Leases: w.broker, Many: w.broker, Stuck: w.broker, Book: w, Trail: w.trail, Estate: w, Mounts: w.mounts.Load, Policies: w, Identities: w, Logger: logger, Tokens: w.issued, Reconciler: w.broker, Wrapping: wraps,
	})
	must(t, err)
	w.gate, err = gate.New(gate.Config{Authenticator: w.issued, Policies: w, Mounts: w.mounts.Load, Recorder: w, Logger: logger, Wrapper: wraps})
	must(t, err)
	w.records.Store(&[]object.Record{})
	w.declare(&object.Policy{Name: "app", Rules: app}, &object.Role{Name: "admin", Policies: []string{"root"}}, &object.Role{Name: "app", Policies: []string{"app"}})
	w.declare(
		&object.Target{
			Name: "pg", Type: "postgres", Address: "postgres://127.0.0.1/db", Username: "u",
			Password: secret.New(canary),
		},
		&object.Mount{Path: "database", Type: "broker", MaxTTL: object.Duration(24 * time.Hour), Description: "credentials"},
		&object.Producer{Mount: "database", Name: "ro", Target: "pg", DefaultTTL: object.Duration(time.Hour), CreationStatements: []string{creation}},
	)
	for name, roles := range map[string][]string{"root": {"admin"}, "ci": {"app"}, "nobody": nil} {
		in := object.Identity{Name: name, Roles: roles}
		if name != "root" {
			in.Metadata = map[string]string{"team": name}
		}
		key, err := w.Create(t.Context(), "test", in, "first")
		must(t, err)
		w.tokens[name] = secret.New(key.AccessID + identity.Separator + key.Key.Reveal())
	}
	run, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- w.broker.Run(run) }()
	t.Cleanup(func() { stop(); must(t, <-ended) })
	return w
}

// newWorldWithDatabase is a world whose target "pg" is a real database.
func newWorldWithDatabase(t testing.TB, app string) *world {
	pg := testenv.Postgres(t)
	p, err := postgres.New(postgres.Config{Target: object.Target{
		Name: "pg", Type: "postgres", Address: "postgres://" + pg.Addr + "/postgres?sslmode=disable",
		Username: pg.AdminUser, Password: secret.New(pg.AdminPassword),
	}})
	must(t, err)
	t.Cleanup(func() { must(t, p.Close()) })
	return newWorld(t, app, p)
}

// noLogins is for a world without auth methods.
type noLogins struct{ auth.Tokens }

func (w *world) declare(objects ...any) {
	w.t.Helper()
	var want []object.Record
	for _, o := range objects {
		rec, err := object.Encode(o)
		must(w.t, err)
		rec.Source = object.SourceApply
		want = append(want, rec)
	}
	_, err := w.Apply(w.t.Context(), "test", want, false, nil)
	must(w.t, err)
}

// Append makes the world the gate's recorder, which can be made to fail once.
func (w *world) Append(ctx context.Context, records ...*audit.Record) error {
	if records[0].Stage == audit.StageResponse && w.failNext.CompareAndSwap(true, false) {
		return errors.New("no space left")
	}
	return w.trail.Append(ctx, records...)
}

// Plan, Apply, Objects, Object and DeleteObject make the world an estate on the real store.
func (w *world) Plan(_ context.Context, want []object.Record, prune bool) (object.Plan, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := *w.records.Load()
	return object.Diff(now, want, prune), object.Check(after(now, want, prune))
}

func after(now, want []object.Record, prune bool) []object.Record {
	out := slices.Clone(want)
	for _, rec := range now {
		if !slices.ContainsFunc(want, func(r object.Record) bool { return r.Kind == rec.Kind && r.Name == rec.Name }) && (!prune || rec.Source != object.SourceApply) {
			out = append(out, rec)
		}
	}
	return out
}

func (w *world) Apply(ctx context.Context, by string, want []object.Record, prune bool, expect map[string]int64) (object.Plan, error) {
	plan, err := w.Plan(ctx, want, prune)
	if err != nil {
		return plan, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var changes []object.Change
	for _, s := range plan.Steps {
		if v, ok := expect[string(s.Kind)+"/"+s.Name]; ok && v != s.Version {
			return plan, object.ErrConflict
		}
		if s.Action == object.Unchanged {
			continue
		}
		c := object.Change{Record: object.Record{Kind: s.Kind, Name: s.Name}, Expect: s.Version, Delete: s.Action == object.Deleted}
		for _, rec := range want {
			if rec.Kind == s.Kind && rec.Name == s.Name {
				c.Record = rec
			}
		}
		c.Record.UpdatedBy = by
		changes = append(changes, c)
	}
	return plan, w.write(ctx, changes...)
}

// write makes changes durable and lets them count.
func (w *world) write(ctx context.Context, changes ...object.Change) error {
	if err := w.db.Apply(ctx, changes); err != nil {
		return err
	}
	records, err := w.db.Objects(ctx)
	if err != nil {
		return err
	}
	mounts := []*gate.Mount{
		{Path: "sys/", Type: "system", Description: "system endpoints used for control, policy and debugging", Internal: true, Accessor: "system_1", UUID: "u-sys", Backend: w.own},
		{Path: "auth/token/", Type: "token", Description: "token based credentials", Internal: true, Accessor: "auth_token_1", UUID: "u-token", Backend: w.own},
		{Path: "identity/", Type: "identity", Description: "identity store", Internal: true, Accessor: "identity_1", UUID: "u-identity", Backend: w.own},
		{Path: "secret/", Type: "kv", Description: "key/value secret storage", Options: map[string]string{"version": "2"}, Accessor: "kv_1", UUID: "u-kv", Backend: w.own},
	}
	var identities []identity.Identity
	var roles []identity.Role
	for _, rec := range records {
		v, err := object.Decode(rec)
		if err != nil {
			return err
		}
		switch o := v.(type) {
		case *object.Mount:
			mounts = append(mounts, &gate.Mount{Path: o.Path + "/", Type: "database", Description: o.Description, DefaultTTL: time.Duration(o.DefaultTTL), MaxTTL: time.Duration(o.MaxTTL), Accessor: "database_1", UUID: "u-db", Backend: w.broker})
		case *object.Identity:
			identities = append(identities, identity.Identity(*o))
		case *object.Role:
			roles = append(roles, identity.Role(*o))
		}
	}
	table, err := gate.NewMounts(mounts)
	if err != nil {
		return err
	}
	w.mounts.Store(table)
	w.records.Store(&records)
	w.manager.Use(identity.NewDirectory(identities, roles))
	return nil
}

func (w *world) Objects(_ context.Context, kind object.Kind) ([]object.Record, error) {
	var out []object.Record
	for _, rec := range *w.records.Load() {
		if kind == "" || rec.Kind == kind {
			out = append(out, rec)
		}
	}
	return out, nil
}

func (w *world) Object(ctx context.Context, kind object.Kind, name string) (object.Record, error) {
	return w.db.Object(ctx, kind, name)
}

func (w *world) DeleteObject(ctx context.Context, by string, kind object.Kind, name string, version int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	rec, err := w.db.Object(ctx, kind, name)
	if err != nil {
		return err
	}
	if version != 0 && version != rec.Version {
		return object.ErrConflict
	}
	return w.write(ctx, object.Change{Record: object.Record{Kind: kind, Name: name, UpdatedBy: by}, Expect: rec.Version, Delete: true})
}

// Create and the methods below make the world keep identities and their keys.
func (w *world) Create(ctx context.Context, by string, in object.Identity, note string) (identity.NewKey, error) {
	in.AccessID = identity.NewAccessID()
	rec, err := object.Encode(in)
	if err != nil {
		return identity.NewKey{}, err
	}
	rec.Source, rec.UpdatedBy = object.SourceAPI, by
	w.mu.Lock()
	err = object.Check(after(*w.records.Load(), []object.Record{rec}, false))
	if err == nil {
		err = w.write(ctx, object.Change{Record: rec})
	}
	w.mu.Unlock()
	if err != nil {
		return identity.NewKey{}, err
	}
	return w.AddKey(ctx, by, in.Name, note, 0)
}

func (w *world) find(ctx context.Context, name string) (*object.Identity, object.Record, error) {
	rec, err := w.db.Object(ctx, object.KindIdentity, name)
	if err != nil {
		return nil, rec, err
	}
	v, err := object.Decode(rec)
	if err != nil {
		return nil, rec, err
	}
	return v.(*object.Identity), rec, nil
}

func (w *world) AddKey(ctx context.Context, _, name, note string, ttl time.Duration) (identity.NewKey, error) {
	id, _, err := w.find(ctx, name)
	if err != nil {
		return identity.NewKey{}, err
	}
	k, text, err := w.manager.AddKey(ctx, id.AccessID, note, ttl)
	return identity.NewKey{Name: name, AccessID: id.AccessID, KeyID: k.ID, Key: text}, err
}

func (w *world) Keys(ctx context.Context, name string) ([]identity.Key, error) {
	id, _, err := w.find(ctx, name)
	if err != nil {
		return nil, err
	}
	return w.manager.Keys(id.AccessID), nil
}

func (w *world) SetKeyDisabled(ctx context.Context, _, name, id string, disabled bool) error {
	who, _, err := w.find(ctx, name)
	if err != nil {
		return err
	}
	return w.manager.SetKeyDisabled(ctx, who.AccessID, id, disabled)
}

func (w *world) DeleteKey(ctx context.Context, _, name, id string) error {
	who, _, err := w.find(ctx, name)
	if err != nil {
		return err
	}
	return w.manager.DeleteKey(ctx, who.AccessID, id)
}

func (w *world) SetDisabled(ctx context.Context, by, name string, disabled bool) error {
	who, rec, err := w.find(ctx, name)
	if err != nil {
		return err
	}
	who.Disabled = disabled
	enc, err := object.Encode(who)
	if err != nil {
		return err
	}
	enc.Source, enc.UpdatedBy = rec.Source, by
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.write(ctx, object.Change{Record: enc, Expect: rec.Version})
}

// ACL makes the world the gate's policies.
func (w *world) ACL(who *identity.Caller) *policy.ACL {
	var list []*policy.Policy
	for _, name := range who.Policies {
		text := ""
		rec, err := w.db.Object(context.Background(), object.KindPolicy, name)
		switch {
		case err == nil:
			v, err := object.Decode(rec)
			must(w.t, err)
			text = v.(*object.Policy).Rules
		case name == object.PolicyDefault:
			text = policy.Default
		}
		p, err := policy.Parse(name, rec.Version, text)
		must(w.t, err)
		list = append(list, p)
	}
	return policy.Compile(list...)
}

// Role, Roles and Producer make the world the broker's catalogue.
func (w *world) Role(mount, name string) (broker.Role, bool) {
	if mount != "database/" || name != "ro" {
		return broker.Role{}, false
	}
	config, err := postgres.NewRole(object.Producer{Mount: "database", Name: "ro", Target: "pg", CreationStatements: []string{creation}})
	must(w.t, err)
	return broker.Role{Mount: mount, Name: name, Target: "pg", DefaultTTL: time.Hour, MaxTTL: 24 * time.Hour, Config: config}, true
}

func (w *world) Roles(string) []string { return []string{"ro"} }

func (w *world) Producer(target string) (broker.Producer, string, error) {
	if target != "pg" || w.producer == nil {
		return nil, "", fmt.Errorf("target %q is not configured", target)
	}
	return w.producer, "postgres", nil
}

// do asks the gate: "read sys/mounts", "update sys/leases/lookup", with a query behind a "?".
func (w *world) do(who, line, body string) (*gate.Response, error) {
	w.t.Helper()
	op, path, _ := strings.Cut(line, " ")
	path, rawQuery, _ := strings.Cut(path, "?")
	query, err := url.ParseQuery(rawQuery)
	must(w.t, err)
	r := &gate.Request{Via: gate.API, Token: w.tokens[who], Op: policy.Operation(op), Path: path, Query: query}
	if body != "" {
		r.Body, r.BodyLen = strings.NewReader(body), int64(len(body))
	}
	return w.gate.Do(w.t.Context(), r)
}

// ask is do with the answer in one line: "ok {…}", "no content", "accepted", "missing", or "<kind>: <message>".
func (w *world) ask(who, line, body string) string {
	w.t.Helper()
	resp, err := w.do(who, line, body)
	var said *gate.Error
	switch {
	case errors.As(err, &said):
		return kindWords[said.Kind] + ": " + said.Msg
	case errors.Is(err, gate.ErrDenied):
		return "denied"
	case err != nil:
		return "error: " + err.Error()
	}
	text := []string{"ok", "no content", "accepted", "missing"}[resp.Status]
	if l := resp.Lease; l != nil {
		text += fmt.Sprintf(" lease %s %v %s", l.ID, l.Renewable, l.Duration)
	}
	if resp.Data != nil {
		data, err := json.Marshal(resp.Data)
		must(w.t, err)
		text += " " + string(data)
	}
	for _, warning := range resp.Warnings {
		text += " warning: " + warning
	}
	return text
}

var kindWords = map[gate.Kind]string{
	gate.Invalid: "invalid", gate.NotFound: "not found", gate.Unsupported: "unsupported", gate.Conflict: "conflict",
	gate.TooLarge: "too large", gate.Forbidden: "forbidden", gate.TargetDown: "target down", gate.TargetSlow: "target slow",
	gate.Unavailable: "unavailable", gate.Internal: "internal",
}

// data asks and expects data.
func (w *world) data(who, line, body string) map[string]any {
	w.t.Helper()
	got := w.ask(who, line, body)
	text, isOK := strings.CutPrefix(got, "ok ")
	if !isOK {
		w.t.Fatalf("%s asks %s: got %s", who, line, got)
	}
	out := map[string]any{}
	must(w.t, json.NewDecoder(strings.NewReader(text)).Decode(&out))
	return out
}

// last is the newest record in the trail.
func (w *world) last() *audit.Record {
	w.t.Helper()
	var got *audit.Record
	must(w.t, w.trail.Query(w.t.Context(), audit.Query{Limit: 1}, func(r *audit.Record) error { got = r; return nil }))
	return got
}

var (
	_ sys.Estate     = (*world)(nil)
	_ sys.Identities = (*world)(nil)
	_ sys.Leases     = (*broker.Broker)(nil)
	_ sys.Many       = (*broker.Broker)(nil)
	_ sys.Stuck      = (*broker.Broker)(nil)
	_ sys.Trail      = (*audit.Log)(nil)
)
