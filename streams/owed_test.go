package streams_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/streamstest"
)

// TestOwedFindsWhatIsNotSettled: unread and pending as live, dead letters as dead, and
// of what is settled nothing; for a group that is not there everything.
func TestOwedFindsWhatIsNotSettled(t *testing.T) {
	ctx := t.Context()
	o := streams.DefaultOptions()
	o.Redis.Address, o.Partitions = streamstest.Miniredis(t).Addr(), 1
	rdb, err := streams.NewWriteClient(o)
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	layout, err := streams.NewLayout(o.Prefix, o.Partitions)
	if err != nil {
		t.Fatal(err)
	}
	put := func(orders ...string) {
		for _, order := range orders {
			r := streamstest.Record(order, 0)
			fields, err := r.Fields()
			if err != nil {
				t.Fatal(err)
			}
			if err := rdb.Do(ctx, append([]any{"XADD", layout.Events(0), "*"}, fields...)...).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	g, err := streams.NewGroup(rdb, streams.NewFeed(rdb, layout, time.Second), layout, "points", "c1", o.Group(), discard(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	put("SETTLED", "DEAD", "PENDING")
	if err := g.Ensure(ctx); err != nil {
		t.Fatal(err)
	}
	lease, ok, err := g.Acquire(ctx, 0)
	if err != nil || !ok {
		t.Fatalf("acquired %v, %v", ok, err)
	}
	entries, err := lease.Take(ctx, 10, 0)
	if err != nil || len(entries) != 3 {
		t.Fatalf("took %d, %v", len(entries), err)
	}
	if err := lease.Settle(ctx, streams.Settlement{
		Done: []string{entries[0].ID},
		Dead: []streams.DeadLetter{{EntryID: entries[1].ID, Record: entries[1].Record, Attempts: 1, Reason: "rejected", DeadAt: time.Now()}},
	}); err != nil {
		t.Fatal(err)
	}
	put("UNREAD")
	parcel := "3 4 some2:id7:evt-old5:event1:x"
	if err := rdb.HSet(ctx, "paybell:{"+layout.Tag(0)+"}:parcels:points", "1-1", parcel).Err(); err != nil {
		t.Fatal(err)
	}

	id := func(order string) string { return streamstest.Record(order, 0).Event.ID }
	stats := streams.NewStats(rdb, layout)
	for group, want := range map[string]struct{ live, dead []string }{
		"points":  {[]string{id("PENDING"), id("UNREAD"), "evt-old"}, []string{id("DEAD")}},
		"missing": {[]string{id("SETTLED"), id("DEAD"), id("PENDING"), id("UNREAD")}, nil},
	} {
		owed, err := stats.Owed(ctx, []string{group})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(want.live)
		if live, dead := slices.Sorted(maps.Keys(owed.Live)), slices.Sorted(maps.Keys(owed.Dead)); !slices.Equal(live, want.live) || !slices.Equal(dead, want.dead) {
			t.Errorf("%s owes %v, dead %v; want %+v", group, live, dead, want)
		}
	}
}
