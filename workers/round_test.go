package workers_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paybell/paybell/workers"
	"github.com/paybell/paybell/workers/workertest"
)

// sizes keeps how many deliveries, of how many partitions, each call had.
type sizes struct {
	mu         sync.Mutex
	deliveries []int
	partitions []int
	at         []time.Time
}

func partitionsOf(ds []workers.Delivery) map[int]bool {
	parts := make(map[int]bool)
	for _, d := range ds {
		parts[d.Partition] = true
	}
	return parts
}

func (s *sizes) note(ds []workers.Delivery) {
	parts := partitionsOf(ds)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deliveries, s.partitions, s.at = append(s.deliveries, len(ds)), append(s.partitions, len(parts)), append(s.at, time.Now())
}

func orders(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprint("order", i)
	}
	return out
}

func TestRoundHoldsWhatIsReadyInAllPartitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 16, ttl, time.Now)
		a, calls := newApplied(), &sizes{}
		start(t, g.Consumer("one"), batch(func(_ context.Context, ds []workers.Delivery) []error {
			calls.note(ds)
			for _, d := range ds {
				a.apply(d)
			}
			pass(time.Millisecond)
			return make([]error, len(ds))
		}), options(nil))
		until(t, "it owns all", func() bool { return shares(g)["one"] == 16 })
		pass(time.Minute)

		// One that comes alone runs at once.
		began := time.Now()
		g.Append(records(1, "alone")...)
		until(t, "the lone one is settled", func() bool { return g.Owed() == 0 })
		if took := calls.at[0].Sub(began); took > 5*time.Millisecond {
			t.Errorf("the lone one ran after %v", took)
		}

		// Those that come close together share calls, in whatever partitions they are.
		calls.deliveries, calls.partitions = nil, nil
		for _, order := range orders(200) {
			g.Append(records(1, order)...)
			pass(time.Millisecond)
		}
		until(t, "all settled", func() bool { return g.Owed() == 0 })
		if n := len(calls.deliveries); n > 12 {
			t.Errorf("200 deliveries within 200 ms took %d calls: %v of %v partitions", n, calls.deliveries, calls.partitions)
		}
	})
}

func TestRoundsOfABacklogAreFullAndRunSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 16, ttl, time.Now)
		a, calls := newApplied(), &sizes{}
		names := orders(400)
		g.Append(records(40, names...)...)
		running, most := 0, 0
		var mu sync.Mutex
		start(t, g.Consumer("one"), batch(func(_ context.Context, ds []workers.Delivery) []error {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			calls.note(ds)
			for _, d := range ds {
				a.apply(d)
			}
			pass(3 * time.Millisecond)
			mu.Lock()
			running--
			mu.Unlock()
			return make([]error, len(ds))
		}), options(nil))
		until(t, "all settled", func() bool { return g.Owed() == 0 })
		if n := len(calls.deliveries); n > 16_000/128 {
			t.Errorf("16,000 deliveries took %d calls", n)
		}
		equal(t, "calls at once", most, 2)
		for _, order := range names[:10] {
			equal(t, order, len(a.of(order)), 40)
		}
	})
}

func TestRoundIsNoLargerThanABatch(t *testing.T) {
	for _, most := range []int{1, 5, 16, 40} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := workertest.NewGroup("g", 16, ttl, time.Now)
				a, calls := newApplied(), &sizes{}
				names := orders(100)
				g.Append(records(3, names...)...)
				start(t, g.Consumer("one"), batch(func(_ context.Context, ds []workers.Delivery) []error {
					calls.note(ds)
					for _, d := range ds {
						a.apply(d)
					}
					pass(time.Millisecond)
					return make([]error, len(ds))
				}), options(func(o *workers.Options) { o.Batch = most }))
				until(t, "all settled", func() bool { return g.Owed() == 0 })
				for _, n := range calls.deliveries {
					if n > most {
						t.Fatalf("a call of %d deliveries, at most %d", n, most)
					}
				}
				for _, order := range names {
					equal(t, order, len(a.of(order)), 3)
				}
			})
		})
	}
}

// An order on which the handler hangs holds up the partitions of its round, and no others.
func TestHangingRoundHoldsUpNoOtherPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 16, ttl, time.Now)
		a := newApplied()
		start(t, g.Consumer("one"), batch(func(ctx context.Context, ds []workers.Delivery) []error {
			out := make([]error, len(ds))
			for i, d := range ds {
				if d.Event.OrderRef() == "hangs" {
					<-ctx.Done()
					out[i] = ctx.Err()
					return out
				}
			}
			for _, d := range ds {
				a.apply(d)
			}
			return out
		}), options(nil))
		until(t, "it owns all", func() bool { return shares(g)["one"] == 16 })
		place := func(order string) int {
			rec := records(1, order)[0]
			return g.Partition(rec.Event.OrderingKey())
		}
		stuck := g.Append(records(1, "hangs")...)
		pass(100 * time.Millisecond)
		began := time.Now()
		names := orders(50)
		g.Append(records(1, names...)...)
		until(t, "the other partitions go on", func() bool {
			for _, order := range names {
				if place(order) != place("hangs") && len(a.of(order)) == 0 {
					return false
				}
			}
			return true
		})
		if took := time.Since(began); took > 1500*time.Millisecond {
			t.Errorf("the other partitions waited %v", took)
		}
		equal(t, "it still hangs", g.Settled(stuck[0]), 0)
	})
}

// A partition that loses its lease ends the call; what the others brought is run again and
// charged nothing.
func TestLostLeaseChargesNoOtherPartitionOfTheRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 2, ttl, time.Now)
		a := newApplied()
		names := orders(8)
		var mu sync.Mutex
		first := true
		worst := 0
		start(t, g.Consumer("one"), batch(func(ctx context.Context, ds []workers.Delivery) []error {
			out := make([]error, len(ds))
			mu.Lock()
			defer mu.Unlock()
			if parts := partitionsOf(ds); first && len(parts) == 2 {
				first = false
				g.Steal(0, "another")
				<-ctx.Done()
				for i := range out {
					out[i] = ctx.Err()
				}
				return out
			}
			for _, d := range ds {
				if d.Partition == 1 {
					worst = max(worst, d.Attempt)
				}
				a.apply(d)
			}
			return out
		}), options(nil))
		until(t, "it owns both", func() bool { return shares(g)["one"] == 2 })
		g.Append(records(1, "before")...) // so that the next round waits for both
		until(t, "the first is settled", func() bool { return g.Owed() == 0 })
		g.Append(records(2, names...)...)
		until(t, "all settled", func() bool { return g.Owed() == 0 })
		equal(t, "attempts in the other partition", worst, 1)
		equal(t, "the call was cut", first, false)
		equal(t, "dead letters", len(g.Dead()), 0)
	})
}

// Each partition brings one delivery, so that only the round tells that there was company.
func TestPanicInARoundChargesNoOtherPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 16, ttl, time.Now)
		var mu sync.Mutex
		worst, together := 0, false
		start(t, g.Consumer("one"), batch(func(_ context.Context, ds []workers.Delivery) []error {
			mu.Lock()
			defer mu.Unlock()
			for _, d := range ds {
				if d.Event.OrderRef() == "poison" {
					together = together || len(ds) > 1
					panic("out of reach")
				}
				worst = max(worst, d.Attempt)
			}
			return make([]error, len(ds))
		}), options(func(o *workers.Options) { o.Attempts = 3 }))
		until(t, "it owns all", func() bool { return shares(g)["one"] == 16 })
		g.Append(records(1, "before")...) // so that the next round waits for all
		until(t, "the first is settled", func() bool { return g.Owed() == 0 })
		taken := map[int]bool{}
		for _, order := range append([]string{"poison"}, orders(40)...) {
			rec := records(1, order)[0]
			if place := g.Partition(rec.Event.OrderingKey()); !taken[place] {
				taken[place] = true
				g.Append(rec)
			}
		}
		until(t, "all settled", func() bool { return g.Owed() == 0 })
		equal(t, "the poison had company", together, true)
		equal(t, "attempts of the others", worst, 1)
		equal(t, "dead letters", len(g.Dead()), 1)
	})
}

// The answer to a Charge is lost, and nothing ran: a crash of the next attempt counts once.
func TestRunThatNeverBeganIsNotCharged(t *testing.T) {
	for kind, of := range kinds() {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := workertest.NewGroup("g", 1, ttl, time.Now)
				ids := g.Append(records(1, "A")...)
				var lost atomic.Bool
				var before atomic.Int64
				g.Fault(func(c workertest.Call) error {
					if c.Op == "Charge" && !c.Done && lost.Load() {
						before.Store(int64(g.Attempts(ids[0])))
					}
					if c.Op == "Charge" && c.Done && lost.CompareAndSwap(false, true) {
						return errAway
					}
					return nil
				})
				start(t, g.Consumer("one"), of(func(workers.Delivery) error { return nil }), options(nil))
				until(t, "all settled", func() bool { return g.Owed() == 0 })
				equal(t, "the answer was lost", lost.Load(), true)
				equal(t, "attempts charged when it is charged again", before.Load(), 0)
			})
		})
	}
}
