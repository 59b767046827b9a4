package hvp_test

import (
	"strings"
	"testing"
)

func TestAReasonIsPassedOnAndTheRequestIsNamed(t *testing.T) {
	for _, c := range []struct {
		what           string
		wire           string
		reason, ticket string
		code           int
	}{
		{"with both", request("GET /v1/secret/a", "X-Bailiff-Reason: the night is dark", "X-Bailiff-Ticket: OPS-1"), "the night is dark", "OPS-1", 200},
		{"without", request("GET /v1/secret/a"), "", "", 200},
		{"twice", request("GET /v1/secret/a", "X-Bailiff-Ticket: OPS-1", "X-Bailiff-Ticket: OPS-2"), "", "", 400},
		{"too long", request("GET /v1/secret/a", "X-Bailiff-Reason: "+strings.Repeat("x", 513)), "", "", 400},
	} {
		d := &doer{}
		a := send(t, newServer(t, d), c.wire)
		if a.code != c.code || a.header.Get("X-Bailiff-Request-Id") != requestID {
			t.Errorf("%s: got %d with id %q, want %d with %s", c.what, a.code, a.header.Get("X-Bailiff-Request-Id"), c.code, requestID)
		}
		if c.code == 200 {
			if r := d.last(t); r.Reason != c.reason || r.Ticket != c.ticket {
				t.Errorf("%s: got %q and %q", c.what, r.Reason, r.Ticket)
			}
		}
	}
}
