package broker_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/broker"
)

// TestRecordsNameTheEventsOfLeases: what others are told of is named in the records, once each.
func TestRecordsNameTheEventsOfLeases(t *testing.T) {
	ctx := context.Background()
	for _, tt := range []struct {
		name string
		do   func(w *world) (id string)
		want []string
	}{
		{"a lease expires", func(w *world) string {
			_, l := w.issue("good")
			w.revoked(10*time.Second, l.ID)
			return l.ID
		}, []string{broker.EventRevoked}},
		{"a lease is revoked on the fourth try", func(w *world) string {
			_, l := w.issue("bad")
			n := 0
			w.bad.set(func() {
				w.bad.revoke = func(context.Context, broker.Ref) error {
					if n++; n < 4 {
						return unreachable()
					}
					return nil
				}
			})
			w.within(20*time.Second, "it is revoked", func() bool { return w.lease(l.ID).State == broker.Revoked })
			return l.ID
		}, []string{broker.EventRevoked}},
		{"a credential was never released", func(w *world) string {
			w.bad.set(func() { w.bad.create = func(context.Context, broker.Spec) error { return unreachable() } })
			if _, err := w.b.Serve(ctx, request("bad")); err == nil {
				w.t.Error("it was released")
			}
			l := w.only()
			w.within(10*time.Second, "it is revoked", func() bool { return w.lease(l.ID).State == broker.Revoked })
			return l.ID
		}, nil},
		{"a lease is stuck, and ends", func(w *world) string {
			_, l := w.issue("bad")
			w.bad.set(func() { w.bad.revoke = func(context.Context, broker.Ref) error { return unreachable() } })
			w.within(20*time.Second, "it is stuck and tried on", func() bool { return w.lease(l.ID).Attempt >= 10 })
			w.bad.set(func() { w.bad.revoke = nil })
			w.revoked(20*time.Second, l.ID)
			return l.ID
		}, []string{broker.EventFailing, broker.EventRevoked}},
		{"a lease is given up", func(w *world) string {
			w.lasting()
			_, l := w.issue("bad")
			if err := w.b.Force(ctx, l.ID, "bob", "scrap"); err != nil {
				w.t.Fatal(err)
			}
			return l.ID
		}, []string{broker.EventGivenUp}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			test(t, func(w *world) {
				id := tt.do(w)
				var got []string
				for _, e := range w.trail.of(id) {
					if e.Event != "" {
						got = append(got, e.Event)
					}
				}
				if !slices.Equal(got, tt.want) {
					w.t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		})
	}
}
