package wrapping

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/document"
	"github.com/bailiff-secrets/bailiff/internal/envelope"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/policy"
)

const (
	listing    = policy.List
	byAccessor = "accessor"
	maxHead    = 64 << 10 // of what is kept beside an answer
	jsonType   = "application/json"
)

// answer is what a door would have answered. As a document it is a line of JSON and then the body as it is.
type answer struct {
	About
	Code   int // where a target gave it; 0: our own
	Header []gate.Field
	body   []byte
}

// fill takes what resp says. A target's body is read to its end and closed.
func (a *answer) fill(resp *gate.Response) (err error) {
	if raw := resp.Raw; raw != nil {
		a.Code, a.Header = raw.Code, raw.Header
		a.body, err = readAll(raw)
		return err
	}
	e := resp.Envelope("")
	if a.body, err = envelope.Marshal(&e); err != nil {
		return fmt.Errorf("write an answer as JSON: %w", err)
	}
	if len(a.body) > MaxAnswer {
		return tooLarge()
	}
	return nil
}

func tooLarge() error {
	return gate.Errorf(gate.TooLarge, "the answer is larger than the %d bytes that can be wrapped", MaxAnswer)
}

func readAll(raw *gate.Raw) (body []byte, err error) {
	defer func() {
		if e := raw.Body.Close(); err == nil && e != nil {
			body, err = nil, e
		}
	}()
	if raw.Length > MaxAnswer {
		return nil, tooLarge()
	}
	body, err = io.ReadAll(io.LimitReader(raw.Body, MaxAnswer+1))
	switch {
	case err != nil:
		return nil, err
	case len(body) > MaxAnswer:
		return nil, tooLarge()
	case raw.Length >= 0 && int64(len(body)) != raw.Length:
		return nil, gate.Errorf(gate.TargetDown, "the target's answer broke off")
	}
	return body, nil
}

// document is a, under a new token.
func (a *answer) document() (secret.Value, *document.Change, error) {
	head, err := json.Marshal(a)
	if err != nil {
		return secret.Value{}, nil, fmt.Errorf("write what is kept of an answer: %w", err)
	}
	if len(head) >= maxHead {
		return secret.Value{}, nil, errors.New("there is more beside the answer than can be kept")
	}
	body := make([]byte, 0, len(head)+1+len(a.body))
	body = append(append(append(body, head...), '\n'), a.body...)
	token := newToken()
	return token, &document.Change{Document: document.Document{
		Space: space, Key: keyOf(token), Body: body, Keys: map[string]string{byAccessor: a.Accessor}, ExpiresAt: a.CreationTime.Add(a.TTL),
	}}, nil
}

// keyOf is a token as it is kept: its hash. What has 256 random bits needs no salt.
func keyOf(token secret.Value) string {
	sum := sha256.Sum256([]byte(token.Reveal()))
	return hex.EncodeToString(sum[:])
}

func parse(text []byte) (a answer, err error) {
	head, body, ok := bytes.Cut(text, []byte{'\n'})
	if !ok || json.Unmarshal(head, &a) != nil {
		return answer{}, errors.New("a kept answer can't be read")
	}
	a.body = body
	return a, nil
}

// wrap is what stands for a.
func (a *answer) wrap(token secret.Value) *gate.Wrap {
	return &gate.Wrap{
		Token: token, Accessor: a.Accessor, TTL: a.TTL, CreationTime: a.CreationTime, CreationPath: a.CreationPath, WrappedAccessor: a.WrappedAccessor,
	}
}

// response is the kept answer, for the request with that id.
func (a *answer) response(requestID string) *gate.Response {
	code, header, body := a.Code, a.Header, a.body
	if code == 0 {
		code, header = 200, []gate.Field{{Name: "Content-Type", Value: jsonType}}
	}
	body = envelope.WithRequestID(body, requestID)
	return &gate.Response{Raw: &gate.Raw{Code: code, Header: header, Body: io.NopCloser(bytes.NewReader(body)), Length: int64(len(body))}}
}
