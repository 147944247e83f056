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
	{"CountsAreWhatIsCharged", countsAreWhatIsCharged},
}

func settleEndsDeliveries(t promise) {
	b := New(t, t.addr)
	b.AppendTo(0, 4)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	es := b.Take(l, 10)
	b.charge(l, "1", ids(es)...)
	for range 2 { // settling again changes nothing
		b.Settle(l, streams.Settlement{Done: []string{es[0].ID, es[2].ID}})
		if p := b.Pending("points", 0); !slices.Equal(p, []string{es[1].ID, es[3].ID}) {
			t.Fatalf("pending %v", p)
		}
	}
	if n := b.Metric("paybell_streams_group_settled_total", "points", "done"); n != 2 {
		t.Fatalf("%v settled", n)
	}
	b.Settle(l, streams.Settlement{})
}

func settleOfManyEntries(t promise) {
	b := New(t, t.addr, func(o *streams.Options) { o.Partitions = 1 })
	// More dead letters than one call of the script takes, and more ids.
	const dead, done, again = 205, 1010, 25
	const n = dead + done + again
	for i := range n / 124 {
		b.Append(Records("cb"+strconv.Itoa(i), 124)...)
	}
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	var es []streams.Entry
	for len(es) < n {
		page := b.Take(l, 200)
		if len(page) == 0 {
			t.Fatalf("took %d", len(es))
		}
		es = append(es, page...)
	}
	b.charge(l, "1", ids(es)...)
	s := streams.Settlement{Ended: []string{"1"}}
	for i, e := range es {
		switch {
		case i < dead:
			s.Dead = append(s.Dead, streams.DeadLetter{EntryID: e.ID, Attempts: 1, Reason: "attempts"})
		case i < dead+done:
			s.Done = append(s.Done, e.ID)
		default:
			s.Counts = append(s.Counts, streams.Count{EntryID: e.ID, Attempts: 1})
		}
	}
	b.Settle(l, s)
	if got := b.Pending("points", 0); len(got) != again {
		t.Fatalf("%d pending", len(got))
	}
	if left := b.Write.HLen(t.Context(), b.Layout.Attempts(0, "points")).Val(); left != again {
		t.Fatalf("%d counts", left)
	}
	if left := b.Write.HLen(t.Context(), b.Layout.Runs(0, "points")).Val(); left != 0 {
		t.Fatalf("%d runs left", left)
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
	es := b.Take(l, 10)
	before := time.Now().Add(-time.Minute)
	b.Settle(l, streams.Settlement{
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
	es := b.Take(l, 10)
	b.Settle(l, streams.Settlement{Done: []string{es[1].ID}})
	s := streams.Settlement{Dead: []streams.DeadLetter{
		{EntryID: es[0].ID, Reason: "rejected"}, {EntryID: es[1].ID, Reason: "rejected"}, {EntryID: es[0].ID, Reason: "rejected"},
	}}
	for range 2 { // the answer was lost, and it is sent again
		b.Settle(l, s)
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
	es := b.Take(l, 10)
	if err := b.Write.XDel(t.Context(), b.Layout.Events(0), es[0].ID).Err(); err != nil {
		t.Fatal(err)
	}
	b.Settle(l, streams.Settlement{Dead: []streams.DeadLetter{{EntryID: es[0].ID, Attempts: 1, Reason: "crash"}}})
	page, err := streams.NewDeadLetters(b.Write, b.Layout).List(t.Context(), "points", streams.DeadLetterQuery{})
	if err != nil || len(page.DeadLetters) != 1 || page.DeadLetters[0].EntryID != es[0].ID || page.DeadLetters[0].Record.Event.ID != "" {
		t.Fatalf("%+v, %v", page, err)
	}
	if p := b.Pending("points", 0); len(p) != 0 {
		t.Fatalf("pending %v", p)
	}
}

func countsAreWhatIsCharged(t promise) {
	b := New(t, t.addr)
	b.AppendTo(0, 3)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	es := b.Take(l, 10)
	counts := func(want ...int) {
		t.Helper()
		var got []int
		for _, e := range b.Backlog(l) {
			got = append(got, e.Attempts)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("attempts %v, want %v", got, want)
		}
	}
	s := streams.Settlement{Counts: []streams.Count{{EntryID: es[1].ID, Attempts: 2}, {EntryID: es[2].ID, Attempts: 1}}}
	for range 2 { // settling again changes nothing
		b.Settle(l, s)
		counts(0, 2, 1)
	}
	b.Settle(l, streams.Settlement{Done: []string{es[0].ID}, Counts: []streams.Count{{EntryID: es[2].ID}}})
	counts(2, 0)
}
