package workers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/workers"
	"github.com/paybell/paybell/workers/workertest"
)

const ttl = 10 * time.Second

var errTest = errors.New("the handler failed")

// options are DefaultOptions with changes.
func options(change func(*workers.Options)) workers.Options {
	o := workers.DefaultOptions()
	if change != nil {
		change(&o)
	}
	return o
}

// pool is a running pool with what it logs and measures.
type pool struct {
	t    *testing.T
	reg  *prometheus.Registry
	logs *safeBuffer
	stop func()
}

// start runs a handler, a workers.Handler or BatchHandler, on one log, until the
// test or stop ends it.
func start(t *testing.T, log workers.Log, handler any, o workers.Options) *pool {
	t.Helper()
	p := &pool{t: t, reg: prometheus.NewRegistry(), logs: &safeBuffer{}}
	w := workers.NewPool(slog.New(slog.NewTextHandler(p.logs, nil)), p.reg, time.Now)
	var err error
	switch h := handler.(type) {
	case interface {
		workers.BatchHandler
		workers.EffectStore
	}:
		err = w.AddEffects(log, h, workers.Watch{Store: h}, o)
	case workers.BatchHandler:
		err = w.AddBatch(log, h, o)
	case workers.Handler:
		err = w.Add(log, h, o)
	default:
		t.Fatalf("%T is no handler", handler)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	p.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(p.stop)
	return p
}

// metric is the value of the group's counter, gauge or number of observations.
func (p *pool) metric(name string, labels ...string) float64 {
	p.t.Helper()
	families, err := p.reg.Gather()
	if err != nil {
		p.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "paybell_workers_"+name {
			continue
		}
		sum := 0.0
		for _, m := range f.GetMetric() {
			found := 0
			for _, l := range m.GetLabel() {
				if slices.Contains(labels, l.GetValue()) {
					found++
				}
			}
			if found == len(labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
		return sum
	}
	return 0
}

// until waits, on the bubble's clock, for something to become true.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Hour); ; {
		synctest.Wait()
		if ok() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("did not come true within an hour: %s", what)
		}
		pass(5 * time.Millisecond)
	}
}

// pass lets time pass on the bubble's clock.
func pass(d time.Duration) { <-time.After(d) }

// applied keeps what handlers applied, in order, for each ordering key.
type applied struct {
	mu    sync.Mutex
	all   []string
	byKey map[string][]string
	calls map[string]int
}

func newApplied() *applied {
	return &applied{byKey: make(map[string][]string), calls: make(map[string]int)}
}

// called notes an attempt and returns how many there were for the event, with it.
func (a *applied) called(d workers.Delivery) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls[d.Event.ID]++
	return a.calls[d.Event.ID]
}

func (a *applied) apply(d workers.Delivery) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, d.Event.ID)
	key := d.Event.OrderingKey()
	a.byKey[key] = append(a.byKey[key], d.Event.ID)
}

func (a *applied) ids() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.all)
}

func (a *applied) of(order string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.byKey["test/order/"+order])
}

func (a *applied) attempts(id string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls[id]
}

// each is a BatchHandler that asks f about each delivery and keeps the contract:
// where one fails, the later ones of its key are held.
type each func(d workers.Delivery) error

func (f each) HandleBatch(_ context.Context, ds []workers.Delivery) []error {
	outcomes := make([]error, len(ds))
	failed := make(map[string]bool)
	for i, d := range ds {
		key := d.Event.OrderingKey()
		if failed[key] {
			outcomes[i] = workers.ErrHeld
			continue
		}
		outcomes[i] = f(d)
		failed[key] = outcomes[i] != nil
	}
	return outcomes
}

// batch is a function as a BatchHandler.
type batch func(ctx context.Context, ds []workers.Delivery) []error

func (f batch) HandleBatch(ctx context.Context, ds []workers.Delivery) []error { return f(ctx, ds) }

// records returns n events of each order, "<order>-<n>", order after order in turn.
func records(n int, orders ...string) []event.Record {
	var recs []event.Record
	for i := range n {
		for _, order := range orders {
			rec := workertest.Record(fmt.Sprintf("%s-%d", order, i+1), order)
			rec.Event.ReceivedAt = time.Now().UTC()
			recs = append(recs, rec)
		}
	}
	return recs
}

// names are the ids that records gives to n events of an order.
func names(order string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s-%d", order, i+1)
	}
	return ids
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) count(text string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Count(s.b.Bytes(), []byte(text))
}
