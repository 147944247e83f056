package streamstest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/event"
)

var viewCases = []contract{
	{"StatsTellHowFarEveryGroupIs", statsTellHowFarEveryGroupIs},
	{"StatsShowWhatIsParkedAndLost", statsShowWhatIsParkedAndLost},
	{"DeadLettersOfAnUnknownGroupNameThoseThereAre", deadLettersOfAnUnknownGroup},
	{"DeadLettersAreListedNewestFirst", deadLettersAreListedNewestFirst},
	{"DeadLettersAreFound", deadLettersAreFound},
	{"PagesOfDeadLettersAreBoundedInBytes", pagesOfDeadLettersAreBoundedInBytes},
}

func statsTellHowFarEveryGroupIs(t promise) {
	b := New(t, t.addr)
	stats := streams.NewStats(b.Write, b.Layout)
	if report, err := stats.Read(t.Context()); err != nil || report.Entries != 0 || len(report.Groups) != 0 {
		t.Fatalf("of nothing: %+v, %v", report, err)
	}
	b.AppendTo(0, 10)
	b.AppendTo(1, 4)
	g := b.Group("points", "w1")
	if _, err := g.Heartbeat(t.Context()); err != nil {
		t.Fatal(err)
	}
	l := b.Lease(g, 0)
	es := b.Take(l, 6)
	b.charge(l, "1", ids(es[:3])...)
	b.Settle(l, streams.Settlement{
		Done: []string{es[0].ID}, Ended: []string{"1"}, Counts: []streams.Count{{EntryID: es[1].ID, Attempts: 1}},
	})
	b.charge(l, "2", es[2].ID)
	b.Settle(l, streams.Settlement{Dead: []streams.DeadLetter{{EntryID: es[5].ID, Reason: "rejected"}}})
	// A subscriber's own group, which nobody declared.
	if err := b.Write.XGroupCreate(t.Context(), b.Layout.Events(0), "billing", "0").Err(); err != nil {
		t.Fatal(err)
	}
	report, err := stats.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if report.Entries != 14 || len(report.Partitions) != 2 || report.Partitions[1].Entries != 4 || len(report.Groups) != 2 {
		t.Fatalf("%+v", report)
	}
	billing, points := report.Groups[0], report.Groups[1]
	if billing.Group != "billing" || billing.Lag != 10 || billing.Pending != 0 || len(billing.Partitions) != 1 {
		t.Fatalf("%+v", billing)
	}
	if points.Group != "points" || points.Members != 1 || points.Lag != 8 || points.LagMin || points.Pending != 4 ||
		points.Attempted != 2 || points.Dead != 1 || points.OldestPending <= 0 || points.OldestPending > time.Minute {
		t.Fatalf("%+v", points)
	}
	first := points.Partitions[0]
	if first.Lag != 4 || first.LastDelivered != es[5].ID || !strings.HasPrefix(first.Owner, "w1/") ||
		first.LeaseLeft <= 0 || first.LeaseLeft > b.Options.LeaseTTL || first.Consumers != 1 {
		t.Fatalf("%+v", first)
	}
	if second := points.Partitions[1]; second.Lag != 4 || second.Owner != "" || second.Pending != 0 {
		t.Fatalf("%+v", second)
	}
	// A deleted entry makes Redis forget its own count.
	if err := b.Write.XDel(t.Context(), b.Layout.Events(0), es[1].ID).Err(); err != nil {
		t.Fatal(err)
	}
	if report, err = stats.Read(t.Context()); err != nil || report.Groups[1].Lag != 8 {
		t.Fatalf("lag %d after a deletion, %v", report.Groups[1].Lag, err)
	}
	b.Take(l, 10)
	if report, err = stats.Read(t.Context()); err != nil || report.Groups[1].Partitions[0].Lag != 0 {
		t.Fatalf("lag %d at the end, %v", report.Groups[1].Partitions[0].Lag, err)
	}
}

func statsShowWhatIsParkedAndLost(t promise) {
	b := New(t, t.addr)
	b.AppendTo(0, 5)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	es := b.Take(l, 3)
	b.park(l, streams.Parking{EntryID: es[0].ID, Wait: time.Hour})
	b.Settle(l, streams.Settlement{Gone: ids(es[1:2])})
	if err := b.Write.HSet(t.Context(), b.Layout.Trim(0), "lost:points", 2, "overtaken:points", 3).Err(); err != nil {
		t.Fatal(err)
	}
	report, err := streams.NewStats(b.Write, b.Layout).Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	points := report.Groups[0]
	if points.Parked != 1 || points.Lost != 3 || points.Overtaken != 3 || points.Pending != 1 || len(points.Problems) != 0 {
		t.Fatalf("%+v", points)
	}
	if p := points.Partitions[0]; p.Parked != 1 || p.Lost != 3 || p.Overtaken != 3 || points.Partitions[1].Lost != 0 {
		t.Fatalf("%+v", points.Partitions)
	}
}

func deadLettersOfAnUnknownGroup(t promise) {
	b := New(t, t.addr)
	letters := streams.NewDeadLetters(b.Write, b.Layout)
	list := func(group string) error {
		_, err := letters.List(t.Context(), group, streams.DeadLetterQuery{Reason: "rejected"})
		return err
	}
	if err := list("points"); !errors.Is(err, streams.ErrUnknownGroup) {
		t.Errorf("while there is no group: %v", err)
	}
	b.Group("points", "w1")
	b.Group("eventlog", "w1")
	if err := list("points"); err != nil {
		t.Error(err)
	}
	if err := list("nosuch"); !errors.Is(err, streams.ErrUnknownGroup) || !strings.HasSuffix(err.Error(), `"nosuch"; there are eventlog, points`) {
		t.Error(err)
	}
	// What a group left behind that was destroyed is still its own.
	if err := b.Write.XAdd(t.Context(), &redis.XAddArgs{Stream: b.Layout.Dead(1, "billing"), Values: []string{"reason", "age"}}).Err(); err != nil {
		t.Fatal(err)
	}
	if err := list("billing"); err != nil {
		t.Error(err)
	}
}

// deadLetters makes n dead letters in each partition, one after another.
func (b *Bench) deadLetters(n int) {
	b.tb.Helper()
	g := b.Group("points", "w1")
	for range n {
		for i := range b.Layout.Partitions() {
			b.AppendTo(i, 1)
			l := b.Lease(g, i)
			es := b.Take(l, 1)
			b.Settle(l, streams.Settlement{Dead: []streams.DeadLetter{{EntryID: es[0].ID, Attempts: 1, Reason: "rejected"}}})
		}
	}
}

func deadLettersAreListedNewestFirst(t promise) {
	b := New(t, t.addr, func(o *streams.Options) { o.Partitions = 3 })
	const n = 60 // more than one page of each partition's stream
	b.deadLetters(n)
	letters := streams.NewDeadLetters(b.Write, b.Layout)
	all, err := letters.List(t.Context(), "points", streams.DeadLetterQuery{Limit: 1000})
	if err != nil || len(all.DeadLetters) != 3*n || all.Next != "" {
		t.Fatalf("%d, next %q, %v", len(all.DeadLetters), all.Next, err)
	}
	if !slices.IsSortedFunc(all.DeadLetters, func(a, b streams.DeadLetter) int { return b.DeadAt.Compare(a.DeadAt) }) {
		t.Fatal("not newest first")
	}
	var paged []string
	q := streams.DeadLetterQuery{Limit: 7}
	for {
		page, err := letters.List(t.Context(), "points", q)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range page.DeadLetters {
			paged = append(paged, d.ID)
		}
		if page.Next == "" {
			break
		}
		q.After = page.Next
	}
	want := make([]string, 0, 3*n)
	for _, d := range all.DeadLetters {
		want = append(want, d.ID)
	}
	if !slices.Equal(paged, want) {
		t.Fatalf("in pages: %d ids, in one: %d, or in another order", len(paged), len(want))
	}
}

func deadLettersAreFound(t promise) {
	b := New(t, t.addr, func(o *streams.Options) { o.Partitions = 4 })
	other := Record("B2", 1)
	other.Event.Account, other.Event.Type = "alipay-main", event.RefundFailed
	b.Append(Record("A1", 1), Record("A1", 2), other)
	g := b.Group("points", "w1")
	for i := range 4 {
		l := b.Lease(g, i)
		for _, e := range b.Take(l, 10) {
			reason := "attempts"
			if e.Record.Event.Account == "alipay-main" {
				reason = "rejected"
			}
			b.Settle(l, streams.Settlement{Dead: []streams.DeadLetter{{EntryID: e.ID, Reason: reason}}})
		}
	}
	letters := streams.NewDeadLetters(b.Write, b.Layout)
	for name, c := range map[string]struct {
		q    streams.DeadLetterQuery
		want int
	}{
		"all":              {streams.DeadLetterQuery{}, 3},
		"account":          {streams.DeadLetterQuery{Account: "stripe-eu"}, 2},
		"order":            {streams.DeadLetterQuery{OrderRef: "A1"}, 2},
		"order and reason": {streams.DeadLetterQuery{OrderRef: "A1", Reason: "rejected"}, 0},
		"type":             {streams.DeadLetterQuery{Type: event.RefundFailed}, 1},
		"reason":           {streams.DeadLetterQuery{Reason: "rejected"}, 1},
		"since":            {streams.DeadLetterQuery{Since: time.Now().Add(-time.Hour)}, 3},
		"since later":      {streams.DeadLetterQuery{Since: time.Now().Add(time.Hour)}, 0},
		"until":            {streams.DeadLetterQuery{Until: time.Now().Add(time.Hour)}, 3},
		"until earlier":    {streams.DeadLetterQuery{Until: time.Now().Add(-time.Hour)}, 0},
		"limit":            {streams.DeadLetterQuery{Limit: 2}, 2},
	} {
		page, err := letters.List(t.Context(), "points", c.q)
		if err != nil || len(page.DeadLetters) != c.want {
			t.Errorf("%s: %d dead letters, want %d (%v)", name, len(page.DeadLetters), c.want, err)
		}
		if more := page.Next != ""; more != (name == "limit") {
			t.Errorf("%s: next is %q", name, page.Next)
		}
	}
	for _, id := range []string{"", "3", "3-1", "4-1-1", "-1-1-1", "x-1-1", "0-a-b", "0-1-1-1"} {
		if _, err := letters.Show(t.Context(), "points", id); !errors.Is(err, streams.ErrDeadLetterID) {
			t.Errorf("Show(%q): %v", id, err)
		}
	}
	if _, err := letters.Show(t.Context(), "points", "0-1-1"); !errors.Is(err, streams.ErrNoDeadLetter) {
		t.Errorf("of nothing: %v", err)
	}
}

func pagesOfDeadLettersAreBoundedInBytes(t promise) {
	b := New(t, t.addr, func(o *streams.Options) { o.Partitions = 2 })
	g := b.Group("points", "w1")
	// The one that is larger than a page comes alone.
	sizes := []int{10 << 10, 10 << 10, 10 << 10, 100 << 10, 10 << 10, 10 << 10}
	for i, size := range sizes {
		r := Record(fmt.Sprint("order", i), i)
		r.Raw = bytes.Repeat([]byte("x"), size)
		b.Append(r)
	}
	for i := range b.Layout.Partitions() {
		l := b.Lease(g, i)
		for _, e := range b.Take(l, 10) {
			b.Settle(l, streams.Settlement{Dead: []streams.DeadLetter{{EntryID: e.ID, Record: e.Record, Attempts: 1, Reason: "rejected"}}})
		}
	}
	letters := streams.NewDeadLetters(b.Write, b.Layout)
	found := 0
	for q, more := (streams.DeadLetterQuery{Bytes: 32 << 10}), true; more; {
		page, err := letters.List(t.Context(), "points", q)
		if err != nil || len(page.DeadLetters) == 0 {
			t.Fatalf("%d, %v", len(page.DeadLetters), err)
		}
		n := 0
		for i := range page.DeadLetters {
			n += len(page.DeadLetters[i].Record.Raw)
		}
		if n > q.Bytes && len(page.DeadLetters) > 1 {
			t.Errorf("%d bytes in %d dead letters", n, len(page.DeadLetters))
		}
		found += len(page.DeadLetters)
		q.After, more = page.Next, page.Next != ""
	}
	if found != len(sizes) {
		t.Fatalf("%d dead letters on all pages, of %d", found, len(sizes))
	}
}
