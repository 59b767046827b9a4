package usc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/policy"
)

// errCAS is a target's answer that a check-and-set did not match.
var errCAS = errors.New("check-and-set did not match")

// answer is what a Vault said, as far as USC needs it.
type answer struct {
	missing bool            // 404
	data    json.RawMessage // of the envelope; a 404 may have it as well
}

// ask sends one request through the gate and reads a Vault's answer to it. body is JSON, or nil where there is none.
func (s *Service) ask(ctx context.Context, call Call, op policy.Operation, path string, query url.Values, body []byte) (answer, error) {
	r := s.request(call, op, path)
	r.Query = query
	if body != nil {
		r.ContentType, r.Body, r.BodyLen = "application/json", bytes.NewReader(body), int64(len(body))
	}
	resp, err := s.cfg.Gate.Do(ctx, r)
	if err != nil {
		return answer{}, err
	}
	if resp.Raw == nil {
		return own(resp)
	}
	defer resp.Raw.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Raw.Body, s.cfg.MaxAnswer+1))
	if err != nil {
		return answer{}, &gate.Error{Kind: gate.TargetDown, Msg: "the target's answer broke off", Err: err}
	}
	if int64(len(raw)) > s.cfg.MaxAnswer {
		return answer{}, gate.Errorf(gate.TooLarge, "the target's answer is larger than %d bytes", s.cfg.MaxAnswer)
	}
	return decode(resp.Raw.Code, raw)
}

// own reads an answer that did not come from a Vault behind.
func own(resp *gate.Response) (answer, error) {
	if resp.Status == gate.Missing {
		return answer{missing: true}, nil
	}
	data, err := json.Marshal(resp.Data)
	if err != nil {
		return answer{}, fmt.Errorf("encode an answer: %w", err)
	}
	return answer{data: data}, nil
}

// decode reads the envelope of a Vault's answer. Nothing of the body gets into an error but Vault's own words, which
// hold no values.
func decode(code int, raw []byte) (answer, error) {
	var env struct {
		Data   json.RawMessage `json:"data"`
		Errors []string        `json:"errors"`
	}
	if len(bytes.TrimSpace(raw)) > 0 && json.Unmarshal(raw, &env) != nil {
		return answer{}, gate.Errorf(gate.TargetDown, "the target answered %d with something that is not JSON", code)
	}
	switch {
	case code >= 200 && code < 300:
		return answer{data: env.Data}, nil
	case code == 404 && len(env.Errors) > 0:
		return answer{}, gate.Errorf(gate.NotFound, "the target: %s", strings.Join(env.Errors, "; "))
	case code == 404:
		return answer{missing: true, data: env.Data}, nil
	default:
		return answer{}, failure(code, env.Errors)
	}
}

// failure says what a Vault's refusal means to the caller.
func failure(code int, words []string) error {
	said := strings.Join(words, "; ")
	switch {
	case code == 400 && strings.Contains(said, "check-and-set"):
		return &gate.Error{Kind: gate.Conflict, Msg: "the secret has changed meanwhile", Err: errCAS}
	case code == 400:
		return gate.Errorf(gate.Invalid, "the target refused: %s", said)
	case code == 403:
		return &gate.Error{Kind: gate.Forbidden, Msg: "the target refused Bailiff's own login",
			Hint: "the login that Bailiff has on the target needs the capability for this path as well"}
	case code == 405:
		return gate.Errorf(gate.Unsupported, "the target does not support this operation here")
	case code == 413:
		return gate.Errorf(gate.TooLarge, "the target refused: too large")
	case code == 429:
		return gate.Errorf(gate.TooMany, "the target asks to slow down")
	default:
		return gate.Errorf(gate.TargetDown, "the target answered %d", code)
	}
}
