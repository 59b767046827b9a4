package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bailiff-secrets/bailiff/broker"
)

// sweepMetrics shows what the last reconcile of each target has found, on this node.
type sweepMetrics struct {
	reports func() []broker.Report

	at, failed, principals, orphans, missing, foreign *prometheus.Desc
}

func newSweepMetrics(reports func() []broker.Report) *sweepMetrics {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("bailiff_reconcile_"+name, help, []string{"target"}, nil)
	}
	return &sweepMetrics{
		reports:    reports,
		at:         desc("timestamp_seconds", "When a target was last reconciled, in seconds since 1970."),
		failed:     desc("failed", "1 where the last reconcile of a target failed, 0 otherwise."),
		principals: desc("principals", "Credentials of ours on a target."),
		orphans:    desc("orphans", "Credentials of ours on a target without an open lease that are still there."),
		missing:    desc("missing", "Open leases whose credential is not on its target."),
		foreign:    desc("foreign", "Names on a target that look like ours and are not proven to be."),
	}
}

// Describe is part of prometheus.Collector.
func (m *sweepMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.at, m.failed, m.principals, m.orphans, m.missing, m.foreign} {
		ch <- d
	}
}

// Collect is part of prometheus.Collector.
func (m *sweepMetrics) Collect(ch chan<- prometheus.Metric) {
	for _, r := range m.reports() {
		left := 0
		for _, o := range r.Orphans {
			if r.Action != broker.ReconcileRemove || !o.Done {
				left++
			}
		}
		failed := 0.0
		if r.Error != "" {
			failed = 1
		}
		gauge(ch, m.at, float64(r.At.UnixMilli())/1000, r.Target)
		gauge(ch, m.failed, failed, r.Target)
		gauge(ch, m.principals, float64(r.Principals), r.Target)
		gauge(ch, m.orphans, float64(left), r.Target)
		gauge(ch, m.missing, float64(len(r.Missing)), r.Target)
		gauge(ch, m.foreign, float64(len(r.Foreign)), r.Target)
	}
}
