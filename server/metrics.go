package server

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/gate"
)

// metrics are what the second listener shows. Labels are words from short lists, mounts and targets; never paths,
// identities or anything a client can make up.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newMetrics(version string) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bailiff_requests_total", Help: "Requests by door, mount, operation and how they ended.",
		}, []string{"via", "mount", "op", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "bailiff_request_seconds", Help: "Time from the first byte of a request to the release of its answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"via", "mount"}),
	}
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "bailiff_build_info", Help: "Always 1.", ConstLabels: prometheus.Labels{"version": version},
	}, func() float64 { return 1 })
	m.registry.MustRegister(m.requests, m.seconds, build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// observe counts a request; it is the gate's observer.
func (m *metrics) observe(r *gate.Request, status audit.Status, took time.Duration) {
	mount := "none"
	if r.Mount != nil {
		mount = r.Mount.Path
	}
	m.requests.WithLabelValues(string(r.Via), mount, string(r.Op), string(status)).Inc()
	m.seconds.WithLabelValues(string(r.Via), mount).Observe(took.Seconds())
}

// heldMetric is 1 while revocations are held.
func heldMetric(held func() (broker.Hold, bool)) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "bailiff_revocations_held", Help: "1 while revocations wait for bailiff recover confirm, 0 otherwise.",
	}, func() float64 {
		if _, is := held(); is {
			return 1
		}
		return 0
	})
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Timeout: 10 * time.Second})
}
