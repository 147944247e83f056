package workers_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paybell/paybell/workers"
	"github.com/paybell/paybell/workers/workertest"
)

func TestPanicIsContainedAndItsNeighboursAreNotCharged(t *testing.T) {
	for kind, of := range kinds() {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := workertest.NewGroup("g", 1, ttl, time.Now)
				a := newApplied()
				worst := 0
				g.Append(records(2, "A", "poison", "B", "C")...)
				p := start(t, g.Consumer("one"), of(func(d workers.Delivery) error {
					if d.Event.ID == "poison-1" {
						a.called(d)
						panic("index out of reach")
					}
					worst = max(worst, d.Attempt)
					a.apply(d)
					return nil
				}), options(func(o *workers.Options) { o.Attempts, o.Concurrency = 3, 1 }))
				until(t, "all settled", func() bool { return g.Owed() == 0 })
				dead := g.Dead()
				if len(dead) != 1 {
					t.Fatalf("%d dead letters, want 1", len(dead))
				}
				equal(t, "dead letter", []any{dead[0].Record.Event.ID, dead[0].Reason, dead[0].Error, dead[0].Attempts},
					[]any{"poison-1", "attempts", "workers: handler panicked: index out of reach", 3})
				equal(t, "attempts of the others", worst, 1)
				equal(t, "panics", p.metric("panics_total"), a.attempts("poison-1"))
				equal(t, "stacks", p.logs.count("contract_test.go") > 0, true)
				equal(t, "the order goes on", a.of("poison"), []string{"poison-2"})
			})
		})
	}
}

func TestBrokenCallIsAFailureOfNobodyElse(t *testing.T) {
	for name, broken := range map[string]struct {
		breaks func(ctx context.Context, ds []workers.Delivery) []error
		text   string
	}{
		"one outcome too few": {
			func(_ context.Context, ds []workers.Delivery) []error { return make([]error, len(ds)-1) },
			workers.ErrOutcomes.Error(),
		},
		"one outcome too many": {
			func(_ context.Context, ds []workers.Delivery) []error { return make([]error, len(ds)+1) },
			workers.ErrOutcomes.Error(),
		},
		"its goroutine ended": {
			func(context.Context, []workers.Delivery) []error { runtime.Goexit(); return nil },
			workers.ErrExited.Error(),
		},
		"a panic with a structure": {
			func(_ context.Context, ds []workers.Delivery) []error { panic(ds[0]) },
			"workers: handler panicked with a workers.Delivery",
		},
		"its time was up": {
			func(ctx context.Context, ds []workers.Delivery) []error {
				<-ctx.Done()
				outcomes := make([]error, len(ds))
				for i := range outcomes {
					outcomes[i] = ctx.Err()
				}
				return outcomes
			},
			context.DeadlineExceeded.Error(),
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := workertest.NewGroup("g", 1, ttl, time.Now)
				a := newApplied()
				g.Append(records(3, "A", "poison", "B")...)
				worst := 0
				start(t, g.Consumer("one"), batch(func(ctx context.Context, ds []workers.Delivery) []error {
					for _, d := range ds {
						if d.Event.ID == "poison-2" {
							return broken.breaks(ctx, ds)
						}
					}
					for _, d := range ds {
						worst = max(worst, d.Attempt)
						a.apply(d)
					}
					return make([]error, len(ds))
				}), options(func(o *workers.Options) { o.Attempts = 3 }))
				until(t, "all settled", func() bool { return g.Owed() == 0 })
				dead := g.Dead()
				if len(dead) != 1 {
					t.Fatalf("%d dead letters, want 1", len(dead))
				}
				equal(t, "dead letter", []any{dead[0].Record.Event.ID, dead[0].Error, dead[0].Attempts}, []any{"poison-2", broken.text, 3})
				equal(t, "attempts of the others", worst, 1)
				equal(t, "A", a.of("A"), names("A", 3))
				equal(t, "B", a.of("B"), names("B", 3))
				equal(t, "poison", strings.Join(a.of("poison"), " "), "poison-1 poison-3")
			})
		})
	}
}

func TestHeldDeliveriesAreChargedNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 1, ttl, time.Now)
		a := newApplied()
		ids := g.Append(records(4, "A")...)
		fails := true
		p := start(t, g.Consumer("one"), each(func(d workers.Delivery) error {
			if a.called(d); fails && d.Event.ID == "A-2" {
				return workers.RetryAfter(time.Minute, errTest)
			}
			a.apply(d)
			return nil
		}), options(func(o *workers.Options) { o.ParkAfter = time.Hour }))
		until(t, "A-1 settled", func() bool { return g.Settled(ids[0]) == 1 })
		pass(time.Second)
		equal(t, "attempts", []int{g.Attempts(ids[1]), g.Attempts(ids[2]), g.Attempts(ids[3])}, []int{1, 0, 0})
		equal(t, "held", p.metric("deliveries_total", "held"), 2)
		equal(t, "waiting", p.metric("held_entries"), 3)
		fails = false
		until(t, "all settled", func() bool { return g.Owed() == 0 })
		equal(t, "A", a.of("A"), names("A", 4))
		equal(t, "calls of A-3", a.attempts("A-3"), 1)
	})
}

func TestEventAppliedBehindAFailedOneIsSettledAndReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 1, ttl, time.Now)
		a := newApplied()
		ids := g.Append(records(2, "A")...)
		p := start(t, g.Consumer("one"), batch(func(_ context.Context, ds []workers.Delivery) []error {
			outcomes := make([]error, len(ds))
			for i, d := range ds {
				if a.called(d); d.Event.ID == "A-1" && d.Attempt == 1 {
					outcomes[i] = errTest
				}
			}
			return outcomes
		}), options(nil))
		until(t, "all settled", func() bool { return g.Owed() == 0 })
		equal(t, "calls", []int{a.attempts("A-1"), a.attempts("A-2")}, []int{2, 1})
		equal(t, "settled", g.Settled(ids[1]), 1)
		equal(t, "reports", p.logs.count("although an earlier one of its order had failed"), 1)
	})
}

func TestRetryDecidesForThoseBehindIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 1, ttl, time.Now)
		g.Append(records(5, "A")...)
		var batches []int
		start(t, g.Consumer("one"), batch(func(ctx context.Context, ds []workers.Delivery) []error {
			batches = append(batches, len(ds))
			return each(func(d workers.Delivery) error {
				if d.Event.ID == "A-1" && d.Attempt < 4 {
					return errTest
				}
				return nil
			}).HandleBatch(ctx, ds)
		}), options(nil))
		until(t, "all settled", func() bool { return g.Owed() == 0 })
		// Those behind it are not run along, charged and taken back again and again.
		equal(t, "batches", batches, []int{5, 1, 1, 1, 4})
	})
}

func TestWhoPanickedAloneStaysAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 1, ttl, time.Now)
		g.Append(records(1, "poison")...)
		for i := range 200 {
			g.Append(records(1, fmt.Sprint("order", i))...)
		}
		var companies []int
		start(t, g.Consumer("one"), batch(func(_ context.Context, ds []workers.Delivery) []error {
			pass(100 * time.Millisecond)
			for _, d := range ds {
				if d.Event.ID == "poison-1" {
					companies = append(companies, len(ds)-1)
					panic("again")
				}
			}
			return make([]error, len(ds))
		}), options(func(o *workers.Options) {
			o.Batch, o.Attempts = 4, 5
			o.Backoff = workers.Backoff{Initial: 50 * time.Millisecond, Max: 50 * time.Millisecond}
		}))
		until(t, "all settled", func() bool { return g.Owed() == 0 })
		equal(t, "company", companies, []int{3, 0, 0, 0, 0, 0})
	})
}
