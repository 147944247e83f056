package workers_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/workers"
	"github.com/paybell/paybell/workers/workertest"
)

// startBound runs several handlers in one pool that may hold so many bytes.
func startBound(t *testing.T, bytes int64, o workers.Options, add func(w *workers.Pool, o workers.Options)) *pool {
	t.Helper()
	p := &pool{t: t, reg: prometheus.NewRegistry(), logs: &safeBuffer{}}
	w := workers.NewPool(slog.New(slog.NewTextHandler(p.logs, nil)), p.reg, time.Now)
	w.Bound(bytes)
	add(w, o)
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

// addBatch adds a group that calls f for each delivery.
func addBatch(t *testing.T, w *workers.Pool, log workers.Log, h workers.BatchHandler, o workers.Options) {
	t.Helper()
	if err := w.AddBatch(log, h, o); err != nil {
		t.Error(err)
	}
}

// large returns n events of each order, with bodies of a size.
func large(size, n int, orders ...string) []event.Record {
	recs := records(n, orders...)
	for i := range recs {
		recs[i].Raw = make([]byte, size)
	}
	return recs
}

// orderNames are n orders, which spread over the partitions.
func orderNames(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprint("order", i)
	}
	return out
}

// held is what the pool says that it holds.
func (p *pool) held() int64 { return int64(p.metric("prefetch_bytes")) }

// TestBudgetIsOneForAllGroups has three groups whose handlers stand still, with a backlog of
// many times the budget: all together hold no more than that, and an entry of each partition.
func TestBudgetIsOneForAllGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const bound, size, partitions = 4 << 20, 100 << 10, 4
		release := make(chan struct{})
		var groups []*workertest.Group
		p := startBound(t, bound, options(nil), func(w *workers.Pool, o workers.Options) {
			for _, name := range []string{"a", "b", "c"} {
				g := workertest.NewGroup(name, partitions, ttl, time.Now)
				g.Append(large(size, 10, orderNames(40)...)...)
				groups = append(groups, g)
				addBatch(t, w, g.Consumer("one"), each(func(workers.Delivery) error {
					<-release
					return nil
				}), o)
			}
		})
		most := int64(0)
		for range 200 {
			synctest.Wait()
			most = max(most, p.held())
			pass(10 * time.Millisecond)
		}
		if least, limit := int64(bound/3), int64(bound+3*partitions*(size+4<<10)); most < least || most > limit {
			t.Errorf("%d bytes held, want between %d and %d", most, least, limit)
		}
		for _, g := range groups {
			if g.Pending() < partitions {
				t.Errorf("a group holds %d entries of %d partitions", g.Pending(), partitions)
			}
		}
		close(release)
		until(t, "all settled", func() bool {
			return groups[0].Owed()+groups[1].Owed()+groups[2].Owed() == 0
		})
		equal(t, "held at the end", p.held(), 0)
	})
}

// TestSlowGroupLeavesTheOthersRoom: what one group holds, however long, is not taken from
// another.
func TestSlowGroupLeavesTheOthersRoom(t *testing.T) {
	for name, outcome := range map[string]func(ctx context.Context) error{
		"slow":   func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"paused": func(context.Context) error { return workers.Unavailable(errTest) },
		"failing": func(context.Context) error {
			return workers.RetryAfter(5*time.Minute, errTest)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const bound, least = 4 << 20, 12
				slow := workertest.NewGroup("slow", 4, ttl, time.Now)
				fast := workertest.NewGroup("fast", 4, ttl, time.Now)
				slow.Append(large(50<<10, 10, orderNames(20)...)...)
				release := make(chan struct{})
				p := startBound(t, bound, options(func(o *workers.Options) {
					o.ParkAfter, o.Timeout, o.Attempts = time.Hour, time.Hour, 1000
				}), func(w *workers.Pool, o workers.Options) {
					addBatch(t, w, slow.Consumer("one"), batch(func(ctx context.Context, ds []workers.Delivery) []error {
						errs := make([]error, len(ds))
						for i := range ds {
							errs[i] = outcome(ctx)
						}
						return errs
					}), o)
					addBatch(t, w, fast.Consumer("one"), each(func(workers.Delivery) error {
						<-release
						return nil
					}), o)
				})
				pass(2 * time.Second) // the slow group has taken what it can
				if p.held() < bound/8 {
					t.Fatalf("the slow group holds %d bytes", p.held())
				}
				begun := time.Now()
				fast.Append(large(50<<10, 10, orderNames(20)...)...)
				pass(2 * time.Second)
				if n := fast.Pending(); n < least {
					t.Errorf("the other group may hold %d entries, want %d at least", n, least)
				}
				close(release)
				until(t, "the other group has settled all", func() bool { return fast.Owed() == 0 })
				if took := time.Since(begun); took > time.Minute {
					t.Errorf("it took %v", took)
				}
				p.stop()
				equal(t, "held at the end", p.held(), 0)
			})
		})
	}
}

// TestEntryLargerThanTheBudgetPasses: nothing stands still because of its size.
func TestEntryLargerThanTheBudgetPasses(t *testing.T) {
	for kind, of := range kinds() {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := workertest.NewGroup("g", 2, ttl, time.Now)
				g.Append(large(3<<20, 3, "A", "B", "C")...)
				g.Append(large(100, 3, "D", "E", "F")...)
				handler := of(func(workers.Delivery) error { return nil })
				p := startBound(t, 64<<10, options(nil), func(w *workers.Pool, o workers.Options) {
					switch h := handler.(type) {
					case workers.BatchHandler:
						addBatch(t, w, g.Consumer("one"), h, o)
					case workers.Handler:
						if err := w.Add(g.Consumer("one"), h, o); err != nil {
							t.Error(err)
						}
					}
				})
				until(t, "all settled", func() bool { return g.Owed() == 0 })
				equal(t, "held at the end", p.held(), 0)
			})
		})
	}
}

// TestParkedEntryIsRunThoughNewOnesHoldEverything: what was parked has room of its own.
func TestParkedEntryIsRunThoughNewOnesHoldEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 1, ttl, time.Now)
		a := newApplied()
		g.Append(large(100<<10, 1, "parked")...)
		p := startBound(t, 256<<10, options(func(o *workers.Options) { o.ParkAfter = 5 * time.Second }), func(w *workers.Pool, o workers.Options) {
			addBatch(t, w, g.Consumer("one"), each(func(d workers.Delivery) error {
				switch {
				case d.Event.OrderingKey() != "test/order/parked":
					return workers.RetryAfter(900*time.Millisecond, errTest) // stays in memory
				case a.called(d) == 1:
					return workers.RetryAfter(10*time.Second, errTest)
				}
				a.apply(d)
				return nil
			}), o)
		})
		until(t, "it is parked", func() bool { return g.Parked() == 1 })
		parked := time.Now()
		pass(7 * time.Second) // what comes now is still in memory when it is due
		g.Append(large(100<<10, 5, orderNames(10)...)...)
		until(t, "it is run", func() bool { return len(a.ids()) == 1 })
		if took := time.Since(parked); took > 11*time.Second {
			t.Errorf("it was run after %v, and due after 10 s", took)
		}
		p.stop()
		equal(t, "held at the end", p.held(), 0)
	})
}

// TestWhatIsGivenBackIsTakenAtOnce: a partition that has no room, and nothing to do before
// its retries are due, goes on when another group has given something back.
func TestWhatIsGivenBackIsTakenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const bound, size = 1 << 20, 2 << 10
		hog := workertest.NewGroup("hog", 1, ttl, time.Now)
		g := workertest.NewGroup("g", 1, ttl, time.Now)
		hog.Append(large(50<<10, 1, orderNames(40)...)...)
		release := make(chan struct{})
		p := startBound(t, bound, options(func(o *workers.Options) { o.ParkAfter = time.Hour }), func(w *workers.Pool, o workers.Options) {
			addBatch(t, w, hog.Consumer("one"), each(func(workers.Delivery) error { <-release; return nil }), o)
			addBatch(t, w, g.Consumer("one"), each(func(d workers.Delivery) error {
				if d.Event.OrderingKey() == "test/order/good" {
					return nil
				}
				return workers.RetryAfter(30*time.Minute, errTest)
			}), o)
		})
		pass(time.Second)
		// Fewer than these fit beside the hog's, and more without.
		const waiting = 99
		g.Append(large(size, 1, orderNames(waiting)...)...)
		g.Append(large(size, 50, "good")...)
		pass(time.Minute)
		if n := g.Pending(); n >= waiting || n < waiting/2 || g.Unread() < 50 {
			t.Errorf("%d pending, %d unread", n, g.Unread())
		}
		close(release)
		pass(time.Minute)
		equal(t, "owed", g.Owed(), waiting)
		p.stop()
		equal(t, "held at the end", p.held(), 0)
	})
}

// TestBytesAreAlwaysGivenBack has everything happen that ends what a partition holds, some
// of it while handlers run, and counts what is held afterwards.
func TestBytesAreAlwaysGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const partitions = 4
		g := workertest.NewGroup("g", partitions, ttl, time.Now)
		a := newApplied()
		hang := make(chan struct{})
		p := startBound(t, 1<<20, options(func(o *workers.Options) {
			o.ParkAfter, o.Attempts, o.Timeout = time.Second, 4, time.Minute
			o.Backoff = workers.Backoff{Initial: time.Second, Max: 5 * time.Second}
			o.Parked.PerOrder = 3
		}), func(w *workers.Pool, o workers.Options) {
			addBatch(t, w, g.Consumer("one"), each(func(d workers.Delivery) error {
				n := a.called(d)
				switch key := d.Event.OrderingKey(); {
				case key == "test/order/poison": // retries until its attempts are used up, and more than fit behind it
					return errTest
				case key == "test/order/bad":
					return workers.Reject(errTest)
				case key == "test/order/panics" && n < 3:
					panic("it panics")
				case key == "test/order/hangs" && n == 1:
					<-hang
				case n == 1 && len(d.Event.ID)%3 == 0:
					return workers.Unavailable(errors.New("away"))
				}
				return nil
			}), o)
		})
		orders := append(orderNames(12), "poison", "bad", "panics", "hangs")
		g.Append(large(60<<10, 6, orders...)...)
		for i := range 40 {
			pass(time.Second)
			switch i % 8 {
			case 2:
				g.Expire(i / 8 % partitions)
			case 5:
				g.Steal(i/8%partitions, "another")
			case 7:
				g.Expire((i/8 + 1) % partitions)
			}
			if i == 20 {
				close(hang)
			}
		}
		for i := range partitions {
			g.Expire(i)
		}
		until(t, "all settled", func() bool { return g.Owed() == 0 })
		until(t, "nothing held", func() bool { return p.held() == 0 })

		// And at a stop with everything in hand.
		g.Append(large(60<<10, 6, "poison", "x", "y", "z")...)
		pass(50 * time.Millisecond)
		p.stop()
		equal(t, "held after the stop", p.held(), 0)
	})
}

// TestBatchIsBoundedInBytes: a call of the handler holds a sixteenth of the budget.
func TestBatchIsBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const bound, size = 16 << 20, 100 << 10
		g := workertest.NewGroup("g", 2, ttl, time.Now)
		g.Append(large(size, 5, orderNames(40)...)...)
		most := 0
		startBound(t, bound, options(nil), func(w *workers.Pool, o workers.Options) {
			addBatch(t, w, g.Consumer("one"), batch(func(_ context.Context, ds []workers.Delivery) []error {
				bytes := 0
				for i := range ds {
					bytes += len(ds[i].Raw)
				}
				most = max(most, bytes)
				return make([]error, len(ds))
			}), o)
		})
		until(t, "all settled", func() bool { return g.Owed() == 0 })
		if most > bound/16 || most < bound/64 {
			t.Errorf("%d bytes in one call, of %d", most, bound/16)
		}
	})
}
