package gateway

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/streams/event"
)

// outcome is what a request is counted as: a metric label, so the list is closed.
type outcome string

const (
	accepted  outcome = "accepted"
	duplicate outcome = "duplicate"
	conflict  outcome = "conflict"
	// journaled is kept, and whether it is new will be known later.
	journaled outcome = "journaled"
	refused   outcome = "refused"
	malformed outcome = "malformed"
	retry     outcome = "retry"
	// rejected never reached a provider: no such account, wrong method, too large.
	rejected outcome = "rejected"
)

// reasonUndecodable counts apart what was accepted and could not be read.
const reasonUndecodable = "undecodable"

// stage is a part of a callback's time.
type stage int

const (
	stageRead stage = iota
	stageVerify
	stageAppend
	stages
)

// nobody labels what belongs to no configured account: the name that was asked
// for is the sender's to choose, and without bounds.
const nobody = "unknown"

// metrics are what the door counts.
type metrics struct {
	callbacks *prometheus.CounterVec
	events    *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	bytes     *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer, g *Gateway) (*metrics, error) {
	m := &metrics{
		callbacks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paybell_gateway_callbacks_total",
			Help: "Callbacks by what became of them.",
		}, []string{"account", "provider", "outcome", "reason"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paybell_gateway_events_total",
			Help: "Events of accepted callbacks by type and by whether they were new, a duplicate, a conflict, or journaled, which is not known yet.",
		}, []string{"account", "provider", "type", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "paybell_gateway_stage_duration_seconds",
			Help:    "Time of a callback in each stage: read (the body), verify (and decode), append (until durable).",
			Buckets: []float64{.0001, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"provider", "stage"}),
		bytes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "paybell_gateway_body_bytes",
			Help:    "Size of callbacks' bodies.",
			Buckets: prometheus.ExponentialBuckets(256, 4, 6),
		}, []string{"provider"}),
	}
	inFlight := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "paybell_gateway_in_flight_callbacks",
		Help: "Callbacks being verified or appended now.",
	}, func() float64 { return float64(g.inFlight.Load()) })
	limit := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "paybell_gateway_in_flight_limit_callbacks",
		Help: "How many callbacks may be verified or appended at once.",
	}, func() float64 { return float64(g.options.MaxInFlight) })
	memory := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "paybell_gateway_large_bodies_bytes",
		Help: "Bytes of bodies larger than 16 KiB that are being read or handled now.",
	}, func() float64 { return float64(g.bodies.held.Load()) })
	memoryLimit := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "paybell_gateway_large_bodies_limit_bytes",
		Help: "How many bytes of bodies larger than 16 KiB may be read or handled at once.",
	}, func() float64 { return float64(g.options.BodyMemory) })
	ahead := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "paybell_gateway_clock_difference_seconds",
		Help: "How far the process's clock was ahead of the event store's when they were last compared; negative is behind.",
	}, g.clock.seconds)
	all := []prometheus.Collector{m.callbacks, m.events, m.seconds, m.bytes, inFlight, limit, memory, memoryLimit, ahead}
	for _, c := range append(all, connectionMetrics(g)...) {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("gateway: register metrics: %w", err)
		}
	}
	// The series of strays are there from the start, so that an alert on their
	// growth sees the first.
	for _, reason := range []string{"unknown_account", "unknown_path", "method"} {
		m.callbacks.WithLabelValues(nobody, nobody, string(rejected), reason)
	}
	return m, nil
}

// connectionMetrics tell of the listener that Serve was given.
func connectionMetrics(g *Gateway) []prometheus.Collector {
	const open, evictions = "paybell_gateway_connections", "paybell_gateway_connections_evicted_total"
	count := func(of func(open, heard int, evicted [connBusy]int64) int64) func() float64 {
		return func() float64 {
			l := g.listener.Load()
			if l == nil {
				return 0
			}
			return float64(of(l.counted()))
		}
	}
	gauge := func(name, help string, labels prometheus.Labels, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, f)
	}
	heardHelp := "Open connections, by whether a whole request has come over them."
	out := []prometheus.Collector{
		gauge("paybell_gateway_connections_limit", "How many connections may be open at once.", nil,
			func() float64 { return float64(g.options.MaxConnections) }),
		gauge(open, heardHelp, prometheus.Labels{"heard": "yes"},
			count(func(_, heard int, _ [connBusy]int64) int64 { return int64(heard) })),
		gauge(open, heardHelp, prometheus.Labels{"heard": "no"},
			count(func(open, heard int, _ [connBusy]int64) int64 { return int64(open - heard) })),
	}
	for reason, states := range map[string][]connState{
		"silent": {connSilent}, "slow": {connArriving, connArrivingAgain}, "idle": {connIdle},
	} {
		out = append(out, prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: evictions, Help: "Connections closed to make room for others, by what they did.",
			ConstLabels: prometheus.Labels{"reason": reason},
		}, count(func(_, _ int, evicted [connBusy]int64) (n int64) {
			for _, s := range states {
				n += evicted[s]
			}
			return n
		})))
	}
	return out
}

// counts are the metrics of one account.
type counts struct {
	callbacks *counters // by outcome, reason
	events    *counters // by type, result
	seconds   [stages]prometheus.Observer
	bytes     prometheus.Observer
}

// counters are the counters of two labels, each looked up in its vector once.
type counters struct {
	vector *prometheus.CounterVec
	mu     sync.Mutex // held to add one
	known  atomic.Pointer[map[[2]string]prometheus.Counter]
}

func newCounters(v *prometheus.CounterVec) *counters {
	c := &counters{vector: v}
	c.known.Store(&map[[2]string]prometheus.Counter{})
	return c
}

func (c *counters) of(labels [2]string) prometheus.Counter {
	if counter, ok := (*c.known.Load())[labels]; ok {
		return counter
	}
	counter := c.vector.WithLabelValues(strings.ToValidUTF8(labels[0], "?"), strings.ToValidUTF8(labels[1], "?"))
	c.mu.Lock()
	defer c.mu.Unlock()
	known := maps.Clone(*c.known.Load())
	known[labels] = counter
	c.known.Store(&known)
	return counter
}

func (m *metrics) of(account, provider string) counts {
	labels := prometheus.Labels{"account": account, "provider": provider}
	c := counts{
		callbacks: newCounters(m.callbacks.MustCurryWith(labels)),
		events:    newCounters(m.events.MustCurryWith(labels)),
		bytes:     m.bytes.WithLabelValues(provider),
	}
	for _, usual := range []outcome{accepted, duplicate} { // there from the start
		c.callbacks.of([2]string{string(usual), ""})
	}
	for s, name := range [stages]string{stageRead: "read", stageVerify: "verify", stageAppend: "append"} {
		c.seconds[s] = m.seconds.WithLabelValues(provider, name)
	}
	return c
}

// took counts the time of one stage.
func (c *counts) took(s stage, d time.Duration) { c.seconds[s].Observe(d.Seconds()) }

// callback counts a callback and, when it was accepted, its events.
func (c *counts) callback(v verdict, size int, done receipt) {
	c.callbacks.of([2]string{string(v.counted), v.reason}).Inc()
	c.bytes.Observe(float64(size))
	for i, result := range done.results {
		c.events.of([2]string{string(done.records[i].Event.Type), resultLabel(result)}).Inc()
	}
}

func resultLabel(r event.Appended) string {
	switch r {
	case event.New:
		return "new"
	case event.Duplicate:
		return "duplicate"
	case event.Journaled:
		return "journaled"
	default:
		return "conflict"
	}
}
