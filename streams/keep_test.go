package streams_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/streamstest"
)

// settled has n entries of 5 KB appended, and settled by the group points.
func settled(t *testing.T, b *streamstest.Bench, n int) {
	t.Helper()
	for i := range n {
		r := streamstest.Record("order", i)
		r.Raw = make([]byte, 5000)
		b.Append(r)
	}
	l := b.Lease(b.Group("points", "w1"), 0)
	if err := l.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.Settle(l, streams.Settlement{Done: idsOf(b.Take(l, n)), Position: 7})
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func idsOf(es []streams.Entry) []string {
	out := make([]string, len(es))
	for i := range es {
		out[i] = es[i].ID
	}
	return out
}

func TestWhatIsSettledStaysForAWhile(t *testing.T) {
	keep := func(o streams.KeepOptions) func(*streams.TrimOptions) {
		return func(trim *streams.TrimOptions) { trim.Keep = o }
	}
	for name, c := range map[string]struct {
		keep streams.KeepOptions
		full bool
		// least and most are what is left of 100 entries of 5 KB.
		least, most int64
	}{
		"for the time":                      {streams.KeepOptions{Bytes: 1 << 30, Age: time.Hour}, false, 100, 100},
		"and no longer":                     {streams.KeepOptions{Bytes: 1 << 30, Age: time.Nanosecond}, false, 0, 0},
		"in so many bytes":                  {streams.KeepOptions{Bytes: 100_000, Age: time.Hour}, false, 10, 20},
		"not at all":                        {streams.KeepOptions{Bytes: 1 << 30}, false, 0, 0},
		"not where the server is full":      {streams.KeepOptions{Bytes: 1 << 30, Age: time.Hour}, true, 0, 0},
		"not in bytes that one entry takes": {streams.KeepOptions{Bytes: 1, Age: time.Hour}, false, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := streamstest.New(t, streamstest.Redis(t).Addr(), func(o *streams.Options) { o.Partitions = 1 })
			settled(t, b, 100)
			if c.full {
				full(t, b, true)
			}
			got := b.Trim(b.Trimmer([]string{"points"}, nil, keep(c.keep)))
			if got.Left < c.least || got.Left > c.most || got.Entries+got.Left != 100 {
				t.Fatalf("%+v, want between %d and %d left", got, c.least, c.most)
			}
		})
	}
}

// However little may be kept, it is taken from what is settled alone.
func TestKeepTakesNothingThatIsOwed(t *testing.T) {
	b := streamstest.New(t, streamstest.Redis(t).Addr(), func(o *streams.Options) { o.Partitions = 1 })
	settled(t, b, 10)
	b.AppendTo(0, 20)
	trim := b.Trimmer([]string{"points"}, nil, func(o *streams.TrimOptions) {
		o.Keep = streams.KeepOptions{Bytes: 1, Age: time.Hour}
	})
	if got := b.Trim(trim); got.Entries != 10 || got.Left != 20 || len(got.Lost) != 0 {
		t.Fatalf("%+v", got)
	}
}

// A group whose database has lost effects is given again what the stream still has, and
// its account holds: with entries pending, parked and unread at that moment.
func TestG4GroupIsSetBackToWhatIsKept(t *testing.T) {
	b := streamstest.New(t, streamstest.Redis(t).Addr(), func(o *streams.Options) { o.Partitions = 1 })
	b.AppendTo(0, 10)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	if err := l.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	if l.Position() != 0 {
		t.Fatalf("position %d before anything was settled", l.Position())
	}
	es := b.Take(l, 8)
	b.Settle(l, streams.Settlement{Done: idsOf(es[:4]), Position: 41})
	b.Settle(l, streams.Settlement{Done: idsOf(es[4:5]), Position: 42})
	b.Settle(l, streams.Settlement{Dead: []streams.DeadLetter{{EntryID: es[5].ID, Reason: "rejected"}}})
	if _, err := l.Park(t.Context(), []streams.Parking{{EntryID: es[6].ID, Wait: time.Hour, Attempts: 1}}); err != nil {
		t.Fatal(err)
	}
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}

	l = b.Lease(b.Group("points", "w2"), 0)
	if err := l.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	if l.Position() != 42 {
		t.Fatalf("position %d, want that of the last settlement", l.Position())
	}
	if newest := l.Newest(); time.Since(newest) > time.Minute || newest.After(time.Now().Add(time.Minute)) {
		t.Fatalf("the last entry was appended at %v", newest)
	}
	n, since, err := l.Rewind(t.Context(), 40)
	if err != nil || n != 10 || time.Since(since) > time.Minute {
		t.Fatalf("%d entries since %v, %v", n, since, err)
	}
	if l.Position() != 40 {
		t.Fatalf("position %d", l.Position())
	}
	// Parked, it would be applied before what comes before it.
	if parked, err := l.Parked(t.Context(), 0, 10); err != nil || len(parked) != 0 {
		t.Fatalf("still parked: %+v, %v", parked, err)
	}
	trim := b.Trimmer([]string{"points"}, nil)
	if got := b.Trim(trim); got.Entries != 0 || len(got.Lost) != 0 {
		t.Fatalf("%+v", got)
	}
	again := b.Take(l, 20)
	if len(again) != 10 {
		t.Fatalf("%d entries are delivered again, want 10", len(again))
	}
	for i := range again {
		if want := again[i].ID == es[5].ID; again[i].Buried != want || again[i].Attempts != 0 {
			t.Errorf("entry %d: buried %v, want %v", i, again[i].Buried, want)
		}
	}
	b.Settle(l, streams.Settlement{Done: idsOf(again), Position: 43})
	if got := b.Trim(trim); got.Entries != 10 || len(got.Lost) != 0 {
		t.Fatalf("%+v", got)
	}
	ledger := streams.NewLedger(b.Write, b.Layout, []string{"points"}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	accounts, err := ledger.Read(t.Context())
	if a := accounts["points"]; err != nil || a.Difference() != 0 || a.Lost != 0 || a.Unread+a.Pending+a.Parked != 0 {
		t.Fatalf("%+v, %v", a, err)
	}
}

// A dead letter stays one, and the only one, when the group is given everything again:
// for an owner that goes on, and for the next one.
func TestG5DeadLetterIsNotMadeTwice(t *testing.T) {
	b := streamstest.New(t, streamstest.Redis(t).Addr(), func(o *streams.Options) { o.Partitions = 1 })
	b.AppendTo(0, 4)
	l := b.Lease(b.Group("points", "w1"), 0)
	if err := l.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	es := b.Take(l, 3)
	b.Settle(l, streams.Settlement{Done: idsOf(es[:2]), Dead: []streams.DeadLetter{{EntryID: es[2].ID, Reason: "rejected"}}})
	if err := b.Write.XGroupDestroy(t.Context(), b.Layout.Events(0), "points").Err(); err != nil {
		t.Fatal(err)
	}
	want := func(es []streams.Entry, n int) {
		t.Helper()
		if len(es) != n {
			t.Fatalf("%d entries, want %d", len(es), n)
		}
		for i := range es {
			if es[i].Buried != (i == 2) {
				t.Errorf("entry %d: buried %v", i, es[i].Buried)
			}
		}
	}
	want(b.Take(l, 3), 3)
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	l = b.Lease(b.Group("points", "w2"), 0)
	if err := l.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(b.Backlog(l), 3)
	if es := b.Take(l, 3); len(es) != 1 || es[0].Buried {
		t.Errorf("%+v", es)
	}
}

// Who has no lease sets nothing back.
func TestG7OldOwnerSetsNothingBack(t *testing.T) {
	b := streamstest.New(t, streamstest.Redis(t).Addr(), func(o *streams.Options) { o.Partitions = 1 })
	b.AppendTo(0, 3)
	l := b.Lease(b.Group("points", "w1"), 0)
	if len(b.Take(l, 3)) != 3 {
		t.Fatal("not taken")
	}
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Rewind(t.Context(), 1); err == nil {
		t.Fatal("set back without a lease")
	}
	if n := len(b.Pending("points", 0)); n != 3 {
		t.Fatalf("%d pending", n)
	}
}
