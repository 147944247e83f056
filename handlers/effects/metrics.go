package effects

import (
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are labelled by group alone, and by closed lists.
type metrics struct {
	events     *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	conflicts  *prometheus.CounterVec
	isolations *prometheus.CounterVec
	retries    *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, db *sql.DB, p *pooled) (*metrics, error) {
	m := &metrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paybell_effects_events_total",
			Help: "Deliveries by what became of them: done, held, stale_owner, rejected, unavailable or error.",
		}, []string{"group", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "paybell_effects_batch_seconds",
			Help:    "Time from a batch to its outcomes.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}, []string{"group"}),
		conflicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paybell_effects_conflicts_total",
			Help: "Event IDs that came back with other facts and had no effect.",
		}, []string{"group"}),
		isolations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paybell_effects_isolations_total",
			Help: "Batches, or parts of one, that were divided to find a failing event.",
		}, []string{"group"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paybell_effects_retries_total",
			Help: "Transactions run again because they lost a race.",
		}, []string{"reason"}),
	}
	if reg == nil {
		return m, nil
	}
	inUse := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "paybell_effects_connections_in_use",
		Help: "Database connections that run a transaction now.",
	}, func() float64 { return float64(db.Stats().InUse) })
	waited := prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "paybell_effects_connection_wait_seconds_total",
		Help: "Time spent waiting for a database connection.",
	}, func() float64 { return db.Stats().WaitDuration.Seconds() })
	behind := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "paybell_effects_pooled",
		Help: "1 when the database is behind a pooler: statements are not prepared by name.",
	}, func() float64 {
		if p != nil && p.shared.Load() {
			return 1
		}
		return 0
	})
	var errs []error
	for _, c := range []prometheus.Collector{m.events, m.seconds, m.conflicts, m.isolations, m.retries, inUse, waited, behind} {
		errs = append(errs, reg.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("effects: register metrics: %w", err)
	}
	return m, nil
}

// observe times a batch; the function it returns counts the outcomes.
func (m *metrics) observe(group string) func([]error) {
	began := time.Now()
	return func(out []error) {
		m.seconds.WithLabelValues(group).Observe(time.Since(began).Seconds())
		counts := map[string]int{}
		for _, err := range out {
			counts[outcome(err)]++
		}
		for name, n := range counts {
			m.events.WithLabelValues(group, name).Add(float64(n))
		}
	}
}
