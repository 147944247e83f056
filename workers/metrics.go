package workers

import "github.com/prometheus/client_golang/prometheus"

// metrics are a Pool's; every one is labelled by group.
type metrics struct {
	deliveries  *prometheus.CounterVec
	deadLetters *prometheus.CounterVec
	attempt     *prometheus.HistogramVec
	lag         *prometheus.HistogramVec
	entries     *prometheus.GaugeVec
	held        *prometheus.GaugeVec
	inFlight    *prometheus.GaugeVec
	parked      *prometheus.GaugeVec
	partitions  *prometheus.GaugeVec
	stuck       *prometheus.GaugeVec
	leaseLosses *prometheus.CounterVec
	panics      *prometheus.CounterVec
	lost        *prometheus.CounterVec
	rewinds     *prometheus.CounterVec
	rollbacks   *prometheus.CounterVec
	paused      *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	labels := []string{"group"}
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		return register(reg, prometheus.NewCounterVec(
			prometheus.CounterOpts{Name: "paybell_workers_" + name, Help: help}, append(labels, more...)))
	}
	gauge := func(name, help string, more ...string) *prometheus.GaugeVec {
		return register(reg, prometheus.NewGaugeVec(
			prometheus.GaugeOpts{Name: "paybell_workers_" + name, Help: help}, append(labels, more...)))
	}
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		return register(reg, prometheus.NewHistogramVec(
			prometheus.HistogramOpts{Name: "paybell_workers_" + name, Help: help, Buckets: buckets}, labels))
	}
	return &metrics{
		deliveries: counter("deliveries_total",
			"Deliveries by what came of an attempt: done, retry, held, unavailable, isolated, stopped, dead.", "outcome"),
		deadLetters: counter("dead_letters_total", "Deliveries given up, by reason.", "reason"),
		attempt: histogram("attempt_duration_seconds", "Time of one handler call, whether for one delivery or a batch.",
			prometheus.ExponentialBuckets(0.0005, 2, 17)),
		lag: histogram("handling_lag_seconds", "Time from a callback's arrival to its event being settled as done.",
			prometheus.ExponentialBuckets(0.001, 2.5, 17)),
		entries:     gauge("entries", "Entries read and not yet settled."),
		held:        gauge("held_entries", "Entries that wait behind, or for the retry of, an earlier one of their order."),
		inFlight:    gauge("in_flight_entries", "Entries a handler is running."),
		parked:      gauge("parked_entries", "Entries of owned partitions that are parked: kept outside the stream until they are due."),
		partitions:  gauge("partitions", "Partitions owned by this process."),
		stuck:       gauge("stuck_attempts", "Attempts that have not returned although their time is up."),
		leaseLosses: counter("lease_losses_total", "Leases that ended without being released."),
		panics:      counter("panics_total", "Attempts that panicked."),
		lost:        counter("lost_entries_total", "Pending entries that were deleted from the stream before they were settled."),
		rewinds:     counter("rewinds_total", "Times that a partition was set back because the database had gone back to an earlier state."),
		rollbacks:   counter("redis_rollbacks_total", "Times that Redis was found to lack entries of a partition whose effects are in the database."),
		paused:      gauge("paused", "Parts of the group that pause because redis, what the handler needs, room for dead_letters or for parked entries is away.", "away"),
	}
}

// register registers c on reg, which may be nil. Registering one pool's metrics
// twice is a mistake in the program, as it is with every collector.
func register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	if reg != nil {
		reg.MustRegister(c)
	}
	return c
}

// groupMetrics are metrics with the group filled in.
type groupMetrics struct {
	done, retry, held, unavailable, isolated, stopped, dead prometheus.Counter

	deadLetters *prometheus.CounterVec // still by reason
	attempt     prometheus.Observer
	lag         prometheus.Observer
	entries     prometheus.Gauge
	heldNow     prometheus.Gauge
	inFlight    prometheus.Gauge
	parked      prometheus.Gauge
	partitions  prometheus.Gauge
	stuck       prometheus.Gauge
	leaseLosses prometheus.Counter
	panics      prometheus.Counter
	lost        prometheus.Counter
	rewinds     prometheus.Counter
	rollbacks   prometheus.Counter
	paused      *prometheus.GaugeVec // still by what is away
}

// gauges is what one partition adds to its group's gauges.
type gauges struct{ entries, held, inFlight, parked int }

func (m *metrics) of(group string) *groupMetrics {
	outcome := func(name string) prometheus.Counter { return m.deliveries.WithLabelValues(group, name) }
	return &groupMetrics{
		done: outcome("done"), retry: outcome("retry"), held: outcome("held"), unavailable: outcome("unavailable"),
		isolated: outcome("isolated"), stopped: outcome("stopped"), dead: outcome("dead"),
		deadLetters: m.deadLetters.MustCurryWith(prometheus.Labels{"group": group}),
		attempt:     m.attempt.WithLabelValues(group),
		lag:         m.lag.WithLabelValues(group),
		entries:     m.entries.WithLabelValues(group),
		heldNow:     m.held.WithLabelValues(group),
		inFlight:    m.inFlight.WithLabelValues(group),
		parked:      m.parked.WithLabelValues(group),
		partitions:  m.partitions.WithLabelValues(group),
		stuck:       m.stuck.WithLabelValues(group),
		leaseLosses: m.leaseLosses.WithLabelValues(group),
		panics:      m.panics.WithLabelValues(group),
		lost:        m.lost.WithLabelValues(group),
		rewinds:     m.rewinds.WithLabelValues(group),
		rollbacks:   m.rollbacks.WithLabelValues(group),
		paused:      m.paused.MustCurryWith(prometheus.Labels{"group": group}),
	}
}
