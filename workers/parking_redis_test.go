package workers_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/streamstest"
	"github.com/paybell/paybell/workers"
)

// parkedAll is how many deliveries a group has parked.
func parkedAll(b *streamstest.Bench, t *testing.T, group string) int {
	t.Helper()
	n := 0
	for p := range b.Layout.Partitions() {
		n += int(b.Write.ZCard(t.Context(), b.Layout.Parked(p, group)).Val())
	}
	return n
}

func TestPoisonedOrderLeavesTheStreamFreeOnEveryEngine(t *testing.T) {
	for name, engine := range engines() {
		t.Run(name, func(t *testing.T) {
			b := streamstest.New(t, engine(t), four)
			var orders []string
			for i := range 20 {
				orders = append(orders, fmt.Sprint("order-", i))
			}
			want := feed(b, 10, orders...)
			const poisoned = "order-3"
			a := newApplied()
			var f switchable
			h := each(func(d workers.Delivery) error {
				if f.failing() && d.Event.OrderRef() == poisoned {
					return workers.RetryAfter(3*time.Second, errTest)
				}
				a.apply(d)
				return nil
			})
			one := start(t, workers.On(b.Group("points", "a")), h, options(soon))
			eventually(t, "the others are done and nothing is pending", func() bool { return a.has(190) && owed(b, "points") == 0 })
			equal(t, "parked", parkedAll(b, t, "points"), 10)
			// What every group is done with could be trimmed now; another owner goes on.
			for p := range b.Layout.Partitions() {
				b.Write.XTrimMaxLen(t.Context(), b.Layout.Events(p), 0)
			}
			one.stop()
			start(t, workers.On(b.Group("points", "b")), h, options(soon))
			f.end()
			eventually(t, "all applied", func() bool { return a.has(200) && parkedAll(b, t, "points") == 0 })
			a.ordered(t, want)
			equal(t, "applied", len(a.ids()), 200)
		})
	}
}

// TestRetriesAndReplaysReachNoOtherGroup: a delivery that fails, waits outside the
// stream, is given up and replayed stays one group's affair. Added to the stream
// again it would reach them all.
func TestRetriesAndReplaysReachNoOtherGroup(t *testing.T) {
	for name, engine := range engines() {
		t.Run(name, func(t *testing.T) {
			b := streamstest.New(t, engine(t), four)
			feed(b, 1, "A", "B", "C")
			var f switchable
			troubled, other := newApplied(), newApplied()
			start(t, workers.On(b.Group("points", "a")), each(func(d workers.Delivery) error {
				if f.failing() && d.Event.OrderRef() == "B" {
					return workers.RetryAfter(1500*time.Millisecond, errTest)
				}
				troubled.apply(d)
				return nil
			}), options(func(o *workers.Options) { o.ParkAfter, o.Attempts = time.Second, 2 }))
			start(t, workers.On(b.Group("orders", "a")), each(func(d workers.Delivery) error { other.apply(d); return nil }), options(nil))
			letters := streams.NewDeadLetters(b.Write, b.Layout)
			var ids []string
			eventually(t, "order B is given up", func() bool {
				page, err := letters.List(t.Context(), "points", streams.DeadLetterQuery{})
				ids = ids[:0]
				for i := range page.DeadLetters {
					ids = append(ids, page.DeadLetters[i].ID)
				}
				return err == nil && len(ids) == 1
			})
			f.end()
			if _, err := letters.Replay(t.Context(), "points", ids); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the replays are applied", func() bool { return troubled.has(3) && parkedAll(b, t, "points") == 0 })
			equal(t, "entries", len(b.Entries()), 3)
			equal(t, "applied by the other group", len(other.ids()), 3)
		})
	}
}

func TestParkedDeliveriesSurviveAServerThatIsKilled(t *testing.T) {
	server := streamstest.Redis(t, streamstest.AOF("always")...)
	b := streamstest.New(t, server.Addr(), short)
	want := feed(b, 10, "A", "B", "C", "D")
	a := newApplied()
	var f switchable
	start(t, workers.On(b.Group("points", "a")), each(func(d workers.Delivery) error {
		if f.failing() && d.Event.OrderRef() == "B" {
			return workers.RetryAfter(2*time.Second, errTest)
		}
		a.apply(d)
		return nil
	}), options(func(o *workers.Options) { o.ParkAfter, o.Attempts = time.Second, 100 }))
	eventually(t, "parked", func() bool { return a.has(30) && parkedAll(b, t, "points") == 10 })
	server.Kill()
	server.Restart()
	f.end()
	eventually(t, "all applied", func() bool { return a.has(40) && parkedAll(b, t, "points") == 0 })
	a.ordered(t, want)
}

func TestRedisThatLostItsMemoryIsReadFromTheStart(t *testing.T) {
	for name, engine := range engines() {
		t.Run(name, func(t *testing.T) {
			b := streamstest.New(t, engine(t), short)
			feed(b, 5, "A", "B")
			a := newApplied()
			var f switchable
			start(t, workers.On(b.Group("points", "a")), each(func(d workers.Delivery) error {
				if f.failing() && d.Event.OrderRef() == "B" {
					return workers.RetryAfter(time.Hour, errTest)
				}
				a.apply(d)
				return nil
			}), options(soon))
			eventually(t, "parked", func() bool { return a.has(5) && parkedAll(b, t, "points") == 5 })
			if err := b.Write.FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			f.end()
			// What was parked went with the memory; what comes after it is handled.
			want := feed(b, 3, "C", "B")
			eventually(t, "the new ones applied", func() bool { return a.has(11) })
			a.ordered(t, map[string][]string{"shop/order/C": want["shop/order/C"], "shop/order/B": want["shop/order/B"]})
		})
	}
}
