package sys_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/internal/document"
)

// TestATokenIsSeenOnce makes, uses, renews and ends a token: it is in the answer of its making, and nowhere else.
func TestATokenIsSeenOnce(t *testing.T) {
	w := newWorld(t, tokenApp, nil)
	resp, err := w.do("ci", "update auth/token/create", `{"num_uses":5,"ttl":"1h","display_name":"seen"}`)
	must(t, err)
	text, accessor := resp.Auth.ClientToken.Reveal(), resp.Auth.Accessor
	w.tokens["made"] = resp.Auth.ClientToken
	for who, lines := range map[string][]string{
		"made": {"read auth/token/lookup-self", "update auth/token/renew-self", "read secret/data/x"},
		"root": {"update auth/token/lookup-accessor", "update auth/token/renew-accessor", "update auth/token/revoke-accessor"},
	} {
		for _, line := range lines {
			_, _ = w.do(who, line, `{"accessor":"`+accessor+`"}`)
		}
	}
	kept, err := w.db.Documents(t.Context(), document.Query{Space: "token"})
	must(t, err)
	seen := w.logs.String()
	for _, d := range kept {
		seen += fmt.Sprintf("%s %s %v\n", d.Key, d.Body, d.Keys)
	}
	must(t, w.trail.Query(t.Context(), audit.Query{}, func(r *audit.Record) error { seen += fmt.Sprintf("%+v\n", *r); return nil }))
	if !strings.Contains(seen, accessor) {
		t.Fatal("the accessor is in no record, so that the test can't see anything")
	}
	for _, part := range []string{text, text[3:40], text[len(text)-30:]} {
		if strings.Contains(seen, part) {
			t.Errorf("the token is seen again, in %d bytes", len(seen))
		}
	}
}

// TestATokenThatNobodyGotEnds can't record the answer of a token's making: the token opens nothing.
func TestATokenThatNobodyGotEnds(t *testing.T) {
	w := newWorld(t, tokenApp, nil)
	w.failNext.Store(true)
	if got := w.ask("ci", "update auth/token/create", `{}`); strings.HasPrefix(got, "ok") {
		t.Errorf("got %s", got)
	}
	if kept, err := w.db.Documents(t.Context(), document.Query{Space: "token"}); err != nil || len(kept) != 0 {
		t.Errorf("%d tokens are kept, %v", len(kept), err)
	}
}
