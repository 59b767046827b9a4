package upstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/vpath"
	"github.com/bailiff-secrets/bailiff/policy"
)

// backend is one mount of a target.
type backend struct {
	v      *Vault
	remote string
	kv     int
}

// Serve sends r on and streams what the target answers.
func (b *backend) Serve(ctx context.Context, r *gate.Request) (*gate.Response, error) {
	if b.kv == 0 && b.v.adopter != nil && r.Mount != nil && r.Op != policy.List && r.Op != policy.Help {
		return b.serveLeased(ctx, r)
	}
	return b.forward(ctx, r)
}

func (b *backend) forward(ctx context.Context, r *gate.Request) (*gate.Response, error) {
	k, err := b.call(r)
	if err != nil {
		return nil, err
	}
	a, err := b.v.send(ctx, k)
	if err != nil {
		return nil, err
	}
	raw, resp := &a.room.raw, &a.room.resp
	*raw = gate.Raw{Code: a.code, Header: fields(a.kept, k.token.Reveal()), Body: a.body, Length: a.length}
	resp.Raw = raw
	return resp, nil
}

// Changes tells the gate which requests to record before they are sent: beside writes also reads of an engine that may
// issue something by being read.
func (b *backend) Changes(r *gate.Request) bool {
	switch r.Op {
	case policy.List, policy.Help:
		return false
	case policy.Read:
		return b.kv == 0
	default:
		return true
	}
}

// call translates r. It reads a small body, so that what goes wrong with it goes wrong before the target is reached.
func (b *backend) call(r *gate.Request) (*call, error) {
	path, err := b.path(r.Rest)
	if err != nil {
		return nil, err
	}
	k := &call{path: path, index: r.Index}
	if k.index != "" && !plainHeader(k.index, 4096) {
		return nil, gate.Errorf(gate.Invalid, "the header X-Vault-Index can't be sent on")
	}
	switch r.Op {
	case policy.Read:
		k.method, k.safe = http.MethodGet, b.kv != 0
		k.query = query(r.Query, "", "")
		return k, nil
	case policy.List:
		k.method, k.safe = http.MethodGet, true
		k.query = query(r.Query, "list", "true")
		return k, nil
	case policy.Help:
		k.method, k.safe = http.MethodGet, true
		k.query = query(nil, "help", "1")
		return k, nil
	case policy.Delete:
		k.method = http.MethodDelete
		k.query = query(r.Query, "", "")
		return k, nil
	case policy.Create, policy.Update:
		k.method = http.MethodPut
		k.contentType = r.ContentType
	case policy.Patch:
		k.method = http.MethodPatch
		k.contentType = "application/merge-patch+json"
	default:
		return nil, gate.Errorf(gate.Unsupported, "operation %q can't be sent to a Vault", string(r.Op))
	}
	if k.contentType != "" && !plainHeader(k.contentType, 256) {
		return nil, gate.Errorf(gate.Invalid, "the header Content-Type can't be sent on")
	}
	k.query = query(r.Query, "", "")
	k.body, k.length, err = body(r.Body, r.BodyLen)
	return k, err
}

// path is rest on the target. It is judged once more, as a backend is also reached from inside.
func (b *backend) path(rest string) (string, error) {
	switch top, _, _ := strings.Cut(b.remote, "/"); top {
	case "auth", "sys", "cubbyhole":
		// They act on, and show, the token of the request, which is Bailiff's own.
		return "", gate.Errorf(gate.Unsupported, "%s/ of a target is not passed through", top)
	}
	path := b.remote
	if rest != "" {
		path += "/" + rest
	}
	if err := vpath.Check(path); err != nil {
		return "", gate.Errorf(gate.Invalid, "%w", err)
	}
	return path, nil
}

// query encodes q afresh. Parameters that would make another operation of the request are never taken from it.
func query(q url.Values, name, value string) string {
	if len(q) == 0 {
		if name == "" {
			return ""
		}
		return name + "=" + value
	}
	out := make(url.Values, len(q)+1)
	for k, vs := range q {
		if k != "list" && k != "help" {
			out[k] = vs
		}
	}
	if name != "" {
		out.Set(name, value)
	}
	return out.Encode()
}

// body reads r where it is small. length is -1 where it is neither small nor known.
func body(r io.Reader, length int64) (io.Reader, int64, error) {
	if r == nil || length == 0 {
		return nil, 0, nil
	}
	if length > smallBody {
		return r, length, nil
	}
	var head []byte
	var err error
	if length > 0 {
		head = make([]byte, length)
		_, err = io.ReadFull(r, head)
	} else {
		head, err = io.ReadAll(io.LimitReader(r, smallBody+1))
	}
	switch {
	case err != nil:
		return nil, 0, readError(err)
	case len(head) > smallBody:
		return io.MultiReader(bytes.NewReader(head), r), -1, nil
	case len(head) == 0:
		return nil, 0, nil
	default:
		return bytes.NewReader(head), int64(len(head)), nil
	}
}

// rewind makes k fit to be sent once more, where it can.
func (k *call) rewind() bool {
	switch b := k.body.(type) {
	case nil:
		return true
	case *bytes.Reader:
		_, err := b.Seek(0, io.SeekStart)
		return err == nil
	default:
		return false
	}
}

// send sends k with the login that stands, within the limits of the target. A request that was refused because the login
// had died is sent again with a new one: the target did nothing for it.
func (v *Vault) send(ctx context.Context, k *call) (*answer, error) {
	if err := v.limit.take(ctx, v.client.timeout); err != nil {
		return nil, err
	}
	a, err := v.sendInPlace(ctx, k)
	if err != nil {
		v.limit.free()
		return nil, err
	}
	a.body.done = v.limit.free
	return a, nil
}

func (v *Vault) sendInPlace(ctx context.Context, k *call) (*answer, error) {
	l, err := v.session.login(ctx)
	if err != nil {
		return nil, err
	}
	a, err := v.once(ctx, k, l)
	if err != nil || a.code != http.StatusForbidden {
		return a, err
	}
	renewed, err := v.session.doubt(ctx, l)
	if err != nil {
		a.body.Close() //nolint:errcheck // nothing is read from it
		return nil, err
	}
	if !renewed {
		return a, nil
	}
	a.body.Close() //nolint:errcheck // nothing is read from it
	if !k.rewind() {
		return nil, gate.Errorf(gate.TargetDown, "Bailiff had to log in to target %s again: send the request once more", v.name)
	}
	if l, err = v.session.login(ctx); err != nil {
		return nil, err
	}
	return v.once(ctx, k, l)
}

func (v *Vault) once(ctx context.Context, k *call, l *login) (*answer, error) {
	if err := v.breaker.enter(); err != nil {
		return nil, err
	}
	k.token = l.token
	a, o, err := v.client.do(ctx, k)
	v.breaker.leave(o)
	return a, err
}

// fields picks the headers that mean something to a client of Vault. A value that holds the token is not passed on.
func fields(kept []gate.Field, token string) []gate.Field {
	out := kept[:0]
	for _, f := range kept {
		if f.Name != "Content-Encoding" && f.Name != "Location" && (token == "" || !strings.Contains(f.Value, token)) {
			out = append(out, f)
		}
	}
	return out
}

// plainHeader tells whether s can stand in a header line: printable ASCII, and not too long.
func plainHeader(s string, most int) bool {
	if len(s) > most {
		return false
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func trimSlashes(s string) string { return strings.Trim(s, "/") }

// drain reads at most most bytes of a.
func drain(a *answer, most int64) ([]byte, error) {
	defer a.body.Close() //nolint:errcheck // it was read, or is given up
	b, err := io.ReadAll(io.LimitReader(a.body, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, errors.New("the answer is too long")
	}
	return b, nil
}
