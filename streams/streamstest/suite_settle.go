package streamstest

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/event"
)

var settleCases = []contract{
	{"SettleEndsDeliveries", settleEndsDeliveries},
	{"SettleOfManyEntries", settleOfManyEntries},
	{"G7DeadLetterKeepsEverything", deadLetterKeepsEverything},
	{"G7DeadLetterIsMadeOnce", deadLetterIsMadeOnce},
	{"G7DeadLetterOfAGoneEntry", deadLetterOfAGoneEntry},
	{"UnchargeTakesOneAttemptBack", unchargeTakesOneAttemptBack},
}

func settleEndsDeliveries(t promise) {
	b := New(t, t.addr)
	b.AppendTo(0, 4)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	es := b.Take(g, l, 10)
	if _, err := g.Charge(t.Context(), l, ids(es)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // settling again changes nothing
		b.Settle(g, l, streams.Settlement{Done: []string{es[0].ID, es[2].ID}})
		if p := b.Pending("points", 0); !slices.Equal(p, []string{es[1].ID, es[3].ID}) {
			t.Fatalf("pending %v", p)
		}
	}
	left := b.Write.HKeys(t.Context(), b.Layout.Attempts(0, "points")).Val()
	slices.Sort(left)
	if !slices.Equal(left, []string{es[1].ID, es[3].ID}) {
		t.Fatalf("attempts are kept of %v", left)
	}
	if n := b.Metric("paybell_streams_group_settled_total", "points", "done"); n != 2 {
		t.Fatalf("%v settled", n)
	}
	b.Settle(g, l, streams.Settlement{})
}

func settleOfManyEntries(t promise) {
	b := New(t, t.addr, func(o *streams.Options) { o.Partitions = 1 })
	// More dead letters than one call of the script takes, and more ids.
	const dead, done, uncharge = 205, 1010, 25
	const n = dead + done + uncharge
	for i := range n / 124 {
		b.Append(Records("cb"+strconv.Itoa(i), 124)...)
	}
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	var es []streams.Entry
	for len(es) < n {
		page := b.Take(g, l, 200)
		if len(page) == 0 {
			t.Fatalf("took %d", len(es))
		}
		es = append(es, page...)
	}
	if counts, err := g.Charge(t.Context(), l, ids(es)); err != nil || len(counts) != n {
		t.Fatalf("charged %d, %v", len(counts), err)
	}
	var s streams.Settlement
	for i, e := range es {
		switch {
		case i < dead:
			s.Dead = append(s.Dead, streams.DeadLetter{EntryID: e.ID, Attempts: 1, Reason: "attempts"})
		case i < dead+done:
			s.Done = append(s.Done, e.ID)
		default:
			s.Uncharge = append(s.Uncharge, e.ID)
		}
	}
	b.Settle(g, l, s)
	if got := b.Pending("points", 0); len(got) != uncharge {
		t.Fatalf("%d pending", len(got))
	}
	if left := b.Write.HLen(t.Context(), b.Layout.Attempts(0, "points")).Val(); left != 0 {
		t.Fatalf("%d attempts left", left)
	}
	if made, err := streams.NewDeadLetters(b.Write, b.Layout).Count(t.Context(), "points"); err != nil || made != dead {
		t.Fatalf("%d dead letters, %v", made, err)
	}
}

func deadLetterKeepsEverything(t promise) {
	b := New(t, t.addr, func(o *streams.Options) { o.Partitions = 1 })
	records := []event.Record{Record("A1", 1), Record("A2", 1)}
	b.Append(records...)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	es := b.Take(g, l, 10)
	before := time.Now().Add(-time.Minute)
	b.Settle(g, l, streams.Settlement{
		Done: []string{es[0].ID},
		Dead: []streams.DeadLetter{{EntryID: es[1].ID, Attempts: 5, Reason: "attempts", Error: strings.Repeat("é", 600) + "\xff"}},
	})
	if p := b.Pending("points", 0); len(p) != 0 {
		t.Fatalf("pending %v", p)
	}
	letters := streams.NewDeadLetters(b.Write, b.Layout)
	page, err := letters.List(t.Context(), "points", streams.DeadLetterQuery{})
	if err != nil || len(page.DeadLetters) != 1 {
		t.Fatalf("%+v, %v", page, err)
	}
	d := page.DeadLetters[0]
	if d.EntryID != es[1].ID || d.Group != "points" || d.Consumer != "w1" || d.Attempts != 5 || d.Reason != "attempts" ||
		d.Error != strings.Repeat("é", 512) || d.DeadAt.Before(before) || d.DeadAt.After(time.Now().Add(time.Minute)) {
		t.Fatalf("%+v", d)
	}
	if d.Record.Event.ID != records[1].Event.ID || string(d.Record.Raw) != string(records[1].Raw) ||
		d.Record.Evidence.KeyID != records[1].Evidence.KeyID || d.Record.Event.Payment.Amount.Minor != 8800 {
		t.Fatalf("%+v", d.Record)
	}
	shown, err := letters.Show(t.Context(), "points", d.ID)
	if err != nil || shown.EntryID != d.EntryID {
		t.Fatalf("shown %+v, %v", shown, err)
	}
	// The other groups, and the stream, know nothing of it.
	if n, err := letters.Count(t.Context(), "eventlog"); err != nil || n != 0 || len(b.Entries()) != 2 {
		t.Fatalf("%d, %v", n, err)
	}
}

func deadLetterIsMadeOnce(t promise) {
	b := New(t, t.addr)
	b.AppendTo(0, 2)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	es := b.Take(g, l, 10)
	b.Settle(g, l, streams.Settlement{Done: []string{es[1].ID}})
	s := streams.Settlement{Dead: []streams.DeadLetter{
		{EntryID: es[0].ID, Reason: "rejected"}, {EntryID: es[1].ID, Reason: "rejected"}, {EntryID: es[0].ID, Reason: "rejected"},
	}}
	for range 2 { // the answer was lost, and it is sent again
		b.Settle(g, l, s)
	}
	if n := b.Write.XLen(t.Context(), b.Layout.Dead(0, "points")).Val(); n != 1 {
		t.Fatalf("%d dead letters of one entry that is owed", n)
	}
	if n := b.Metric("paybell_streams_group_settled_total", "points", "dead"); n != 1 {
		t.Fatalf("%v counted", n)
	}
}

func deadLetterOfAGoneEntry(t promise) {
	b := New(t, t.addr)
	b.AppendTo(0, 1)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	es := b.Take(g, l, 10)
	if err := b.Write.XDel(t.Context(), b.Layout.Events(0), es[0].ID).Err(); err != nil {
		t.Fatal(err)
	}
	b.Settle(g, l, streams.Settlement{Dead: []streams.DeadLetter{{EntryID: es[0].ID, Attempts: 1, Reason: "crash"}}})
	page, err := streams.NewDeadLetters(b.Write, b.Layout).List(t.Context(), "points", streams.DeadLetterQuery{})
	if err != nil || len(page.DeadLetters) != 1 || page.DeadLetters[0].EntryID != es[0].ID || page.DeadLetters[0].Record.Event.ID != "" {
		t.Fatalf("%+v, %v", page, err)
	}
	if p := b.Pending("points", 0); len(p) != 0 {
		t.Fatalf("pending %v", p)
	}
}

func unchargeTakesOneAttemptBack(t promise) {
	b := New(t, t.addr)
	b.AppendTo(0, 3)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	es := b.Take(g, l, 10)
	charge := func(want ...int) {
		t.Helper()
		counts, err := g.Charge(t.Context(), l, ids(es))
		if err != nil || !slices.Equal(counts, want) {
			t.Fatalf("charged %v, %v; want %v", counts, err, want)
		}
	}
	charge(1, 1, 1)
	charge(2, 2, 2)
	b.Settle(g, l, streams.Settlement{Done: []string{es[0].ID}, Uncharge: []string{es[1].ID}})
	charge(1, 2, 3)
	// It never goes below nothing.
	for range 3 {
		b.Settle(g, l, streams.Settlement{Uncharge: []string{es[0].ID}})
	}
	charge(1, 3, 4)
}
