package workers_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paybell/paybell/workers"
	"github.com/paybell/paybell/workers/workertest"
)

// soon parks whatever waits longer than a second.
func soon(o *workers.Options) { o.ParkAfter = time.Second }

// switchable is a failure that a test ends.
type switchable struct {
	mu    sync.Mutex
	ended bool
}

func (s *switchable) end() { s.mu.Lock(); defer s.mu.Unlock(); s.ended = true }

func (s *switchable) failing() bool { s.mu.Lock(); defer s.mu.Unlock(); return !s.ended }

func TestLongRetryPinsNothing(t *testing.T) {
	for kind, of := range kinds() {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := workertest.NewGroup("g", 1, ttl, time.Now)
				a := newApplied()
				var f switchable
				ids := g.Append(records(5, "A", "B")...)
				p := start(t, g.Consumer("one"), of(func(d workers.Delivery) error {
					if a.called(d); f.failing() && d.Event.ID == "A-2" {
						return workers.RetryAfter(time.Hour, errTest)
					}
					a.apply(d)
					return nil
				}), options(soon))
				until(t, "nothing is pending", func() bool { return g.Pending() == 0 && g.Unread() == 0 })
				equal(t, "parked", g.Parked(), 4)
				// New events of the order go behind it; other orders do not wait.
				g.Append(records(7, "A", "B")[10:]...)
				until(t, "the later ones left the stream too", func() bool { return g.Pending() == 0 && g.Parked() == 6 })
				equal(t, "B", a.of("B"), names("B", 7))
				equal(t, "A", a.of("A"), names("A", 1))
				equal(t, "attempts", []int{g.Attempts(ids[2]), g.Attempts(ids[4])}, []int{1, 0})
				equal(t, "parked as measured", p.metric("parked_entries"), 6)
				equal(t, "kept in memory", p.metric("entries"), 0)
				f.end()
				until(t, "all settled", func() bool { return g.Owed() == 0 })
				equal(t, "A", a.of("A"), names("A", 7))
				equal(t, "calls of A-2", a.attempts("A-2"), 2)
				equal(t, "parked in the end", p.metric("parked_entries"), 0)
			})
		})
	}
}

func TestShortRetryStaysInTheWorkerAndManyOfThemDoNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 1, ttl, time.Now)
		var longest, parkings int
		g.Fault(func(c workertest.Call) error {
			if c.Done && c.Op == "Park" {
				parkings += len(c.Parkings)
			}
			return nil
		})
		g.Append(records(1, "A", "B")...)
		var calls []time.Time
		start(t, g.Consumer("one"), each(func(d workers.Delivery) error {
			if d.Event.ID == "B-1" {
				return nil
			}
			if calls = append(calls, time.Now()); parkings == 0 {
				longest = len(calls)
			}
			return workers.RetryAfter(400*time.Millisecond, errTest)
		}), options(func(o *workers.Options) { o.ParkAfter, o.Attempts = time.Second, 8 }))
		until(t, "given up", func() bool { return g.Owed() == 0 })
		equal(t, "dead letters", len(g.Dead()), 1)
		equal(t, "attempts of the dead letter", g.Dead()[0].Attempts, 8)
		// 0, 400, 800 ms; the next one would come later than a second after the first.
		equal(t, "attempts before it left", longest, 3)
		if parkings == 0 {
			t.Error("an event that failed for longer than park_after stayed in the stream")
		}
	})
}

func TestParkedOrderSurvivesItsOwner(t *testing.T) {
	for _, how := range []string{"stopped", "killed", "lease lost"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := workertest.NewGroup("g", 1, ttl, time.Now)
				k, a := newKillable(g), newApplied()
				var f switchable
				h := each(func(d workers.Delivery) error {
					if a.called(d); f.failing() && d.Event.OrderRef() == "A" {
						return workers.RetryAfter(10*time.Minute, errTest)
					}
					a.apply(d)
					return nil
				})
				ids := g.Append(records(600, "A")...)
				one := start(t, g.Consumer("one"), h, options(soon))
				until(t, "parked", func() bool { return g.Parked() == 600 })
				switch how {
				case "stopped":
					one.stop()
				case "killed":
					k.kill("one")
				case "lease lost":
					g.Steal(0, "somebody")
				}
				// The next owner has to keep new events behind the old ones it finds parked.
				g.Append(records(601, "A")[600:]...)
				two := start(t, g.Consumer("two"), h, options(soon))
				until(t, "the new one is parked", func() bool { return g.Parked() == 601 && g.Pending() == 0 })
				equal(t, "applied", len(a.ids()), 0)
				equal(t, "attempts", g.Attempts(ids[0]), 1)
				f.end()
				until(t, "all settled", func() bool { return g.Owed() == 0 })
				equal(t, "A", a.of("A"), names("A", 601))
				equal(t, "dead letters", len(g.Dead()), 0)
				two.stop()
			})
		})
	}
}

func TestPoisonThatIsParkedAndKillsIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 1, ttl, time.Now)
		k, a := newKillable(g), newApplied()
		g.Append(records(3, "killer", "A", "B")...)
		n := generations(t, g, k, func(consumer string) any {
			return workers.HandlerFunc(func(ctx context.Context, d workers.Delivery) error {
				if d.Event.ID == "killer-1" {
					if a.called(d) == 1 {
						return workers.RetryAfter(time.Minute, errTest)
					}
					return k.crash(ctx, consumer, []workers.Delivery{d})[0]
				}
				a.apply(d)
				return nil
			})
		}, options(func(o *workers.Options) { o.ParkAfter, o.Attempts = time.Second, 4 }))
		equal(t, "processes", n, 4)
		equal(t, "dead letters", len(g.Dead()), 1)
		equal(t, "dead letter", []any{g.Dead()[0].Record.Event.ID, g.Dead()[0].Reason, g.Dead()[0].Attempts}, []any{"killer-1", "crash", 4})
		equal(t, "the order goes on", a.of("killer"), []string{"killer-2", "killer-3"})
	})
}

func TestOrderHasACapAndWhatExceedsItIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 1, ttl, time.Now)
		a := newApplied()
		var f switchable
		g.Append(records(15, "A", "B")...)
		start(t, g.Consumer("one"), each(func(d workers.Delivery) error {
			if f.failing() && d.Event.OrderRef() == "A" {
				return workers.RetryAfter(50*time.Minute, errTest)
			}
			a.apply(d)
			return nil
		}), options(func(o *workers.Options) { o.ParkAfter, o.Parked.PerOrder = time.Second, 10 }))
		until(t, "nothing is pending", func() bool { return g.Pending() == 0 && g.Unread() == 0 })
		equal(t, "parked", g.Parked(), 10)
		var dead []string
		for _, d := range g.Dead() {
			dead = append(dead, d.Record.Event.ID+" "+d.Reason)
		}
		equal(t, "dead letters", dead, []string{"A-11 cap", "A-12 cap", "A-13 cap", "A-14 cap", "A-15 cap"})
		equal(t, "B", a.of("B"), names("B", 15))
		f.end()
		until(t, "all settled", func() bool { return g.Owed() == 0 })
		equal(t, "A", a.of("A"), names("A", 10))
	})
}

func TestGroupThatHasParkedAllItMayReadsNoFurtherAndGivesNothingUp(t *testing.T) {
	for name, bound := range map[string]func(*workers.Options){
		"entries": func(o *workers.Options) { o.Parked.Entries = 20 },
		"bytes":   func(o *workers.Options) { o.Parked.Bytes = 1 << 20 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := workertest.NewGroup("g", 1, ttl, time.Now)
				a := newApplied()
				var f switchable
				var orders []string
				for i := range 1000 {
					orders = append(orders, fmt.Sprint("order", i))
				}
				recs := records(1, orders...)
				for i := range recs {
					recs[i].Raw = make([]byte, 8<<10)
				}
				g.Append(recs...)
				p := start(t, g.Consumer("one"), each(func(d workers.Delivery) error {
					if f.failing() {
						return workers.RetryAfter(time.Minute, errTest)
					}
					a.apply(d)
					return nil
				}), options(func(o *workers.Options) {
					o.ParkAfter, o.Batch, o.Prefetch, o.Attempts = time.Second, 16, 32, 1000
					bound(o)
				}))
				most := 0
				for range 1000 {
					synctest.Wait()
					most = max(most, g.Parked())
					pass(100 * time.Millisecond)
				}
				// The run that reaches the bound is parked whole.
				if limit := map[string]int{"entries": 20, "bytes": 1<<20/(8<<10) + 1}[name]; most < limit/2 || most > limit+16 {
					t.Errorf("%d were parked, the bound is %d", most, limit)
				}
				if g.Unread() < 500 {
					t.Errorf("%d entries are left unread: reading went on", g.Unread())
				}
				equal(t, "dead letters", len(g.Dead()), 0)
				equal(t, "the alarm", p.metric("paused", "parked"), 1)
				f.end()
				until(t, "all settled", func() bool { return g.Owed() == 0 })
				equal(t, "applied", len(a.ids()), 1000)
				equal(t, "the alarm in the end", p.metric("paused", "parked"), 0)
			})
		})
	}
}

func TestParkedRetriesDoNotStarveFirstAttempts(t *testing.T) {
	for kind, of := range kinds() {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := workertest.NewGroup("g", 1, ttl, time.Now)
				a := newApplied()
				var orders []string
				for i := range 500 {
					orders = append(orders, fmt.Sprint("bad", i))
				}
				g.Append(records(1, orders...)...)
				start(t, g.Consumer("one"), of(func(d workers.Delivery) error {
					pass(10 * time.Millisecond)
					if d.Event.OrderRef() != "good" {
						return workers.RetryAfter(2*time.Second, errTest)
					}
					a.apply(d)
					return nil
				}), options(func(o *workers.Options) {
					o.ParkAfter, o.Concurrency, o.Batch, o.Prefetch, o.Attempts = time.Second, 2, 4, 8, 1000
				}))
				until(t, "the bad ones are parked", func() bool { return g.Unread() == 0 && g.Parked() > 450 })
				begun := time.Now()
				g.Append(records(100, "good")...)
				until(t, "the good ones are through", func() bool { return len(a.of("good")) == 100 })
				if took := time.Since(begun); took > 30*time.Second {
					t.Errorf("a hundred first attempts took %v among retries that are always due", took)
				}
				equal(t, "good", a.of("good"), names("good", 100))
			})
		})
	}
}

func TestParkedDeliveryThatIsDeliveredAgainIsRunOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 1, ttl, time.Now)
		a := newApplied()
		var f switchable
		g.Append(records(3, "A")...)
		start(t, g.Consumer("one"), each(func(d workers.Delivery) error {
			if a.called(d); f.failing() {
				return workers.RetryAfter(time.Minute, errTest)
			}
			a.apply(d)
			return nil
		}), options(soon))
		until(t, "parked", func() bool { return g.Parked() == 3 })
		g.Destroy()
		g.Append(records(4, "A")[3:]...)
		until(t, "parked again", func() bool { return g.Parked() == 4 && g.Pending() == 0 && g.Unread() == 0 })
		equal(t, "calls of A-1", a.attempts("A-1"), 1)
		f.end()
		until(t, "all settled", func() bool { return g.Owed() == 0 })
		equal(t, "A", a.of("A"), names("A", 4))
		equal(t, "calls of A-2", a.attempts("A-2"), 1)
	})
}

func TestParkedDeliveryThatSomebodyDeletedIsLostAloud(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 1, ttl, time.Now)
		a := newApplied()
		ids := g.Append(records(3, "A")...)
		var once sync.Once
		p := start(t, g.Consumer("one"), each(func(d workers.Delivery) error {
			failed := false
			once.Do(func() { failed = true })
			if failed {
				g.Delete(ids[1])
				return workers.RetryAfter(time.Minute, errTest)
			}
			a.apply(d)
			return nil
		}), options(soon))
		until(t, "all settled", func() bool { return g.Owed() == 0 })
		equal(t, "A", a.of("A"), []string{"A-1", "A-3"})
		equal(t, "parked in the end", p.metric("parked_entries"), 0)
	})
}

func TestParkingWaitsForRedisAndKeepsTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 1, ttl, time.Now)
		a := newApplied()
		var mu sync.Mutex
		refused := 0
		g.Fault(func(c workertest.Call) error {
			mu.Lock()
			defer mu.Unlock()
			// Every other Park is refused, or its answer is lost.
			if c.Op == "Park" {
				if refused++; refused%4 == 1 || refused%4 == 0 {
					return errAway
				}
			}
			return nil
		})
		g.Append(records(40, "A", "B", "C")...)
		start(t, g.Consumer("one"), each(func(d workers.Delivery) error {
			if a.called(d) < 3 && slices.Contains([]string{"A-1", "B-7", "C-40"}, d.Event.ID) {
				return workers.RetryAfter(5*time.Second, errTest)
			}
			a.apply(d)
			return nil
		}), options(soon))
		until(t, "all settled", func() bool { return g.Owed() == 0 })
		for _, order := range []string{"A", "B", "C"} {
			equal(t, order, a.of(order), names(order, 40))
		}
		equal(t, "dead letters", len(g.Dead()), 0)
	})
}

func TestReplayRunsInItsPlaceOfTheOrder(t *testing.T) {
	for kind, of := range kinds() {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := workertest.NewGroup("g", 1, ttl, time.Now)
				a := newApplied()
				var f, cured switchable
				ids := g.Append(records(4, "A", "B")...)
				start(t, g.Consumer("one"), of(func(d workers.Delivery) error {
					switch {
					case d.Event.ID == "A-1" && cured.failing(), d.Event.ID == "B-1" && cured.failing():
						return workers.Reject(errTest)
					case d.Event.ID == "A-3" && f.failing():
						return workers.RetryAfter(time.Minute, errTest)
					}
					a.called(d)
					a.apply(d)
					return nil
				}), options(soon))
				until(t, "two are dead and two are parked", func() bool { return len(g.Dead()) == 2 && g.Parked() == 2 })
				cured.end()
				begun := time.Now()
				g.Replay(ids[0])
				g.Replay(ids[1])
				until(t, "B-1 is applied", func() bool { return len(a.of("B")) == 4 })
				if took := time.Since(begun); took > 3*time.Second {
					t.Errorf("the owner found a replay after %v", took)
				}
				// A-3 still waits for its retry, but not before A-1.
				until(t, "A-1 is applied", func() bool { return len(a.of("A")) == 2 })
				equal(t, "A", a.of("A"), []string{"A-2", "A-1"})
				f.end()
				until(t, "all settled", func() bool { return g.Owed() == 0 })
				equal(t, "A", a.of("A"), []string{"A-2", "A-1", "A-3", "A-4"})
				equal(t, "B", a.of("B"), []string{"B-2", "B-3", "B-4", "B-1"})
				equal(t, "calls of B-2", a.attempts("B-2"), 1)
			})
		})
	}
}

// A new owner learns of what is parked page by page, what stands behind another event
// first. When a page fails in the middle, nothing of it may run before the rest is
// known.
func TestHalfARecallRunsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 1, ttl, time.Now)
		a := newApplied()
		g.Append(records(700, "A")...)
		h := each(func(d workers.Delivery) error {
			if a.called(d) == 1 && d.Event.ID == "A-1" {
				return workers.RetryAfter(time.Hour, errTest)
			}
			a.apply(d)
			return nil
		})
		p := start(t, g.Consumer("one"), h, options(soon))
		until(t, "all is parked", func() bool { return g.Parked() == 700 })
		p.stop()
		n := 0
		g.Fault(func(c workertest.Call) error {
			if c.Op == "Parked" && !c.Done {
				if n++; n == 2 {
					return errors.New("reset")
				}
			}
			return nil
		})
		start(t, g.Consumer("two"), h, options(soon))
		pass(time.Minute)
		if ids := a.of("A"); len(ids) > 0 {
			t.Fatalf("%d applied before A-1, which is due in an hour", len(ids))
		}
		until(t, "all is applied", func() bool { return g.Owed() == 0 })
		if ids := a.of("A"); len(ids) != 700 || ids[0] != "A-1" {
			t.Fatalf("%d applied, the first is %s", len(ids), ids[0])
		}
	})
}
