package usc

import (
	"bytes"
	"context"
	"encoding/json"
	"net/url"
	"strconv"
	"time"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/policy"
)

// GetInput names a secret, and a version of it where not the latest is wanted (KV v2 only).
type GetInput struct {
	Connector string
	SecretID  string
	Version   int64 // 0: the latest
}

// Secret is a secret's value. The fields behind Value are zero on KV v1.
type Secret struct {
	ID      string
	Name    string
	Value   secret.Value // a JSON object: its keys and values
	Version int64
	Created time.Time // of the version
	Custom  map[string]string
}

// Get reads a secret.
func (s *Service) Get(ctx context.Context, call Call, in GetInput) (*Secret, error) {
	at, err := s.locate(ctx, call, policy.Read, in.Connector, in.SecretID)
	if err != nil {
		return nil, err
	}
	if in.Version < 0 || in.Version > 0 && at.mount.KVVersion == 1 {
		return nil, s.refuse(ctx, call, policy.Read, at.id, gate.Invalid, "there is no such version: "+
			"a version is a number above 0, and KV v1 keeps no versions")
	}
	if at.mount.KVVersion == 1 {
		return s.get1(ctx, call, at)
	}
	return s.get2(ctx, call, at, in.Version)
}

func (s *Service) get1(ctx context.Context, call Call, at place) (*Secret, error) {
	a, err := s.ask(ctx, call, policy.Read, at.value(), nil, nil)
	if err != nil {
		return nil, err
	}
	if a.missing {
		return nil, notFound(at)
	}
	value, err := compact(a.data)
	if err != nil {
		return nil, err
	}
	return &Secret{ID: at.id, Name: at.id, Value: value}, nil
}

func (s *Service) get2(ctx context.Context, call Call, at place, version int64) (*Secret, error) {
	var query url.Values
	if version > 0 {
		query = url.Values{"version": {strconv.FormatInt(version, 10)}}
	}
	a, err := s.ask(ctx, call, policy.Read, at.value(), query, nil)
	if err != nil {
		return nil, err
	}
	v, err := versionOf(a)
	if err != nil {
		return nil, err
	}
	switch {
	case v == nil && version > 0:
		return nil, gate.Errorf(gate.NotFound, "there is no version %d of secret %s", version, at.id)
	case v == nil:
		return nil, notFound(at)
	case a.missing:
		return nil, gone(at, v)
	}
	value, err := compact(v.Data)
	if err != nil {
		return nil, err
	}
	return &Secret{ID: at.id, Name: at.id, Value: value, Version: v.Metadata.Version,
		Created: v.Metadata.Created, Custom: v.Metadata.Custom}, nil
}

// version is one version of a secret as KV v2 tells it. Data is absent when it was deleted.
type version struct {
	Data     json.RawMessage `json:"data"`
	Metadata struct {
		fate
		Version int64             `json:"version"`
		Created time.Time         `json:"created_time"`
		Custom  map[string]string `json:"custom_metadata"`
	} `json:"metadata"`
}

// versionOf reads an answer to <mount>/data/<path>; nil where the secret never was.
func versionOf(a answer) (*version, error) {
	if len(a.data) == 0 || string(a.data) == "null" {
		if a.missing {
			return nil, nil
		}
		return nil, gate.Errorf(gate.TargetDown, "the target's answer is not that of a KV v2 engine")
	}
	var v version
	if err := json.Unmarshal(a.data, &v); err != nil || v.Metadata.Version == 0 {
		return nil, gate.Errorf(gate.TargetDown, "the target's answer is not that of a KV v2 engine")
	}
	return &v, nil
}

// compact keeps a JSON object as it came, numbers and all, without blanks.
func compact(data json.RawMessage) (secret.Value, error) {
	var b bytes.Buffer
	if err := json.Compact(&b, data); err != nil || b.Len() == 0 || b.Bytes()[0] != '{' {
		return secret.Value{}, gate.Errorf(gate.TargetDown, "the target's answer holds no keys and values")
	}
	return secret.New(b.String()), nil
}

func notFound(at place) error {
	return gate.Errorf(gate.NotFound, "there is no secret %s", at.id)
}

func gone(at place, v *version) error {
	how := "deleted"
	if v.Metadata.Destroyed {
		how = "destroyed"
	}
	e := gate.Errorf(gate.NotFound, "version %d of secret %s is %s", v.Metadata.Version, at.id, how)
	if v.Metadata.Version > 1 {
		e.Hint = "an earlier version may still be there: ask for it by its number"
	}
	return e
}
