package streamstest

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/event"
)

var ledgerCases = []contract{
	{"G8LedgerAddsUpWhateverHappens", ledgerAddsUp},
	{"G8LedgerCountsWhatSomebodyDeleted", ledgerCountsLoss},
	{"G8LedgerCountsLossWhereItIsFound", ledgerCountsLossAtOnce},
	{"G8LedgerOfAGroupThatIsCreatedAgain", ledgerOfACreatedGroup},
	{"G8LedgerBeginsAnewWhereItWasDeleted", ledgerBeginsAnew},
	{"G8OverwrittenKeysStopAScriptBeforeItWrites", overwrittenKeysStopScripts},
	{"G8LedgerCountsMoreThanItLooksAt", ledgerIsBounded},
	{"G8LedgerOfASubscriberIsWhatRemains", ledgerOfASubscriber},
	{"G8LedgerSaysWhatItCannotRead", ledgerSaysWhatItCannotRead},
	{"G8LedgerIsShown", ledgerIsShown},
	{"G8WhatIsLostOrThereTwiceRingsUntilAcknowledged", ledgerRings},
	{"G8AccountThatIsRightBeginsAnewWithoutAnError", ledgerBeginsAnewAtNothing},
	{"UndecodableEventsAreCounted", undecodableEventsAreCounted},
}

// accounts are those of groups of ours and of subscribers.
func (b *Bench) accounts(own, subscribers []string) map[string]streams.Account {
	b.tb.Helper()
	l := streams.NewLedger(b.Write, b.Layout, own, slog.New(slog.DiscardHandler), b.Reg)
	l.Subscribers(subscribers)
	accounts, err := l.Read(b.tb.Context())
	if err != nil {
		b.tb.Fatal(err)
	}
	return accounts
}

// account is the account of the group points.
func (b *Bench) account() streams.Account {
	b.tb.Helper()
	return b.accounts([]string{"points"}, nil)["points"]
}

// stated fails the test unless the account is as wanted and adds up. Created, Replayed,
// Again and Alarm are not compared.
func (b *Bench) stated(after string, want streams.Account) {
	b.tb.Helper()
	got := b.account()
	d := got.Difference()
	got.Created, got.Replayed, got.Again, got.Alarm = 0, 0, 0, streams.Alarm{}
	if got != want || d != 0 {
		b.tb.Fatalf("after %s: %+v, want %+v; difference %d", after, got, want, d)
	}
}

// What an operator is alerted by: a difference, and groups that do not keep up, whoever
// reads them.
func ledgerIsShown(t promise) {
	b := New(t, t.addr, one)
	b.AppendTo(0, 5)
	g, undeclared := b.Group("points", "w1"), b.Group("audit", "a1")
	es := b.Take(b.Lease(g, 0), 3)
	b.Settle(b.Lease(g, 0), streams.Settlement{Done: ids(es[:1])})
	b.Take(b.Lease(undeclared, 0), 1)
	b.hand("HINCRBY", b.Layout.Counts(0, "points"), "settled", -1) // one event is nowhere
	b.hand("HSET", b.Layout.Counts(0, "points"), "again", 3, "again_known", 1)
	b.hand("HSET", b.Layout.Ledger(0), "undecodable", 3)
	var log lines
	l := streams.NewLedger(b.Write, b.Layout, []string{"points"}, slog.New(slog.NewTextHandler(&log, nil)), b.Reg)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	Eventually(t, "the difference is told", func() bool {
		return strings.Contains(log.String(), "difference=1") && strings.Contains(log.String(), "again=2")
	})
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		metric string
		labels []string
		want   float64
	}{
		{"paybell_ledger_difference", []string{"points"}, 1},
		{"paybell_ledger_alarm", []string{"lost", "points"}, 0},
		{"paybell_ledger_alarm", []string{"again", "points"}, 2},
		{"paybell_streams_partition_entries", []string{"0"}, 5},
		{"paybell_ledger_undecodable_events", nil, 3},
		{"paybell_ledger_events", []string{"points", "appended"}, 5},
		{"paybell_ledger_events", []string{"points", "pending"}, 2},
		{"paybell_streams_group_lag_entries", []string{"points"}, 2},
		{"paybell_streams_group_pending_entries", []string{"points"}, 2},
		{"paybell_streams_group_lag_entries", []string{"audit"}, 4},
		{"paybell_streams_group_pending_entries", []string{"audit"}, 1},
	} {
		if got := b.Metric(c.metric, c.labels...); got != c.want {
			t.Errorf("%s%v = %v, want %v", c.metric, c.labels, got, c.want)
		}
	}
	if age := b.Metric("paybell_streams_group_oldest_pending_seconds", "audit"); age > 60 {
		t.Errorf("the oldest pending entry is %v s old", age)
	}
}

// ledgerRings: a difference is booked under a count that stays, and rings until an operator
// has acknowledged it; the next one rings again.
func ledgerRings(t promise) {
	b := New(t, t.addr)
	trim := b.Trimmer([]string{"points"}, []string{"shipping"}, func(o *streams.TrimOptions) { o.GhostIdle = 0 })
	b.Trim(trim)
	ledger := streams.NewLedger(b.Write, b.Layout, []string{"points"}, slog.New(slog.DiscardHandler), b.Reg)
	ledger.Subscribers([]string{"shipping"})
	rings := func(after, group string, want streams.Alarm) {
		t.Helper()
		for range 2 { // another pass changes nothing
			b.Trim(trim)
			accounts, err := ledger.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			a := accounts[group]
			if a.Alarm != want || a.Difference() != 0 || a.Derived {
				t.Fatalf("after %s: %+v, want the alarm %+v", after, a, want)
			}
		}
	}
	acknowledge := func(group string, want streams.Alarm) {
		t.Helper()
		for _, want := range []streams.Alarm{want, {}} {
			if got, err := ledger.Acknowledge(t.Context(), group); err != nil || got != want {
				t.Fatalf("acknowledged %+v, want %+v; %v", got, want, err)
			}
		}
	}
	b.AppendTo(0, 8)
	b.AppendTo(1, 4)
	l := b.Lease(b.Group("points", "w1"), 0)
	es := b.Take(l, 4)
	theirs := b.Subscriber("shipping", 3)
	b.Settle(l, streams.Settlement{Done: ids(es[:3])})
	rings("nothing", "points", streams.Alarm{})
	rings("nothing", "shipping", streams.Alarm{})

	b.hand("XDEL", b.Layout.Events(0), b.Entries()[6].ID) // unread
	rings("XDEL", "points", streams.Alarm{Lost: 1})
	other := b.Entries()[8].ID // of partition 1
	b.hand("XDEL", b.Layout.Events(1), other)
	rings("XDEL elsewhere", "points", streams.Alarm{Lost: 2})
	b.Settle(l, streams.Settlement{Done: ids(es[:3])}) // settling again is none
	rings("settling again", "points", streams.Alarm{Lost: 2})
	b.hand("HINCRBY", b.Layout.Counts(0, "points"), "settled", 1) // counted twice
	rings("a settlement that counted twice", "points", streams.Alarm{Lost: 2, Again: 1})
	acknowledge("points", streams.Alarm{Lost: 2, Again: 1})
	rings("acknowledging", "points", streams.Alarm{})
	if a := b.account(); a.Lost != 2 || a.Again != 1 {
		t.Fatalf("the counts are gone: %+v", a)
	}
	b.hand("XACK", b.Layout.Events(0), "points", es[3].ID) // nobody settled it
	rings("XACK", "points", streams.Alarm{Lost: 1})

	// The one of partition 1 was the subscriber's loss, too, where the engine numbers entries.
	if _, err := ledger.Acknowledge(t.Context(), "shipping"); err != nil {
		t.Fatal(err)
	}
	b.hand("XDEL", b.Layout.Events(0), theirs[1])
	rings("deleting what a subscriber has", "shipping", streams.Alarm{Lost: 1})
	acknowledge("shipping", streams.Alarm{Lost: 1})
	rings("acknowledging", "shipping", streams.Alarm{})
	if _, err := ledger.Acknowledge(t.Context(), "nobody"); !errors.Is(err, streams.ErrUnknownGroup) || !strings.HasSuffix(err.Error(), "the ledger has points, shipping") {
		t.Fatal(err)
	}
}

// An account that is deleted while nothing is owed needs no base.
func ledgerBeginsAnewAtNothing(t promise) {
	b := New(t, t.addr, one)
	trim := b.Trimmer([]string{"points"}, nil)
	b.Trim(trim)
	b.hand("DEL", b.Layout.Counts(0, "points"))
	b.Trim(trim)
	if base := b.Write.HGet(t.Context(), b.Layout.Counts(0, "points"), "base").Val(); strings.HasPrefix(base, "-0") {
		t.Fatalf("base %s", base)
	}
	b.AppendTo(0, 1)
	b.stated("beginning anew", streams.Account{Appended: 1, Unread: 1})
}

// undecodable returns n records of events that could not be decoded, all in a partition.
func (b *Bench) undecodable(partition, n int) []event.Record {
	b.tb.Helper()
	var out []event.Record
	for len(out) < n {
		b.orders++
		r := Record("undecodable-"+strconv.Itoa(b.orders), 0)
		was := r.Event
		r.Event = event.NewUndecodable()
		r.Event.Schema, r.Event.Account, r.Event.Namespace, r.Event.Provider = was.Schema, was.Account, was.Namespace, was.Provider
		r.Event.ID, r.Event.ReceivedAt, r.Event.Raw = was.ID, was.ReceivedAt, was.Raw
		if b.Layout.Partition(r.Event.OrderingKey()) == partition {
			out = append(out, r)
		}
	}
	return out
}

// Every new entry whose event could not be decoded is counted, once, for as long as the
// ledger is there; no other event is, and none that is refused.
func undecodableEventsAreCounted(t promise) {
	b := New(t, t.addr)
	counted := func(after string, want int64, problems ...string) {
		t.Helper()
		report, err := streams.NewStats(b.Write, b.Layout).Read(t.Context())
		if err != nil || report.Undecodable != want {
			t.Fatalf("after %s: %d, want %d; %v", after, report.Undecodable, want, err)
		}
		var told []string
		for _, p := range report.Partitions {
			if p.Problem != "" {
				told = append(told, p.Problem)
			}
		}
		if !slices.Equal(told, problems) {
			t.Fatalf("after %s: problems %q, want %q", after, told, problems)
		}
	}
	ledger := b.Layout.Ledger(0)
	counted("nothing", 0)
	b.AppendTo(0, 3)
	if b.Write.HExists(t.Context(), ledger, "undecodable").Val() {
		t.Fatal("an event that could be decoded writes the field")
	}
	counted("events that could be decoded", 0)

	first, other := b.undecodable(0, 3), b.undecodable(1, 1)
	b.Append(append(first[:2:2], other...)...)
	counted("three in two partitions", 3)
	for range 2 {
		again := first[0]
		again.Event.Raw.CallbackID = "cb_other"
		if got := b.Append(again, first[1]); !slices.Equal(got, []event.Appended{event.Duplicate, event.Duplicate}) {
			t.Fatalf("resent: %v", got)
		}
	}
	counted("resends", 3)

	// It is part of what was appended, and settling and trimming change neither.
	trim := b.Trimmer([]string{"points"}, nil)
	g := b.Group("points", "w1")
	for i := range b.Layout.Partitions() {
		l := b.Lease(g, i)
		b.Settle(l, streams.Settlement{Done: ids(b.Take(l, 10))})
	}
	b.Trim(trim)
	b.stated("settling all", streams.Account{Appended: 6, Settled: 6})
	counted("settling all", 3)
	b.Write.Del(t.Context(), b.Layout.Events(1))
	counted("deleting a stream", 3)

	// An entry that is refused is not counted.
	aside := b.Layout.Events(0) + ":aside"
	b.hand("RENAME", b.Layout.Events(0), aside)
	b.hand("SET", b.Layout.Events(0), "x")
	if _, err := b.Writer.Append(t.Context(), time.Hour, first[2:]); !errors.Is(err, streams.ErrUnavailable) {
		t.Fatalf("over a key of another type: %v", err)
	}
	b.hand("RENAME", aside, b.Layout.Events(0))
	counted("a refused append", 3)

	// A count that somebody has spoilt keeps no event out.
	b.hand("HSET", ledger, "undecodable", "many")
	if got := b.Append(first[2], first[2]); !slices.Equal(got, []event.Appended{event.New, event.Duplicate}) {
		t.Fatalf("beside a spoilt count: %v", got)
	}
	counted("spoiling the count", 1, "the field undecodable of "+ledger+" is no number: HDEL it")
	b.hand("HDEL", ledger, "undecodable")
	b.Append(b.undecodable(0, 1)...)
	counted("mending the count", 2)

	b.hand("RENAME", ledger, aside)
	b.hand("SET", ledger, "x")
	counted("overwriting a ledger", 1, ledger+" is a key of another type: DEL it")
	b.hand("RENAME", aside, ledger)
	counted("mending the ledger", 2)
}

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String is what was written so far.
func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// course is a group's events by state, as a model that knows nothing of Redis.
type course struct {
	unread, pending, parked []string
	dead                    int64
	counts                  streams.Account
}

func (c *course) account() streams.Account {
	a := c.counts
	a.Unread, a.Pending, a.Parked, a.Dead = int64(len(c.unread)), int64(len(c.pending)), int64(len(c.parked)), c.dead
	return a
}

// remove takes events out of the states they may still be in, and says how many it
// found.
func (c *course) remove(ids []string) int {
	found := 0
	for _, list := range []*[]string{&c.pending, &c.parked} {
		before := len(*list)
		*list = slices.DeleteFunc(*list, func(id string) bool { return slices.Contains(ids, id) })
		found += before - len(*list)
	}
	return found
}

// draw takes at most two of a list.
func draw(r *rand.Rand, list *[]string) []string {
	n := min(len(*list), r.IntN(3))
	at := r.IntN(len(*list) - n + 1)
	out := slices.Clone((*list)[at : at+n])
	*list = slices.Delete(*list, at, at+n)
	return out
}

// ledgerAddsUp walks at random through all that can happen to a delivery, and adds up
// after every step.
func ledgerAddsUp(t promise) {
	b := New(t, t.addr, func(o *streams.Options) { o.Partitions = 1 })
	trim := b.Trimmer([]string{"points"}, nil)
	letters := streams.NewDeadLetters(b.Write, b.Layout)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var c course
	dead := func(ids []string) []streams.DeadLetter {
		var out []streams.DeadLetter
		for _, id := range ids {
			out = append(out, streams.DeadLetter{EntryID: id, Attempts: 1, Reason: "attempts"})
		}
		c.dead += int64(len(ids))
		return out
	}
	steps := map[string]func(){
		"append": func() {
			before := len(b.Entries())
			n := 1 + r.IntN(4)
			b.AppendTo(0, n)
			for _, m := range b.Entries()[before:] {
				c.unread = append(c.unread, m.ID)
			}
			c.counts.Appended += int64(n)
		},
		"take": func() {
			taken := ids(b.Take(l, 1+r.IntN(4)))
			c.unread = c.unread[len(taken):]
			c.pending = append(c.pending, taken...)
		},
		"settle": func() {
			done := append(draw(r, &c.pending), draw(r, &c.parked)...)
			// A replay of what the group was given again stands in both places.
			c.counts.Settled += int64(c.remove(done))
			b.Settle(l, streams.Settlement{Done: done})
			b.Settle(l, streams.Settlement{Done: done}) // as after an answer that was lost
			c.counts.Settled += int64(len(done))
		},
		"park": func() {
			var ps []streams.Parking
			for _, id := range draw(r, &c.pending) {
				ps = append(ps, streams.Parking{EntryID: id, Wait: time.Hour})
				c.counts.Base -= int64(c.remove([]string{id}))
				c.parked = append(c.parked, id)
			}
			b.park(l, ps...)
		},
		"give up": func() {
			drawn := append(draw(r, &c.pending), draw(r, &c.parked)...)
			given := slices.Compact(slices.Sorted(slices.Values(drawn)))
			b.Settle(l, streams.Settlement{Dead: dead(given)})
			c.counts.Base -= int64(len(drawn) - len(given) + c.remove(given))
		},
		"replay": func() {
			if ids := b.deadOf(); len(ids) > 0 {
				letter, err := letters.Show(t.Context(), "points", ids[0])
				if err != nil {
					t.Fatal(err)
				}
				got, err := letters.Replay(t.Context(), "points", ids[:1])
				if err != nil {
					t.Fatal(err)
				}
				if got[0].Outcome == streams.Replayed {
					c.dead--
					c.parked = append(c.parked, letter.EntryID)
				}
			}
		},
		"drop": func() {
			if ids := b.deadOf(); len(ids) > 0 {
				if _, err := letters.Drop(t.Context(), "points", ids[:1]); err != nil {
					t.Fatal(err)
				}
				c.dead--
				c.counts.Dropped++
			}
		},
		"trim": func() { b.Trim(trim) },
		"take over": func() {
			if err := l.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
			g = b.Group("points", "w2")
			l = b.Lease(g, 0)
			if err := l.Adopt(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
		"destroy": func() {
			if r.IntN(4) > 0 {
				return
			}
			if err := b.Write.XGroupDestroy(t.Context(), b.Layout.Events(0), "points").Err(); err != nil {
				t.Fatal(err)
			}
			owed := int64(len(c.unread) + len(c.pending))
			c.unread, c.pending = nil, nil
			for _, m := range b.Entries() {
				c.unread = append(c.unread, m.ID)
			}
			c.counts.Base += int64(len(c.unread)) - owed
			if err := g.Ensure(t.Context()); err != nil {
				t.Fatal(err)
			}
			// What is parked and comes again leaves the stream once more; here it ends
			// in both places at once.
			both := ids(b.Take(l, 1000))
			c.unread = nil
			for _, id := range both {
				if i := slices.Index(c.parked, id); i >= 0 {
					b.park(l, streams.Parking{EntryID: id, Wait: time.Hour})
					c.counts.Base--
				} else {
					c.pending = append(c.pending, id)
				}
			}
		},
	}
	names := []string{"append", "append", "take", "take", "settle", "settle", "park", "give up", "replay", "drop", "trim", "take over", "destroy"}
	for range 300 {
		step := names[r.IntN(len(names))]
		steps[step]()
		b.stated(step, c.account())
	}
}

// ledgerCountsLoss: whatever is deleted by hand before it is settled is found, counted
// once, and no difference is left.
// Without its counts an account begins anew, with what there is; what was taken before
// is no loss, and what is taken afterwards is.
func ledgerBeginsAnew(t promise) {
	b := New(t, t.addr, func(o *streams.Options) { o.Partitions = 1 })
	trim := b.Trimmer([]string{"points"}, nil)
	b.AppendTo(0, 20)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	es := b.Take(l, 9)
	b.Settle(l, streams.Settlement{Done: ids(es[:3]), Dead: []streams.DeadLetter{{EntryID: es[3].ID, Reason: "attempts"}}})
	b.park(l, streams.Parking{EntryID: es[4].ID, Wait: time.Hour})
	b.Write.Del(t.Context(), b.Layout.Counts(0, "points"))
	b.Settle(l, streams.Settlement{Done: ids(es[5:7])}) // before anybody has looked
	if got := b.Trim(trim); len(got.Lost) != 0 {
		t.Fatalf("%+v", got)
	}
	b.stated("deleting the counts", streams.Account{Appended: 20, Base: -3, Unread: 11, Pending: 2, Parked: 1, Settled: 2, Dead: 1})
	// The count of what was appended is the whole partition's.
	b.Write.Del(t.Context(), b.Layout.Ledger(0))
	b.Trim(trim)
	b.stated("deleting what was appended", streams.Account{Base: 17, Unread: 11, Pending: 2, Parked: 1, Settled: 2, Dead: 1})
	b.Write.Del(t.Context(), b.Layout.Counts(0, "points"))
	if got := b.Trim(trim); len(got.Lost) != 0 {
		t.Fatalf("%+v", got)
	}
	b.stated("deleting both", streams.Account{Base: 15, Unread: 11, Pending: 2, Parked: 1, Dead: 1})
	left := b.Entries()
	if err := b.Write.XDel(t.Context(), b.Layout.Events(0), left[len(left)-3].ID).Err(); err != nil {
		t.Fatal(err)
	}
	if got := b.Trim(trim); got.Lost["points"] != 1 {
		t.Fatalf("what is deleted afterwards: %+v", got)
	}
}

// A script that ends in the middle is not taken back. So whatever key somebody has
// overwritten, settling, burying, parking and replaying do nothing at all, however
// often they are tried, and do it once when the key is mended.
func overwrittenKeysStopScripts(t promise) {
	keys := map[string]func(l streams.Layout) string{
		"attempts": func(l streams.Layout) string { return l.Attempts(0, "points") },
		"parked":   func(l streams.Layout) string { return l.Parked(0, "points") },
		"parcels":  func(l streams.Layout) string { return l.Parcels(0, "points") },
		"dead":     func(l streams.Layout) string { return l.Dead(0, "points") },
		"counts":   func(l streams.Layout) string { return l.Counts(0, "points") },
	}
	for name, key := range keys {
		b := New(t, t.addr, func(o *streams.Options) { o.Partitions = 1 })
		b.Write.FlushAll(t.Context())
		trim := b.Trimmer([]string{"points"}, nil)
		b.AppendTo(0, 8)
		g := b.Group("points", "w1")
		l := b.Lease(g, 0)
		es := b.Take(l, 8)
		b.park(l, streams.Parking{EntryID: es[4].ID, Wait: time.Hour})
		b.Settle(l, streams.Settlement{Dead: []streams.DeadLetter{{EntryID: es[5].ID, Reason: "attempts"}}})
		dead := streams.NewDeadLetters(b.Write, b.Layout)
		page, err := dead.List(t.Context(), "points", streams.DeadLetterQuery{})
		if err != nil || len(page.DeadLetters) != 1 {
			t.Fatalf("%s: %+v, %v", name, page, err)
		}
		before := b.account()
		steps := []func() error{
			func() error { return l.Settle(t.Context(), streams.Settlement{Done: ids(es[:2])}) },
			func() error {
				return l.Settle(t.Context(), streams.Settlement{Dead: []streams.DeadLetter{{EntryID: es[4].ID, Reason: "rejected"}}})
			},
			func() error {
				_, err := l.Park(t.Context(), []streams.Parking{{EntryID: es[6].ID, Behind: true}})
				return err
			},
			func() error {
				_, err := dead.Replay(t.Context(), "points", []string{page.DeadLetters[0].ID})
				return err
			},
		}
		for i, step := range steps {
			aside := key(b.Layout) + ":aside"
			if err := b.Write.Rename(t.Context(), key(b.Layout), aside).Err(); err != nil && !strings.Contains(err.Error(), "no such key") {
				t.Fatal(err)
			}
			b.Write.Set(t.Context(), key(b.Layout), "x", 0)
			for range 3 {
				if err := step(); err == nil && (name != "dead" || i != 2) { // parking makes no dead letter
					t.Errorf("%s overwritten: step %d was taken", name, i)
				}
			}
			b.Write.Del(t.Context(), key(b.Layout))
			b.Write.Rename(t.Context(), aside, key(b.Layout)) // there may be none
			if got := b.account(); got != before && (name != "dead" || i != 2) {
				t.Errorf("%s overwritten: step %d left %+v, was %+v", name, i, got, before)
			}
			if err := step(); err != nil {
				t.Errorf("%s mended: step %d: %v", name, i, err)
			}
			before = b.account()
			if d := before.Difference(); d != 0 {
				t.Errorf("%s mended: step %d: difference %d, %+v", name, i, d, before)
			}
		}
		if got := b.Trim(trim); len(got.Lost) != 0 {
			t.Errorf("%s: told as lost: %v", name, got.Lost)
		}
		if want := (streams.Account{Appended: 8, Pending: 3, Settled: 2, Parked: 2, Dead: 1, Replayed: 1, Created: 1}); b.account() != want {
			t.Errorf("%s: at the end %+v, want %+v", name, b.account(), want)
		}
	}
}

func ledgerCountsLoss(t promise) {
	b := New(t, t.addr, func(o *streams.Options) { o.Partitions = 1 })
	trim := b.Trimmer([]string{"points"}, nil)
	b.AppendTo(0, 20)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	es := b.Take(l, 6)
	b.Settle(l, streams.Settlement{Done: ids(es[:1])})
	key := b.Layout.Events(0)
	b.park(l, streams.Parking{EntryID: es[5].ID, Wait: time.Hour})
	hand := func(args ...any) {
		t.Helper()
		if err := b.Write.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	hand("XDEL", key, es[1].ID)                          // pending, read by its worker
	hand("XACK", key, "points", es[2].ID)                // pending
	hand("XDEL", key, b.Entries()[10].ID)                // unread, in the middle
	hand("ZREM", b.Layout.Parked(0, "points"), es[5].ID) // parked: its event is still kept
	// The worker has found that the first is gone.
	b.Settle(l, streams.Settlement{Gone: ids(es[1:2])})
	if got := b.Trim(trim); got.Lost["points"] < 2 { // an engine may have lost sight of the first
		t.Fatalf("%+v", got)
	}
	b.stated("deleting", streams.Account{Appended: 20, Unread: 13, Pending: 2, Parked: 1, Settled: 1, Lost: 3})
	hand("XTRIM", key, "MAXLEN", 5)
	if err := b.Lease(g, 0).Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.Trim(trim)
	got := b.account()
	if got.Difference() != 0 || got.Unread != 5 {
		t.Fatalf("%+v", got)
	}
	hand("DEL", key)
	b.AppendTo(0, 2)
	b.Trim(trim)
	got = b.account()
	if want := (streams.Account{Appended: 22, Unread: 2, Parked: 1, Settled: 1, Lost: 18, Created: 2, Alarm: streams.Alarm{Lost: 18}}); got != want {
		t.Fatalf("after DEL: %+v, want %+v", got, want)
	}
	if again := b.Trim(trim); len(again.Lost) != 0 {
		t.Fatalf("told again: %+v", again)
	}
}

// ledgerCountsLossAtOnce: whoever finds that an event is gone counts it; no pass of the
// trimmer is needed.
func ledgerCountsLossAtOnce(t promise) {
	b := New(t, t.addr, func(o *streams.Options) { o.Partitions = 1 })
	b.AppendTo(0, 6)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	es := b.Take(l, 4)
	hand := func(cmd string, args ...any) {
		t.Helper()
		if err := b.Write.Do(t.Context(), append([]any{cmd, b.Layout.Events(0)}, args...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	hand("XDEL", es[0].ID)
	b.park(l, streams.Parking{EntryID: es[0].ID, Wait: time.Hour})
	b.stated("parking what is gone", streams.Account{Appended: 6, Unread: 2, Pending: 3, Lost: 1})
	hand("XDEL", es[1].ID)
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	g = b.Group("points", "w2")
	if err := b.Lease(g, 0).Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.stated("adopting what is gone", streams.Account{Appended: 6, Unread: 2, Pending: 2, Lost: 2})
	hand("DEL")
	if err := g.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.stated("DEL", streams.Account{Appended: 6, Lost: 6})
}

// ledgerOfACreatedGroup: a group that begins late owes nothing for what was before it,
// and one that lost everything with Redis begins anew.
func ledgerOfACreatedGroup(t promise) {
	b := New(t, t.addr, func(o *streams.Options) { o.Partitions = 1 })
	b.AppendTo(0, 5)
	other := b.Group("eventlog", "w1")
	ol := b.Lease(other, 0)
	b.Settle(ol, streams.Settlement{Done: ids(b.Take(ol, 5))})
	if err := b.Write.XTrimMinID(t.Context(), b.Layout.Events(0), b.Entries()[3].ID).Err(); err != nil {
		t.Fatal(err)
	}
	b.Group("points", "w1")
	b.stated("being created late", streams.Account{Appended: 5, Base: -3, Unread: 2})
	if err := b.Write.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	b.Group("points", "w1")
	b.AppendTo(0, 1)
	b.stated("FLUSHALL", streams.Account{Appended: 1, Unread: 1})
}

// ledgerIsBounded: what is unread is counted one by one only up to a bound.
func ledgerIsBounded(t promise) {
	b := New(t, t.addr, func(o *streams.Options) { o.Partitions = 1 })
	b.AppendTo(0, 700)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	b.stated("appending", streams.Account{Appended: 700, Unread: 700})
	b.Take(l, 50)
	b.stated("taking", streams.Account{Appended: 700, Unread: 650, Pending: 50, Derived: true})
	b.Take(l, 200)
	b.Take(l, 100)
	b.stated("taking more", streams.Account{Appended: 700, Unread: 350, Pending: 350})
}

// ledgerOfASubscriber: who acknowledges by himself has settled what is neither to be
// read nor pending nor lost.
func ledgerOfASubscriber(t promise) {
	b := New(t, t.addr, func(o *streams.Options) { o.Partitions = 1 })
	trim := b.Trimmer([]string{"points"}, []string{"shipping"}, func(o *streams.TrimOptions) { o.GhostIdle = 0 })
	b.AppendTo(0, 10)
	b.Trim(trim)
	theirs := b.Subscriber("shipping", 8)
	b.Ack("shipping", theirs[:3]...)
	if err := b.Write.XDel(t.Context(), b.Layout.Events(0), theirs[4]).Err(); err != nil {
		t.Fatal(err)
	}
	b.Trim(trim)
	got := b.accounts([]string{"points"}, []string{"shipping", "points", "nobody"})
	want := streams.Account{Appended: 10, Unread: 2, Pending: 4, Lost: 1, Settled: 3, Alarm: streams.Alarm{Lost: 1}, Subscriber: true}
	if got["shipping"] != want || len(got) != 2 || got["points"].Subscriber {
		t.Fatalf("%+v, want %+v", got, want)
	}
}

// ledgerSaysWhatItCannotRead: what somebody has overwritten hides its own group in its
// own partition, and says so.
func ledgerSaysWhatItCannotRead(t promise) {
	b := New(t, t.addr)
	b.AppendTo(0, 3)
	b.AppendTo(1, 2)
	for _, name := range []string{"points", "eventlog"} {
		b.Group(name, "w1")
	}
	overwritten := func(key string) {
		t.Helper()
		if err := b.Write.Set(t.Context(), key, "x", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	read := func(after string, points, eventlog streams.Account) {
		t.Helper()
		got := b.accounts([]string{"points", "eventlog"}, []string{"shipping"})
		if got["points"] != points || got["eventlog"] != eventlog {
			t.Fatalf("after %s: %+v, want %+v and %+v", after, got, points, eventlog)
		}
	}
	whole := streams.Account{Appended: 5, Unread: 5, Created: 2}
	part := streams.Account{Appended: 2, Unread: 2, Created: 1, Unreadable: 1}
	read("creating", whole, whole)
	overwritten(b.Layout.Dead(0, "points"))
	read("one key", part, whole)
	overwritten(b.Layout.Events(0))
	read("the stream", part, part)
	overwritten(b.Layout.Events(1))
	nothing := streams.Account{Unreadable: 2}
	read("every stream", nothing, nothing)
}
