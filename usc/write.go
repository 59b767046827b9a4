package usc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/policy"
)

// WriteInput is a secret to be created or updated.
type WriteInput struct {
	Connector string
	SecretID  string
	Value     secret.Value // a JSON object: all keys and values, which replace those before
	Expect    int64        // Update on KV v2: the version that must stand now; 0: whichever is found
}

// Written says what a write made.
type Written struct {
	ID      string
	Name    string
	Version int64 // 0 on KV v1
}

// DeleteInput names a secret to delete.
type DeleteInput struct {
	Connector   string
	SecretID    string
	AllVersions bool // KV v2: every version and the metadata, for good; otherwise only the latest version, which can be undeleted
}

// Create writes a secret that must not be there yet; a deleted one counts as not there. One that is there is a Conflict.
func (s *Service) Create(ctx context.Context, call Call, in WriteInput) (*Written, error) {
	at, err := s.locate(ctx, call, policy.Create, in.Connector, in.SecretID)
	if err != nil {
		return nil, err
	}
	if !isObject(in.Value) {
		return nil, s.refuse(ctx, call, policy.Create, at.id, gate.Invalid, notObject)
	}
	if at.mount.KVVersion == 1 {
		return s.create1(ctx, call, at, in.Value)
	}
	w, err := s.put2(ctx, call, at, in.Value, 0)
	if !errors.Is(err, errCAS) {
		return w, err
	}
	// There are versions. Where the latest is deleted, the next one may follow it.
	exists := gate.Errorf(gate.Conflict, "secret %s exists", at.id)
	exists.Hint = "use update to change it"
	a, err := s.ask(ctx, call, policy.Read, at.value(), nil, nil)
	if errors.Is(err, gate.ErrDenied) {
		return nil, exists
	}
	if err != nil {
		return nil, err
	}
	v, err := versionOf(a)
	if err != nil {
		return nil, err
	}
	if v == nil || !a.missing {
		return nil, exists
	}
	return s.put2(ctx, call, at, in.Value, v.Metadata.Version)
}

func (s *Service) create1(ctx context.Context, call Call, at place, value secret.Value) (*Written, error) {
	a, err := s.ask(ctx, call, policy.Read, at.value(), nil, nil)
	if err != nil {
		return nil, readFirst(err, "create", at.value())
	}
	if !a.missing {
		e := gate.Errorf(gate.Conflict, "secret %s exists", at.id)
		e.Hint = "use update to change it"
		return nil, e
	}
	return s.put1(ctx, call, at, value)
}

// Update replaces the keys and values of a secret that must be there. On KV v2 a change that comes between is a
// Conflict, never lost.
func (s *Service) Update(ctx context.Context, call Call, in WriteInput) (*Written, error) {
	at, err := s.locate(ctx, call, policy.Update, in.Connector, in.SecretID)
	if err != nil {
		return nil, err
	}
	if !isObject(in.Value) {
		return nil, s.refuse(ctx, call, policy.Update, at.id, gate.Invalid, notObject)
	}
	if in.Expect < 0 || in.Expect > 0 && at.mount.KVVersion == 1 {
		return nil, s.refuse(ctx, call, policy.Update, at.id, gate.Invalid, "no such version can be expected: "+
			"a version is a number above 0, and KV v1 keeps no versions")
	}
	if at.mount.KVVersion == 1 {
		a, err := s.ask(ctx, call, policy.Read, at.value(), nil, nil)
		if err != nil {
			return nil, readFirst(err, "update", at.value())
		}
		if a.missing {
			return nil, notFound(at)
		}
		return s.put1(ctx, call, at, in.Value)
	}
	now := in.Expect
	if now == 0 {
		if now, err = s.current(ctx, call, at); err != nil {
			return nil, err
		}
	}
	return s.put2(ctx, call, at, in.Value, now)
}

// current is the version of a KV v2 secret that stands now. It asks the metadata, which holds no values, and only where
// policy doesn't allow that the value itself.
func (s *Service) current(ctx context.Context, call Call, at place) (int64, error) {
	a, err := s.ask(ctx, call, policy.Read, at.metadata(), nil, nil)
	if errors.Is(err, gate.ErrDenied) {
		return s.currentByValue(ctx, call, at)
	}
	if err != nil {
		return 0, err
	}
	if a.missing {
		return 0, notFound(at)
	}
	var m struct {
		Current  int64           `json:"current_version"`
		Versions map[string]fate `json:"versions"`
	}
	if err := json.Unmarshal(a.data, &m); err != nil {
		return 0, gate.Errorf(gate.TargetDown, "the target's answer is not that of a KV v2 engine")
	}
	latest, ok := m.Versions[fmt.Sprint(m.Current)]
	if !ok || latest.over(time.Now()) {
		return 0, notFound(at) // it may have metadata only, or its latest version is deleted
	}
	return m.Current, nil
}

// fate is what became of one version. A time of deletion may lie ahead.
type fate struct {
	Deleted   string `json:"deletion_time"`
	Destroyed bool   `json:"destroyed"`
}

func (f fate) over(now time.Time) bool {
	at, err := time.Parse(time.RFC3339Nano, f.Deleted)
	return f.Destroyed || f.Deleted != "" && (err != nil || !at.After(now))
}

func (s *Service) currentByValue(ctx context.Context, call Call, at place) (int64, error) {
	a, err := s.ask(ctx, call, policy.Read, at.value(), nil, nil)
	if err != nil {
		return 0, readFirst(err, "update", at.metadata())
	}
	v, err := versionOf(a)
	if err != nil {
		return 0, err
	}
	if v == nil || a.missing {
		return 0, notFound(at)
	}
	return v.Metadata.Version, nil
}

// put2 writes the next version on KV v2 where the version that stands is cas (0: there is none).
func (s *Service) put2(ctx context.Context, call Call, at place, value secret.Value, cas int64) (*Written, error) {
	body := []byte(fmt.Sprintf(`{"data":%s,"options":{"cas":%d}}`, value.Reveal(), cas))
	a, err := s.ask(ctx, call, policy.Update, at.value(), nil, body)
	if errors.Is(err, errCAS) {
		err = withHint(err, "read it again, then repeat the change")
	}
	if err != nil {
		return nil, err
	}
	var v struct {
		Version int64 `json:"version"`
	}
	if err := json.Unmarshal(a.data, &v); err != nil || a.missing || v.Version == 0 {
		return nil, gate.Errorf(gate.TargetDown, "the target's answer is not that of a KV v2 engine")
	}
	return &Written{ID: at.id, Name: at.id, Version: v.Version}, nil
}

func (s *Service) put1(ctx context.Context, call Call, at place, value secret.Value) (*Written, error) {
	a, err := s.ask(ctx, call, policy.Update, at.value(), nil, []byte(value.Reveal()))
	if err != nil {
		return nil, err
	}
	if a.missing {
		return nil, notFound(at)
	}
	return &Written{ID: at.id, Name: at.id}, nil
}

// Delete deletes a secret. Deleting one that is not there is no error, as in Vault.
func (s *Service) Delete(ctx context.Context, call Call, in DeleteInput) (*Written, error) {
	at, err := s.locate(ctx, call, policy.Delete, in.Connector, in.SecretID)
	if err != nil {
		return nil, err
	}
	path := at.value()
	if in.AllVersions && at.mount.KVVersion == 2 {
		path = at.metadata()
	}
	if _, err := s.ask(ctx, call, policy.Delete, path, nil, nil); err != nil {
		return nil, err
	}
	return &Written{ID: at.id, Name: at.id}, nil
}

const notObject = "the value is not a JSON object of keys and values"

func isObject(v secret.Value) bool {
	var m map[string]json.RawMessage
	return json.Unmarshal([]byte(v.Reveal()), &m) == nil && m != nil
}

// readFirst explains a denial that the caller, who asked for a write, wouldn't expect.
func readFirst(err error, what, path string) error {
	if !errors.Is(err, gate.ErrDenied) {
		return err
	}
	return &gate.Error{Kind: gate.Forbidden, Msg: gate.ErrDenied.Error(), Err: err,
		Hint: what + " looks first whether the secret is there, and needs read on " + path}
}
