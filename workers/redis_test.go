package workers_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/streams/streamstest"
	"github.com/paybell/paybell/workers"
)

// engines are what the pool runs on.
func engines() map[string]func(testing.TB) string {
	return map[string]func(testing.TB) string{
		"miniredis":    func(tb testing.TB) string { tb.Helper(); return streamstest.Miniredis(tb).Addr() },
		"redis-server": func(tb testing.TB) string { tb.Helper(); return streamstest.Redis(tb).Addr() },
	}
}

// four is four partitions; short has leases that end soon, too, and on a machine
// that is busy enough also while they are held.
func four(o *streams.Options)  { o.Partitions = 4 }
func short(o *streams.Options) { o.LeaseTTL, o.Partitions = time.Second, 4 }

// eventually waits for something to become true, on the wall clock.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// feed appends n events of each order and returns the event ids of each ordering key.
func feed(b *streamstest.Bench, n int, orders ...string) map[string][]string {
	ids := make(map[string][]string)
	var recs []event.Record
	for i := range n {
		for _, order := range orders {
			rec := streamstest.Record(order, i)
			recs = append(recs, rec)
			key := rec.Event.OrderingKey()
			ids[key] = append(ids[key], rec.Event.ID)
		}
	}
	for page := range slices.Chunk(recs, 100) {
		b.Append(page...)
	}
	return ids
}

// ordered fails the test where orders were not applied in append order.
func (a *applied) ordered(t *testing.T, want map[string][]string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for key, ids := range want {
		if got := firsts(a.byKey[key]); !slices.Equal(got, ids) {
			t.Errorf("%s: applied %v, appended %v", key, got, ids)
		}
	}
}

// has reports whether n different events were applied.
func (a *applied) has(n int) bool { return len(firsts(a.ids())) == n }

func owed(b *streamstest.Bench, group string) int {
	n := 0
	for p := range b.Layout.Partitions() {
		n += len(b.Pending(group, p))
	}
	return n
}

func TestGroupsRunOnEveryEngine(t *testing.T) {
	for name, engine := range engines() {
		t.Run(name, func(t *testing.T) {
			b := streamstest.New(t, engine(t), four)
			var orders []string
			for i := range 12 {
				orders = append(orders, fmt.Sprint("order-", i))
			}
			want := feed(b, 20, orders...)
			const poison = "order-3"
			unreadable := want["shop/order/"+poison][4]
			one, two := newApplied(), newApplied()
			// Two groups get every event; one of them cannot read an order's fifth.
			p := start(t, workers.On(b.Group("points", "a")), each(func(d workers.Delivery) error {
				if one.called(d) <= 2 && d.Event.OrderRef() == "order-7" {
					return errTest
				}
				if d.Event.ID == unreadable {
					return workers.Reject(errTest)
				}
				one.apply(d)
				return nil
			}), options(func(o *workers.Options) { o.Backoff.Initial = 5 * time.Millisecond }))
			start(t, workers.On(b.Group("orders", "a")), workers.HandlerFunc(func(_ context.Context, d workers.Delivery) error {
				two.apply(d)
				return nil
			}), options(nil))
			eventually(t, "points is done", func() bool { return one.has(239) && owed(b, "points") == 0 })
			eventually(t, "orders is done", func() bool { return two.has(240) && owed(b, "orders") == 0 })
			// The first 20 are duplicates by now; one is new.
			maps.Copy(want, feed(b, 21, "order-1"))
			eventually(t, "a late event is handled", func() bool { return one.has(240) && two.has(241) })
			two.ordered(t, want)
			want["shop/order/"+poison] = slices.Delete(want["shop/order/"+poison], 4, 5)
			one.ordered(t, want)
			equal(t, "applied by points", len(one.ids()), 240)
			equal(t, "applied by orders", len(two.ids()), 241)
			equal(t, "dead letters", p.metric("dead_letters_total", "rejected"), 1)
		})
	}
}

func TestAnotherProcessGoesOnWhereOneWasKilled(t *testing.T) {
	for name, engine := range engines() {
		t.Run(name, func(t *testing.T) {
			addr := engine(t)
			b := streamstest.New(t, addr, short)
			doomed := streamstest.New(t, addr, short)
			a := newApplied()
			want := feed(b, 25, "A", "B", "C", "D")
			var once sync.Once
			killed := make(chan struct{})
			start(t, workers.On(doomed.Group("points", "a")), workers.HandlerFunc(func(ctx context.Context, d workers.Delivery) error {
				if a.apply(d); len(a.ids()) > 30 {
					once.Do(func() {
						_ = doomed.Write.Close() // From here nothing of this process reaches the server.
						close(killed)
					})
					<-ctx.Done()
				}
				return nil
			}), options(func(o *workers.Options) { o.Grace = 0 }))
			<-killed
			start(t, workers.On(b.Group("points", "b")), workers.HandlerFunc(func(_ context.Context, d workers.Delivery) error {
				a.apply(d)
				return nil
			}), options(nil))
			eventually(t, "the other is done", func() bool { return a.has(100) && owed(b, "points") == 0 })
			a.ordered(t, want)
		})
	}
}

func TestServerThatIsKilledAndComesBackLosesNothing(t *testing.T) {
	server := streamstest.Redis(t, streamstest.AOF("always")...)
	b := streamstest.New(t, server.Addr(), short)
	want := feed(b, 40, "A", "B", "C", "D")
	a := newApplied()
	start(t, workers.On(b.Group("points", "a")), each(func(d workers.Delivery) error {
		<-time.After(5 * time.Millisecond)
		a.apply(d)
		return nil
	}), options(func(o *workers.Options) { o.Batch = 8 }))
	eventually(t, "some applied", func() bool { return len(a.ids()) > 40 })
	server.Kill()
	server.Restart()
	eventually(t, "all applied", func() bool { return a.has(160) && owed(b, "points") == 0 })
	a.ordered(t, want)
}

func TestGroupThatIsDestroyedIsReadAgainFromItsStart(t *testing.T) {
	for name, engine := range engines() {
		t.Run(name, func(t *testing.T) {
			b := streamstest.New(t, engine(t), four)
			feed(b, 10, "A", "B")
			a := newApplied()
			start(t, workers.On(b.Group("points", "a")), each(func(d workers.Delivery) error { a.apply(d); return nil }), options(nil))
			eventually(t, "all applied", func() bool { return a.has(20) && owed(b, "points") == 0 })
			for p := range b.Layout.Partitions() {
				if err := b.Write.XGroupDestroy(t.Context(), b.Layout.Events(p), "points").Err(); err != nil {
					t.Fatal(err)
				}
			}
			want := feed(b, 11, "A", "B")
			eventually(t, "the new ones applied", func() bool { return a.has(22) && len(a.ids()) == 42 })
			a.ordered(t, want)
		})
	}
}

// TestPartitionWithoutAGroupStopsNoOther: where somebody has put something else in the place
// of a partition, the group cannot be created there. It works in all the others, and there
// as soon as that is mended.
func TestPartitionWithoutAGroupStopsNoOther(t *testing.T) {
	b := streamstest.New(t, streamstest.Redis(t).Addr(), short)
	const broken = 1
	if err := b.Write.Set(t.Context(), b.Layout.Events(broken), "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	source := streams.NewFeed(b.Read, b.Layout, b.Options.Block)
	t.Cleanup(func() {
		_ = b.Read.Close() // ends the reads that Close waits for
		source.Close()
	})
	g, err := streams.NewGroup(b.Write, source, b.Layout, "points", "w1", b.Options.Group(), slog.New(slog.DiscardHandler), b.Reg)
	if err != nil {
		t.Fatal(err)
	}
	a := newApplied()
	start(t, workers.On(g), each(func(d workers.Delivery) error { a.apply(d); return nil }), workers.DefaultOptions())
	for _, partition := range []int{0, 2, 3} {
		b.AppendTo(partition, 3)
	}
	eventually(t, "the other partitions are worked off", func() bool { return a.has(9) })
	if err := b.Write.Del(t.Context(), b.Layout.Events(broken)).Err(); err != nil {
		t.Fatal(err)
	}
	b.AppendTo(broken, 3)
	eventually(t, "it is worked off as well", func() bool { return a.has(12) })
}
