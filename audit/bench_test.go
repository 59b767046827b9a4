package audit_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/policy"
)

// typical is a record as the gate makes them.
func typical(n int) *audit.Record {
	return &audit.Record{
		Time: time.Unix(1_790_000_000+int64(n), 0), Stage: audit.StageResponse, Status: audit.OK, RequestID: "3f2c9ad1-6c0f-4a7e-9c55-0b8f2d1e7a10",
		Via: "hvp", Identity: fmt.Sprintf("service-%d", n%500), AccessID: "p-0123456789abcdef", KeyID: "k-01234567", Method: "token",
		ClientAddr: "10.1.2.3", UserAgent: "Go-http-client/1.1", Op: "read", Path: fmt.Sprintf("secret/data/app-%d/db", n%10000),
		Mount: "secret/", Target: "vault-a", Rule: &policy.Rule{Policy: "app", Version: 3, Line: 12, Pattern: "secret/data/app/*"}, Code: 200, Micros: 812,
	}
}

// BenchmarkSync is the floor: a bare loop of writes of the size of one typical frame, each with its fdatasync.
func BenchmarkSync(b *testing.B) {
	f, err := os.OpenFile(filepath.Join(b.TempDir(), "bare"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, 600)
	for b.Loop() {
		if _, err := f.Write(data); err != nil {
			b.Fatal(err)
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			b.ReportAllocs()
			l := open(b, audit.Config{Dir: b.TempDir(), ReserveBytes: 1})
			work := make(chan struct{}, callers)
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					r := *typical(1)
					for range work {
						if err := l.Append(context.Background(), &r); err != nil {
							b.Error(err)
						}
					}
				})
			}
			b.ResetTimer()
			for range b.N {
				work <- struct{}{}
			}
			close(work)
			wg.Wait()
			st := l.Stats()
			b.ReportMetric(float64(st.Records)/float64(st.Commits), "records/sync")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// million makes a log of a million typical records.
func million(b *testing.B) *audit.Log {
	b.Helper()
	l := open(b, audit.Config{Dir: b.TempDir()})
	batch := make([]*audit.Record, 5000)
	for i := 0; i < 1_000_000; i += len(batch) {
		for j := range batch {
			batch[j] = typical(i + j)
		}
		if err := l.Append(context.Background(), batch...); err != nil {
			b.Fatal(err)
		}
	}
	return l
}

func BenchmarkQueryMillion(b *testing.B) {
	l := million(b)
	for _, q := range []struct {
		name string
		q    audit.Query
	}{
		{"newest 100", audit.Query{Limit: 100}},
		{"one path, 100 hits", audit.Query{Path: "secret/data/app-77/db"}},
		{"one secret by its own path", audit.Query{Path: "secret/app-77/db"}},
		{"one identity, 2000 hits", audit.Query{Identity: "service-33"}},
		{"no hit", audit.Query{Identity: "nobody"}},
		{"an hour", audit.Query{Since: time.Unix(1_790_500_000, 0), Until: time.Unix(1_790_503_600, 0)}},
		{"a denial that never was", audit.Query{Status: "denied"}},
	} {
		b.Run(q.name, func(b *testing.B) {
			for b.Loop() {
				n := 0
				if err := l.Query(context.Background(), q.q, func(*audit.Record) error { n++; return nil }); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(n), "hits")
			}
		})
	}
}

func BenchmarkVerifyMillion(b *testing.B) {
	dir := b.TempDir()
	l := open(b, audit.Config{Dir: dir})
	batch := make([]*audit.Record, 5000)
	for i := 0; i < 1_000_000; i += len(batch) {
		for j := range batch {
			batch[j] = typical(i + j)
		}
		if err := l.Append(context.Background(), batch...); err != nil {
			b.Fatal(err)
		}
	}
	closeLog(b, l)
	for b.Loop() {
		sound(b, dir)
	}
}
