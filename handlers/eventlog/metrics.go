package eventlog

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// purgeMetrics are what a Purger counts.
type purgeMetrics struct {
	purged, refused prometheus.Counter
	difference      *prometheus.GaugeVec
}

func newPurgeMetrics(reg prometheus.Registerer) (*purgeMetrics, error) {
	m := &purgeMetrics{
		purged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "paybell_eventlog_purged_events_total",
			Help: "Events deleted from the event log because their retention had passed.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "paybell_eventlog_purge_refused_total",
			Help: "Runs that deleted nothing because clocks disagree.",
		}),
		difference: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "paybell_eventlog_clock_difference_seconds",
			Help: "How far the process's clock was ahead of a server's at the last run; negative is behind.",
		}, []string{"server"}),
	}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.purged, m.refused, m.difference} {
		errs = append(errs, reg.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("eventlog: register metrics: %w", err)
	}
	return m, nil
}
