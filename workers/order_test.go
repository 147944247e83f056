package workers_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paybell/paybell/workers"
	"github.com/paybell/paybell/workers/workertest"
)

// of makes a handler of a function.
type of func(func(workers.Delivery) error) any

// kinds are the two kinds of handler that every promise is tested with.
func kinds() map[string]of {
	return map[string]of{
		"Handler": func(f func(workers.Delivery) error) any {
			return workers.HandlerFunc(func(_ context.Context, d workers.Delivery) error { return f(d) })
		},
		"BatchHandler": func(f func(workers.Delivery) error) any { return each(f) },
	}
}

func TestEverythingIsAppliedOnceInOrder(t *testing.T) {
	for kind, of := range kinds() {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := workertest.NewGroup("g", 4, ttl, time.Now)
				a := newApplied()
				g.Append(records(100, "A", "B", "C", "D", "E")...)
				p := start(t, g.Consumer("one"), of(func(d workers.Delivery) error {
					a.called(d)
					a.apply(d)
					return nil
				}), options(nil))
				until(t, "all settled", func() bool { return g.Owed() == 0 })
				g.Append(records(1, "late")...)
				until(t, "the late one settled", func() bool { return g.Owed() == 0 })
				for _, order := range []string{"A", "B", "C", "D", "E"} {
					equal(t, order, a.of(order), names(order, 100))
				}
				equal(t, "applied", len(a.ids()), 501)
				equal(t, "done", p.metric("deliveries_total", "done"), 501)
				equal(t, "lag", p.metric("handling_lag_seconds"), 501)
				equal(t, "entries", p.metric("entries"), 0)
				equal(t, "in flight", p.metric("in_flight_entries"), 0)
				equal(t, "partitions", p.metric("partitions"), 4)
				p.stop()
				equal(t, "partitions after the stop", p.metric("partitions"), 0)
				equal(t, "owners after the stop", g.Owners(), []string{"", "", "", ""})
				equal(t, "members after the stop", g.Members(), []string{})
			})
		})
	}
}

func TestFailingOrderHoldsOnlyItself(t *testing.T) {
	for kind, of := range kinds() {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := workertest.NewGroup("g", 1, ttl, time.Now)
				a := newApplied()
				ids := g.Append(records(3, "bad", "good")...)
				p := start(t, g.Consumer("one"), of(func(d workers.Delivery) error {
					if a.called(d); d.Event.ID == "bad-1" && a.attempts("bad-1") < 5 {
						return errTest
					}
					a.apply(d)
					return nil
				}), options(nil))
				until(t, "the good order applied", func() bool { return len(a.of("good")) == 3 })
				if n := len(a.of("bad")); n != 0 {
					t.Fatalf("%d events applied behind one that fails", n)
				}
				equal(t, "waiting in lanes", p.metric("held_entries"), 3)
				until(t, "all settled", func() bool { return g.Owed() == 0 })
				equal(t, "bad", a.of("bad"), names("bad", 3))
				equal(t, "attempts of those behind", a.attempts("bad-2")+a.attempts("bad-3"), 2)
				equal(t, "dead letters", len(g.Dead()), 0)
				for _, id := range ids {
					equal(t, "settled "+id, g.Settled(id), 1)
				}
			})
		})
	}
}

func TestAttemptsAreNumberedFromOne(t *testing.T) {
	for kind, of := range kinds() {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := workertest.NewGroup("g", 1, ttl, time.Now)
				g.Append(records(1, "A")...)
				var seen []int
				start(t, g.Consumer("one"), of(func(d workers.Delivery) error {
					if seen = append(seen, d.Attempt); len(seen) < 4 {
						return errTest
					}
					return nil
				}), options(nil))
				until(t, "settled", func() bool { return g.Owed() == 0 })
				equal(t, "attempts", seen, []int{1, 2, 3, 4})
			})
		})
	}
}
