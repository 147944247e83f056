package streamstest

import (
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/streams"
)

var leaseCases = []contract{
	{"G5OneOwnerAtATime", oneOwnerAtATime},
	{"G5RestartedProcessIsAnotherOwner", restartedProcessIsAnotherOwner},
	{"G5StaleOwnerDoesNothing", staleOwnerDoesNothing},
	{"G5EpochRisesAfterMemoryLoss", epochRisesAfterMemoryLoss},
	{"G5NewOwnerAdoptsInOrder", newOwnerAdoptsInOrder},
	{"G7AttemptsOutliveOwners", attemptsOutliveOwners},
	{"MembersComeAndGo", membersComeAndGo},
	{"ClockSetBackHoldsUpNobody", clockSetBackHoldsUpNobody},
}

// short is a lease that a test lets run out.
func short(o *streams.Options) { o.LeaseTTL = 300 * time.Millisecond }

func oneOwnerAtATime(t promise) {
	b := New(t, t.addr)
	first, second := b.Group("points", "w1"), b.Group("points", "w2")
	l := b.Lease(first, 0)
	if _, ok, err := second.Acquire(t.Context(), 0); ok || err != nil {
		t.Fatalf("a second owner: %v, %v", ok, err)
	}
	if again := b.Lease(first, 0); again != l {
		t.Fatalf("renewed as %+v, was %+v", again, l)
	}
	b.Lease(second, 1)                    // another partition is free
	b.Lease(b.Group("eventlog", "w1"), 0) // another group has its own leases
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if next := b.Lease(second, 0); next.Epoch() <= l.Epoch() {
		t.Fatalf("epoch %d after %d", next.Epoch(), l.Epoch())
	}
}

func restartedProcessIsAnotherOwner(t promise) {
	b := New(t, t.addr)
	b.Lease(b.Group("points", "w1"), 0)
	again := b.Group("points", "w1")
	if _, ok, err := again.Acquire(t.Context(), 0); ok || err != nil {
		t.Fatalf("the restarted consumer got its old lease: %v, %v", ok, err)
	}
}

func staleOwnerDoesNothing(t promise) {
	b := New(t, t.addr)
	bs := New(t, t.addr, short)
	b.AppendTo(0, 4)
	stale, fresh := bs.Group("points", "w1"), b.Group("points", "w2")
	old := b.Lease(stale, 0)
	es := b.Take(old, 2)
	if len(es) != 2 {
		t.Fatalf("took %d", len(es))
	}
	var l *streams.Lease
	Eventually(t, "the lease runs out", func() bool {
		var ok bool
		var err error
		l, ok, err = fresh.Acquire(t.Context(), 0)
		return ok && err == nil
	})
	if l.Epoch() <= old.Epoch() {
		t.Fatalf("epoch %d after %d", l.Epoch(), old.Epoch())
	}
	ctx := t.Context()
	owner := b.Write.HGet(ctx, b.Layout.Lease(0, "points"), "owner").Val()
	for name, call := range map[string]func() error{
		"Take":    func() error { _, err := old.Take(ctx, 10, 0); return err },
		"Backlog": func() error { _, err := old.Backlog(ctx, "", 10, 0); return err },
		"Adopt":   func() error { return old.Adopt(ctx) },
		"Charge":  func() error { return old.Charge(ctx, []streams.Run{{Name: "1", IDs: ids(es)}}) },
		"Settle": func() error {
			return old.Settle(ctx, streams.Settlement{
				Done: []string{es[0].ID}, Ended: []string{"1"}, Counts: []streams.Count{{EntryID: es[0].ID, Attempts: 1}}, Dead: []streams.DeadLetter{{EntryID: es[1].ID, Reason: "rejected"}},
			})
		},
		"Release": func() error { return old.Release(ctx) },
		"Renew":   func() error { return old.Renew(ctx) },
	} {
		if err := call(); !errors.Is(err, streams.ErrLeaseLost) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if p := b.Pending("points", 0); !slices.Equal(p, ids(es)) {
		t.Errorf("pending %v, were %v", p, ids(es))
	}
	if n := b.Write.Exists(ctx, b.Layout.Attempts(0, "points"), b.Layout.Runs(0, "points"), b.Layout.Dead(0, "points")).Val(); n != 0 {
		t.Errorf("the stale owner left attempts or dead letters")
	}
	if again := b.Lease(fresh, 0); again != l {
		t.Errorf("the lease was disturbed: %+v, was %+v", again, l)
	}
	if got := b.Take(l, 10); len(got) != 2 {
		t.Errorf("the new owner got %d of the 2 new entries", len(got))
	}
	// The right epoch does not make up for the wrong owner, nor the other way round.
	for _, is := range [][]any{{"owner", "w1/other", "epoch", l.Epoch()}, {"owner", owner, "epoch", l.Epoch() + 1}} {
		b.hand(append([]any{"HSET", b.Layout.Lease(0, "points")}, is...)...)
		if _, err := l.Take(ctx, 10, 0); !errors.Is(err, streams.ErrLeaseLost) {
			t.Errorf("%v: %v", is, err)
		}
	}
	if n := b.Metric("paybell_streams_group_leases_total", "points", "lost"); n != 2 {
		t.Errorf("the fresh bench counted %v lost leases", n)
	}
}

func epochRisesAfterMemoryLoss(t promise) {
	b := New(t, t.addr)
	g := b.Group("points", "w1")
	last := b.Lease(g, 0)
	for range 3 {
		// What remains of the old memory is the server's clock.
		Eventually(t, "the clock moves on", func() bool {
			return b.Write.Time(t.Context()).Val().UnixMilli() > last.Epoch()
		})
		if err := b.Write.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if _, err := last.Take(t.Context(), 1, 0); !errors.Is(err, streams.ErrLeaseLost) {
			t.Fatalf("the lease outlived the memory: %v", err)
		}
		next := b.Lease(g, 0)
		if next.Epoch() <= last.Epoch() {
			t.Fatalf("epoch %d after %d", next.Epoch(), last.Epoch())
		}
		last = next
	}
	// Many changes of owner within one millisecond rise all the same.
	for range 20 {
		if err := last.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		next := b.Lease(g, 0)
		if next.Epoch() <= last.Epoch() {
			t.Fatalf("epoch %d after %d", next.Epoch(), last.Epoch())
		}
		last = next
	}
	// An epoch from a clock ahead of ours is passed, and keeps all of its digits.
	ahead := time.Now().Add(1000 * time.Hour).UnixMilli()
	if err := b.Write.Set(t.Context(), b.Layout.Epoch(0, "points"), ahead, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := last.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if next := b.Lease(g, 0); next.Epoch() != ahead+1 {
		t.Fatalf("epoch %d after %d", next.Epoch(), ahead)
	}
}

// A clock that is set back leaves leases and members that live for as long as it was
// set back by; PERSIST by hand a lease that never ends.
func clockSetBackHoldsUpNobody(t promise) {
	b := New(t, t.addr, short)
	dead, next := b.Group("points", "w1"), b.Group("points", "w2")
	for name, prolong := range map[string]func(key string) error{
		"set back":  func(key string) error { return b.Write.PExpire(t.Context(), key, time.Hour).Err() },
		"persisted": func(key string) error { return b.Write.Persist(t.Context(), key).Err() },
	} {
		old := b.Lease(dead, 0)
		if err := prolong(b.Layout.Lease(0, "points")); err != nil {
			t.Fatal(err)
		}
		var l *streams.Lease
		Eventually(t, name+": the lease of the dead owner ends", func() (ok bool) {
			l, ok, _ = next.Acquire(t.Context(), 0)
			return ok
		})
		if l.Epoch() <= old.Epoch() {
			t.Fatalf("%s: epoch %d after %d", name, l.Epoch(), old.Epoch())
		}
		if err := l.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
	}

	future := redis.Z{Score: float64(time.Now().Add(time.Hour).UnixMilli()), Member: "w1"}
	if err := b.Write.ZAdd(t.Context(), b.Layout.Members("points"), future).Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := next.Heartbeat(t.Context()); n != 1 || err != nil {
		t.Fatalf("%d members, %v: one of them is dead", n, err)
	}
}

func newOwnerAdoptsInOrder(t promise) {
	b := New(t, t.addr)
	bs := New(t, t.addr, short)
	events := b.AppendTo(0, 30)
	// Three owners die one after another, each with entries pending.
	for _, name := range []string{"w3", "w1", "w2"} {
		dead := bs.Group("points", name)
		var l *streams.Lease
		Eventually(t, "the lease of the one before runs out", func() (ok bool) {
			l, ok, _ = dead.Acquire(t.Context(), 0)
			return ok
		})
		b.Take(l, 7)
	}
	g := b.Group("points", "w4")
	var l *streams.Lease
	Eventually(t, "the last lease runs out", func() (ok bool) {
		l, ok, _ = g.Acquire(t.Context(), 0)
		return ok
	})
	if back := b.Backlog(l); len(back) != 0 {
		t.Fatalf("%d entries of others before they were adopted", len(back))
	}
	if err := l.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	back := b.Backlog(l)
	if got := eventIDs(back); !slices.Equal(got, events[:21]) {
		t.Fatalf("backlog of %d entries is not the first 21 in order", len(got))
	}
	if got := eventIDs(b.Take(l, 100)); !slices.Equal(got, events[21:]) {
		t.Fatalf("took %d entries, not the last 9 in order", len(got))
	}
	if n := b.Metric("paybell_streams_group_adopted_total", "points"); n != 21 {
		t.Fatalf("%v adopted", n)
	}
	// Whoever acks for the dead ones has no effect on what is left.
	b.Settle(l, streams.Settlement{Done: ids(back)})
	if p := b.Pending("points", 0); len(p) != 9 {
		t.Fatalf("%d pending", len(p))
	}
}

func attemptsOutliveOwners(t promise) {
	b := New(t, t.addr)
	bs := New(t, t.addr, short)
	b.AppendTo(0, 3)
	dead := bs.Group("points", "w1")
	old := b.Lease(dead, 0)
	es := b.Take(old, 3)
	for i := range es {
		if es[i].Attempts != 0 {
			t.Fatalf("a new entry has %d attempts", es[i].Attempts)
		}
	}
	b.charge(old, "1", es[0].ID, es[1].ID, es[2].ID)
	b.Settle(old, streams.Settlement{Ended: []string{"1"}, Counts: []streams.Count{{EntryID: es[1].ID, Attempts: 1}}})
	// It ends while these two run, one of them for the second time.
	b.charge(old, "2", es[1].ID)
	b.charge(old, "3", es[2].ID)
	b.charge(old, "3", es[2].ID) // the answer was lost, and it is sent again
	g := b.Group("points", "w2")
	var l *streams.Lease
	Eventually(t, "the lease runs out", func() (ok bool) {
		l, ok, _ = g.Acquire(t.Context(), 0)
		return ok
	})
	if err := l.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, e := range b.Backlog(l) {
		got = append(got, e.Attempts)
	}
	if !slices.Equal(got, []int{0, 2, 1}) {
		t.Fatalf("attempts %v", got)
	}
	// Nobody is charged for it again, nor for what an owner ran that lives and only lost
	// its lease.
	b.charge(l, "1", es[0].ID)
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	l = b.Lease(g, 0)
	if es := b.Backlog(l); es[0].Attempts != 0 || es[1].Attempts != 2 || es[2].Attempts != 1 {
		t.Fatalf("attempts %d, %d and %d under the lease after that", es[0].Attempts, es[1].Attempts, es[2].Attempts)
	}
}

func membersComeAndGo(t promise) {
	b := New(t, t.addr)
	bs := New(t, t.addr, func(o *streams.Options) { o.LeaseTTL = 1500 * time.Millisecond })
	g1, g2 := bs.Group("points", "w1"), bs.Group("points", "w2")
	beat := func(g *streams.Group) int {
		t.Helper()
		n, err := g.Heartbeat(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := beat(g1); n != 1 {
		t.Fatalf("%d members", n)
	}
	if n := beat(g2); n != 2 {
		t.Fatalf("%d members", n)
	}
	if n := beat(b.Group("eventlog", "w1")); n != 1 {
		t.Fatalf("%d members of another group", n)
	}
	if err := g2.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := beat(g1); n != 1 {
		t.Fatalf("%d members after one left", n)
	}
	if n := beat(g2); n != 2 {
		t.Fatalf("%d members", n)
	}
	// Somebody who was given the name of another gets a share all the same.
	if n := beat(bs.Group("points", "w1")); n != 3 {
		t.Fatalf("%d members, two of them of one name", n)
	}
	Eventually(t, "a member that is silent is forgotten", func() bool { return beat(g1) == 1 })
}
