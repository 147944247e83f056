package streamstest

import (
	"errors"
	"slices"

	"github.com/paybell/paybell/streams"
)

var replayCases = []contract{
	{"ReplayReachesItsGroupAlone", replayReachesItsGroupAlone},
	{"ReplayOfAReplay", replayOfAReplay},
	{"ReplayOfWhatIsNoDeadLetter", replayOfWhatIsNoDeadLetter},
	{"DropEndsADeadLetter", dropEndsADeadLetter},
}

// deadOf are the ids of the dead letters of the group points, newest first.
func (b *Bench) deadOf() []string {
	b.tb.Helper()
	page, err := streams.NewDeadLetters(b.Write, b.Layout).List(b.tb.Context(), "points", streams.DeadLetterQuery{})
	if err != nil {
		b.tb.Fatal(err)
	}
	out := make([]string, len(page.DeadLetters))
	for i := range page.DeadLetters {
		out[i] = page.DeadLetters[i].ID
	}
	return out
}

func replayReachesItsGroupAlone(t promise) {
	b := New(t, t.addr)
	b.AppendTo(0, 2)
	g, other := b.Group("points", "w1"), b.Group("eventlog", "w1")
	l, ol := b.Lease(g, 0), b.Lease(other, 0)
	es := b.Take(l, 10)
	b.Settle(ol, streams.Settlement{Done: ids(b.Take(ol, 10))})
	b.Settle(l, streams.Settlement{
		Done: []string{es[1].ID}, Dead: []streams.DeadLetter{{EntryID: es[0].ID, Attempts: 5, Reason: "attempts"}},
	})
	dead := b.deadOf()
	letters := streams.NewDeadLetters(b.Write, b.Layout)
	got, err := letters.Replay(t.Context(), "points", dead)
	if err != nil || len(got) != 1 || got[0] != (streams.DeadLetterResult{ID: dead[0], Outcome: streams.Replayed}) {
		t.Fatalf("%+v, %v", got, err)
	}
	if got, err = letters.Replay(t.Context(), "points", dead); err != nil || got[0].Outcome != streams.Missing {
		t.Fatalf("again: %+v, %v", got, err)
	}
	ps := b.parked(l)
	if len(ps) != 1 || ps[0].ID != es[0].ID || ps[0].Wait != 0 || ps[0].Attempts != 0 || ps[0].Known != 0 || ps[0].Key != es[0].Record.Event.OrderingKey() {
		t.Fatalf("parked %+v", ps)
	}
	if n := len(b.deadOf()); n != 0 {
		t.Fatalf("%d dead letters are left", n)
	}
	if n := b.Write.XLen(t.Context(), b.Layout.Events(0)).Val(); n != 2 || len(b.parked(ol)) != 0 || len(b.Take(ol, 10)) != 0 {
		t.Fatalf("another group hears of it, or the stream: %d entries", n)
	}
	if l.Replays() != 0 {
		t.Fatal("nothing was read since")
	}
	if again := b.Take(l, 10); len(again) != 0 || l.Replays() != 1 {
		t.Fatalf("took %d, heard of %d replays", len(again), l.Replays())
	}
	if un := b.unpack(l, es[0].ID); un[0].Err != nil || un[0].Record.Event.ID != es[0].Record.Event.ID || string(un[0].Record.Raw) != string(es[0].Record.Raw) {
		t.Fatalf("%+v", un)
	}
	b.Settle(l, streams.Settlement{Done: []string{es[0].ID}})
	if ps := b.parked(l); len(ps) != 0 {
		t.Fatalf("parked %+v", ps)
	}
}

func replayOfAReplay(t promise) {
	b := New(t, t.addr)
	b.AppendTo(0, 1)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	es := b.Take(l, 1)
	letters := streams.NewDeadLetters(b.Write, b.Layout)
	first := ""
	for i := range 3 {
		b.Settle(l, streams.Settlement{Dead: []streams.DeadLetter{{EntryID: es[0].ID, Attempts: 1, Reason: "rejected"}}})
		dead := b.deadOf()
		if len(dead) != 1 {
			t.Fatalf("round %d: dead letters %v", i, dead)
		}
		d, err := letters.Show(t.Context(), "points", dead[0])
		if err != nil || d.ReplayOf != first || d.Record.Event.ID != es[0].Record.Event.ID {
			t.Fatalf("round %d: %+v, %v", i, d, err)
		}
		first = d.ID
		if got, err := letters.Replay(t.Context(), "points", dead); err != nil || got[0].Outcome != streams.Replayed {
			t.Fatalf("round %d: %+v, %v", i, got, err)
		}
	}
}

func replayOfWhatIsNoDeadLetter(t promise) {
	b := New(t, t.addr)
	b.AppendTo(0, 2)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	es := b.Take(l, 2)
	if err := b.Write.XDel(t.Context(), b.Layout.Events(0), es[0].ID).Err(); err != nil {
		t.Fatal(err)
	}
	b.Settle(l, streams.Settlement{Dead: []streams.DeadLetter{{EntryID: es[0].ID, Reason: "crash"}, {EntryID: es[1].ID, Reason: "crash"}}})
	letters := streams.NewDeadLetters(b.Write, b.Layout)
	dead := b.deadOf()
	// The second one is owed again, because its group was created again.
	if err := b.Write.XGroupDestroy(t.Context(), b.Layout.Events(0), "points").Err(); err != nil {
		t.Fatal(err)
	}
	again := b.Take(l, 2)
	b.park(l, streams.Parking{EntryID: again[0].ID})
	got, err := letters.Replay(t.Context(), "points", slices.Concat(dead, []string{"1-1-1"}))
	if err != nil || len(got) != 3 || got[0].Outcome != streams.Owing || got[1].Outcome != streams.Empty || got[2].Outcome != streams.Missing {
		t.Fatalf("%+v, %v", got, err)
	}
	if len(b.deadOf()) != 2 {
		t.Fatal("a dead letter that was not replayed is gone")
	}
	if _, err := letters.Replay(t.Context(), "points", []string{dead[0], "nonsense"}); !errors.Is(err, streams.ErrDeadLetterID) {
		t.Fatal(err)
	}
}

func dropEndsADeadLetter(t promise) {
	b := New(t, t.addr)
	b.deadLetters(2)
	dead := b.deadOf()
	letters := streams.NewDeadLetters(b.Write, b.Layout)
	for i, want := range []streams.ReplayOutcome{streams.Dropped, streams.Missing} {
		if got, err := letters.Drop(t.Context(), "points", dead[:3]); err != nil || len(got) != 3 || got[2].Outcome != want {
			t.Fatalf("%d: %+v, %v", i, got, err)
		}
	}
	if left := b.deadOf(); !slices.Equal(left, dead[3:]) {
		t.Fatalf("left %v", left)
	}
	n := 0
	for p := range b.Layout.Partitions() {
		c, _ := b.Write.HGet(t.Context(), b.Layout.Counts(p, "points"), "dropped").Int() // none is 0
		n += c
	}
	if n != 3 {
		t.Fatalf("%d counted", n)
	}
}
