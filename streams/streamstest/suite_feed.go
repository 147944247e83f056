package streamstest

import (
	"log/slog"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/streams"
)

var feedCases = []contract{
	{"G1FeedForgetsWhatTheStreamHasNot", feedForgetsWhatTheStreamHasNot},
	{"G1FeedOfANewLeaseReadsAnew", feedOfANewLeaseReadsAnew},
}

// sharing returns groups of one process: they have a feed together.
func (b *Bench) sharing(names ...string) []*streams.Group {
	b.tb.Helper()
	feed := streams.NewFeed(b.Read, b.Layout, b.Options.Block)
	groups := make([]*streams.Group, len(names))
	for i, name := range names {
		var err error
		if groups[i], err = streams.NewGroup(b.Write, feed, b.Layout, name, "w1", b.Options.Group(), slog.New(slog.DiscardHandler), b.Reg); err != nil {
			b.tb.Fatal(err)
		}
		if err := groups[i].Ensure(b.tb.Context()); err != nil {
			b.tb.Fatal(err)
		}
	}
	b.tb.Cleanup(func() {
		_ = b.Read.Close() // ends the reads that Close waits for
		feed.Close()
	})
	return groups
}

// A replica that was promised less has lost the last entries, and others come under ids
// before theirs: what one group was given of them must not hide these from another.
func feedForgetsWhatTheStreamHasNot(t promise) {
	b := New(t, t.addr, one)
	groups := b.sharing("points", "eventlog")
	events := b.AppendTo(0, 2)
	began := b.Write.Time(t.Context()).Val().UnixMilli()
	Eventually(t, "the next entry has a later time in its id", func() bool { return b.Write.Time(t.Context()).Val().UnixMilli() > began })
	b.AppendTo(0, 1)
	first, second := b.Lease(groups[0], 0), b.Lease(groups[1], 0)
	es := b.Take(first, 10)
	if len(es) != 3 {
		t.Fatalf("took %d", len(es))
	}
	fields := b.Entries()[2].Values
	if err := b.Write.XDel(t.Context(), b.Layout.Events(0), es[2].ID).Err(); err != nil {
		t.Fatal(err)
	}
	if got := eventIDs(b.Take(second, 10)); len(got) != 2 || got[0] != events[0] || got[1] != events[1] {
		t.Fatalf("took %v of which the stream has two", got)
	}
	if p := b.Pending("eventlog", 0); len(p) != 2 {
		t.Fatalf("pending %v", p)
	}
	if got := b.Take(second, 10); len(got) != 0 {
		t.Fatalf("took %v once more", eventIDs(got))
	}
	// The next one stands between the last that there is and the one that is gone.
	head, _, _ := strings.Cut(es[1].ID, "-")
	between := head + "-999"
	if err := b.Write.Do(t.Context(), "XSETID", b.Layout.Events(0), es[1].ID).Err(); err != nil {
		return // the embedded engine has no such command, and loses nothing but all
	}
	add := &redis.XAddArgs{Stream: b.Layout.Events(0), ID: between, Values: fields}
	if err := b.Write.XAdd(t.Context(), add).Err(); err != nil {
		t.Fatal(err)
	}
	if got := ids(b.Take(second, 10)); len(got) != 1 || got[0] != between {
		t.Fatalf("took %v, want %s", got, between)
	}
}

// The stream was lost and its ids are given out again for other events.
func feedOfANewLeaseReadsAnew(t promise) {
	b := New(t, t.addr, one)
	groups := b.sharing("points", "eventlog")
	b.AppendTo(0, 2)
	es := b.Take(b.Lease(groups[0], 0), 10)
	b.AppendTo(0, 2)
	others := b.Entries()[2:]
	if err := b.Write.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	for i, e := range es {
		add := &redis.XAddArgs{Stream: b.Layout.Events(0), ID: e.ID, Values: others[i].Values}
		if err := b.Write.XAdd(t.Context(), add).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := groups[1].Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := b.Take(b.Lease(groups[1], 0), 10)
	if len(got) != 2 || got[0].ID != es[0].ID || got[0].Record.Event.ID == es[0].Record.Event.ID {
		t.Fatalf("took %v, which is what was lost", eventIDs(got))
	}
}
