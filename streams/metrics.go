package streams

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// register adds a collector, or returns the equal one that is already there: the
// groups of one process share their metrics and differ by label.
func register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	err := reg.Register(c)
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if same, ok := already.ExistingCollector.(C); ok {
			return same
		}
	}
	if err != nil {
		panic(err) // two metrics of one name and another shape: a mistake of the program
	}
	return c
}

type writerMetrics struct {
	fresh, duplicate, conflict, failed prometheus.Counter
	overloaded                         prometheus.Counter
	resent                             prometheus.Counter
	batch                              prometheus.Histogram
	seconds                            prometheus.Histogram
	queued, queuedBytes                prometheus.Gauge
}

func newWriterMetrics(reg prometheus.Registerer) *writerMetrics {
	records := register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "paybell_streams_append_records_total",
		Help: "Records given to the writer and sent, by what became of them. Of outcome unconfirmed it is not known whether they were appended.",
	}, []string{"outcome"}))
	return &writerMetrics{
		fresh:     records.WithLabelValues("new"),
		duplicate: records.WithLabelValues("duplicate"),
		conflict:  records.WithLabelValues("conflict"),
		failed:    records.WithLabelValues("unconfirmed"),
		overloaded: register(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "paybell_streams_append_overloaded_total",
			Help: "Appends refused because the queue was full.",
		})),
		resent: register(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "paybell_streams_append_resent_total",
			Help: "Records sent a second time because the answer to the first did not arrive or the script was not known.",
		})),
		batch: register(reg, prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "paybell_streams_append_batch_records",
			Help:    "Records sent in one round trip.",
			Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512},
		})),
		seconds: register(reg, prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "paybell_streams_append_pipeline_seconds",
			Help:    "Time from sending records to the last answer.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 12),
		})),
		queued: register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "paybell_streams_append_queue_records",
			Help: "Records waiting to be sent.",
		})),
		queuedBytes: register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "paybell_streams_append_queue_bytes",
			Help: "Bytes waiting to be sent.",
		})),
	}
}

type groupMetrics struct {
	taken, gone, unreadable        prometheus.Counter
	done, dead                     prometheus.Counter
	adopted, lost, parked          prometheus.Counter
	acquired, leaseLost, recreated prometheus.Counter
	uncreated                      prometheus.Counter
}

func newGroupMetrics(reg prometheus.Registerer, group string) *groupMetrics {
	count := func(name, help string, extra ...string) *prometheus.CounterVec {
		return register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help},
			append([]string{"group"}, extra...)))
	}
	entries := count("paybell_streams_group_entries_total",
		"Entries read, by how: new ones, those without fields any more, those that are no record.", "kind")
	settled := count("paybell_streams_group_settled_total", "Deliveries ended.", "outcome")
	leases := count("paybell_streams_group_leases_total", "Leases taken, and calls refused because the lease was lost.", "outcome")
	return &groupMetrics{
		taken:      entries.WithLabelValues(group, "new"),
		gone:       entries.WithLabelValues(group, "gone"),
		unreadable: entries.WithLabelValues(group, "unreadable"),
		done:       settled.WithLabelValues(group, "done"),
		dead:       settled.WithLabelValues(group, "dead"),
		acquired:   leases.WithLabelValues(group, "taken"),
		leaseLost:  leases.WithLabelValues(group, "lost"),
		adopted: count("paybell_streams_group_adopted_total",
			"Pending entries taken over from another consumer.").WithLabelValues(group),
		parked: count("paybell_streams_group_parked_total",
			"Deliveries moved out of the stream to wait, or given another time there.").WithLabelValues(group),
		lost: count("paybell_streams_group_lost_total",
			"Pending entries whose event was deleted before the group had settled it.").WithLabelValues(group),
		uncreated: count("paybell_streams_group_create_failures_total",
			"Times that the group was missing in some partition and could not be created there.").WithLabelValues(group),
		recreated: count("paybell_streams_group_recreated_total",
			"Partitions in which the group was missing and was created again, at the start.").WithLabelValues(group),
	}
}
