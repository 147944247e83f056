package workers

import (
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// outage logs once when the first part of a group notices that something it needs is
// away, and once when the last has recovered. What is away is "redis", "handler" for
// what the handler needs, "dead_letters" while Redis refuses to keep any, or "parked"
// while as much is parked as may be.
type outage struct {
	logger *slog.Logger
	group  string
	away   string
	paused prometheus.Gauge
	parts  atomic.Int32
	// why is the last error of a part.
	why atomic.Pointer[error]
}

// told is what is away and why, "" while nothing is.
func (o *outage) told() string {
	if o.parts.Load() == 0 {
		return ""
	}
	if why := o.why.Load(); why != nil {
		return o.away + ": " + (*why).Error()
	}
	return o.away
}

func (o *outage) init(g *group, away string) {
	o.logger, o.group, o.away = g.logger, g.name, away
	o.paused = g.metrics.paused.WithLabelValues(away)
}

// trouble is one part's view of an outage. One goroutine owns it.
type trouble struct {
	outage       *outage
	initial, max time.Duration
	failures     int
}

// failed notes a failure and returns how long to pause.
func (t *trouble) failed(err error) time.Duration {
	t.outage.why.Store(&err)
	if t.failures == 0 {
		t.outage.paused.Inc()
		if t.outage.parts.Add(1) == 1 {
			t.outage.logger.Warn("group pauses", "group", t.outage.group, "away", t.outage.away, "err", err)
		}
	}
	bound := t.max
	if n := min(t.failures, 40); t.initial < t.max>>n {
		bound = t.initial << n
	}
	t.failures++
	// The lower half stays, so that what is away is not asked without a pause.
	return bound/2 + rand.N(bound/2+1) //nolint:gosec // A guessable pause harms nobody.
}

// ended notes that calls succeed, or that this part ends.
func (t *trouble) ended() {
	if t.failures == 0 {
		return
	}
	t.failures = 0
	t.outage.paused.Dec()
	if t.outage.parts.Add(-1) == 0 {
		t.outage.logger.Info("group resumes", "group", t.outage.group, "away", t.outage.away)
	}
}
