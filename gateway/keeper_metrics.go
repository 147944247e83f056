package gateway

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// keeperMetrics are what the journal shows. docs/operating.md says what to alert on.
type keeperMetrics struct {
	kept, drained, failedDrains, refused, setAside prometheus.Counter
	stuck                                          prometheus.Gauge
}

func newKeeperMetrics(r prometheus.Registerer, k *Keeper) (*keeperMetrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	m := &keeperMetrics{
		kept:         counter("paybell_journal_kept_events_total", "Events made durable in the journal: in the mode fallback those that the stream could not take, or that had to go behind them."),
		drained:      counter("paybell_journal_drained_events_total", "Events brought from the journal to the stream, those of an earlier run included."),
		failedDrains: counter("paybell_journal_drain_failures_total", "Appends from the journal that the stream did not confirm."),
		refused:      counter("paybell_journal_refused_callbacks_total", "Callbacks that the journal did not take: the provider was asked to send them again."),
		setAside:     counter("paybell_journal_set_aside_events_total", "Accepted events that cannot be brought to the stream and lie in the quarantine."),
		stuck:        prometheus.NewGauge(prometheus.GaugeOpts{Name: "paybell_journal_stuck_partitions", Help: "Partitions of the stream that do not take what the journal holds for them."}),
	}
	collectors := []prometheus.Collector{
		m.kept, m.drained, m.failedDrains, m.refused, m.setAside, m.stuck,
		gauge("paybell_journal_bytes", "Bytes of the journal's files, without the quarantine.", func() float64 { return float64(k.journal.Stats().Bytes) }),
		gauge("paybell_journal_limit_bytes", "How many bytes the journal may take, the quarantine included.", func() float64 { return float64(k.o.MaxBytes) }),
		gauge("paybell_journal_quarantined_bytes", "Bytes in the journal's quarantine: damage, and what the stream can never take.", func() float64 { return float64(k.journal.Stats().Quarantined) }),
		gauge("paybell_journal_events", "Events in the journal: in the mode fallback those that are not yet in the stream.", func() float64 { return float64(k.journal.Stats().Payloads) }),
		gauge("paybell_journal_oldest_age_seconds", "Age of the oldest event in the journal, 0 when it is empty.", func() float64 {
			oldest := k.journal.Stats().Oldest
			if oldest.IsZero() {
				return 0
			}
			return max(0, k.d.Now().Sub(oldest).Seconds())
		}),
		gauge("paybell_journal_failed", "1 after a sync failed, or the journal was removed under the running process: it takes nothing until the process is restarted.", func() float64 {
			if k.journal.Stats().Failed != nil {
				return 1
			}
			return 0
		}),
	}
	for _, c := range collectors {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("gateway: register metrics: %w", err)
		}
	}
	return m, nil
}
