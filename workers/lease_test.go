package workers_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/workers"
	"github.com/paybell/paybell/workers/workertest"
)

// shares counts the partitions of each owner.
func shares(g *workertest.Group) map[string]int {
	n := make(map[string]int)
	for _, owner := range g.Owners() {
		n[owner]++
	}
	return n
}

func TestPartitionsAreSharedFairlyAndHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 8, ttl, time.Now)
		a := newApplied()
		h := each(func(d workers.Delivery) error { pass(500 * time.Millisecond); a.apply(d); return nil })
		var orders []string
		for i := range 20 {
			orders = append(orders, fmt.Sprint("order", i))
		}
		g.Append(records(30, orders...)...)
		o := options(func(o *workers.Options) { o.Batch = 4 })

		one := start(t, g.Consumer("one"), h, o)
		until(t, "one has all", func() bool { return shares(g)["one"] == 8 })
		two := start(t, g.Consumer("two"), h, o)
		begun := time.Now()
		until(t, "two has half", func() bool { return shares(g)["one"] == 4 && shares(g)["two"] == 4 })
		if took := time.Since(begun); took > ttl {
			t.Errorf("sharing took %v, want less than a lease's life", took)
		}
		three := start(t, g.Consumer("three"), h, o)
		until(t, "a third each", func() bool {
			s := shares(g)
			return s["one"] <= 3 && s["two"] <= 3 && s["three"] >= 2 && s[""] == 0
		})
		begun = time.Now()
		one.stop()
		until(t, "the others take over", func() bool { return shares(g)["two"] == 4 && shares(g)["three"] == 4 })
		if took := time.Since(begun); took > ttl {
			t.Errorf("taking over took %v, want less than a lease's life", took)
		}
		until(t, "all settled", func() bool { return g.Owed() == 0 })
		for _, order := range orders {
			equal(t, order, a.of(order), names(order, 30))
		}
		equal(t, "leases lost", two.metric("lease_losses_total")+three.metric("lease_losses_total"), 0)
	})
}

func TestKilledOwnersPartitionsGoOnInOrder(t *testing.T) {
	for kind, of := range kinds() {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := workertest.NewGroup("g", 2, ttl, time.Now)
				k, a := newKillable(g), newApplied()
				g.Append(records(40, "A", "B", "C")...)
				o := options(func(o *workers.Options) { o.Batch, o.Concurrency = 4, 2 })
				handler := func(consumer string) any {
					return of(func(d workers.Delivery) error {
						pass(100 * time.Millisecond)
						if k.killed(consumer) {
							return errTest
						}
						a.apply(d)
						return nil
					})
				}
				one := start(t, g.Consumer("one"), handler("one"), o)
				until(t, "some applied", func() bool { return len(a.ids()) > 20 })
				k.kill("one")
				begun := time.Now()
				start(t, g.Consumer("two"), handler("two"), o)
				until(t, "two owns both", func() bool { return shares(g)["two"] == 2 })
				if took := time.Since(begun); took > 2*ttl {
					t.Errorf("taking over took %v", took)
				}
				until(t, "all settled", func() bool { return g.Owed() == 0 })
				for _, order := range []string{"A", "B", "C"} {
					equal(t, order, firsts(a.of(order)), names(order, 40))
					// Only what was applied and not yet settled is run again.
					if extra := len(a.of(order)) - 40; extra > 4 {
						t.Errorf("%s: %d events ran twice", order, extra)
					}
				}
				equal(t, "dead letters", len(g.Dead()), 0)
				equal(t, "leases lost", one.metric("lease_losses_total"), 2)
			})
		})
	}
}

// TestLeasesAreRenewedWhileOthersAreAcquired: an answer takes a second, and there are more
// partitions to acquire than a lease has seconds.
func TestLeasesAreRenewedWhileOthersAreAcquired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const partitions = 24
		g := workertest.NewGroup("g", partitions, ttl, time.Now)
		g.Fault(func(c workertest.Call) error {
			if c.Op == "Acquire" && !c.Done {
				pass(time.Second)
			}
			return nil
		})
		p := start(t, g.Consumer("one"), each(func(workers.Delivery) error { return nil }), options(nil))
		until(t, "all are owned", func() bool { return p.metric("partitions") == partitions })
		equal(t, "leases lost", p.metric("lease_losses_total"), 0)
	})
}

func TestFrozenOwnerStopsBeforeItsLeaseEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 1, ttl, time.Now)
		var mu sync.Mutex
		cut := false
		g.Fault(func(c workertest.Call) error {
			mu.Lock()
			defer mu.Unlock()
			if cut && c.Consumer == "one" {
				return errAway
			}
			return nil
		})
		g.Append(records(1, "A")...)
		begun, ended := make(chan time.Time, 9), make(chan time.Time, 9)
		one := start(t, g.Consumer("one"), batch(func(ctx context.Context, ds []workers.Delivery) []error {
			begun <- time.Now()
			<-ctx.Done()
			if !errors.Is(context.Cause(ctx), streams.ErrLeaseLost) {
				t.Errorf("cause %v", context.Cause(ctx))
			}
			ended <- time.Now()
			return []error{nil} // Its effect is committed; yet it may not settle.
		}), options(func(o *workers.Options) { o.Timeout = time.Hour }))
		started := <-begun
		pass(time.Minute)
		if len(ended) > 0 {
			t.Fatal("the lease was not renewed")
		}
		mu.Lock()
		cut = true
		mu.Unlock()
		since := time.Now()
		end := <-ended
		if took := end.Sub(since); took >= ttl || took < ttl/3 {
			t.Errorf("it stopped %v after its last renewal at the latest, want before %v", took, ttl)
		}
		equal(t, "owner when it stopped", g.Owners(), []string{"one"})
		equal(t, "settled", g.Pending(), 1)
		until(t, "the loss is counted", func() bool { return one.metric("lease_losses_total") == 1 })
		equal(t, "it began", started.Before(since), true)
	})
}

func TestOwnerThatWasReplacedCanNeitherReadNorSettle(t *testing.T) {
	for kind, of := range kinds() {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := workertest.NewGroup("g", 1, ttl, time.Now)
				var mu sync.Mutex
				var trail []string
				epochs := make(map[string]int64)
				handler := func(consumer string) any {
					return of(func(d workers.Delivery) error {
						pass(time.Second)
						mu.Lock()
						defer mu.Unlock()
						trail = append(trail, consumer+" "+d.Event.ID)
						epochs[consumer] = max(epochs[consumer], d.Epoch)
						return nil
					})
				}
				ids := g.Append(records(2, "A")...)
				o := options(func(o *workers.Options) { o.Batch = 1 })
				start(t, g.Consumer("one"), handler("one"), o)
				until(t, "it runs", func() bool { return g.Attempts(ids[0]) == 1 })
				// Redis gives the lease away while the handler runs.
				g.Steal(0, "two")
				until(t, "the first owner finished", func() bool {
					mu.Lock()
					defer mu.Unlock()
					return len(trail) == 1
				})
				equal(t, "settled by the old owner", g.Settled(ids[0]), 0)
				start(t, g.Consumer("two"), handler("two"), o)
				until(t, "all settled", func() bool { return g.Owed() == 0 })
				mu.Lock()
				defer mu.Unlock()
				equal(t, "runs", trail, []string{"one A-1", "two A-1", "two A-2"})
				if epochs["two"] <= epochs["one"] {
					t.Errorf("epochs do not rise: %v", epochs)
				}
			})
		})
	}
}

func TestBacklogIsRunInOrderBeforeAnythingNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 1, ttl, time.Now)
		k, a := newKillable(g), newApplied()
		recs := records(300, "A", "B")
		g.Append(recs[:500]...)
		start(t, g.Consumer("one"), batch(func(ctx context.Context, ds []workers.Delivery) []error {
			return k.crash(ctx, "one", ds)
		}), options(nil))
		until(t, "killed", func() bool { return k.killed("one") })
		g.Append(recs[500:]...)
		var order []string
		g.Fault(func(c workertest.Call) error {
			if k.killed(c.Consumer) {
				return errAway
			}
			if c.Done && slices.Contains([]string{"Adopt", "Backlog", "Take"}, c.Op) &&
				(len(order) == 0 || order[len(order)-1] != c.Op) {
				order = append(order, c.Op)
			}
			return nil
		})
		start(t, g.Consumer("two"), each(func(d workers.Delivery) error { a.apply(d); return nil }), options(nil))
		until(t, "all settled", func() bool { return g.Owed() == 0 })
		equal(t, "reads", order, []string{"Adopt", "Backlog", "Take"})
		equal(t, "A", a.of("A"), names("A", 300))
		equal(t, "B", a.of("B"), names("B", 300))
	})
}

func TestNobodyTakesMoreThanItsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 8, ttl, time.Now)
		hold := func(what func(int)) {
			for p := range 8 {
				what(p)
			}
		}
		hold(func(p int) { g.Steal(p, "ghost") })
		h := each(func(workers.Delivery) error { return nil })
		start(t, g.Consumer("one"), h, options(nil))
		start(t, g.Consumer("two"), h, options(nil))
		until(t, "both have announced themselves", func() bool { return len(g.Members()) == 2 })
		pass(ttl / 2)
		hold(g.Expire)
		for range 500 {
			synctest.Wait()
			if s := shares(g); s["one"] > 4 || s["two"] > 4 {
				t.Fatalf("shares %v, want at most 4 each", s)
			}
			pass(20 * time.Millisecond)
		}
		equal(t, "shares", shares(g), map[string]int{"one": 4, "two": 4})
	})
}

// TestEpochRisesAboveTheOneThatEffectsHaveSeen: where Redis, its clock set back and its
// memory lost, counts from below, the second lease is above what the first was refused for.
func TestEpochRisesAboveTheOneThatEffectsHaveSeen(t *testing.T) {
	for kind, of := range kinds() {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := workertest.NewGroup("g", 1, ttl, time.Now)
				const seen = 1 << 42
				g.Append(records(10, "A")...)
				a, began := newApplied(), time.Now()
				start(t, g.Consumer("one"), of(func(d workers.Delivery) error {
					if d.Epoch < seen {
						return fmt.Errorf("begin: %w", &workers.ReplacedError{Epoch: seen})
					}
					a.apply(d)
					return nil
				}), options(nil))
				until(t, "all settled", func() bool { return g.Owed() == 0 })
				equal(t, "A", a.of("A"), names("A", 10))
				if took := time.Since(began); took > 2*ttl {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// TestIDsThatAreGivenOutAgainAreOtherEvents: what an owner knows of an entry id says
// nothing of the event that has it after the stream was lost.
func TestIDsThatAreGivenOutAgainAreOtherEvents(t *testing.T) {
	for kind, of := range kinds() {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := workertest.NewGroup("g", 1, ttl, time.Now)
				a := newApplied()
				var away atomic.Bool
				away.Store(true)
				g.Append(records(10, "A", "B")...)
				start(t, g.Consumer("one"), of(func(d workers.Delivery) error {
					if away.Load() {
						return workers.Unavailable(errAway)
					}
					a.apply(d)
					return nil
				}), options(nil))
				until(t, "all read", func() bool { return g.Unread() == 0 })
				g.Clear()
				g.Append(records(10, "C", "D")...)
				pass(ttl)
				away.Store(false)
				until(t, "all settled", func() bool { return g.Owed() == 0 })
				equal(t, "C", a.of("C"), names("C", 10))
				equal(t, "D", a.of("D"), names("D", 10))
			})
		})
	}
}

// TestOwnerThatTheEffectsHaveReplacedLetsGoAndChargesNobody: an effect store that has
// seen a higher epoch refuses every event. None of them is charged for it or given
// up, however often it happens, and the next lease has a newer epoch.
func TestOwnerThatTheEffectsHaveReplacedLetsGoAndChargesNobody(t *testing.T) {
	for kind, of := range kinds() {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := workertest.NewGroup("g", 1, ttl, time.Now)
				a := newApplied()
				g.Append(records(10, "A", "B")...)
				epochs := map[int64]bool{}
				var mu sync.Mutex
				start(t, g.Consumer("one"), of(func(d workers.Delivery) error {
					mu.Lock()
					defer mu.Unlock()
					if epochs[d.Epoch] = true; len(epochs) <= 20 {
						return fmt.Errorf("begin: %w", workers.ErrReplaced)
					}
					equal(t, "attempt of "+d.Event.ID, d.Attempt, 1)
					a.apply(d)
					return nil
				}), options(func(o *workers.Options) { o.Attempts = 3 }))
				until(t, "all settled", func() bool { return g.Owed() == 0 })
				equal(t, "dead letters", len(g.Dead()), 0)
				equal(t, "A", a.of("A"), names("A", 10))
				equal(t, "B", a.of("B"), names("B", 10))
			})
		})
	}
}
