package streams

import "github.com/prometheus/client_golang/prometheus"

type trimMetrics struct {
	entries, failed, overtaken prometheus.Counter
	created, lost, again       *prometheus.CounterVec
	holder                     prometheus.Gauge
}

func newTrimMetrics(reg prometheus.Registerer, declared []string) *trimMetrics {
	m := &trimMetrics{
		entries: register(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "paybell_streams_trim_entries_total",
			Help: "Entries removed because every declared group was done with them.",
		})),
		failed: register(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "paybell_streams_trim_failures_total",
			Help: "Looks at a partition that ended in an error.",
		})),
		// Undeclared groups are called as anybody likes, so they are no label.
		overtaken: register(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "paybell_streams_trim_overtaken_total",
			Help: "Times that unsettled entries of an undeclared group were removed because they were beyond the retention. The log names the group.",
		})),
		created: register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paybell_streams_trim_created_total",
			Help: "Partitions in which a declared group was missing and was created at the start.",
		}, []string{"group"})),
		lost: register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paybell_streams_trim_lost_total",
			Help: "Entries that somebody removed before a declared group had read or settled them.",
		}, []string{"group"})),
		again: register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paybell_streams_trim_again_total",
			Help: "Entries that a group of ours has once more, because somebody set it back, or that were never appended.",
		}, []string{"group"})),
		holder: register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "paybell_streams_trim_holder",
			Help: "1 while this process trims, 0 while another one does.",
		})),
	}
	// An alarm compares with zero, so zero has to be there.
	for _, group := range declared {
		m.created.WithLabelValues(group)
		m.lost.WithLabelValues(group)
		m.again.WithLabelValues(group)
	}
	return m
}

func (m *trimMetrics) holds(is bool) {
	m.holder.Set(0)
	if is {
		m.holder.Set(1)
	}
}
