package workers_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paybell/paybell/workers"
	"github.com/paybell/paybell/workers/workertest"
)

func TestWhatIsHeldIsBounded(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*workers.Options)
		size   int
		bound  int
	}{
		"entries": {func(o *workers.Options) { o.Prefetch, o.Batch = 64, 16 }, 10, 64},
		// 64 KiB to spare for a read that is larger than those before.
		"bytes": {func(o *workers.Options) { o.PrefetchBytes = 1 << 20 }, 30 << 10, (1<<20)/(30<<10) + 4},
	} {
		for kind, of := range kinds() {
			t.Run(name+"/"+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := workertest.NewGroup("g", 1, ttl, time.Now)
					recs := records(300, "A", "B")
					for i := range recs {
						recs[i].Raw = make([]byte, tc.size)
					}
					g.Append(recs...)
					fails := true
					p := start(t, g.Consumer("one"), of(func(d workers.Delivery) error {
						if fails && d.Event.OrderingKey() == "test/order/A" {
							return workers.RetryAfter(time.Minute, errTest)
						}
						return nil
					}), options(func(o *workers.Options) {
						o.ParkAfter = time.Hour
						tc.change(o)
					}))
					most := 0
					for range 2000 {
						synctest.Wait()
						most = max(most, g.Pending())
						pass(10 * time.Millisecond)
					}
					// The first read knows no sizes yet.
					if first := 256; name == "bytes" {
						if most > first+tc.bound {
							t.Errorf("%d entries held, want at most the first read's and %d", most, tc.bound)
						}
					} else if most != tc.bound {
						t.Errorf("%d entries held, want %d", most, tc.bound)
					}
					equal(t, "held as measured", p.metric("entries"), g.Pending())
					fails = false
					until(t, "all settled", func() bool { return g.Owed() == 0 })
				})
			})
		}
	}
}

func TestConcurrencyIsBoundedAndOrdersRunInParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 1, ttl, time.Now)
		var orders []string
		for i := range 10 {
			orders = append(orders, fmt.Sprint("order", i))
		}
		g.Append(records(4, orders...)...)
		var mu sync.Mutex
		running := make(map[string]int)
		total, most := 0, 0
		begun := time.Now()
		start(t, g.Consumer("one"), workers.HandlerFunc(func(_ context.Context, d workers.Delivery) error {
			key := d.Event.OrderingKey()
			mu.Lock()
			running[key]++
			if running[key] > 1 {
				t.Errorf("%s runs twice at once", key)
			}
			total++
			most = max(most, total)
			mu.Unlock()
			pass(time.Second)
			mu.Lock()
			running[key]--
			total--
			mu.Unlock()
			return nil
		}), options(func(o *workers.Options) { o.Concurrency = 5 }))
		until(t, "all settled", func() bool { return g.Owed() == 0 })
		equal(t, "at once", most, 5)
		if took := time.Since(begun); took > 9*time.Second {
			t.Errorf("40 events of a second each, five at once, took %v", took)
		}
	})
}

func TestBatchIsBoundedAndOnlyWhatRunsIsCharged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 1, ttl, time.Now)
		ids := g.Append(records(100, "A", "B")...)
		var sizes []int
		release := make(chan struct{})
		start(t, g.Consumer("one"), batch(func(_ context.Context, ds []workers.Delivery) []error {
			sizes = append(sizes, len(ds))
			<-release
			return make([]error, len(ds))
		}), options(func(o *workers.Options) { o.Batch, o.Prefetch = 32, 128 }))
		until(t, "as much is read as may be", func() bool { return g.Pending() == 128 })
		charged := 0
		for _, id := range ids {
			charged += g.Attempts(id)
		}
		equal(t, "charged", charged, 32)
		close(release)
		until(t, "all settled", func() bool { return g.Owed() == 0 })
		equal(t, "sizes", sizes, []int{32, 32, 32, 32, 32, 32, 8})
	})
}

func TestLogThatWakesTooOftenDoesNotMakeTheLoopSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 1, ttl, time.Now)
		var mu sync.Mutex
		takes := 0
		g.Fault(func(c workertest.Call) error {
			mu.Lock()
			defer mu.Unlock()
			if c.Op == "Take" && c.Done {
				takes++
			}
			return nil
		})
		start(t, wakeful{g.Consumer("one")}, each(func(workers.Delivery) error { return nil }), options(nil))
		pass(time.Hour)
		mu.Lock()
		defer mu.Unlock()
		if takes > 3700 || takes < 3000 {
			t.Errorf("%d reads in an idle hour, want about one a second", takes)
		}
	})
}

// wakeful is a log whose waits always return at once.
type wakeful struct{ *workertest.Consumer }

func (w wakeful) Acquire(ctx context.Context, partition int) (workers.Lease, bool, error) {
	l, ok, err := w.Consumer.Acquire(ctx, partition)
	return restless{l}, ok, err
}

type restless struct{ workers.Lease }

func (restless) Wait(context.Context, string) error { return nil }
