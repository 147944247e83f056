package streamstest

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/streams"
)

// panicCases are what somebody at redis-cli may do. What cannot be made good is told;
// everything else goes on.
var panicCases = []contract{
	{"G4GroupSetBehindTheEndBeginsAgain", groupBehindTheEnd},
	{"G8GroupSetBackHidesNoLoss", groupSetBackHidesNoLoss},
	{"G8PendingAndGivenAgainCountsOnce", pendingAndGivenAgain},
	{"G5EntriesReadByAnotherComeFirst", entriesReadByAnother},
	{"G7WideEntryHoldsUpNoDeadLetter", wideEntry},
	{"G7ScheduleThatWasDeletedIsMadeAgain", scheduleMadeAgain},
	{"G7ImpossibleNameHoldsUpNobody", impossibleName},
	{"G7SpoiltAttemptsChargeNobodyElse", spoiltAttempts},
	{"G5SpoiltLeaseIsTakenAnew", spoiltLease},
	{"G5EpochRisesAboveOneSeenElsewhere", epochAboveOneSeen},
	{"G7ReplaysLeaveRoomForRetries", replaysLeaveRoom},
}

// hand does what somebody does at redis-cli.
func (b *Bench) hand(args ...any) {
	b.tb.Helper()
	if err := b.Write.Do(b.tb.Context(), args...).Err(); err != nil {
		b.tb.Fatalf("%v: %v", args, err)
	}
}

// set sets the last entry delivered to a group. The embedded engine has no such command,
// so that nobody can do it there: then it returns false.
func (b *Bench) set(group, id string) bool {
	b.tb.Helper()
	err := b.Write.XGroupSetID(b.tb.Context(), b.Layout.Events(0), group, id).Err()
	if err != nil && strings.Contains(err.Error(), "not supported") {
		return false
	}
	if err != nil {
		b.tb.Fatal(err)
	}
	return true
}

func one(o *streams.Options) { o.Partitions = 1 }

func groupBehindTheEnd(t promise) {
	b := New(t, t.addr, one)
	trim := b.Trimmer([]string{"points"}, []string{"audit"})
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	before := b.AppendTo(0, 2)
	b.Trim(trim)
	b.Settle(l, streams.Settlement{Done: ids(b.Take(l, 10))})
	if !b.set("points", "99999999999999-0") || !b.set("audit", "99999999999999-0") {
		return
	}
	events := append(before, b.AppendTo(0, 3)...)
	b.Trim(trim)
	if got := eventIDs(b.Take(l, 10)); !slices.Equal(got, events) {
		t.Errorf("our group took %v, want %v", got, events)
	}
	got, err := b.Write.XReadGroup(t.Context(), &redis.XReadGroupArgs{
		Group: "audit", Consumer: "a1", Streams: []string{b.Layout.Events(0), ">"}, Block: -1,
	}).Result()
	if err != nil || len(got[0].Messages) != len(events) {
		t.Errorf("the subscriber read %v, %v", got, err)
	}
	if a := b.account(); a.Difference() != 0 || a.Lost != 0 || a.Pending != 5 {
		t.Errorf("%+v", a)
	}
}

// A difference below zero that stays would swallow as many losses.
func groupSetBackHidesNoLoss(t promise) {
	b := New(t, t.addr, one)
	trim := b.Trimmer([]string{"points"}, []string{"slow"})
	b.Trim(trim) // the subscriber keeps all entries in the stream
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	b.AppendTo(0, 6)
	b.Settle(l, streams.Settlement{Done: ids(b.Take(l, 10))})
	if !b.set("points", "0") {
		return
	}
	b.Trim(trim)
	b.stated("setting back", streams.Account{Appended: 6, Base: 6, Unread: 6, Settled: 6})
	b.Settle(l, streams.Settlement{Done: ids(b.Take(l, 10))})
	b.AppendTo(0, 4)
	b.set("points", "$")
	if got := b.Trim(trim); got.Lost["points"] != 4 {
		t.Errorf("lost: %+v", got)
	}
	b.stated("setting to the end", streams.Account{Appended: 10, Base: 6, Settled: 12, Lost: 4})
	if got := b.Metric("paybell_streams_trim_again_total", "points"); got != 6 {
		t.Errorf("%v given again", got)
	}
}

// What is pending and, because the group was set back, unread as well, is one event.
func pendingAndGivenAgain(t promise) {
	b := New(t, t.addr, one)
	trim := b.Trimmer([]string{"points"}, nil)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	b.AppendTo(0, 5)
	b.Take(l, 3)
	if !b.set("points", "0") {
		return
	}
	b.Trim(trim)
	b.stated("setting back", streams.Account{Appended: 5, Unread: 5})
	b.Settle(l, streams.Settlement{Done: ids(b.Take(l, 10))})
	if got := b.Trim(trim); len(got.Lost) != 0 {
		t.Errorf("lost: %+v", got)
	}
	b.stated("settling", streams.Account{Appended: 5, Settled: 5})
}

// An owner runs what somebody else read in its group before what came after it.
func entriesReadByAnother(t promise) {
	b := New(t, t.addr, one)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	if err := l.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	read := func(consumer string) {
		t.Helper()
		if err := b.Write.XReadGroup(t.Context(), &redis.XReadGroupArgs{
			Group: "points", Consumer: consumer, Streams: []string{b.Layout.Events(0), ">"}, Count: 2, Block: -1,
		}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, who := range []string{"operator", "w1", "operator"} { // w1 is the owner's own name
		events := b.AppendTo(0, 5)
		read(who)
		var got []string
		for range 10 {
			es := b.Take(l, 1)
			got = append(got, eventIDs(es)...)
			b.Settle(l, streams.Settlement{Done: ids(es)})
		}
		if !slices.Equal(got, events) {
			t.Errorf("after %s had read: took %v, want %v", who, got, events)
		}
	}
}

func wideEntry(t promise) {
	b := New(t, t.addr, one)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	args := []any{"XADD", b.Layout.Events(0), "*"}
	for i := range 5000 {
		args = append(args, "f", i)
	}
	b.hand(args...)
	b.AppendTo(0, 1)
	es := b.Take(l, 10)
	if len(es) != 2 || es[0].Err == nil {
		t.Fatalf("%d entries", len(es))
	}
	b.Settle(l, streams.Settlement{Dead: []streams.DeadLetter{
		{EntryID: es[0].ID, Reason: "unreadable"}, {EntryID: es[1].ID, Reason: "rejected"},
	}})
	if n := len(b.deadOf()); n != 2 {
		t.Fatalf("%d dead letters", n)
	}
}

func scheduleMadeAgain(t promise) {
	b := New(t, t.addr, one)
	trim := b.Trimmer([]string{"points"}, nil)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	b.AppendTo(0, 2)
	es := ids(b.Take(l, 2))
	b.park(l, streams.Parking{EntryID: es[0], Wait: time.Hour}, streams.Parking{EntryID: es[1], Wait: time.Hour})
	b.hand("DEL", b.Layout.Parked(0, "points"))
	// Whoever settles in between finds its parcel all the same.
	b.Settle(l, streams.Settlement{Done: es[:1]})
	if n := b.Write.HLen(t.Context(), b.Layout.Parcels(0, "points")).Val(); n != 1 {
		t.Fatalf("%d parcels are left of one", n)
	}
	if got := b.Trim(trim); len(got.Lost) != 0 {
		t.Fatalf("lost: %+v", got)
	}
	parked, err := l.Parked(t.Context(), 0, 10)
	if err != nil || len(parked) != 1 || parked[0].ID != es[1] || parked[0].Wait > time.Second {
		t.Fatalf("%+v, %v", parked, err)
	}
	b.stated("making it again", streams.Account{Appended: 2, Parked: 1, Settled: 1})
}

func impossibleName(t promise) {
	b := New(t, t.addr, one)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	b.AppendTo(0, 2)
	es := ids(b.Take(l, 2))
	const impossible = "99999999999999999999-1" // too large for Redis, and yet of the form
	b.hand("ZADD", b.Layout.Parked(0, "points"), 0, impossible)
	b.Settle(l, streams.Settlement{Done: []string{es[0], impossible, es[1]}})
	if a := b.account(); a.Pending != 0 || a.Parked != 0 {
		t.Fatalf("%+v", a)
	}
}

func spoiltAttempts(t promise) {
	b := New(t, t.addr, one)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	b.AppendTo(0, 3)
	es := ids(b.Take(l, 3))
	for _, garbage := range []string{"x", "1.5", "99999999999999999999", "-7"} {
		b.hand("DEL", b.Layout.Attempts(0, "points"))
		b.hand("HSET", b.Layout.Attempts(0, "points"), es[1], garbage)
		b.charge(l, "1", es...)
		l = b.next(l, "w1")
		var got []int
		for _, e := range b.Backlog(l) {
			got = append(got, e.Attempts)
		}
		if !slices.Equal(got, []int{1, 1, 1}) {
			t.Errorf("%s: charged %v", garbage, got)
		}
	}
	// Runs that are none keep nobody from running.
	b.hand("SET", b.Layout.Runs(0, "points"), "x")
	b.charge(l, "1", es...)
	b.hand("DEL", b.Layout.Runs(0, "points"))
	b.hand("SET", b.Layout.Runs(0, "points"), "x")
	b.Settle(l, streams.Settlement{Done: es[:1], Ended: []string{"1"}})
	l = b.next(l, "w1")
	if left := b.Backlog(l); len(left) != 2 || left[0].Attempts != 1 {
		t.Fatalf("backlog %+v", left)
	}
}

// next is the lease of the owner that comes after l's, who ends.
func (b *Bench) next(l *streams.Lease, consumer string) *streams.Lease {
	b.tb.Helper()
	if err := l.Release(b.tb.Context()); err != nil {
		b.tb.Fatal(err)
	}
	return b.Lease(b.Group("points", consumer), l.Partition())
}

func spoiltLease(t promise) {
	b := New(t, t.addr, one, short)
	g := b.Group("points", "w1")
	lease, epoch := b.Layout.Lease(0, "points"), b.Layout.Epoch(0, "points")
	// One that never ends, of an owner that there is not.
	b.hand("HSET", lease, "owner", "me", "epoch", "1")
	if _, ok, err := g.Acquire(t.Context(), 0); ok || err != nil {
		t.Fatalf("taken at once: %v, %v", ok, err)
	}
	var l *streams.Lease
	Eventually(t, "the lease ends", func() (ok bool) {
		var err error
		if l, ok, err = g.Acquire(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		return ok
	})
	for _, spoil := range [][]any{
		{"HDEL", lease, "epoch"}, {"HSET", lease, "epoch", "x"}, {"HDEL", lease, "owner"},
	} {
		b.hand(spoil...)
		if next := b.Lease(g, 0); next.Epoch() <= l.Epoch() {
			t.Fatalf("%v: epoch %d after %d", spoil, next.Epoch(), l.Epoch())
		}
		l = b.Lease(g, 0)
	}
	for _, garbage := range []string{"x", "99999999999999999999999999", "-1"} {
		if err := b.Lease(g, 0).Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.hand("SET", epoch, garbage)
		if l := b.Lease(g, 0); l.Epoch() < time.Now().Add(-time.Hour).UnixMilli() {
			t.Fatalf("epoch %s: %d", garbage, l.Epoch())
		}
	}
	members := b.Write.Keys(t.Context(), "*members*").Val()
	if _, err := g.Heartbeat(t.Context()); err != nil {
		t.Fatal(err)
	}
	members = append(members, b.Write.Keys(t.Context(), "*members*").Val()...)
	b.hand("SET", members[0], "x")
	if n, err := g.Heartbeat(t.Context()); err != nil || n != 1 {
		t.Fatalf("members spoilt: %d, %v", n, err)
	}
}

// Redis may begin below an epoch that effects have seen: its clock was ahead, and its
// memory is lost.
func epochAboveOneSeen(t promise) {
	b := New(t, t.addr, one)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	seen := time.Now().Add(24 * time.Hour).UnixMilli()
	l.Surpass(seen)
	if again := b.Lease(g, 0); again != l {
		t.Fatalf("a renewal changed the epoch: %+v, was %+v", again, l)
	}
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if next := b.Lease(g, 0); next.Epoch() != seen+1 {
		t.Fatalf("epoch %d, want %d", next.Epoch(), seen+1)
	}
}

// Half of what workers park by default is the room for replays, however many partitions
// share it.
func replaysLeaveRoom(t promise) {
	for partitions, room := range map[int]int{1: 80_000, 16: 5_000, 64: 1_250} {
		b := New(t, t.addr, func(o *streams.Options) { o.Prefix, o.Partitions = "p"+strconv.Itoa(partitions), partitions })
		l := b.Lease(b.Group("points", "w1"), 0)
		b.AppendTo(0, 1)
		b.Settle(l, streams.Settlement{Dead: []streams.DeadLetter{{EntryID: ids(b.Take(l, 1))[0], Reason: "attempts"}}})
		letters := streams.NewDeadLetters(b.Write, b.Layout)
		page, err := letters.List(t.Context(), "points", streams.DeadLetterQuery{})
		if err != nil {
			t.Fatal(err)
		}
		id, parked := page.DeadLetters[0].ID, b.Layout.Parked(0, "points")
		for from := 0; from < room; from += 1000 {
			add := []any{"ZADD", parked}
			for i := from; i < min(from+1000, room); i++ {
				add = append(add, 0, "1-"+strconv.Itoa(i))
			}
			b.hand(add...)
		}
		for _, want := range []streams.ReplayOutcome{streams.Full, streams.Replayed} {
			got, err := letters.Replay(t.Context(), "points", []string{id})
			if err != nil || got[0].Outcome != want {
				t.Fatalf("%d partitions: %+v, %v; want %s", partitions, got, err, want)
			}
			b.hand("ZREM", parked, "1-0") // one less is parked
		}
	}
}
