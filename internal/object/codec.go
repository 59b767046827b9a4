package object

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// The names of secret fields in Record.Secrets. Only targets and webhooks have any.
const (
	SecretToken    = "token"     // Target.Auth.Token
	SecretSecretID = "secret_id" // Target.Auth.SecretID
	SecretPassword = "password"  // Target.Password
	SecretNotify   = "secret"    // Notify.Secret
)

// Decode turns a stored object into its type: *Target, *Mount, *Producer, *StaticRole, *Connector, *Policy, *Role, *Identity or
// *Notify, with its secrets filled in. It is strict: an unknown field or secret, and a body that names another object, is a *Problem.
func Decode(rec Record) (any, error) {
	v, err := blank(rec)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(rec.Body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return nil, bodyProblem(rec, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, problem(rec, "", "there is more behind the end of its JSON body", "")
	}
	if err := adoptName(rec, v); err != nil {
		return nil, err
	}
	if err := adoptSecrets(rec, v); err != nil {
		return nil, err
	}
	return v, nil
}

// Encode is Decode the other way: the secrets leave the body for Secrets. v is one of the types of this package or a pointer
// to one. Two equal objects have the same body, byte for byte.
func Encode(v any) (Record, error) {
	rec, err := header(v)
	if err != nil {
		return Record{}, err
	}
	text, err := compact(v)
	if err != nil {
		return Record{}, fmt.Errorf("encode %s %q: %w", rec.Kind, rec.Name, err)
	}
	rec.Body = text
	return rec, nil
}

// Normal is rec with the body that Encode makes: strict, with its name, in one order of fields.
func Normal(rec Record) (Record, error) {
	v, err := Decode(rec)
	if err != nil {
		return Record{}, err
	}
	out, err := Encode(v)
	if err != nil {
		return Record{}, err
	}
	rec.Body, rec.Secrets = out.Body, out.Secrets
	return rec, nil
}

// SplitProducer parts a producer's name into its mount and its own name.
func SplitProducer(name string) (mount, producer string) {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return "", name
	}
	return name[:i], name[i+1:]
}

func blank(rec Record) (any, error) {
	switch rec.Kind {
	case KindTarget:
		return &Target{}, nil
	case KindMount:
		return &Mount{}, nil
	case KindProducer:
		return &Producer{}, nil
	case KindStaticRole:
		return &StaticRole{}, nil
	case KindConnector:
		return &Connector{}, nil
	case KindPolicy:
		return &Policy{}, nil
	case KindRole:
		return &Role{}, nil
	case KindIdentity:
		return &Identity{}, nil
	case KindNotify:
		return &Notify{}, nil
	}
	return nil, problem(rec, "kind", "there is no such kind of object", "use one of "+kindWords())
}

// header finds kind, name and secrets of an object.
func header(v any) (Record, error) {
	switch v := v.(type) {
	case *Target:
		return Record{Kind: KindTarget, Name: v.Name, Secrets: targetSecrets(v)}, nil
	case *Mount:
		return Record{Kind: KindMount, Name: v.Path}, nil
	case *Producer:
		return Record{Kind: KindProducer, Name: v.Mount + "/" + v.Name}, nil
	case *StaticRole:
		return Record{Kind: KindStaticRole, Name: v.Mount + "/" + v.Name}, nil
	case *Connector:
		return Record{Kind: KindConnector, Name: v.Name}, nil
	case *Policy:
		return Record{Kind: KindPolicy, Name: v.Name}, nil
	case *Role:
		return Record{Kind: KindRole, Name: v.Name}, nil
	case *Identity:
		return Record{Kind: KindIdentity, Name: v.Name}, nil
	case *Notify:
		return Record{Kind: KindNotify, Name: v.Name, Secrets: notifySecrets(v)}, nil
	case Target:
		return header(&v)
	case Mount:
		return header(&v)
	case Producer:
		return header(&v)
	case StaticRole:
		return header(&v)
	case Connector:
		return header(&v)
	case Policy:
		return header(&v)
	case Role:
		return header(&v)
	case Identity:
		return header(&v)
	case Notify:
		return header(&v)
	}
	return Record{}, fmt.Errorf("encode: %T is no object", v)
}

func targetSecrets(t *Target) map[string]secret.Value {
	out := map[string]secret.Value{}
	put := func(name string, v secret.Value) {
		if !v.Empty() {
			out[name] = v
		}
	}
	put(SecretPassword, t.Password)
	if t.Auth != nil {
		put(SecretToken, t.Auth.Token)
		put(SecretSecretID, t.Auth.SecretID)
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func notifySecrets(n *Notify) map[string]secret.Value {
	if n.Secret.Empty() {
		return nil
	}
	return map[string]secret.Value{SecretNotify: n.Secret}
}

// kindWords lists the kinds.
func kindWords() string {
	words := make([]string, len(Kinds))
	for i, k := range Kinds {
		words[i] = string(k)
	}
	return strings.Join(words, ", ")
}

// adoptName fills in the name that a body left out and refuses another one.
func adoptName(rec Record, v any) error {
	set := func(field string, have *string, want string) error {
		if *have != "" && *have != want {
			return problem(rec, field, "the body names another object", "leave it out, or make it the same")
		}
		*have = want
		return nil
	}
	switch v := v.(type) {
	case *Target:
		return set("name", &v.Name, rec.Name)
	case *Mount:
		return set("path", &v.Path, rec.Name)
	case *Producer:
		mount, name := SplitProducer(rec.Name)
		return errors.Join(set("mount", &v.Mount, mount), set("name", &v.Name, name))
	case *StaticRole:
		mount, name := SplitProducer(rec.Name)
		return errors.Join(set("mount", &v.Mount, mount), set("name", &v.Name, name))
	case *Connector:
		return set("name", &v.Name, rec.Name)
	case *Policy:
		return set("name", &v.Name, rec.Name)
	case *Role:
		return set("name", &v.Name, rec.Name)
	case *Identity:
		return set("name", &v.Name, rec.Name)
	case *Notify:
		return set("name", &v.Name, rec.Name)
	}
	return nil
}

func adoptSecrets(rec Record, v any) error {
	t, isTarget := v.(*Target)
	n, isNotify := v.(*Notify)
	for name, value := range rec.Secrets {
		if value.Empty() {
			continue
		}
		switch {
		case isTarget && name == SecretPassword:
			t.Password = value
		case isNotify && name == SecretNotify:
			n.Secret = value
		case isTarget && (name == SecretToken || name == SecretSecretID):
			if t.Auth == nil {
				return problem(rec, name, "it is given, but the target has no auth", `add auth { method = "token" } or auth { method = "approle" }`)
			}
			if name == SecretToken {
				t.Auth.Token = value
			} else {
				t.Auth.SecretID = value
			}
		default:
			return problem(rec, name, "there is no such secret field", "targets have token, secret_id and password, a notify has secret; other objects have none")
		}
	}
	return nil
}

// bodyProblem says what is wrong with a body, never repeating a value from it.
func bodyProblem(rec Record, err error) *Problem {
	var typ *json.UnmarshalTypeError
	switch field, unknown := strings.CutPrefix(err.Error(), "json: unknown field "); {
	case unknown:
		field = strings.Trim(field, `"`)
		hint := ""
		if field == SecretToken || field == SecretSecretID || field == SecretPassword || field == SecretNotify {
			hint = "secrets stand beside the body, not in it"
		}
		return problem(rec, field, "there is no such field", hint)
	case errors.Is(err, ErrDuration):
		return problem(rec, durationField(rec), ErrDuration.Error(), "")
	case errors.As(err, &typ):
		kind, _, _ := strings.Cut(typ.Value, " ")
		return problem(rec, typ.Field, "it can't be a JSON "+kind, "")
	default:
		return problem(rec, "", "its body is not one JSON object", "")
	}
}

// durationField finds which field of a body isn't a duration, as encoding/json does not say.
func durationField(rec Record) string {
	var fields map[string]json.RawMessage
	if json.Unmarshal(rec.Body, &fields) != nil {
		return ""
	}
	for _, name := range []string{"timeout", "default_ttl", "max_ttl", "rotation_period", "ready_timeout", "pool_max_age", "before"} {
		var d Duration
		if text, ok := fields[name]; ok && d.UnmarshalJSON(text) != nil {
			return name
		}
	}
	return ""
}

func problem(rec Record, field, msg, hint string) *Problem {
	return &Problem{Kind: rec.Kind, Name: rec.Name, Field: field, Msg: msg, Hint: hint}
}

// compact is v as JSON without a line's end and without HTML escapes, which would hide what a policy says.
func compact(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}
