package server

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bailiff-secrets/bailiff/broker"
)

func TestSweepMetrics(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	registry := prometheus.NewRegistry()
	registry.MustRegister(newSweepMetrics(func() []broker.Report {
		return []broker.Report{
			{Target: "eu", At: at, Action: broker.ReconcileReport, Principals: 9, Orphans: []broker.Orphan{{}, {Done: true}}, Foreign: []string{"x"}},
			{Target: "us", At: at, Action: broker.ReconcileRemove, Orphans: []broker.Orphan{{}, {Done: true}}, Missing: make([]broker.Missing, 3), Error: "no route"},
		}
	}))
	got := gathered(t, registry)
	for name, want := range map[string]float64{
		"bailiff_reconcile_timestamp_seconds{target=eu}": 1_700_000_000,
		"bailiff_reconcile_failed{target=eu}":            0,
		"bailiff_reconcile_failed{target=us}":            1,
		"bailiff_reconcile_principals{target=eu}":        9,
		"bailiff_reconcile_orphans{target=eu}":           2,
		"bailiff_reconcile_orphans{target=us}":           1,
		"bailiff_reconcile_missing{target=us}":           3,
		"bailiff_reconcile_foreign{target=eu}":           1,
	} {
		if v, there := got[name]; !there || v != want {
			t.Errorf("%s: got %v, %t, want %v", name, v, there, want)
		}
	}
}
