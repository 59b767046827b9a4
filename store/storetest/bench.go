package storetest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/bailiff-secrets/bailiff/broker"
)

// Benchmark measures how many writes a second are durable, with different numbers of writers at once.
func Benchmark(b *testing.B, open Open) {
	for _, writers := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("insert/writers=%d", writers), func(b *testing.B) {
			s := open(b)
			b.ResetTimer()
			measure(b, s, writers, func(i int64) error {
				return s.Insert(b.Context(), benchLease(i))
			})
		})
	}
	for _, writers := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("move/writers=%d", writers), func(b *testing.B) {
			s := open(b)
			const n = 20_000
			measureOnce(b, n, 256, func(i int64) error { return s.Insert(b.Context(), benchLease(i)) })
			versions := make([]atomic.Int64, n)
			b.ResetTimer()
			measure(b, s, writers, func(i int64) error {
				l := benchLease(i%n + 1)
				l.State, l.Attempt, l.Version = broker.Active, int(i), versions[i%n].Add(1)
				return s.Move(b.Context(), l, broker.Pending, broker.Active)
			})
		})
	}
}

func benchLease(i int64) *broker.Lease {
	return newLease(fmt.Sprintf("database/creds/app/%024x", uint64(i)*0x9e3779b97f4a7c15), func(l *broker.Lease) {
		l.Role, l.Identity = fmt.Sprint("role", i%50), fmt.Sprint("identity", i%500)
	})
}

// measure does f b.N times, shared among writers.
func measure(b *testing.B, s Store, writers int, f func(i int64) error) {
	c, counts := s.(Counter)
	var before, after int64
	if counts {
		before, _ = c.Writes()
	}
	measureOnce(b, int64(b.N), writers, f)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
	if counts {
		after, _ = c.Writes()
		b.ReportMetric(float64(b.N)/float64(after-before), "writes/commit")
	}
}

func measureOnce(b *testing.B, n int64, writers int, f func(i int64) error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for i := next.Add(1); i <= n; i = next.Add(1) {
				if err := f(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
