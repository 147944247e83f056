package streamstest

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/event"
)

var readCases = []contract{
	{"G4GroupGetsEventsFromBeforeItsTime", groupGetsEventsFromBeforeItsTime},
	{"G4MissingGroupIsCreatedAgain", missingGroupIsCreatedAgain},
	{"EveryGroupGetsEveryEvent", everyGroupGetsEveryEvent},
	{"TakeIsBounded", takeIsBounded},
	{"ReadsAreBoundedWhateverTheSizeBefore", readsAreBoundedWhateverTheSizeBefore},
	{"BacklogIsPagedAndMovesNothing", backlogIsPagedAndMovesNothing},
	{"GoneEntriesAreShown", goneEntriesAreShown},
	{"GoneEntriesOfOthersAreCounted", goneEntriesOfOthersAreCounted},
	{"UnreadableEntriesAreShown", unreadableEntriesAreShown},
	{"ForeignConsumersStrandNothing", foreignConsumersStrandNothing},
	{"WaitWakesForNews", waitWakesForNews},
	{"WaitEndsWithItsContext", waitEndsWithItsContext},
}

func groupGetsEventsFromBeforeItsTime(t promise) {
	b := New(t, t.addr)
	events := b.AppendTo(0, 3)
	g := b.Group("late", "w1")
	if err := g.Ensure(t.Context()); err != nil {
		t.Fatalf("creating what exists: %v", err)
	}
	if got := eventIDs(b.Take(b.Lease(g, 0), 10)); !slices.Equal(got, events) {
		t.Fatalf("took %v, appended %v", got, events)
	}
}

func missingGroupIsCreatedAgain(t promise) {
	b := New(t, t.addr)
	events := b.AppendTo(0, 3)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	calls := map[string]func() ([]streams.Entry, error){
		"Take":    func() ([]streams.Entry, error) { return l.Take(t.Context(), 10, 0) },
		"Adopt":   func() ([]streams.Entry, error) { return nil, l.Adopt(t.Context()) },
		"Backlog": func() ([]streams.Entry, error) { return l.Backlog(t.Context(), "", 10, 0) },
	}
	for name, call := range calls {
		if err := b.Write.XGroupDestroy(t.Context(), b.Layout.Events(0), "points").Err(); err != nil {
			t.Fatal(err)
		}
		es, err := call()
		if err != nil {
			t.Fatalf("%s without a group: %v", name, err)
		}
		if name != "Take" {
			es = b.Take(l, 10)
		}
		if got := eventIDs(es); !slices.Equal(got, events) {
			t.Fatalf("%s: the group starts again with %v, not at the first entry", name, got)
		}
	}
	if n := b.Metric("paybell_streams_group_recreated_total", "points"); n != float64(len(calls)) {
		t.Fatalf("%v recreated", n)
	}
	// The whole memory is lost, the stream with it.
	if err := b.Write.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	l = b.Lease(g, 0)
	if es := b.Take(l, 10); len(es) != 0 {
		t.Fatalf("took %d from nothing", len(es))
	}
	events = b.AppendTo(0, 2)
	if got := eventIDs(b.Take(l, 10)); !slices.Equal(got, events) {
		t.Fatalf("after the loss: %v", got)
	}
}

func everyGroupGetsEveryEvent(t promise) {
	b := New(t, t.addr)
	events := b.AppendTo(1, 5)
	for _, name := range []string{"orderstatus", "points", "eventlog"} {
		g := b.Group(name, "w1")
		l := b.Lease(g, 1)
		es := b.Take(l, 10)
		if got := eventIDs(es); !slices.Equal(got, events) {
			t.Fatalf("%s took %v", name, got)
		}
		b.Settle(l, streams.Settlement{Done: ids(es)})
	}
	if n := len(b.Entries()); n != 5 {
		t.Fatalf("%d entries after all groups settled", n)
	}
}

func takeIsBounded(t promise) {
	b := New(t, t.addr, func(o *streams.Options) { o.Partitions, o.TakeBytes = 1, 64<<10 })
	for i := range 12 {
		r := Record("A1", i)
		r.Raw = make([]byte, 15<<10)
		b.Append(r)
	}
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	if es := b.Take(l, 0); len(es) != 0 {
		t.Fatalf("none asked for, %d taken", len(es))
	}
	if es := b.Take(l, 1); len(es) != 1 {
		t.Fatalf("one asked for, %d taken", len(es))
	}
	// The size is known now: 64 KiB hold 4 of them.
	if es := b.Take(l, 100); len(es) < 2 || len(es) > 4 {
		t.Fatalf("%d taken", len(es))
	}
	// A caller may allow less.
	if es, err := l.Take(t.Context(), 100, 32<<10); err != nil || len(es) != 2 {
		t.Fatalf("%d taken of 32 KiB, %v", len(es), err)
	}
	if es, err := l.Take(t.Context(), 100, 1); err != nil || len(es) != 1 {
		t.Fatalf("%d taken of a byte, %v", len(es), err)
	}
	if back, err := l.Backlog(t.Context(), "", 100, 32<<10); err != nil || len(back) != 2 {
		t.Fatalf("%d in a backlog of 32 KiB, %v", len(back), err)
	}
	if back, err := l.Backlog(t.Context(), "", 100, 0); err != nil || len(back) < 2 || len(back) > 4 {
		t.Fatalf("%d in the backlog, %v", len(back), err)
	}
}

func readsAreBoundedWhateverTheSizeBefore(t promise) {
	b := New(t, t.addr, func(o *streams.Options) { o.Partitions = 1 })
	for i := range 13 {
		r := Record("A1", i)
		if r.Raw = make([]byte, 1<<10); i >= 10 {
			r.Raw = make([]byte, 40<<10)
		}
		b.Append(r)
	}
	l := b.Lease(b.Group("points", "w1"), 0)
	es := b.Take(l, 10)
	if len(es) != 10 {
		t.Fatalf("%d small ones taken", len(es))
	}
	for i := range 3 {
		large, err := l.Take(t.Context(), 100, 30<<10)
		if err != nil || len(large) != 1 {
			t.Fatalf("%d large ones taken at once, %v", len(large), err)
		}
		if i == 0 {
			// What is learnt of the small ones that are read again makes a new guess.
			b.Backlog(l)
		}
	}
	for after := es[9].ID; ; {
		back, err := l.Backlog(t.Context(), after, 100, 100<<10)
		if err != nil || len(back) > 2 {
			t.Fatalf("%d large ones in a backlog of 100 KiB, %v", len(back), err)
		}
		if len(back) == 0 {
			break
		}
		after = back[len(back)-1].ID
	}
}

func backlogIsPagedAndMovesNothing(t promise) {
	b := New(t, t.addr)
	events := b.AppendTo(0, 20)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	b.Take(l, 20)
	for range 2 {
		if got := eventIDs(b.Backlog(l)); !slices.Equal(got, events) {
			t.Fatalf("backlog %v", got)
		}
	}
	es, err := l.Backlog(t.Context(), "", 3, 0)
	if err != nil || !slices.Equal(eventIDs(es), events[:3]) {
		t.Fatalf("first page: %v, %v", eventIDs(es), err)
	}
	ps, err := b.Write.XPendingExt(t.Context(), &redis.XPendingExtArgs{
		Stream: b.Layout.Events(0), Group: "points", Start: "-", End: "+", Count: 100,
	}).Result()
	if err != nil || len(ps) != 20 || ps[0].RetryCount != 1 {
		t.Fatalf("%d pending, delivered %d times: reading the backlog delivers nothing (%v)", len(ps), ps[0].RetryCount, err)
	}
}

func goneEntriesAreShown(t promise) {
	b := New(t, t.addr)
	b.AppendTo(0, 3)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	es := b.Take(l, 10)
	var s streams.Settlement
	for _, e := range es {
		s.Counts = append(s.Counts, streams.Count{EntryID: e.ID, Attempts: 1})
	}
	b.Settle(l, s)
	if err := b.Write.XDel(t.Context(), b.Layout.Events(0), es[1].ID).Err(); err != nil {
		t.Fatal(err)
	}
	back := b.Backlog(l)
	if !slices.Equal(ids(back), ids(es)) {
		t.Fatalf("backlog %v, taken %v", ids(back), ids(es))
	}
	for i, e := range back {
		if e.Gone != (i == 1) || e.Err != nil || e.Attempts != 1 {
			t.Fatalf("entry %d: %+v", i, e)
		}
	}
	b.Settle(l, streams.Settlement{Done: ids(back)})
	if p := b.Pending("points", 0); len(p) != 0 {
		t.Fatalf("pending %v", p)
	}
}

func goneEntriesOfOthersAreCounted(t promise) {
	b := New(t, t.addr)
	events := b.AppendTo(0, 3)
	dead := b.Group("points", "w1")
	old := b.Lease(dead, 0)
	es := b.Take(old, 10)
	if err := old.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Write.XDel(t.Context(), b.Layout.Events(0), es[0].ID).Err(); err != nil {
		t.Fatal(err)
	}
	g := b.Group("points", "w2")
	l := b.Lease(g, 0)
	if err := l.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := eventIDs(b.Backlog(l)); !slices.Equal(got, events[1:]) {
		t.Fatalf("backlog %v", got)
	}
	if n := b.Metric("paybell_streams_group_lost_total", "points"); n != 1 {
		t.Fatalf("%v lost", n)
	}
	if p := b.Pending("points", 0); !slices.Equal(p, ids(es[1:])) {
		t.Fatalf("pending %v", p)
	}
}

func unreadableEntriesAreShown(t promise) {
	b := New(t, t.addr)
	if err := b.Write.XAdd(t.Context(), &redis.XAddArgs{Stream: b.Layout.Events(0), Values: []string{"hello", "world"}}).Err(); err != nil {
		t.Fatal(err)
	}
	events := b.AppendTo(0, 1)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	es := b.Take(l, 10)
	if len(es) != 2 || es[0].Err == nil || es[0].Gone || es[1].Err != nil || es[1].Record.Event.ID != events[0] {
		t.Fatalf("taken %+v", es)
	}
	if !errors.Is(es[0].Err, event.ErrRecord) {
		t.Fatalf("err = %v", es[0].Err)
	}
	b.Settle(l, streams.Settlement{Dead: []streams.DeadLetter{{EntryID: es[0].ID, Reason: "unreadable", Error: es[0].Err.Error()}}})
	m, err := b.Write.XRange(t.Context(), b.Layout.Dead(0, "points"), "-", "+").Result()
	if err != nil || len(m) != 1 || m[0].Values["hello"] != "world" {
		t.Fatalf("the dead letter keeps the fields as they were: %v, %v", m, err)
	}
}

func foreignConsumersStrandNothing(t promise) {
	b := New(t, t.addr, func(o *streams.Options) { o.LeaseTTL = 500 * time.Millisecond })
	now := time.Now()
	o := b.Options.Group()
	o.Now = func() time.Time { return now }
	events := b.AppendTo(0, 3)
	g := b.GroupWith("points", "w1", o)
	l := b.Lease(g, 0)
	// An operator reads in our group, and goes home.
	if err := b.Write.XReadGroup(t.Context(), &redis.XReadGroupArgs{
		Group: "points", Consumer: "operator", Streams: []string{b.Layout.Events(0), ">"}, Count: 2, Block: -1,
	}).Err(); err != nil {
		t.Fatal(err)
	}
	if got := eventIDs(b.Take(l, 10)); !slices.Equal(got, events[2:]) {
		t.Fatalf("took %v", got)
	}
	var got []string
	Eventually(t, "the operator's entries come back", func() bool {
		l = b.Lease(g, 0)
		now = now.Add(time.Second)
		es, err := l.Take(t.Context(), 1, 0)
		if err != nil && !errors.Is(err, streams.ErrLeaseLost) { // a busy machine was too late
			t.Fatal(err)
		}
		got = append(got, eventIDs(es)...)
		return len(got) == 2
	})
	if !slices.Equal(got, events[:2]) {
		t.Fatalf("took over %v, want %v", got, events[:2])
	}
	// What lies before them is no news.
	first := ids(b.Backlog(l))[0]
	b.restful(t, "after an old id", func(ctx context.Context) error { return l.Wait(ctx, first) })
}

func waitWakesForNews(t promise) {
	b := New(t, t.addr, func(o *streams.Options) { o.Block = 5 * time.Second })
	b.AppendTo(0, 2)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	// With something to take it returns at once.
	now := time.Now()
	if err := l.Wait(t.Context(), ""); err != nil || time.Since(now) > time.Second {
		t.Fatalf("%v after %v", err, time.Since(now))
	}
	es := b.Take(l, 10)
	b.Settle(l, streams.Settlement{Done: ids(es)})
	b.Take(l, 10)
	// The old entries are no reason to wake, whatever "after" says.
	b.restful(t, "with all of it settled", func(ctx context.Context) error { return l.Wait(ctx, "") })
	woke := make(chan error, 1)
	go func() {
		for {
			if err := l.Wait(t.Context(), ""); err != nil {
				woke <- err
				return
			}
			if n := b.Write.XLen(t.Context(), b.Layout.Events(0)).Val(); n == 3 {
				woke <- nil
				return
			}
		}
	}()
	start := time.Now()
	b.AppendTo(0, 1)
	if err := <-woke; err != nil || time.Since(start) > 3*time.Second {
		t.Fatalf("woke after %v, %v", time.Since(start), err)
	}
	if p := b.Pending("points", 0); len(p) != 0 {
		t.Fatalf("waiting delivered %v", p)
	}
	// One that knows nothing yet learns from an empty Take what is old.
	other := b.Group("points", "w2")
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	l = b.Lease(other, 0)
	b.Take(l, 10)
	if es := b.Take(l, 10); len(es) != 0 {
		t.Fatalf("took %d", len(es))
	}
	b.restful(t, "for one that is new", func(ctx context.Context) error { return l.Wait(ctx, "") })
}

// restful fails the test if waiting where there is no news returns again and
// again: a reader would spin.
func (b *Bench) restful(t promise, when string, wait func(context.Context) error) {
	b.tb.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	for n := 0; ; n++ {
		err := wait(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			return
		}
		if err != nil || n > 10 {
			b.tb.Fatalf("%s: woke %d times without news, %v", when, n, err)
		}
	}
}

func waitEndsWithItsContext(t promise) {
	b := New(t, t.addr, func(o *streams.Options) { o.Block = 3 * time.Second })
	feed := streams.NewFeed(b.Read, b.Layout, b.Options.Block)
	g, err := streams.NewGroup(b.Write, feed, b.Layout, "points", "w1", b.Options.Group(), slog.New(slog.DiscardHandler), b.Reg)
	if err != nil {
		t.Fatal(err)
	}
	l := b.Lease(g, 0)
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		start := time.Now()
		err := l.Wait(ctx, "")
		for err == nil { // it may look up now and then
			err = l.Wait(ctx, "")
		}
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > time.Second {
			t.Fatalf("%v after %v", err, time.Since(start))
		}
	}
	// At most one read was left behind, not three; it ends with the client.
	if n := b.Read.PoolStats().TotalConns; n > 1 {
		t.Fatalf("%d connections", n)
	}
	start := time.Now()
	if err := b.Read.Close(); err != nil {
		t.Fatal(err)
	}
	feed.Close()
	if time.Since(start) > 2*time.Second {
		t.Fatalf("the read outlived its client by %v", time.Since(start))
	}
}
