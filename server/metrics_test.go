package server

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/config"
)

// gathered is every sample by its name and labels; a histogram's is its count.
func gathered(t *testing.T, g prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := make([]string, 0, len(m.GetLabel()))
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			v := m.GetGauge().GetValue() + m.GetCounter().GetValue() // zero where it isn't one
			if m.Histogram != nil {
				v = float64(m.Histogram.GetSampleCount())
			}
			out[f.GetName()+"{"+strings.Join(labels, ",")+"}"] = v
		}
	}
	return out
}

// TestLeaseMetrics: three leases of a target that isn't declared, two of them due.
func TestLeaseMetrics(t *testing.T) {
	cfg := config.Default(t.TempDir())
	s, err := open(t.Context(), cfg, Options{Stdout: io.Discard, Stderr: io.Discard, Env: func(string) (string, bool) { return "", false }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	at := time.Now().Add(-time.Minute).UTC().Truncate(time.Millisecond)
	for i, l := range []broker.Lease{
		{State: broker.Active, NextAt: at.Add(time.Hour), ExpiresAt: at.Add(time.Hour)},
		{State: broker.Pending, NextAt: at, IntentDeadline: at},
		{State: broker.Revoking, NextAt: at, ExpiresAt: at},
	} {
		l.ID, l.Target, l.Mount, l.Role, l.Producer = "database/creds/r/"+string(rune('a'+i)), "pg", "database/", "r", "postgres"
		if err := s.db.Insert(t.Context(), &l); err != nil {
			t.Fatal(err)
		}
		if l.State == broker.Revoking {
			if err := s.leases.Revoke(t.Context(), l.ID, false); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := gathered(t, s.metrics.registry)
	for name, want := range map[string]float64{
		"bailiff_leases{cause=,state=active,target=pg}":   1,
		"bailiff_leases{cause=,state=pending,target=pg}":  1,
		"bailiff_leases{cause=,state=revoking,target=pg}": 1,
		"bailiff_intents_in_doubt{}":                      1,
		"bailiff_open_revocations{}":                      0,
		"bailiff_audit_refused_total{}":                   0,
	} {
		if v, there := got[name]; !there || v != want {
			t.Errorf("%s: got %v, %t, want %v", name, v, there, want)
		}
	}
	if v := got["bailiff_oldest_overdue_revocation_seconds{}"]; v < 59 || v > 120 {
		t.Errorf("the oldest overdue revocation is %v s old, want a minute", v)
	}
}

// TestTargetMetrics: the numbers of one target and of one kind of work.
func TestTargetMetrics(t *testing.T) {
	m := newLeaseMetrics(nil)
	registry := prometheus.NewRegistry()
	registry.MustRegister(collected{m, func(ch chan<- prometheus.Metric) {
		m.target(ch, "pg", broker.TargetStats{
			Counts: broker.Counts{Issued: 7, RevokeFailed: 2}, Breaker: broker.BreakerOpen, Limit: 3, Revoking: 2,
			Queues: map[string]int{"asked": 1, "expired": 9}, IssuesWaiting: 4,
		})
		ch <- histogram(m.seconds, broker.Histogram{
			Bounds: []time.Duration{time.Millisecond, time.Second}, Counts: []uint64{1, 2, 4}, Sum: time.Minute, N: 7,
		}, "issue", "postgres")
	}})
	got := gathered(t, registry)
	for name, want := range map[string]float64{
		"bailiff_target_breaker{state=open,target=pg}":                   1,
		"bailiff_target_breaker{state=closed,target=pg}":                 0,
		"bailiff_target_limit{target=pg}":                                3,
		"bailiff_target_working{kind=revoke,target=pg}":                  2,
		"bailiff_target_queue{class=issue,target=pg}":                    4,
		"bailiff_target_queue{class=expired,target=pg}":                  9,
		"bailiff_target_outcomes_total{outcome=issued,target=pg}":        7,
		"bailiff_target_outcomes_total{outcome=revoke_failed,target=pg}": 2,
		"bailiff_work_seconds{op=issue,producer=postgres}":               7,
	} {
		if v, there := got[name]; !there || v != want {
			t.Errorf("%s: got %v, %t, want %v", name, v, there, want)
		}
	}
}

// collected collects what f says.
type collected struct {
	*leaseMetrics
	f func(ch chan<- prometheus.Metric)
}

func (c collected) Collect(ch chan<- prometheus.Metric) { c.f(ch) }
