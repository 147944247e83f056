package orderstatus

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct{ events *prometheus.CounterVec }

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{events: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "paybell_orderstatus_events_total",
		Help: "Events by what they did to their order: applied, stale, conflict or needs-fetch.",
	}, []string{"outcome"})}
	if reg == nil {
		return m, nil
	}
	if err := reg.Register(m.events); err != nil {
		return nil, fmt.Errorf("orderstatus: register metrics: %w", err)
	}
	return m, nil
}
