package cubbyhole

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/document"
	"github.com/bailiff-secrets/bailiff/policy"
)

// What a token may keep.
const (
	MaxEntries = 256
	MaxEntry   = 512 << 10 // bytes
)

const (
	space   = "cubbyhole"
	maxTail = 1024 - 64 // bytes of a path: the key of a document is no longer, and holds the accessor too
)

// Config is what a Backend needs. All must be set.
type Config struct {
	Store document.Store
	// Alive tells whether the token with that accessor still counts. It is asked about entries that are a while old.
	Alive  func(ctx context.Context, accessor string) (bool, error)
	Logger *slog.Logger
}

// Backend serves the mount cubbyhole/. It is safe for concurrent use.
type Backend struct{ cfg Config }

// New makes a Backend.
func New(cfg Config) (*Backend, error) {
	if cfg.Store == nil || cfg.Alive == nil || cfg.Logger == nil {
		return nil, errors.New("cubbyhole: a part is missing from the configuration")
	}
	return &Backend{cfg}, nil
}

// entry is the body of a document.
type entry struct {
	At   time.Time       `json:"at"` // when it was written
	Data json.RawMessage `json:"data"`
}

// Serve answers one request. See gate.Backend.
func (b *Backend) Serve(ctx context.Context, r *gate.Request) (*gate.Response, error) {
	switch {
	case r.Op == policy.Help:
		return help(r.Rest), nil
	case r.Caller.Accessor == "" || strings.Contains(r.Caller.Accessor, "/"):
		return nil, gate.Errorf(gate.Forbidden, "a cubbyhole belongs to a token")
	case r.Caller.NoWrite:
		return nil, gate.Errorf(gate.Invalid, `cubbyhole operations are only supported by "service" type tokens`)
	case r.Op == policy.List:
		return b.list(ctx, r)
	case r.Op == policy.Patch:
		return nil, gate.Errorf(gate.Unsupported, "1 error occurred:\n\t* unsupported operation\n\n")
	case r.Rest == "" && r.Op == policy.Delete:
		return &gate.Response{Status: gate.NoContent}, nil
	case r.Rest == "":
		return nil, gate.Errorf(gate.Invalid, "1 error occurred:\n\t* missing path\n\n")
	case len(r.Rest) > maxTail:
		return nil, gate.Errorf(gate.Invalid, "the path is longer than %d bytes", maxTail)
	}
	switch r.Op {
	case policy.Read:
		return b.read(ctx, r)
	case policy.Create, policy.Update:
		return b.write(ctx, r)
	default:
		return b.remove(ctx, r)
	}
}

// Exists tells a create from an update. See gate.Exister.
func (b *Backend) Exists(ctx context.Context, r *gate.Request) (exists, known bool, err error) {
	if r.Rest == "" || r.Caller.Accessor == "" || len(r.Rest) > maxTail {
		return false, false, nil
	}
	_, err = b.cfg.Store.Document(ctx, space, key(r))
	if errors.Is(err, document.ErrNotFound) {
		return false, true, nil
	}
	return err == nil, err == nil, err
}

func key(r *gate.Request) string { return r.Caller.Accessor + "/" + r.Rest }

func (b *Backend) read(ctx context.Context, r *gate.Request) (*gate.Response, error) {
	doc, err := b.cfg.Store.Document(ctx, space, key(r))
	if errors.Is(err, document.ErrNotFound) {
		return &gate.Response{Status: gate.Missing}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read a cubbyhole: %w", err)
	}
	var e entry
	if err := json.Unmarshal(doc.Body, &e); err != nil {
		return nil, errors.New("an entry of a cubbyhole can't be read")
	}
	data, err := decode(e.Data)
	if err != nil {
		return nil, errors.New("an entry of a cubbyhole can't be read")
	}
	return &gate.Response{Data: data}, nil
}

// decode keeps numbers as they were written.
func decode(text []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var data map[string]any
	if err := dec.Decode(&data); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more behind the object")
	}
	return data, nil
}

func (b *Backend) write(ctx context.Context, r *gate.Request) (*gate.Response, error) {
	text, err := body(r)
	if err != nil {
		return nil, err
	}
	data, err := decode(text)
	switch {
	case err != nil:
		return nil, gate.Errorf(gate.Invalid, "error parsing JSON")
	case len(data) == 0:
		return nil, gate.Errorf(gate.Invalid, "1 error occurred:\n\t* missing data fields\n\n")
	}
	stored, err := json.Marshal(entry{At: time.Now().UTC(), Data: text})
	if err != nil {
		return nil, fmt.Errorf("write an entry as JSON: %w", err)
	}
	for range 10 { // who writes at the same time
		doc, err := b.cfg.Store.Document(ctx, space, key(r))
		if errors.Is(err, document.ErrNotFound) {
			doc, err = document.Document{Space: space, Key: key(r)}, b.room(ctx, r)
		}
		if err != nil {
			return nil, err
		}
		doc.Body = stored
		err = b.cfg.Store.WriteDocuments(ctx, &document.Change{Document: doc})
		if err == nil {
			return &gate.Response{Status: gate.NoContent}, nil
		}
		if !errors.Is(err, document.ErrConflict) {
			return nil, fmt.Errorf("write a cubbyhole: %w", err)
		}
	}
	return nil, gate.Errorf(gate.Unavailable, "others write this entry at the same time: try again")
}

// body is the whole body; none, and the null of the vault command, is an empty object.
func body(r *gate.Request) ([]byte, error) {
	if r.Body == nil {
		return []byte("{}"), nil
	}
	text, err := io.ReadAll(io.LimitReader(r.Body, MaxEntry+1))
	var said *gate.Error
	switch {
	case errors.As(err, &said):
		return nil, err
	case err != nil:
		return nil, &gate.Error{Kind: gate.Invalid, Msg: "the body can't be read", Err: err}
	case len(text) > MaxEntry:
		return nil, gate.Errorf(gate.TooLarge, "an entry of a cubbyhole is at most %d bytes", MaxEntry)
	}
	if text = bytes.TrimSpace(text); len(text) == 0 || string(text) == "null" {
		text = []byte("{}")
	}
	return text, nil
}

// room refuses one entry more than a token may have.
func (b *Backend) room(ctx context.Context, r *gate.Request) error {
	found, err := b.cfg.Store.Documents(ctx, document.Query{Space: space, Prefix: r.Caller.Accessor + "/", Limit: MaxEntries})
	if err != nil {
		return fmt.Errorf("count a cubbyhole: %w", err)
	}
	if len(found) >= MaxEntries {
		return gate.Errorf(gate.TooLarge, "a cubbyhole has at most %d entries", MaxEntries)
	}
	return nil
}

func (b *Backend) remove(ctx context.Context, r *gate.Request) (*gate.Response, error) {
	if err := b.drop(ctx, key(r)); err != nil {
		return nil, err
	}
	return &gate.Response{Status: gate.NoContent}, nil
}

// drop removes a document whichever version it has; that it isn't there is no error.
func (b *Backend) drop(ctx context.Context, key string) error {
	for {
		doc, err := b.cfg.Store.Document(ctx, space, key)
		if err == nil {
			err = b.cfg.Store.WriteDocuments(ctx, &document.Change{Document: document.Document{Space: space, Key: key, Version: doc.Version}, Remove: true})
		}
		switch {
		case err == nil, errors.Is(err, document.ErrNotFound):
			return nil
		case !errors.Is(err, document.ErrConflict):
			return fmt.Errorf("remove from a cubbyhole: %w", err)
		}
	}
}

// list names what is directly below a path; what goes on below ends in a slash.
func (b *Backend) list(ctx context.Context, r *gate.Request) (*gate.Response, error) {
	prefix := r.Caller.Accessor + "/"
	if r.Rest != "" {
		prefix += r.Rest + "/"
	}
	found, err := b.cfg.Store.Documents(ctx, document.Query{Space: space, Prefix: prefix})
	if err != nil {
		return nil, fmt.Errorf("list a cubbyhole: %w", err)
	}
	if len(found) == 0 {
		return &gate.Response{Status: gate.Missing}, nil
	}
	var keys []string
	seen := map[string]bool{}
	for _, doc := range found {
		name, _, below := strings.Cut(strings.TrimPrefix(doc.Key, prefix), "/")
		if below {
			name += "/"
		}
		if !seen[name] {
			seen[name] = true
			keys = append(keys, name)
		}
	}
	return &gate.Response{Data: map[string]any{"keys": keys}}, nil
}

var (
	_ gate.Backend = (*Backend)(nil)
	_ gate.Exister = (*Backend)(nil)
)
