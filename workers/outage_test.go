package workers_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paybell/paybell/workers"
	"github.com/paybell/paybell/workers/workertest"
)

var errAway = errors.New("connection refused")

func TestRedisOutageIsWaitedOutAndLoggedOnce(t *testing.T) {
	for name, length := range map[string]time.Duration{
		"shorter than a lease": 3 * time.Second, "longer than a lease": 10 * time.Minute,
	} {
		for kind, of := range kinds() {
			t.Run(name+"/"+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := workertest.NewGroup("g", 4, ttl, time.Now)
					a := newApplied()
					p := start(t, g.Consumer("one"), of(func(d workers.Delivery) error {
						pass(100 * time.Millisecond)
						a.apply(d)
						return nil
					}), options(nil))
					g.Append(records(20, "A", "B", "C", "D", "E")...)
					until(t, "some applied", func() bool { return len(a.ids()) > 2 })
					var calls atomic.Int64
					g.Fault(func(c workertest.Call) error {
						if c.Done {
							return nil
						}
						calls.Add(1)
						return errAway
					})
					pass(length)
					g.Fault(nil)
					if most := int64(5*10*length/time.Second) + 50; calls.Load() > most {
						t.Errorf("%d calls in %v without redis, want at most %d", calls.Load(), length, most)
					}
					g.Append(records(1, "late")...)
					until(t, "all settled", func() bool { return g.Owed() == 0 })
					until(t, "it resumes", func() bool { return p.logs.count("group resumes") == 1 })
					equal(t, "pauses logged", p.logs.count("group pauses"), 1)
					equal(t, "paused", p.metric("paused"), 0)
					equal(t, "dead letters", len(g.Dead()), 0)
					for _, order := range []string{"A", "B", "C", "D", "E"} {
						equal(t, order, firsts(a.of(order)), names(order, 20))
						if length < ttl/2 {
							equal(t, "nothing is run twice in "+order, a.of(order), names(order, 20))
						}
					}
				})
			})
		}
	}
}

// firsts drops what was applied before: the rerun that a dedup key absorbs.
func firsts(ids []string) []string {
	seen := make(map[string]bool)
	var out []string
	for _, id := range ids {
		if !seen[id] {
			out = append(out, id)
		}
		seen[id] = true
	}
	return out
}

func TestRedisAwayAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 2, ttl, time.Now)
		g.Append(records(1, "A")...)
		g.Fault(func(workertest.Call) error { return errAway })
		a := newApplied()
		start(t, g.Consumer("one"), each(func(d workers.Delivery) error { a.apply(d); return nil }), options(nil))
		pass(time.Hour)
		g.Fault(nil)
		until(t, "all settled", func() bool { return g.Owed() == 0 })
		equal(t, "applied", a.ids(), []string{"A-1"})
	})
}

func TestLostAnswersLoseNothingAndRunNothingTwice(t *testing.T) {
	for _, op := range []string{"Take", "Backlog", "Adopt", "Charge", "Settle", "Acquire", "Heartbeat", "Ensure", "Wait"} {
		for kind, of := range kinds() {
			t.Run(op+"/"+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := workertest.NewGroup("g", 1, ttl, time.Now)
					a := newApplied()
					var worst, n atomic.Int64
					g.Fault(func(c workertest.Call) error {
						// Every other answer is lost, after the call had its effect.
						if c.Op == op && c.Done && n.Add(1)%2 == 1 {
							return errAway
						}
						return nil
					})
					g.Append(records(10, "A", "B", "C")...)
					start(t, g.Consumer("one"), of(func(d workers.Delivery) error {
						for seen := worst.Load(); int64(d.Attempt) > seen; seen = worst.Load() {
							worst.CompareAndSwap(seen, int64(d.Attempt))
						}
						if a.called(d) == 1 && d.Event.ID == "B-5" {
							return errTest
						}
						a.apply(d)
						return nil
					}), options(func(o *workers.Options) { o.Batch, o.Concurrency = 4, 2 }))
					until(t, "all settled", func() bool { return g.Owed() == 0 })
					pass(time.Minute)
					if n.Load() == 0 {
						t.Fatalf("%s was not called", op)
					}
					for _, order := range []string{"A", "B", "C"} {
						equal(t, order, a.of(order), names(order, 10))
					}
					// A Charge whose answer was lost is not counted against the event.
					equal(t, "highest attempt", worst.Load(), 2)
				})
			})
		}
	}
}

func TestSettlingIsRetriedAndTheEventIsNotRunAgain(t *testing.T) {
	for kind, of := range kinds() {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := workertest.NewGroup("g", 1, ttl, time.Now)
				a := newApplied()
				tries := 0
				g.Fault(func(c workertest.Call) error {
					if c.Op == "Settle" && !c.Done {
						if tries++; tries <= 20 {
							return errAway
						}
					}
					return nil
				})
				ids := g.Append(records(3, "A", "B")...)
				start(t, g.Consumer("one"), of(func(d workers.Delivery) error {
					a.called(d)
					a.apply(d)
					if d.Event.ID == "A-1" {
						return workers.Reject(errTest)
					}
					return nil
				}), options(nil))
				until(t, "all settled", func() bool { return g.Owed() == 0 })
				equal(t, "tries", tries > 20, true)
				for _, order := range []string{"A", "B"} {
					equal(t, order, a.of(order), names(order, 3))
				}
				for _, id := range ids {
					equal(t, "settled "+id, g.Settled(id), 1)
				}
				equal(t, "dead letters", len(g.Dead()), 1)
			})
		})
	}
}

func TestGroupThatIsDestroyedStartsOverWithoutRunningAnythingTwiceAtOnce(t *testing.T) {
	for kind, of := range kinds() {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := workertest.NewGroup("g", 1, ttl, time.Now)
				a := newApplied()
				var running atomic.Int64
				g.Append(records(5, "A")...)
				start(t, g.Consumer("one"), of(func(d workers.Delivery) error {
					if d.Event.ID != "B-1" && running.Add(1) > 1 {
						t.Errorf("%s runs beside another of its order", d.Event.ID)
					}
					pass(time.Second)
					if d.Event.ID != "B-1" {
						running.Add(-1)
					}
					a.apply(d)
					return nil
				}), options(func(o *workers.Options) { o.Batch, o.Prefetch = 2, 16 }))
				until(t, "two applied", func() bool { return len(a.ids()) >= 2 })
				g.Destroy()
				g.Append(records(1, "B")...)
				until(t, "all settled", func() bool { return g.Owed() == 0 && len(a.of("B")) == 1 })
				equal(t, "A", firsts(a.of("A")), names("A", 5))
			})
		})
	}
}

func TestRefusedDeadLetterHoldsUpNobodyElse(t *testing.T) {
	for kind, of := range kinds() {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := workertest.NewGroup("g", 1, ttl, time.Now)
				a := newApplied()
				// Out of memory, Redis refuses to add anything.
				g.Fault(func(c workertest.Call) error {
					if len(c.Settlement.Dead) > 0 {
						return errors.New("OOM command not allowed")
					}
					return nil
				})
				g.Append(records(40, "A", "B")...)
				reject := of(func(d workers.Delivery) error {
					if a.called(d); d.Event.ID == "A-1" {
						return workers.Reject(errTest)
					}
					a.apply(d)
					return nil
				})
				o := options(func(o *workers.Options) { o.Batch, o.Prefetch = 4, 16 })
				p := start(t, g.Consumer("one"), reject, o)
				until(t, "everything else is settled", func() bool { return g.Owed() == 1 })
				equal(t, "A", len(a.of("A")), 39)
				equal(t, "paused", []float64{p.metric("paused", "dead_letters"), p.metric("paused", "redis")}, []float64{1, 0})
				pass(10 * time.Minute)
				equal(t, "calls", a.attempts("A-1"), 1)
				begun := time.Now()
				p.stop()
				if took := time.Since(begun); took > 15*time.Second {
					t.Errorf("the stop took %v", took)
				}
				equal(t, "left to the next owner", g.Pending(), 1)
				g.Fault(nil)
				start(t, g.Consumer("two"), reject, o)
				until(t, "all settled", func() bool { return g.Owed() == 0 })
				equal(t, "dead letters", len(g.Dead()), 1)
			})
		})
	}
}

func TestStopDoesNotWaitForASettlementThatCannotBeMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 1, ttl, time.Now)
		ids := g.Append(records(1, "A")...)
		g.Fault(func(c workertest.Call) error {
			if c.Op == "Settle" {
				return errAway
			}
			return nil
		})
		p := start(t, g.Consumer("one"), each(func(workers.Delivery) error { return nil }), options(nil))
		until(t, "it ran", func() bool { return p.metric("deliveries_total", "done") == 1 })
		begun := time.Now()
		p.stop()
		if took, grace := time.Since(begun), options(nil).Grace; took < grace || took > grace+5*time.Second {
			t.Errorf("the stop took %v, want the grace of %v and a last try", took, grace)
		}
		equal(t, "left pending", g.Settled(ids[0]), 0)
	})
}
