package identity_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/identity"
	"github.com/bailiff-secrets/bailiff/internal/document"
)

// BenchmarkLogin makes a token for an entity that is known, 64 at a time.
func BenchmarkLogin(b *testing.B) {
	h := newHouse(b)
	n := h.node()
	spec := identity.LoginSpec{MountPath: "auth/approle/", MountAccessor: "approle_1", MountType: "approle", Alias: "ci", DisplayName: "approle-ci"}
	b.SetParallelism(32)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := n.Login(context.Background(), spec); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkEnd ends tokens that have a child, 64 at a time.
func BenchmarkEnd(b *testing.B) {
	h := newHouse(b)
	n := h.node()
	app, _ := n.key(b, appID)
	parents := make([]identity.NewToken, b.N)
	for i := range parents {
		parents[i] = n.child(b, app)
		n.child(b, parents[i].Caller)
	}
	var next atomic.Int64
	b.ResetTimer()
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				if err := n.Revoke(context.Background(), parents[i].Caller.Accessor); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkStart reads 20,000 tokens.
func BenchmarkStart(b *testing.B) {
	h := newHouse(b)
	n := h.node()
	const tokens = 20_000
	var wg sync.WaitGroup
	for w := range 100 {
		wg.Go(func() {
			for i := range tokens / 100 {
				_, err := n.Login(context.Background(), identity.LoginSpec{
					MountPath: "auth/approle/", MountAccessor: "approle_1", MountType: "approle", Alias: fmt.Sprint(w), DisplayName: fmt.Sprint("approle-", w), Metadata: map[string]string{"n": fmt.Sprint(i)},
				})
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if found, err := h.db.Documents(b.Context(), document.Query{Space: "token"}); err != nil || len(found) != tokens {
		b.Fatal(len(found), err)
	}
	began := time.Now()
	b.ResetTimer()
	for range b.N {
		h.node()
	}
	b.ReportMetric(float64(tokens)*float64(b.N)/time.Since(began).Seconds(), "tokens/s")
}
