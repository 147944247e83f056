package streamstest

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/event"
)

var parkCases = []contract{
	{"G8ParkedDeliveryLeavesTheStream", parkedDeliveryLeavesTheStream},
	{"G7ParkedDeliverySurvivesItsOwner", parkedDeliverySurvivesItsOwner},
	{"ParkingAgainChangesNothing", parkingAgainChangesNothing},
	{"ParkedCallbackKeepsItsBytes", parkedCallbackKeepsItsBytes},
	{"ParkedDeliveryEndsAsADeadLetter", parkedDeliveryEndsAsADeadLetter},
	{"ParkingAnEntryThatWasDeleted", parkingAnEntryThatWasDeleted},
	{"ParkedDeliveryThatIsDeliveredAgain", parkedDeliveryThatIsDeliveredAgain},
	{"ParkingOfManyEntries", parkingOfManyEntries},
	{"GarbageAmongWhatIsParkedHoldsNothingUp", garbageAmongWhatIsParkedHoldsNothingUp},
}

// park parks, and returns what could not be found.
func (b *Bench) park(l *streams.Lease, ps ...streams.Parking) []string {
	b.tb.Helper()
	without, err := l.Park(b.tb.Context(), ps)
	if err != nil {
		b.tb.Fatal(err)
	}
	return without
}

// parked is everything that is parked, read in small pages.
func (b *Bench) parked(l *streams.Lease) []streams.Parked {
	b.tb.Helper()
	var out []streams.Parked
	for {
		page, err := l.Parked(b.tb.Context(), len(out), 60)
		if err != nil {
			b.tb.Fatal(err)
		}
		out = append(out, page...)
		if len(page) < 60 {
			return out
		}
	}
}

func (b *Bench) unpack(l *streams.Lease, ids ...string) []streams.Entry {
	b.tb.Helper()
	es, err := l.Unpack(b.tb.Context(), ids)
	if err != nil {
		b.tb.Fatal(err)
	}
	return es
}

func parkedDeliveryLeavesTheStream(t promise) {
	b := New(t, t.addr)
	b.AppendTo(0, 3)
	g, other := b.Group("points", "w1"), b.Group("eventlog", "w1")
	l, ol := b.Lease(g, 0), b.Lease(other, 0)
	es := b.Take(l, 10)
	b.Take(ol, 10)
	b.charge(l, "1", ids(es[:1])...)
	b.park(l,
		streams.Parking{EntryID: es[0].ID, Wait: time.Hour, Attempts: 1},
		streams.Parking{EntryID: es[1].ID, Behind: true})
	if p := b.Pending("points", 0); !slices.Equal(p, []string{es[2].ID}) {
		t.Fatalf("pending %v", p)
	}
	if p := b.Pending("eventlog", 0); len(p) != 3 {
		t.Fatalf("another group's pending %v", p)
	}
	if n := b.Write.XLen(t.Context(), b.Layout.Events(0)).Val(); n != 3 {
		t.Fatalf("%d entries: a parked delivery was added to the stream again", n)
	}
	ps := b.parked(l)
	if len(ps) != 2 || ps[0].ID != es[1].ID || ps[0].Wait != 0 || ps[0].Attempts != 0 || ps[0].Key != es[1].Record.Event.OrderingKey() ||
		ps[1].ID != es[0].ID || ps[1].Wait < 59*time.Minute || ps[1].Wait > time.Hour || ps[1].Attempts != 1 || ps[1].Known != 1 || ps[1].Bytes < 500 {
		t.Fatalf("parked %+v", ps)
	}
	got := b.unpack(l, es[0].ID, es[1].ID)
	if !slices.Equal(eventIDs(got), eventIDs(es[:2])) || got[0].Attempts != 1 || got[0].Partition != 0 {
		t.Fatalf("unpacked %+v", got)
	}
	for range 2 { // settling again changes nothing
		b.Settle(l, streams.Settlement{Done: ids(es)})
		if left := b.parked(l); len(left) != 0 {
			t.Fatalf("parked after it was settled: %+v", left)
		}
	}
	for _, key := range []string{b.Layout.Parcels(0, "points"), b.Layout.Attempts(0, "points")} {
		if n := b.Write.Exists(t.Context(), key).Val(); n != 0 {
			t.Fatalf("%s is kept", key)
		}
	}
	if n := b.Metric("paybell_streams_group_settled_total", "points", "done"); n != 3 {
		t.Fatalf("%v settled", n)
	}
}

func parkedDeliverySurvivesItsOwner(t promise) {
	b := New(t, t.addr)
	b.AppendTo(0, 2)
	old := b.Group("points", "w1")
	stale := b.Lease(old, 0)
	es := b.Take(stale, 10)
	b.charge(stale, "1", ids(es)...)
	b.park(stale, streams.Parking{EntryID: es[0].ID, Wait: time.Hour, Attempts: 1}, streams.Parking{EntryID: es[1].ID, Attempts: 1})
	// The second one is run, and its owner is replaced while it runs.
	b.charge(stale, "1", []string{es[1].ID}...)
	if err := stale.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	g := b.Group("points", "w2")
	l := b.Lease(g, 0)
	ps := b.parked(l)
	if len(ps) != 2 || ps[0].ID != es[1].ID || ps[0].Attempts != 2 || ps[0].Known != 1 || ps[1].Attempts != 1 || ps[1].Known != 1 {
		t.Fatalf("the new owner finds %+v", ps)
	}
	_, parkErr := stale.Park(t.Context(), []streams.Parking{{EntryID: es[0].ID}})
	_, parkedErr := stale.Parked(t.Context(), 0, 10)
	_, unpackErr := stale.Unpack(t.Context(), ids(es))
	for what, err := range map[string]error{
		"settle": stale.Settle(t.Context(), streams.Settlement{Done: ids(es)}),
		"park":   parkErr, "parked": parkedErr, "unpack": unpackErr,
	} {
		if !errors.Is(err, streams.ErrLeaseLost) {
			t.Errorf("%s by a replaced owner: %v", what, err)
		}
	}
	if left := b.parked(l); len(left) != 2 || left[1].Wait < 59*time.Minute {
		t.Fatalf("the replaced owner changed what is parked: %+v", left)
	}
}

func parkingAgainChangesNothing(t promise) {
	b := New(t, t.addr)
	b.AppendTo(0, 2)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	es := b.Take(l, 10)
	first := streams.Parking{EntryID: es[0].ID, Wait: time.Hour, Attempts: 3}
	b.park(l, first)
	b.park(l, first) // the answer was lost
	if ps := b.parked(l); len(ps) != 1 || ps[0].Attempts != 3 || ps[0].Known != 3 {
		t.Fatalf("parked %+v", ps)
	}
	b.park(l, streams.Parking{EntryID: es[0].ID, Wait: time.Minute, Attempts: 12})
	if ps := b.parked(l); len(ps) != 1 || ps[0].Wait > time.Minute || ps[0].Attempts != 12 || ps[0].Known != 12 {
		t.Fatalf("parked at another time: %+v", ps)
	}
	if got := b.unpack(l, es[0].ID); got[0].Record.Event.ID != es[0].Record.Event.ID || got[0].Err != nil {
		t.Fatalf("%+v", got)
	}
	b.Settle(l, streams.Settlement{Done: ids(es)})
	// Late: it was settled meanwhile.
	if without := b.park(l, first); !slices.Equal(without, ids(es[:1])) {
		t.Fatalf("not found: %v", without)
	}
	if ps := b.parked(l); len(ps) != 0 {
		t.Fatalf("what was settled is parked: %+v", ps)
	}
}

func parkedCallbackKeepsItsBytes(t promise) {
	b := New(t, t.addr)
	g := b.Group("points", "w1")
	raw := make([]byte, 0, 1<<12)
	for i := range 1 << 12 {
		raw = append(raw, byte(i))
	}
	for name, body := range map[string][]byte{"every byte": raw, "its own form": []byte("1 2 3:4:5:\x00\r\n7:"), "empty": {}} {
		r := Record("order-"+strings.ReplaceAll(name, " ", "-"), 1)
		r.Raw = body
		b.Append(r)
		l := b.Lease(g, b.Layout.Partition(r.Event.OrderingKey()))
		es := b.Take(l, 1)
		b.park(l, streams.Parking{EntryID: es[0].ID, Wait: time.Hour, Attempts: 1})
		got := b.unpack(l, es[0].ID)
		if got[0].Err != nil || string(got[0].Record.Raw) != string(body) || got[0].Record.Event.ID != r.Event.ID {
			t.Errorf("%s: %v, %d bytes", name, got[0].Err, len(got[0].Record.Raw))
		}
		b.Settle(l, streams.Settlement{Done: ids(es)})
	}
}

func parkedDeliveryEndsAsADeadLetter(t promise) {
	b := New(t, t.addr)
	b.AppendTo(0, 1)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	es := b.Take(l, 1)
	b.park(l, streams.Parking{EntryID: es[0].ID, Wait: time.Hour, Attempts: 1})
	// The stream may be trimmed meanwhile: the parcel has everything.
	if err := b.Write.XTrimMaxLen(t.Context(), b.Layout.Events(0), 0).Err(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		b.Settle(l, streams.Settlement{Dead: []streams.DeadLetter{{EntryID: es[0].ID, Attempts: 7, Reason: "attempts"}}})
	}
	page, err := streams.NewDeadLetters(b.Write, b.Layout).List(t.Context(), "points", streams.DeadLetterQuery{})
	if err != nil || len(page.DeadLetters) != 1 || page.DeadLetters[0].Record.Event.ID != es[0].Record.Event.ID ||
		string(page.DeadLetters[0].Record.Raw) != string(es[0].Record.Raw) {
		t.Fatalf("%+v, %v", page, err)
	}
	if ps := b.parked(l); len(ps) != 0 {
		t.Fatalf("still parked: %+v", ps)
	}
}

func parkingAnEntryThatWasDeleted(t promise) {
	b := New(t, t.addr)
	b.AppendTo(0, 2)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	es := b.Take(l, 2)
	if err := b.Write.XDel(t.Context(), b.Layout.Events(0), es[0].ID).Err(); err != nil {
		t.Fatal(err)
	}
	without := b.park(l, streams.Parking{EntryID: es[0].ID, Wait: time.Hour, Attempts: 1}, streams.Parking{EntryID: es[1].ID, Wait: time.Hour, Attempts: 1})
	if !slices.Equal(without, ids(es[:1])) {
		t.Fatalf("not found: %v", without)
	}
	if ps := b.parked(l); len(ps) != 1 || ps[0].ID != es[1].ID || len(b.Pending("points", 0)) != 0 {
		t.Fatalf("parked %+v, pending %v", ps, b.Pending("points", 0))
	}
	if n := b.Metric("paybell_streams_group_lost_total", "points"); n != 1 {
		t.Fatalf("%v counted as lost", n)
	}
	// A parcel that somebody deleted is known to be gone, and can be settled.
	if err := b.Write.HDel(t.Context(), b.Layout.Parcels(0, "points"), es[1].ID).Err(); err != nil {
		t.Fatal(err)
	}
	if got := b.unpack(l, es[1].ID); !got[0].Gone {
		t.Fatalf("%+v", got)
	}
	b.Settle(l, streams.Settlement{Done: []string{es[1].ID}})
	if ps := b.parked(l); len(ps) != 0 {
		t.Fatalf("parked %+v", ps)
	}
}

func parkedDeliveryThatIsDeliveredAgain(t promise) {
	b := New(t, t.addr)
	b.AppendTo(0, 1)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	es := b.Take(l, 1)
	again := streams.Parking{EntryID: es[0].ID, Wait: time.Hour, Attempts: 4}
	b.park(l, again)
	if err := b.Write.XGroupDestroy(t.Context(), b.Layout.Events(0), "points").Err(); err != nil {
		t.Fatal(err)
	}
	if got := b.Take(l, 1); len(got) != 1 || got[0].ID != es[0].ID {
		t.Fatalf("the group that was created again delivers %v", ids(got))
	}
	b.park(l, again)
	if ps := b.parked(l); len(ps) != 1 || ps[0].Attempts != 4 || len(b.Pending("points", 0)) != 0 {
		t.Fatalf("parked %+v, pending %v", ps, b.Pending("points", 0))
	}
}

func parkingOfManyEntries(t promise) {
	b := New(t, t.addr, func(o *streams.Options) { o.Partitions = 1 })
	const n = 250
	var records []event.Record
	for i := range n {
		records = append(records, Record("order-"+strconv.Itoa(i), 0))
	}
	b.Append(records...)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	es := b.Take(l, n)
	ps := make([]streams.Parking, len(es))
	for i, e := range es {
		ps[i] = streams.Parking{EntryID: e.ID, Wait: time.Hour, Attempts: 1}
	}
	b.park(l, ps...)
	if got := b.parked(l); len(got) != n {
		t.Fatalf("%d parked", len(got))
	}
	if got := b.unpack(l, ids(es)...); !slices.Equal(eventIDs(got), eventIDs(es)) {
		t.Fatalf("%d unpacked", len(got))
	}
	if got := b.Metric("paybell_streams_group_parked_total", "points"); got != n {
		t.Fatalf("%v counted", got)
	}
}

// garbageAmongWhatIsParkedHoldsNothingUp: somebody wrote into the keys of what is parked
// by hand. One such name or parcel must not keep an owner from its partition.
func garbageAmongWhatIsParkedHoldsNothingUp(t promise) {
	b := New(t, t.addr)
	b.AppendTo(0, 2)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	es := b.Take(l, 2)
	b.park(l, streams.Parking{EntryID: es[0].ID, Wait: time.Hour, Attempts: 1})
	parcels := []string{"garbage", "1 99 short", "0 0 no fields", "0 0 7", "0 0 x:y", "0 0 -3:", "0 0 3:abc", "0 0 9:abc", ""}
	for i, parcel := range parcels {
		id := "1-" + strconv.Itoa(i)
		b.Write.HSet(t.Context(), b.Layout.Parcels(0, "points"), id, parcel)
		b.Write.ZAdd(t.Context(), b.Layout.Parked(0, "points"), redis.Z{Member: id})
	}
	b.Write.ZAdd(t.Context(), b.Layout.Parked(0, "points"), redis.Z{Member: "no id"})
	var names []string
	for _, p := range b.parked(l) {
		names = append(names, p.ID)
	}
	if len(names) != len(parcels)+2 || !slices.Contains(names, es[0].ID) {
		t.Fatalf("parked %q", names)
	}
	var dead []streams.DeadLetter
	for _, e := range b.unpack(l, names...) {
		switch {
		case e.ID == es[0].ID:
			if e.Err != nil || e.Gone {
				t.Errorf("the sound one: %+v", e)
			}
		case e.ID == "no id":
			if !e.Gone {
				t.Errorf("%q is there", e.ID)
			}
		case e.Err == nil:
			t.Errorf("%q can be read", e.ID)
		default:
			dead = append(dead, streams.DeadLetter{EntryID: e.ID, Reason: "unreadable"})
		}
	}
	b.park(l, streams.Parking{EntryID: "1-0", Wait: time.Hour, Attempts: 1})
	b.Settle(l, streams.Settlement{Done: []string{"no id", es[1].ID}, Dead: dead})
	if ps := b.parked(l); len(ps) != 1 || ps[0].ID != es[0].ID || len(b.Pending("points", 0)) != 0 {
		t.Fatalf("parked %+v, pending %v", ps, b.Pending("points", 0))
	}
}
