package streams_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/streams/streamstest"
)

// resident is a process of a deployment that appends and has a group.
type resident struct {
	member
	t      *testing.T
	writer *streams.Writer
	group  *streams.Group
	ledger *streams.Ledger
}

func newResident(t *testing.T, addr string, partitions int) *resident {
	t.Helper()
	r := &resident{member: newMember(t, addr, partitions), t: t}
	r.establish(t)
	o := streams.DefaultOptions()
	o.Redis.Address, o.Partitions = addr, partitions
	r.writer = streams.NewWriter(r.rdb, r.layout, o.Writer, prometheus.NewRegistry())
	r.writer.Belongs(r.Deployment)
	t.Cleanup(streamstest.Run(t, r.writer))
	read, err := streams.NewReadClient(o)
	if err != nil {
		t.Fatal(err)
	}
	feed := streams.NewFeed(read, r.layout, 50*time.Millisecond)
	t.Cleanup(func() {
		_ = read.Close() // ends the reads that Close waits for
		feed.Close()
	})
	log := slog.New(slog.DiscardHandler)
	if r.group, err = streams.NewGroup(r.rdb, feed, r.layout, "orders", "one", o.Group(), log, prometheus.NewRegistry()); err != nil {
		t.Fatal(err)
	}
	if err := r.group.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.ledger = streams.NewLedger(r.rdb, r.layout, []string{"orders"}, log, prometheus.NewRegistry())
	return r
}

func (r *resident) append(records ...event.Record) ([]event.Appended, error) {
	return r.writer.Append(r.t.Context(), time.Hour, records)
}

// settle settles everything, and returns the ids of the events by ordering key.
func (r *resident) settle() map[string][]string {
	r.t.Helper()
	got := map[string][]string{}
	for p := range r.layout.Partitions() {
		l, ok, err := r.group.Acquire(r.t.Context(), p)
		if err != nil || !ok {
			r.t.Fatalf("acquire %d: %v %v", p, ok, err)
		}
		for {
			es, err := l.Take(r.t.Context(), 100, 1<<20)
			if err != nil {
				r.t.Fatal(err)
			}
			if len(es) == 0 {
				break
			}
			var done []string
			for _, e := range es {
				done = append(done, e.ID)
				key := e.Record.Event.OrderingKey()
				got[key] = append(got[key], e.Record.Event.ID)
			}
			if err := l.Settle(r.t.Context(), streams.Settlement{Done: done}); err != nil {
				r.t.Fatal(err)
			}
		}
		if err := l.Release(r.t.Context()); err != nil {
			r.t.Fatal(err)
		}
	}
	return got
}

// change changes the number with a client of its own, as the command does.
func change(t *testing.T, addr string, to int, with ...func(*streams.Change)) error {
	t.Helper()
	o := streams.DefaultOptions()
	o.Redis.Address = addr
	rdb, err := streams.NewWriteClient(o)
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	c := &streams.Change{Prefix: o.Prefix, To: to, Keep: time.Hour, Timeout: 20 * time.Second, Groups: []string{"orders"}}
	for _, f := range with {
		f(c)
	}
	_, err = c.Run(t.Context(), rdb)
	return err
}

// TestChangedNumberKeepsOrderMarksAndLedger changes the number back and forth, also
// between numbers that share a hash tag: nobody gets an event twice, those of one order
// come in their order, what is sent again is known, and the ledger adds up.
func TestChangedNumberKeepsOrderMarksAndLedger(t *testing.T) {
	addr := streamstest.Redis(t).Addr()
	const orders = 40
	var all []event.Record
	got := map[string][]string{}
	want := map[string][]string{}
	numbers := []int{4, 8, 4, 12, 1, 3, 5, 3, 4}
	for phase, n := range numbers {
		if phase > 0 {
			if err := change(t, addr, n); err != nil {
				t.Fatalf("to %d: %v", n, err)
			}
		}
		r := newResident(t, addr, n)
		for _, old := range all {
			if out, err := r.append(old); err != nil || out[0] != event.Duplicate {
				t.Fatalf("phase %d: an event of before is appended again: %v %v", phase, out, err)
			}
		}
		for i := range orders {
			rec := streamstest.Record("order-"+strconv.Itoa(i), phase)
			all = append(all, rec)
			want[rec.Event.OrderingKey()] = append(want[rec.Event.OrderingKey()], rec.Event.ID)
			if out, err := r.append(rec); err != nil || out[0] != event.New {
				t.Fatalf("phase %d: %v %v", phase, out, err)
			}
		}
		other := streamstest.Record("order-0", 0) // the same fact with another claim
		other.Event.Payment.Amount = &event.Money{Value: "1.00", Minor: 100, Exponent: 2, Currency: "EUR"}
		expect := event.Conflicting
		if out, err := r.append(other); err != nil || out[0] != expect {
			t.Fatalf("phase %d: a conflict: %v %v", phase, out, err)
		}
		if phase == 0 {
			want[other.Event.OrderingKey()] = append(want[other.Event.OrderingKey()], other.Event.AsConflict().ID)
		}
		for key, ids := range r.settle() {
			got[key] = append(got[key], ids...)
		}
		accounts, err := r.ledger.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		a := accounts["orders"]
		if total := int64(len(all) + 1); a.Difference() != 0 || a.Appended != total || a.Settled != total || a.Lost != 0 || a.Base != 0 {
			t.Fatalf("phase %d, %d partitions: %+v", phase, n, a)
		}
	}
	for key, ids := range want {
		if !slices.Equal(got[key], ids) {
			t.Errorf("%s: got %v, want %v", key, got[key], ids)
		}
	}
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	defer rdb.Close()
	// A build that does not ask former marks must not append.
	if got := rdb.HMGet(t.Context(), "paybell:deployment", "oldest_format", "generation", "change").Val(); fmt.Sprint(got) != "[2 8 <nil>]" {
		t.Errorf("the record says %v", got)
	}
	t.Logf("%d events over %v partitions: each once and in its order", len(all)+1, numbers)
}

// TestWhoMissedAChangeAppendsNothing: processes whose connections stand, of this build and
// of the release before, go on with the old number.
func TestWhoMissedAChangeAppendsNothing(t *testing.T) {
	for _, n := range [][]int{{4, 8}, {3, 5}, {1, 3}} { // the last two share hash tags
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			addr := streamstest.Redis(t).Addr()
			old := newResident(t, addr, n[0])
			if _, err := old.append(streamstest.Record("first", 0)); err != nil {
				t.Fatal(err)
			}
			old.settle()
			if err := change(t, addr, n[1]); err != nil {
				t.Fatal(err)
			}
			for i := range 30 {
				r := streamstest.Record("order-"+strconv.Itoa(i), 0)
				if out, err := old.append(r); !errors.Is(err, streams.ErrUnavailable) || !errors.Is(err, streams.ErrClosed) {
					t.Fatalf("appended by a process of %d partitions: %v %v", n[0], out, err)
				}
				p := old.layout.Partition(r.Event.OrderingKey())
				keys := slices.Concat([]string{old.layout.Events(p)}, old.layout.Seen(p, time.Hour), []string{old.layout.Ledger(p)})
				fields, err := r.Fields()
				if err != nil {
					t.Fatal(err)
				}
				args := append([]any{strings.Repeat("m", 20), 1_800_000, 3_600_000}, fields...)
				if err := old.rdb.Eval(t.Context(), oldAppend, keys, args...).Err(); err == nil {
					t.Fatal("appended by the release before")
				}
			}
			now := newResident(t, addr, n[1])
			for key, ids := range now.settle() {
				t.Errorf("%s has %d events", key, len(ids))
			}
			if out, err := now.append(streamstest.Record("order-1", 0)); err != nil || out[0] != event.New {
				t.Fatalf("%v %v", out, err)
			}
			// The way back lets those in again whose number it is, and they know the marks.
			now.settle()
			if err := change(t, addr, n[0]); err != nil {
				t.Fatal(err)
			}
			if out, err := old.append(streamstest.Record("order-1", 0)); err != nil || out[0] != event.Duplicate {
				t.Fatalf("an event of between is appended again: %v %v", out, err)
			}
			if out, err := old.append(streamstest.Record("order-2", 0)); err != nil || out[0] != event.New {
				t.Fatalf("%v %v", out, err)
			}
			if _, err := now.append(streamstest.Record("order-3", 0)); !errors.Is(err, streams.ErrUnavailable) {
				t.Fatalf("appended by a process of %d partitions after the way back: %v", n[1], err)
			}
		})
	}
}

// TestChangeIsGivenUpWhereSomethingIsLeft: it says what, and the old number goes on.
func TestChangeIsGivenUpWhereSomethingIsLeft(t *testing.T) {
	addr := streamstest.Redis(t).Addr()
	r := newResident(t, addr, 4)
	rec := streamstest.Record("order", 0)
	if _, err := r.append(rec); err != nil {
		t.Fatal(err)
	}
	p := r.layout.Partition(rec.Event.OrderingKey())
	soon := func(c *streams.Change) { c.Timeout = 600 * time.Millisecond }
	refused := func(words string) {
		t.Helper()
		err := change(t, addr, 8, soon)
		if !errors.Is(err, streams.ErrLeft) || !strings.Contains(err.Error(), words) {
			t.Fatalf("got %v, want %q", err, words)
		}
	}
	refused(fmt.Sprintf("group orders has unread entries in partition %d", p))
	if n, err := r.rdb.HGet(t.Context(), r.layout.Ledger(p), "appended").Int(); err != nil || n != 1 {
		t.Errorf("the gate is not as it was before: appended %d, %v", n, err)
	}
	// A subscriber of another service, declared or not.
	r.settle()
	if err := r.rdb.XGroupCreate(t.Context(), r.layout.Events(p), "billing", "0").Err(); err != nil {
		t.Fatal(err)
	}
	refused("group billing has unread entries")
	if err := r.rdb.XReadGroup(t.Context(), &redis.XReadGroupArgs{Group: "billing", Consumer: "b", Streams: []string{r.layout.Events(p), ">"}}).Err(); err != nil {
		t.Fatal(err)
	}
	refused("group billing has 1 pending")
	if err := r.rdb.XGroupDestroy(t.Context(), r.layout.Events(p), "billing").Err(); err != nil {
		t.Fatal(err)
	}
	// A dead letter.
	if _, err := r.append(streamstest.Record("dead", 0)); err != nil {
		t.Fatal(err)
	}
	rec = streamstest.Record("dead", 0)
	dead := r.layout.Partition(rec.Event.OrderingKey())
	l, _, err := r.group.Acquire(t.Context(), dead)
	if err != nil {
		t.Fatal(err)
	}
	es, err := l.Take(t.Context(), 1, 1<<20)
	if err != nil || len(es) != 1 {
		t.Fatal(es, err)
	}
	if err := l.Settle(t.Context(), streams.Settlement{Dead: []streams.DeadLetter{{Partition: dead, Group: "orders", EntryID: es[0].ID, Record: es[0].Record, Reason: "rejected"}}}); err != nil {
		t.Fatal(err)
	}
	refused("group orders has 1 dead letters")
	if out, err := r.append(streamstest.Record("later", 0)); err != nil || out[0] != event.New {
		t.Fatalf("after it was given up: %v %v", out, err)
	}
	if err := change(t, addr, streams.MaxPartitions+1); err == nil {
		t.Error("too many partitions")
	}
}

// TestKilledChangeUndoesItself: a command that was killed while the gates were closed
// leaves them closed for as long as it said, and not longer; another one waits for that.
func TestKilledChangeUndoesItself(t *testing.T) {
	addr := streamstest.Redis(t).Addr()
	r := newResident(t, addr, 4)
	if _, err := r.append(streamstest.Record("order", 0)); err != nil {
		t.Fatal(err)
	}
	o := streams.DefaultOptions()
	o.Redis.Address = addr
	killed, err := streams.NewWriteClient(o)
	if err != nil {
		t.Fatal(err)
	}
	c := &streams.Change{Prefix: o.Prefix, To: 8, Keep: time.Hour, Timeout: time.Minute, Passed: func(streams.ChangeStep) { _ = killed.Close() }}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := c.Run(ctx, killed); err == nil {
		t.Fatal("it ran without a client")
	}
	if _, err := r.append(streamstest.Record("order", 1)); !errors.Is(err, streams.ErrClosed) {
		t.Fatalf("appended while the gates are closed: %v", err)
	}
	if out, err := r.append(streamstest.Record("order", 0)); err != nil || out[0] != event.Duplicate {
		t.Fatalf("a resend of what is there: %v %v", out, err)
	}
	if err := change(t, addr, 16); !errors.Is(err, streams.ErrChanging) || !strings.Contains(err.Error(), "to 8") {
		t.Fatalf("two changes at once: %v", err)
	}
	p, err := streams.ReadPartitions(t.Context(), r.rdb, o.Prefix)
	if err != nil || p.Number != 4 || p.Becomes != 8 || p.Unfinished {
		t.Fatalf("%+v %v", p, err)
	}
	// The time is over.
	fields := strings.Fields(r.rdb.HGet(t.Context(), r.layout.Deployment(), "change").Val())
	r.rdb.HSet(t.Context(), r.layout.Deployment(), "change", fields[0]+" 8 1000")
	for i := range 4 {
		r.rdb.HSet(t.Context(), r.layout.Ledger(i), "until", 1000)
	}
	if out, err := r.append(streamstest.Record("order", 1)); err != nil || out[0] != event.New {
		t.Fatalf("after its time is over: %v %v", out, err)
	}
	if p, err = streams.ReadPartitions(t.Context(), r.rdb, o.Prefix); err != nil || !p.Unfinished {
		t.Fatalf("%+v %v", p, err)
	}
	if err := streams.Reopen(t.Context(), r.rdb, o.Prefix, p); err != nil {
		t.Fatal(err)
	}
	rec := streamstest.Record("order", 0)
	if n, err := r.rdb.HGet(t.Context(), r.layout.Ledger(r.layout.Partition(rec.Event.OrderingKey())), "appended").Int(); err != nil || n != 2 {
		t.Errorf("appended %d, %v: the release before could not go on", n, err)
	}
	r.settle()
	if err := change(t, addr, 8); err != nil {
		t.Fatal(err)
	}
	a, err := newResident(t, addr, 8).ledger.Read(t.Context())
	if sum := a["orders"]; err != nil || sum.Difference() != 0 || sum.Settled != 2 {
		t.Errorf("%+v %v", sum, err)
	}
}

// TestChangedPartitionIsOfNoServerThatWentBack: positions of effect stores and the times
// of last entries are compared by the place of a partition, whatever its hash tag.
func TestChangedPartitionIsOfNoServerThatWentBack(t *testing.T) {
	addr := streamstest.Redis(t).Addr()
	r := newResident(t, addr, 3)
	r.rdb.HSet(t.Context(), r.layout.Counts(1, "orders"), "position", 900) // of the hash tag in the middle
	r.rdb.HSet(t.Context(), r.layout.Counts(2, "orders"), "position", 7)
	position := func(r *resident, p int) string {
		return r.rdb.HGet(t.Context(), r.layout.Counts(p, "orders"), "position").Val()
	}
	now := r.rdb.Time(t.Context()).Val()
	if err := change(t, addr, 5); err != nil {
		t.Fatal(err)
	}
	five := newResident(t, addr, 5)
	for p, want := range []string{"", "900", "7", "", ""} {
		if got := position(five, p); got != want {
			t.Errorf("position of partition %d: %q, want %q", p, got, want)
		}
		if at, err := five.group.Appended(t.Context(), p); err != nil || at.Before(now.Truncate(time.Millisecond)) {
			t.Errorf("partition %d seems to have lost entries: last one at %v, now %v, %v", p, at, now, err)
		}
	}
	five.rdb.HSet(t.Context(), five.layout.Counts(2, "orders"), "position", 8)
	five.rdb.HSet(t.Context(), five.layout.Counts(1, "orders"), "position", 100) // the store went back
	if err := change(t, addr, 3); err != nil {
		t.Fatal(err)
	}
	r = newResident(t, addr, 3)
	for p, want := range []string{"", "100", "8"} {
		if got := position(r, p); got != want {
			t.Errorf("position of partition %d on the way back: %q, want %q", p, got, want)
		}
	}
}

// TestSubscriberGoesOnInTheStreamsOfTheNewNumber: a service that reads by the record of the
// deployment, as docs/subscribing.md has it, gets each event once over a change, and is
// waited for.
func TestSubscriberGoesOnInTheStreamsOfTheNewNumber(t *testing.T) {
	addr := streamstest.Redis(t).Addr()
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	defer rdb.Close()
	got := map[string]int{}
	read := func(n int) {
		t.Helper()
		if text := rdb.HGet(t.Context(), "paybell:deployment", "partitions").Val(); text != strconv.Itoa(n) {
			t.Fatalf("the record says %s partitions, want %d", text, n)
		}
		l := layout(t, n)
		for p := range n {
			s, err := rdb.XReadGroup(t.Context(), &redis.XReadGroupArgs{
				Group: "billing", Consumer: "b", Streams: []string{l.Events(p), ">"}, Block: -1,
			}).Result()
			if err != nil && !errors.Is(err, redis.Nil) {
				t.Fatal(err)
			}
			for _, stream := range s {
				for _, m := range stream.Messages {
					id, _ := m.Values["id"].(string)
					got[id]++
					if err := rdb.XAck(t.Context(), l.Events(p), "billing", m.ID).Err(); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	sent := 0
	for phase, n := range []int{4, 6, 4} {
		declared := func(c *streams.Change) { c.Groups = append(c.Groups, "billing") }
		if phase > 0 {
			if err := change(t, addr, n, declared); err != nil {
				t.Fatal(err)
			}
		}
		r := newResident(t, addr, n)
		for p := range n {
			err := rdb.XGroupCreateMkStream(t.Context(), r.layout.Events(p), "billing", "0").Err()
			if there := err != nil && strings.HasPrefix(err.Error(), "BUSYGROUP"); there != (phase > 0) {
				t.Errorf("phase %d: group in partition %d: %v", phase, p, err)
			}
		}
		for i := range 30 {
			if _, err := r.append(streamstest.Record(fmt.Sprintf("order-%d", i), phase)); err != nil {
				t.Fatal(err)
			}
			sent++
		}
		r.settle()
		late := func(c *streams.Change) { c.Timeout = 300 * time.Millisecond }
		if err := change(t, addr, 16, late); !errors.Is(err, streams.ErrLeft) || !strings.Contains(err.Error(), "group billing") {
			t.Fatalf("phase %d: not waited for: %v", phase, err)
		}
		read(n)
		// What a subscriber of a declared group lost stays told.
		r.ledger.Subscribers([]string{"billing"})
		accounts, err := r.ledger.Read(t.Context())
		if a := accounts["billing"]; err != nil || a.Appended != int64(sent) || a.Difference() != 0 || a.Unread+a.Pending != 0 {
			t.Errorf("phase %d: %+v %v", phase, a, err)
		}
	}
	for id, n := range got {
		if n != 1 {
			t.Errorf("%s came %d times", id, n)
		}
	}
	if len(got) != sent {
		t.Errorf("%d of %d events", len(got), sent)
	}
}

// TestRedeliveryEndsWithItsPartitions: what is delivered again after the number was changed
// must not be parked where nobody reads any more.
func TestRedeliveryEndsWithItsPartitions(t *testing.T) {
	addr := streamstest.Redis(t).Addr()
	r := newResident(t, addr, 4)
	rec := streamstest.Record("order-1", 0)
	if _, err := r.append(rec); err != nil {
		t.Fatal(err)
	}
	r.settle()
	partition := r.layout.Partition(rec.Event.OrderingKey())
	entries, err := r.rdb.XRange(t.Context(), r.layout.Events(partition), "-", "+").Result()
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	o := streams.DefaultOptions()
	o.Redis.Address = addr
	rdb, err := streams.NewWriteClient(o) // its connections stand
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	again, err := streams.NewRedelivery(rdb, r.layout, "orders")
	if err != nil {
		t.Fatal(err)
	}
	if err := change(t, addr, 8); err != nil {
		t.Fatal(err)
	}
	if outcome, err := again.Deliver(t.Context(), partition, entries[0].ID, nil); !errors.Is(err, streams.ErrLayout) {
		t.Fatalf("delivered to partitions that there are no more: %q %v", outcome, err)
	}
	if err := change(t, addr, 4); err != nil {
		t.Fatalf("something was parked: %v", err)
	}
	if outcome, err := again.Deliver(t.Context(), partition, entries[0].ID, nil); err != nil || outcome != streams.Replayed {
		t.Fatalf("on the way back: %q %v", outcome, err)
	}
}
