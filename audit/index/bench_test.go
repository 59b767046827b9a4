package index_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/bailiff-secrets/bailiff/audit"
)

// fill appends n records of 90 days: 2,000 secrets, 200 identities, half of them reads that a target was asked for.
func fill(b *testing.B, w *world, n int) {
	b.Helper()
	const page = 5000
	for from := 0; from < n; from += page {
		var records []*audit.Record
		for i := from; i < min(n, from+page); i++ {
			records = append(records, &audit.Record{
				Time: start().Add(time.Duration(i) * 90 * 24 * time.Hour / time.Duration(n)), Stage: audit.StageResponse, Status: audit.OK,
				RequestID: fmt.Sprintf("%08x-0000-4000-8000-%012x", i, i), Via: "hvp", Identity: fmt.Sprintf("service-%d", i%200), AccessID: "p-abcdefghijklmnop",
				KeyID: "k-abcdefghijklmnop", Method: "api-key", ClientAddr: "10.1.2.3", UserAgent: "Go-http-client/1.1", Op: "read",
				Path: fmt.Sprintf("secret/data/team/app-%d/db", i%2000), Mount: "secret/", Target: "vault-a", Code: 200, Micros: 900,
			})
		}
		w.append(records...)
	}
}

// BenchmarkTake is what it costs to take in one record.
func BenchmarkTake(b *testing.B) {
	w := newWorld(b)
	fill(b, w, b.N)
	b.ResetTimer()
	w.run()
	b.StopTimer()
	st, err := os.Stat(w.db())
	must(b, err)
	b.ReportMetric(float64(st.Size())/float64(b.N), "bytes/record")
}

// BenchmarkWhoHad asks who had one secret in 90 days of 200,000 records, through the index and by reading the log.
func BenchmarkWhoHad(b *testing.B) {
	w := newWorld(b)
	fill(b, w, 200_000)
	w.run()
	since := start().Add(time.Hour)
	b.Run("index", func(b *testing.B) {
		for b.Loop() {
			holders, err := w.x.WhoHad(context.Background(), "secret/team/app-7/db", since, time.Time{})
			if err != nil || len(holders) == 0 {
				b.Fatal(holders, err)
			}
		}
	})
	b.Run("log", func(b *testing.B) {
		for b.Loop() {
			n := 0
			err := w.log.Query(context.Background(), audit.Query{Path: "secret/team/app-7/db", Stage: "response", Since: since}, func(*audit.Record) error {
				n++
				return nil
			})
			if err != nil || n == 0 {
				b.Fatal(n, err)
			}
		}
	})
}
