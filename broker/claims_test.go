package broker_test

import (
	"context"
	"maps"
	"testing"

	"github.com/bailiff-secrets/bailiff/broker"
)

// TestLeasesRememberClaims: what decided at the login of whom a lease is issued to picks it, and nothing else.
func TestLeasesRememberClaims(t *testing.T) {
	test(t, func(w *world) {
		ctx := context.Background()
		w.lasting()
		claims := map[string]string{"job_id": "123", "ref": "main"}
		r := request("good")
		r.Caller.Accessor, r.Caller.Claims = "tok-1", maps.Clone(claims)
		resp, err := w.b.Serve(ctx, r)
		if err != nil {
			w.t.Fatal(err)
		}
		_, other := w.issue("good")
		mine := w.lease(resp.Lease.ID)
		if !maps.Equal(mine.Claims, claims) || len(other.Claims) != 0 {
			w.t.Errorf("got claims %v and %v", mine.Claims, other.Claims)
		}
		sel := broker.Selector{Claims: map[string]string{"job_id": "123"}}
		if p, err := w.b.Preview(ctx, sel); err != nil || p.Leases != 1 || p.Targets[0].Principals[0] != mine.Principal {
			w.t.Errorf("got the preview %+v, %v", p, err)
		}
		done, err := w.many(sel, true)
		if err != nil || done.Revoked != 1 || done.Selector.String() != "claim job_id=123" {
			w.t.Errorf("got %+v, %v", done, err)
		}
		if got := w.lease(other.ID).State; got != broker.Active {
			w.t.Errorf("the other is %s", got)
		}
		if _, _, err := w.b.Renew(ctx, mine.ID, 0); err == nil {
			w.t.Error("it can be renewed")
		}
	})
}
