package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bailiff-secrets/bailiff/notify"
)

// webhooks makes what tells others of the events of leases. It must come before the estate is loaded.
func (s *server) webhooks() (err error) {
	s.hooks, err = notify.New(notify.Config{
		Trail: s.trail, Cursors: s.db, Leases: s.db, Node: s.cfg.Node, Source: "/bailiff/" + s.clusterID, Version: s.version, Logger: s.logger,
	})
	s.estate.hooks = s.hooks
	return err
}

// webhookStatus says how each webhook is.
func (s *server) webhookStatus() map[string]any {
	out := make(map[string]any)
	for _, h := range s.hooks.Health() {
		x := map[string]any{"state": "ok", "delivered": h.Delivered, "lost": h.Lost, "records_behind": h.Behind, "lag_seconds": h.Lag.Round(time.Second).Seconds()}
		if h.Failing {
			x["state"], x["error"], x["failures"] = "failing", h.Error, h.Failures
		}
		if !h.Succeeded.IsZero() {
			x["last_delivery"] = h.Succeeded.UTC().Format(time.RFC3339)
		}
		out[h.Name] = x
	}
	return out
}

// hookMetrics shows how webhooks are.
type hookMetrics struct {
	hooks *notify.Manager

	delivered, failures, lost, failing, lag, behind *prometheus.Desc
}

func newHookMetrics(hooks *notify.Manager) *hookMetrics {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("bailiff_webhook_"+name, help, []string{"webhook"}, nil)
	}
	return &hookMetrics{
		hooks:     hooks,
		delivered: desc("delivered_total", "Events that a webhook took."),
		failures:  desc("failures_total", "Tries to send an event that failed."),
		lost:      desc("lost_total", "Events that were given up."),
		failing:   desc("failing", "1 while the last try failed, 0 otherwise."),
		lag:       desc("lag_seconds", "Age of the oldest event that is not delivered."),
		behind:    desc("records_behind", "Records of the trail that a webhook has not passed."),
	}
}

// Describe is part of prometheus.Collector.
func (m *hookMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.delivered, m.failures, m.lost, m.failing, m.lag, m.behind} {
		ch <- d
	}
}

// Collect is part of prometheus.Collector.
func (m *hookMetrics) Collect(ch chan<- prometheus.Metric) {
	for _, h := range m.hooks.Health() {
		counter(ch, m.delivered, h.Delivered, h.Name)
		counter(ch, m.failures, h.Tries, h.Name)
		counter(ch, m.lost, h.Lost, h.Name)
		is := 0.0
		if h.Failing {
			is = 1
		}
		gauge(ch, m.failing, is, h.Name)
		gauge(ch, m.lag, h.Lag.Seconds(), h.Name)
		gauge(ch, m.behind, float64(h.Behind), h.Name)
	}
}
