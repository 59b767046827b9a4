package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

// AdminPolicy may do everything.
const AdminPolicy = `# Everything, for administrators.
path "*" {
  capabilities = ["create", "read", "update", "patch", "delete", "list", "sudo"]
}
`

// ReadPolicy may look at every secret and change nothing; Bailiff's own settings stay closed to it.
const ReadPolicy = `# Every mount, for reading.
path "*" {
  capabilities = ["read", "list"]
}
path "sys/bailiff/*" {
  capabilities = ["deny"]
}
`

const metaBootstrapped = "bootstrapped"

// onceStore is the part of a store that remembers what happens once.
type onceStore interface {
	Meta(ctx context.Context, key string) ([]byte, bool, error)
	PutMetaOnce(ctx context.Context, key string, value []byte) (bool, error)
}

// bootstrapper makes the first administrator.
type bootstrapper struct {
	estate *estate
	store  onceStore
	trail  gate.Recorder
}

var errBootstrapped = errors.New("the first administrator was made before")

// first makes the administrator name with a key, once. Killed before the mark is durable, it can be called again: keys made
// by an attempt that nobody saw the end of are deleted then.
func (b *bootstrapper) first(ctx context.Context, name string) (identity.NewKey, error) {
	if _, done, err := b.store.Meta(ctx, metaBootstrapped); err != nil || done {
		return identity.NewKey{}, errors.Join(err, errBootstrapped)
	}
	rec := &audit.Record{Stage: audit.StageEvent, Status: audit.Begun, Via: string(gate.System), Identity: name, Detail: "make the first administrator"}
	if err := b.trail.Append(ctx, rec); err != nil {
		return identity.NewKey{}, gate.ErrNoRecord
	}
	if err := b.declare(ctx, name); err != nil {
		return identity.NewKey{}, err
	}
	ids := identities{b.estate}
	old, err := ids.Keys(ctx, name)
	if err != nil {
		return identity.NewKey{}, err
	}
	for _, k := range old {
		if err := ids.DeleteKey(ctx, "bootstrap", name, k.ID); err != nil {
			return identity.NewKey{}, err
		}
	}
	key, err := ids.AddKey(ctx, "bootstrap", name, "bootstrap", 0)
	if err != nil {
		return identity.NewKey{}, err
	}
	if stored, err := b.store.PutMetaOnce(ctx, metaBootstrapped, []byte(name)); err != nil || !stored {
		return identity.NewKey{}, errors.Join(err, errBootstrapped)
	}
	done := &audit.Record{
		Stage: audit.StageEvent, Status: audit.OK, Via: string(gate.System), Identity: name, AccessID: key.AccessID, KeyID: key.KeyID,
		Detail: "made the first administrator",
	}
	if err := b.trail.Append(ctx, done); err != nil {
		return identity.NewKey{}, gate.ErrNoRecord
	}
	return key, nil
}

// declare applies the administrator, its role and its policy, where they are not there yet.
func (b *bootstrapper) declare(ctx context.Context, name string) error {
	e := b.estate
	e.mu.Lock()
	defer e.mu.Unlock()
	var want []object.Record
	for _, v := range []any{
		&object.Policy{Name: "admin", Rules: AdminPolicy},
		&object.Role{Name: "admin", Policies: []string{"admin"}},
		&object.Identity{Name: name, Description: "the first administrator", Roles: []string{"admin"}},
	} {
		rec, err := object.Encode(v)
		if err != nil {
			return err
		}
		if _, there := find(e.live.Load().set.records, rec.Kind, rec.Name); !there {
			want = append(want, rec)
		}
	}
	_, err := e.apply(ctx, "bootstrap", "api", want, false, nil, tried)
	return err
}

// listen opens the local socket. Only the user that runs the server can reach it.
func (b *bootstrapper) listen(ctx context.Context, socket string) (net.Listener, error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("the socket of an earlier run: %w", err)
	}
	ln, err := listenPrivate(ctx, socket)
	if err != nil {
		return nil, fmt.Errorf("listen on the admin socket: %w", err)
	}
	return ln, nil
}

// serve answers on the local socket until ctx ends.
func (b *bootstrapper) serve(ctx context.Context, ln net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /bootstrap", b.handle)
	srv := &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute, MaxHeaderBytes: 8 << 10}
	return serveUntil(ctx, srv, ln)
}

// listenPrivate makes the socket unreachable for others from its first moment.
func listenPrivate(ctx context.Context, socket string) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

func (b *bootstrapper) handle(w http.ResponseWriter, r *http.Request) {
	var in struct{ Name string }
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&in); err != nil {
		answer(w, http.StatusBadRequest, map[string]any{"error": map[string]string{"kind": "invalid", "message": "the body must be JSON: {\"name\": …}"}})
		return
	}
	if in.Name == "" {
		in.Name = "admin"
	}
	key, err := b.first(r.Context(), in.Name)
	var said *gate.Error
	switch {
	case errors.Is(err, errBootstrapped):
		answer(w, http.StatusConflict, map[string]any{"error": map[string]string{
			"kind": "conflict", "message": errBootstrapped.Error(), "hint": "ask an administrator for an identity: bailiff identity create NAME",
		}})
	case errors.As(err, &said):
		answer(w, http.StatusBadRequest, map[string]any{"error": map[string]string{"kind": "invalid", "message": said.Msg, "hint": said.Hint}})
	case err != nil:
		b.estate.logger.Error("bootstrap went wrong", "error", err)
		answer(w, http.StatusInternalServerError, map[string]any{"error": map[string]string{"kind": "internal", "message": "see the server's log"}})
	default:
		answer(w, http.StatusOK, map[string]any{"name": key.Name, "access_id": key.AccessID, "key_id": key.KeyID, "access_key": key.Key.Reveal()})
	}
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(body) //nolint:errcheck,errchkjson // the client may be gone
}
