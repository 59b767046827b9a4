package server

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bailiff-secrets/bailiff/audit"
	"github.com/bailiff-secrets/bailiff/broker"
)

// leases is the part of the broker that metrics are made of.
type leases interface {
	Stats() broker.Stats
	Census(ctx context.Context) (broker.Census, error)
}

// leaseMetrics asks the broker when it is scraped. What is counted in the store is the same on every node; the rest is
// this node's.
type leaseMetrics struct {
	leases leases

	count, overdue, inDoubt, many  *prometheus.Desc
	breaker, limit, working, queue *prometheus.Desc
	outcomes, work, seconds        *prometheus.Desc
	stopped, pools                 *prometheus.Desc
}

func newLeaseMetrics(l leases) *leaseMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("bailiff_"+name, help, labels, nil)
	}
	return &leaseMetrics{
		leases:  l,
		count:   desc("leases", "Leases by state, target and cause of a failed revocation, revoked ones left out.", "state", "target", "cause"),
		overdue: desc("oldest_overdue_revocation_seconds", "Age of the oldest revocation that is due and not done."),
		inDoubt: desc("intents_in_doubt", "Leases whose credential is being made, or may have been."),
		many:    desc("open_revocations", "Revocations of many leases that are not done."),
		breaker: desc("target_breaker", "1 for the state that a target's circuit breaker is in.", "target", "state"),
		limit:   desc("target_limit", "How much may be at work on a target at a time, as it is now.", "target"),
		working: desc("target_working", "What is at work on a target, by kind.", "target", "kind"),
		queue:   desc("target_queue", "What waits for a target, by class.", "target", "class"),
		outcomes: desc("target_outcomes_total", "What ended on a target: issued, issue_failed, renewed, revoked, revoke_failed.",
			"target", "outcome"),
		work: desc("work_total", "Calls by operation, type of producer and how they ended.", "op", "producer", "outcome"),
		stopped: desc("issues_stopped_total", "Issues that a guard stopped (quota, rate), by whose limit it was and the role asked for.",
			"guard", "scope", "role"),
		pools:   desc("pooled_credentials", "Credentials that wait on this node to be handed out, by role.", "role"),
		seconds: desc("work_seconds", "How long calls took, by operation and type of producer.", "op", "producer"),
	}
}

// Describe is part of prometheus.Collector.
func (m *leaseMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		m.count, m.overdue, m.inDoubt, m.many, m.breaker, m.limit, m.working, m.queue, m.outcomes, m.work, m.seconds, m.stopped, m.pools,
	} {
		ch <- d
	}
}

// Collect is part of prometheus.Collector.
func (m *leaseMetrics) Collect(ch chan<- prometheus.Metric) {
	m.census(ch)
	s := m.leases.Stats()
	gauge(ch, m.many, float64(s.Revocations))
	for target, x := range s.Targets {
		m.target(ch, target, x)
	}
	for x, n := range s.Stopped {
		counter(ch, m.stopped, n, x.Guard, x.Scope, x.Role)
	}
	for role, n := range s.Pools {
		gauge(ch, m.pools, float64(n), role)
	}
	for w, x := range s.Work {
		for outcome, n := range x.Outcomes {
			counter(ch, m.work, n, w.Op, w.Producer, outcome)
		}
		ch <- histogram(m.seconds, x.Latency, w.Op, w.Producer)
	}
}

// census shows what the store counts.
func (m *leaseMetrics) census(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := m.leases.Census(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(m.count, err)
		return
	}
	for _, t := range c.Tally {
		gauge(ch, m.count, float64(t.N), string(t.State), t.Target, string(t.Cause))
	}
	age := 0.0
	if !c.Overdue.IsZero() {
		age = max(0, time.Since(c.Overdue).Seconds())
	}
	gauge(ch, m.overdue, age)
	gauge(ch, m.inDoubt, float64(c.InDoubt))
}

// target shows how one target stands.
func (m *leaseMetrics) target(ch chan<- prometheus.Metric, target string, x broker.TargetStats) {
	for _, s := range []broker.BreakerState{broker.BreakerClosed, broker.BreakerOpen, broker.BreakerProbing} {
		is := 0.0
		if s == x.Breaker {
			is = 1
		}
		gauge(ch, m.breaker, is, target, string(s))
	}
	if x.Limit > 0 {
		gauge(ch, m.limit, float64(x.Limit), target)
	}
	for kind, n := range map[string]int{"issue": x.Issuing, "revoke": x.Revoking, "sweep": x.Sweeping} {
		gauge(ch, m.working, float64(n), target, kind)
	}
	gauge(ch, m.queue, float64(x.IssuesWaiting), target, "issue")
	for class, n := range x.Queues {
		gauge(ch, m.queue, float64(n), target, class)
	}
	for outcome, n := range map[string]uint64{
		"issued": x.Issued, "issue_failed": x.IssueFailed, "renewed": x.Renewed, "revoked": x.Revoked, "revoke_failed": x.RevokeFailed,
	} {
		counter(ch, m.outcomes, n, target, outcome)
	}
}

func gauge(ch chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func counter(ch chan<- prometheus.Metric, d *prometheus.Desc, n uint64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
}

func histogram(d *prometheus.Desc, h broker.Histogram, labels ...string) prometheus.Metric {
	buckets := make(map[float64]uint64, len(h.Bounds))
	sum := uint64(0)
	for i, b := range h.Bounds {
		sum += h.Counts[i]
		buckets[b.Seconds()] = sum
	}
	return prometheus.MustNewConstHistogram(d, h.N, h.Sum.Seconds(), buckets, labels...)
}

// trailMetrics shows how the trail is written: the records of a commit are those per commits, its latency is seconds per
// commits.
type trailMetrics struct {
	trail *audit.Log

	records, commits, refused, seconds, bytes, damaged *prometheus.Desc
}

func newTrailMetrics(trail *audit.Log) *trailMetrics {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("bailiff_audit_"+name, help, nil, nil)
	}
	return &trailMetrics{
		trail:   trail,
		records: desc("records_total", "Records kept in the trail."),
		commits: desc("commits_total", "Group commits of the trail, each one write and one sync."),
		refused: desc("refused_total", "Records that could not be kept."),
		seconds: desc("commit_seconds_total", "Time spent in writes and syncs of the trail."),
		bytes:   desc("bytes_total", "Bytes written to the trail."),
		damaged: desc("damaged_segments", "Segments of the trail that were changed from outside since the start."),
	}
}

// Describe is part of prometheus.Collector.
func (m *trailMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.records, m.commits, m.refused, m.seconds, m.bytes, m.damaged} {
		ch <- d
	}
}

// Collect is part of prometheus.Collector.
func (m *trailMetrics) Collect(ch chan<- prometheus.Metric) {
	s := m.trail.Stats()
	counter(ch, m.records, s.Records)
	counter(ch, m.commits, s.Commits)
	counter(ch, m.refused, s.Refused)
	counter(ch, m.bytes, s.Bytes)
	gauge(ch, m.damaged, float64(len(m.trail.Damage())))
	ch <- prometheus.MustNewConstMetric(m.seconds, prometheus.CounterValue, s.Writing.Seconds())
}
