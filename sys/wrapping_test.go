package sys_test

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/secret"
	"github.com/bailiff-secrets/bailiff/policy"
)

// wrapped asks for something to be wrapped.
func (w *world) wrapped(who string, op policy.Operation, path, body string) *gate.Wrap {
	w.t.Helper()
	resp, err := w.gate.Do(w.t.Context(), &gate.Request{
		Via: gate.HVP, Token: w.tokens[who], Op: op, Path: path, Body: strings.NewReader(body), WrapTTL: 5 * time.Minute,
	})
	must(w.t, err)
	if resp.Wrap == nil || resp.Data != nil || resp.Lease != nil {
		w.t.Fatalf("%s %s: got %+v, want a wrapping token alone", op, path, resp)
	}
	return resp.Wrap
}

// unwrap opens a wrapping token, as the caller with that token.
func (w *world) unwrap(caller secret.Value, body string) (map[string]any, error) {
	w.t.Helper()
	resp, err := w.gate.Do(w.t.Context(), &gate.Request{
		Via: gate.HVP, Token: caller, Op: policy.Update, Path: "sys/wrapping/unwrap", Body: strings.NewReader(body),
	})
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(resp.Raw.Body)
	must(w.t, err)
	out := map[string]any{}
	must(w.t, json.Unmarshal(text, &out))
	return out, nil
}

func TestWrapping(t *testing.T) {
	w := newWorld(t, `path "sys/wrapping/*" { capabilities = ["update"] }`, nil)
	of := func(wrap *gate.Wrap) string { return `{"token":"` + wrap.Token.Reveal() + `"}` }
	const body = `{"password":"` + canary + `"}`
	for name, open := range map[string]func(*gate.Wrap) (map[string]any, error){
		"with the token as the caller's own":         func(x *gate.Wrap) (map[string]any, error) { return w.unwrap(x.Token, "") },
		"with the null that the vault command sends": func(x *gate.Wrap) (map[string]any, error) { return w.unwrap(x.Token, "null") },
		"with the token in the body":                 func(x *gate.Wrap) (map[string]any, error) { return w.unwrap(w.tokens["nobody"], of(x)) },
		"with the token in the body, by nobody":      func(x *gate.Wrap) (map[string]any, error) { return w.unwrap(secret.Value{}, of(x)) },
		"with the token in both places":              func(x *gate.Wrap) (map[string]any, error) { return w.unwrap(x.Token, of(x)) },
	} {
		t.Run(name, func(t *testing.T) {
			x := w.wrapped("ci", policy.Update, "sys/wrapping/wrap", body)
			if rec := w.last(); rec.Identity != "ci" || rec.Path != "sys/wrapping/wrap" || !strings.Contains(rec.Detail, "wrapped, accessor "+x.Accessor) {
				t.Errorf("the record of the wrapping: %+v", rec)
			}
			got, err := open(x)
			must(t, err)
			if data, _ := got["data"].(map[string]any); data["password"] != canary {
				t.Errorf("got %v", got)
			}
			rec := w.last()
			if rec.Stage != audit.StageResponse || rec.RequestID != got["request_id"] || !strings.Contains(rec.Detail, "wrapped for ci, accessor "+x.Accessor) {
				t.Errorf("the record of the opening: %+v of %v", rec, got["request_id"])
			}
			if rec.Identity == "" && rec.Method != "wrapping-token" {
				t.Errorf("the record does not say who: %+v", rec)
			}
			var said *gate.Error
			if again, err := open(x); !errors.As(err, &said) || said.Kind != gate.Invalid || said.Msg != "wrapping token is not valid or does not exist" {
				t.Errorf("a second time: got %v and %v", again, err)
			}
		})
	}
	x := w.wrapped("ci", policy.Update, "sys/wrapping/wrap", body)
	if _, err := w.unwrap(secret.New("wrong"), of(x)); !errors.Is(err, identity.ErrUnauthenticated) {
		t.Errorf("a caller with a wrong token: got %v", err)
	}
	if _, err := w.unwrap(x.Token, ""); err != nil {
		t.Errorf("it is still there: %v", err)
	}
	if strings.Contains(w.logs.String(), canary) {
		t.Error("the log holds what was wrapped")
	}
}

func TestWrappingIsToldOfByName(t *testing.T) {
	w := newWorld(t, `path "sys/wrapping/*" { capabilities = ["update"] }`, nil)
	x := w.wrapped("ci", policy.Update, "sys/wrapping/wrap", `{"a":"b"}`)
	for _, r := range []*gate.Request{
		{Token: x.Token, Op: policy.Read},
		{Token: x.Token, Op: policy.Update},
		{Op: policy.Update, Body: strings.NewReader(`{"token":"` + x.Token.Reveal() + `"}`)},
		{Token: w.tokens["nobody"], Op: policy.Update, Body: strings.NewReader(`{"token":"` + x.Token.Reveal() + `"}`)},
	} {
		r.Path, r.Via = "sys/wrapping/lookup", gate.HVP
		resp, err := w.gate.Do(t.Context(), r)
		must(t, err)
		if resp.Data["creation_path"] != "sys/wrapping/wrap" || resp.Data["creation_ttl"] != int64(300) || resp.Data["creation_time"] != x.CreationTime.Format(time.RFC3339Nano) {
			t.Errorf("got %v", resp.Data)
		}
	}
	resp, err := w.do("ci", "update sys/wrapping/rewrap", `{"token":"`+x.Token.Reveal()+`"}`)
	must(t, err)
	if resp.Wrap == nil || resp.Wrap.TTL != 5*time.Minute || resp.Wrap.CreationPath != "sys/wrapping/wrap" {
		t.Errorf("rewrapped: got %+v", resp)
	}
	if _, err := w.unwrap(x.Token, ""); err == nil {
		t.Error("the old token still opens it")
	}
	if _, err := w.unwrap(resp.Wrap.Token, ""); err != nil {
		t.Error(err)
	}
}

func TestALeaseIsWrapped(t *testing.T) {
	w := newWorldWithDatabase(t, `path "database/creds/ro" { capabilities = ["read"] }`)
	x := w.wrapped("ci", policy.Read, "database/creds/ro", "")
	rec := w.last()
	if rec.LeaseID == "" || rec.Principal == "" || !strings.Contains(rec.Detail, x.Accessor) {
		t.Errorf("the record does not name the lease: %+v", rec)
	}
	got, err := w.unwrap(x.Token, "")
	must(t, err)
	if got["lease_id"] != rec.LeaseID || got["renewable"] != true {
		t.Errorf("got %v, want lease %s", got, rec.LeaseID)
	}
	w.failNext.Store(true)
	_, err = w.gate.Do(t.Context(), &gate.Request{Via: gate.HVP, Token: w.tokens["ci"], Op: policy.Read, Path: "database/creds/ro", WrapTTL: time.Minute})
	if !errors.Is(err, gate.ErrNoRecord) {
		t.Fatalf("without a record: got %v", err)
	}
	openLeases := func() (open int) {
		list, err := w.broker.List(t.Context(), broker.Filter{Limit: 10})
		must(t, err)
		for _, l := range list {
			if l.State == broker.Active {
				open++
			}
		}
		return open
	}
	w.until(func() bool { return openLeases() == 1 }) // the one that nobody got has ended
}
