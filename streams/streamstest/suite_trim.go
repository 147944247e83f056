package streamstest

import (
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/streams"
)

var trimCases = []contract{
	{"G8TrimTakesWhatEveryGroupIsDoneWith", trimTakesWhatEveryGroupIsDoneWith},
	{"G8UnreadEventsAreNotEatenByAnyLength", unreadEventsAreNotEaten},
	{"G8DeclaredGroupIsProtectedBeforeItReads", declaredGroupIsProtected},
	{"G8LostGroupIsCreatedAgainAndWaitedFor", lostGroupIsCreatedAgain},
	{"G8UndeclaredGroupIsKeptUpToTheRetention", undeclaredGroupIsKept},
	{"G8OneTrimmedPendingEntryStopsNothing", oneTrimmedPendingEntryStopsNothing},
}

// Trimmer returns a trimmer of the bench for groups of our own and of subscribers. It
// keeps nothing that is settled, unless it is asked to.
func (b *Bench) Trimmer(own, subscribers []string, change ...func(*streams.TrimOptions)) *streams.Trimmer {
	b.tb.Helper()
	o := b.Options.Trim()
	o.Keep.Age = 0
	for _, f := range change {
		f(&o)
	}
	t, err := streams.NewTrimmer(b.Write, b.Layout, own, subscribers, o, slog.New(slog.DiscardHandler), b.Reg)
	if err != nil {
		b.tb.Fatal(err)
	}
	return t
}

// Trim makes one pass.
func (b *Bench) Trim(t *streams.Trimmer) streams.Trimmed {
	b.tb.Helper()
	out, err := t.Trim(b.tb.Context())
	if err != nil {
		b.tb.Fatal(err)
	}
	return out
}

// Subscriber reads max entries of partition 0 as another service does.
func (b *Bench) Subscriber(group string, limit int) []string {
	b.tb.Helper()
	key := b.Layout.Events(0)
	err := b.Write.XGroupCreateMkStream(b.tb.Context(), key, group, "0").Err()
	if err != nil && !redis.HasErrorPrefix(err, "BUSYGROUP") {
		b.tb.Fatal(err)
	}
	got, err := b.Write.XReadGroup(b.tb.Context(), &redis.XReadGroupArgs{
		Group: group, Consumer: "c1", Streams: []string{key, ">"}, Count: int64(limit), Block: -1,
	}).Result()
	if err != nil {
		b.tb.Fatal(err)
	}
	var out []string
	for _, m := range got[0].Messages {
		out = append(out, m.ID)
	}
	return out
}

// Ack settles entries of partition 0 as another service does.
func (b *Bench) Ack(group string, ids ...string) {
	b.tb.Helper()
	if err := b.Write.XAck(b.tb.Context(), b.Layout.Events(0), group, ids...).Err(); err != nil {
		b.tb.Fatal(err)
	}
}

// single is a bench of one partition with n entries. They are larger than a node of
// a stream, so that nothing is left of what may be trimmed.
func single(t promise, n int) *Bench {
	b := New(t, t.addr, func(o *streams.Options) { o.Partitions = 1 })
	for i := range n {
		r := Record("order", i)
		r.Raw = make([]byte, 5000)
		b.Append(r)
	}
	return b
}

func (b *Bench) holds(t testing.TB, want int) {
	t.Helper()
	if n := len(b.Entries()); n != want {
		t.Fatalf("%d entries, want %d", n, want)
	}
}

func trimTakesWhatEveryGroupIsDoneWith(t promise) {
	b := single(t, 10)
	trim := b.Trimmer([]string{"points"}, []string{"shipping"})
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	mine := ids(b.Take(l, 7))
	theirs := b.Subscriber("shipping", 5)
	b.Trim(trim)
	b.holds(t, 10) // all is pending
	b.Settle(l, streams.Settlement{Done: mine})
	b.Trim(trim)
	b.holds(t, 10) // one group is done, the other is not
	b.Ack("shipping", theirs[0], theirs[1], theirs[3])
	if got := b.Trim(trim); got.Entries != 2 {
		t.Fatalf("%+v, the third is still owed", got)
	}
	b.holds(t, 8)
	b.Ack("shipping", theirs[2], theirs[4])
	if got := b.Trim(trim); got.Entries != 3 || got.Left != 5 {
		t.Fatalf("%+v, five have been read by both", got)
	}
	b.Ack("shipping", b.Subscriber("shipping", 10)...)
	b.Trim(trim)
	b.holds(t, 3) // whichever group is behind
	b.Settle(l, streams.Settlement{Done: ids(b.Take(l, 10))})
	b.Trim(trim)
	b.holds(t, 0)
	if got := b.Metric("paybell_streams_trim_lost_total", "points"); got != 0 {
		t.Fatalf("%v lost", got)
	}
	// An empty stream is where the next entry is found.
	ids := b.AppendTo(0, 1)
	if got := eventIDs(b.Take(l, 1)); len(got) != 1 || got[0] != ids[0] {
		t.Fatalf("took %v of %v", got, ids)
	}
}

// Peers bound a stream by its length and eat what nobody has read yet.
func unreadEventsAreNotEaten(t promise) {
	b := single(t, 300)
	trim := b.Trimmer([]string{"points"}, nil, func(o *streams.TrimOptions) {
		o.Retention = streams.RetentionOptions{Bytes: 1, Age: time.Millisecond}
	})
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	for range 3 {
		b.Trim(trim)
		b.holds(t, 300)
	}
	// Nor are they while an undeclared group is overtaken.
	b.Subscriber("visitor", 1)
	b.Settle(l, streams.Settlement{Done: ids(b.Take(l, 100))})
	b.Trim(trim)
	b.holds(t, 200)
}

func declaredGroupIsProtected(t promise) {
	b := single(t, 5)
	trim := b.Trimmer([]string{"points"}, []string{"shipping"})
	if got := b.Trim(trim); got.Created["shipping"] != 1 || got.Created["points"] != 1 {
		t.Fatalf("%+v", got)
	}
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	b.Settle(l, streams.Settlement{Done: ids(b.Take(l, 5))})
	b.Trim(trim)
	b.holds(t, 5)
	b.Ack("shipping", b.Subscriber("shipping", 5)...)
	b.Trim(trim)
	b.holds(t, 0)
}

func lostGroupIsCreatedAgain(t promise) {
	b := single(t, 5)
	trim := b.Trimmer([]string{"points"}, []string{"shipping"})
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	b.Settle(l, streams.Settlement{Done: ids(b.Take(l, 5))})
	b.Ack("shipping", b.Subscriber("shipping", 2)...)
	if err := b.Write.XGroupDestroy(t.Context(), b.Layout.Events(0), "shipping").Err(); err != nil {
		t.Fatal(err)
	}
	if got := b.Trim(trim); got.Created["shipping"] != 1 || got.Entries != 0 {
		t.Fatalf("%+v", got)
	}
	if got := b.Subscriber("shipping", 10); len(got) != 5 {
		t.Fatalf("the group gets %d entries, 5 are there", len(got))
	}
	b.Trim(trim)
	b.holds(t, 5)
}

func undeclaredGroupIsKept(t promise) {
	const n = 60
	b := single(t, n)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	b.Settle(l, streams.Settlement{Done: ids(b.Take(l, n))})
	b.Ack("visitor", b.Subscriber("visitor", 1)...)
	keep := func(r streams.RetentionOptions) streams.Trimmed {
		return b.Trim(b.Trimmer([]string{"points"}, nil, func(o *streams.TrimOptions) { o.Retention = r }))
	}
	// Within both bounds it is waited for; what it has settled goes.
	if got := keep(streams.RetentionOptions{Bytes: 1 << 30, Age: time.Hour}); got.Left != n-1 || len(got.Overtaken) != 0 {
		t.Fatalf("%+v", got)
	}
	// About 5.6 KB an entry: a third of what is there fits, and no more is taken.
	got := keep(streams.RetentionOptions{Bytes: 112_000, Age: time.Hour})
	if got.Overtaken["visitor"] != 1 || got.Left < 12 || got.Left > 25 {
		t.Fatalf("%+v", got)
	}
	Eventually(t, "what is too old is taken", func() bool {
		return keep(streams.RetentionOptions{Bytes: 1 << 30, Age: time.Millisecond}).Left == 0
	})
	if v := b.Metric("paybell_streams_trim_overtaken_total"); v < 2 {
		t.Fatalf("%v alarms", v)
	}
	// One that has settled everything cannot be overtaken.
	b.AppendTo(0, 1)
	b.Ack("visitor", b.Subscriber("visitor", 10)...)
	b.Settle(l, streams.Settlement{Done: ids(b.Take(l, 10))})
	b.AppendTo(0, 1)
	if got := keep(streams.RetentionOptions{Bytes: 1, Age: time.Millisecond}); len(got.Overtaken) != 0 || got.Left == 0 {
		t.Fatalf("%+v", got)
	}
}

// Peers reclaim by reading; one pending entry without its event ends the loop, or
// holds the trim back for ever.
func oneTrimmedPendingEntryStopsNothing(t promise) {
	b := single(t, 10)
	soon := func(o *streams.TrimOptions) { o.GhostIdle = 0 }
	trim := b.Trimmer([]string{"points"}, []string{"shipping"}, soon)
	b.Trim(trim)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	b.Settle(l, streams.Settlement{Done: ids(b.Take(l, 10))})
	theirs := b.Subscriber("shipping", 10)
	b.Ack("shipping", theirs[1:4]...)
	b.Ack("shipping", theirs[6:]...)
	// An operator in panic: the first by XTRIM, one in the middle by XDEL.
	for _, cmd := range [][]any{
		{"XTRIM", b.Layout.Events(0), "MINID", theirs[1]}, {"XDEL", b.Layout.Events(0), theirs[4]},
	} {
		if err := b.Write.Do(t.Context(), cmd...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	patient := b.Trimmer([]string{"points"}, []string{"shipping"})
	if got := b.Trim(patient); got.Lost["shipping"] != 0 {
		t.Fatalf("%+v: a consumer may be working on what it has just read", got)
	}
	got := b.Trim(trim)
	if got.Lost["shipping"] != 2 || got.Lost["points"] != 0 {
		t.Fatalf("%+v, two entries were lost to shipping", got)
	}
	if v := b.Metric("paybell_streams_trim_lost_total", "shipping"); v != 2 {
		t.Fatalf("%v counted", v)
	}
	if v := b.Write.HGet(t.Context(), b.Layout.Trim(0), "lost:shipping").Val(); v != "2" {
		t.Fatalf("%q kept in Redis", v)
	}
	if p := b.Pending("shipping", 0); len(p) != 1 || p[0] != theirs[5] {
		t.Fatalf("pending %v, want %s alone", p, theirs[5])
	}
	b.Ack("shipping", theirs[5])
	b.Trim(trim)
	b.holds(t, 0)
	if again := b.Trim(trim); len(again.Lost) != 0 {
		t.Fatalf("told again: %+v", again)
	}
}
