package streamstest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/event"
)

var appendCases = []contract{
	{"G3RedeliveryIsOneEntry", redeliveryIsOneEntry},
	{"G3ConcurrentCopiesAreOneEntry", concurrentCopiesAreOneEntry},
	{"G3LostAnswerIsOneEntry", lostAnswerIsOneEntry},
	{"G3OtherFactsAreAConflict", otherFactsAreAConflict},
	{"G5EventsOfOneCallbackStayInOrder", eventsOfOneCallbackStayInOrder},
	{"G3WindowEnds", windowEnds},
	{"G3AccountsKeepTheirWindows", accountsKeepTheirWindows},
	{"G3EveryMarkIsFound", everyMarkIsFound},
	{"G3MarksAreAFewKeys", marksAreAFewKeys},
	{"G3MixedFlush", mixedFlush},
	{"G3OneEventTwiceInAFlush", oneEventTwiceInAFlush},
	{"G1OverwrittenPartitionFailsAlone", overwrittenPartitionFailsAlone},
	{"G1ResendCompletesACallback", resendCompletesACallback},
	{"G1NothingIsKeptOfALostServer", nothingIsKeptOfALostServer},
	{"G1EveryRecordOfABigBatch", everyRecordOfABigBatch},
	{"EntriesOfACallbackStandInOrder", entriesOfACallbackStandInOrder},
	{"EntryHoldsTheFields", entryHoldsTheFields},
	{"RawBytesSurvive", rawBytesSurvive},
	{"ScriptsAreSentAgainWhereMissing", scriptsAreSentAgainWhereMissing},
	{"TwoWritersOnSeveralConnections", twoWritersOnSeveralConnections},
}

func redeliveryIsOneEntry(t promise) {
	b := New(t, t.addr)
	r := Record("A1001", 1)
	if got := b.Append(r); !slices.Equal(got, []event.Appended{event.New}) {
		t.Fatalf("first: %v", got)
	}
	// A redelivery has other bytes, headers and times, and the same facts.
	again := Record("A1001", 1)
	again.Raw = []byte(`{"attempt":2}`)
	again.Event.ReceivedAt = again.Event.ReceivedAt.Add(time.Hour)
	again.Event.Raw.CallbackID = "cb_other"
	again.Evidence.Headers = map[string]string{"Stripe-Signature": "t=2,v1=11"}
	for range 3 {
		if got := b.Append(again); !slices.Equal(got, []event.Appended{event.Duplicate}) {
			t.Fatalf("again: %v", got)
		}
	}
	es := b.Entries()
	if len(es) != 1 {
		t.Fatalf("%d entries", len(es))
	}
	if got := es[0].Values[event.FieldRaw]; got != string(r.Raw) {
		t.Fatalf("the entry holds %q", got)
	}
	if n := b.Metric("paybell_streams_append_records_total", "duplicate"); n != 3 {
		t.Fatalf("%v duplicates counted", n)
	}
}

func concurrentCopiesAreOneEntry(t promise) {
	benches := []*Bench{New(t, t.addr), New(t, t.addr)}
	const events, copies = 20, 4
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		fresh = make(map[string]int)
	)
	for _, b := range benches {
		for range copies {
			wg.Go(func() {
				for i := range events {
					r := Record("A1", i)
					out, err := b.Writer.Append(t.Context(), time.Hour, []event.Record{r})
					if err != nil {
						t.Error(err)
						return
					}
					if out[0] == event.New {
						mu.Lock()
						fresh[r.Event.ID]++
						mu.Unlock()
					}
				}
			})
		}
	}
	wg.Wait()
	if es := benches[0].Entries(); len(es) != events {
		t.Fatalf("%d entries of %d events", len(es), events)
	}
	for id, n := range fresh {
		if n != 1 {
			t.Errorf("event %s was new %d times", id, n)
		}
	}
	if len(fresh) != events {
		t.Errorf("%d events were new", len(fresh))
	}
}

func lostAnswerIsOneEntry(t promise) {
	server := t.addr
	for _, c := range []struct {
		name string
		lose int
		err  bool
	}{
		{"once: the writer sends again", 1, false},
		{"twice: the caller does", 2, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			proxy := NewProxy(t, server)
			b := New(t, proxy.Addr(), func(o *streams.Options) { o.Prefix = "lost-" + strconv.Itoa(c.lose) })
			b.Append(Record("warm", 0)) // the connection stands
			records := Records("A1", 5)
			proxy.LoseAnswers(c.lose)
			_, err := b.Writer.Append(t.Context(), time.Hour, records)
			if proxy.Lost() != c.lose {
				t.Fatalf("%d answers were lost, so nothing was tried", proxy.Lost())
			}
			if errors.Is(err, streams.ErrUnavailable) != c.err || (err != nil) != c.err {
				t.Fatalf("err = %v", err)
			}
			// At least the record whose answer was lost had been appended.
			if got := b.Append(records...); got[0] != event.Duplicate {
				t.Fatalf("sent again: %v", got)
			}
			if n := len(b.Entries()); n != 1+len(records) {
				t.Fatalf("%d entries", n)
			}
		})
	}
}

// The events of one order in one callback are entries in their order, also where the
// first is a conflict, which takes a second append.
func eventsOfOneCallbackStayInOrder(t promise) {
	b := New(t, t.addr)
	b.Append(Record("A1", 0))
	other := Record("A1", 0)
	other.Event.Payment.Amount = &event.Money{Value: "0.01", Minor: 1, Exponent: 2, Currency: "EUR"}
	got := b.Append(other, Record("B1", 0), Record("A1", 1), Record("A1", 2))
	if want := []event.Appended{event.Conflicting, event.New, event.New, event.New}; !slices.Equal(got, want) {
		t.Fatalf("got %v", got)
	}
	var order []string
	g, partition := b.Group("points", "w1"), b.Layout.Partition(other.Event.OrderingKey())
	for _, e := range b.Take(b.Lease(g, partition), 10) {
		if e.Record.Event.OrderRef() == "A1" {
			order = append(order, e.Record.Event.ProviderEvent.ID+" "+string(e.Record.Event.Type))
		}
	}
	want := []string{"evt-A1-0 payment.succeeded", "evt-A1-0 " + string(event.Conflict), "evt-A1-1 payment.succeeded", "evt-A1-2 payment.succeeded"}
	if !slices.Equal(order, want) {
		t.Fatalf("the order's entries are %v", order)
	}
}

func otherFactsAreAConflict(t promise) {
	b := New(t, t.addr)
	r := Record("A1001", 1)
	b.Append(r)
	other := Record("A1001", 1)
	other.Event.Payment.Amount = &event.Money{Value: "0.01", Minor: 1, Exponent: 2, Currency: "EUR"}
	other.Raw = []byte(`{"amount":1}`)
	for range 3 {
		if got := b.Append(other); !slices.Equal(got, []event.Appended{event.Conflicting}) {
			t.Fatalf("other facts: %v", got)
		}
	}
	// The first facts are still the known ones.
	if got := b.Append(r); !slices.Equal(got, []event.Appended{event.Duplicate}) {
		t.Fatalf("first facts again: %v", got)
	}
	es := b.Entries()
	if len(es) != 2 {
		t.Fatalf("%d entries: the conflict is kept once", len(es))
	}
	fields := make(map[string]string)
	for k, v := range es[1].Values {
		fields[k], _ = v.(string)
	}
	kept, err := event.ParseRecord(fields)
	if err != nil {
		t.Fatal(err)
	}
	if kept.Event.Type != event.Conflict || kept.Event.ConflictOf != r.Event.ID || kept.Event.ID == r.Event.ID {
		t.Fatalf("kept as type %s, id %s, of %s", kept.Event.Type, kept.Event.ID, kept.Event.ConflictOf)
	}
	if kept.Event.ProviderEvent.Type != other.Event.ProviderEvent.Type || kept.Event.Payment.Amount.Minor != 1 || !bytes.Equal(kept.Raw, other.Raw) {
		t.Fatalf("the conflict does not say what the callback said: %+v", kept.Event)
	}
}

func windowEnds(t promise) {
	b := New(t, t.addr)
	const window = 800 * time.Millisecond
	again := func() event.Appended {
		out, err := b.Writer.Append(t.Context(), window, []event.Record{Record("A1001", 1)})
		if err != nil {
			t.Fatal(err)
		}
		return out[0]
	}
	var marked time.Time
	// Several times over, so that the ring of buckets comes round.
	for range 6 {
		before := marked
		Eventually(t, "an event is new again after its window", func() bool {
			marked = time.Now() // before it is appended: the mark is no older
			return again() == event.New
		})
		if kept := time.Since(before); !before.IsZero() && kept < window {
			t.Fatalf("forgotten after %v", kept)
		}
		if got := again(); got != event.Duplicate {
			t.Fatalf("a redelivery: %v", got)
		}
	}
}

// Events of one order and accounts of different windows are each known for their
// own time.
func accountsKeepTheirWindows(t promise) {
	b := New(t, t.addr)
	windows := []time.Duration{520 * time.Millisecond, 700 * time.Millisecond, time.Second}
	again := func(i int) event.Appended {
		out, err := b.Writer.Append(t.Context(), windows[i], []event.Record{Record("A1", i)})
		if err != nil {
			t.Fatal(err)
		}
		return out[0]
	}
	marked := make([]time.Time, len(windows))
	for i := range windows {
		marked[i] = time.Now()
		if got := again(i); got != event.New {
			t.Fatalf("window %v: first: %v", windows[i], got)
		}
	}
	for i, window := range windows {
		Eventually(t, "the window ends", func() bool { return again(i) == event.New })
		if kept := time.Since(marked[i]); kept < window {
			t.Fatalf("window %v: forgotten after %v", window, kept)
		}
	}
}

// Marks move from slot to slot while a bucket grows, and none may be lost.
func everyMarkIsFound(t promise) {
	b := New(t, t.addr, func(o *streams.Options) { o.Partitions = 1 })
	const n = 1500
	records := make([]event.Record, n)
	for i := range records {
		records[i] = Record("A1", i)
		records[i].Raw = nil
	}
	for part := range slices.Chunk(records, 100) {
		for i, got := range b.Append(part...) {
			if got != event.New {
				t.Fatalf("event %d of a part: %v", i, got)
			}
		}
		if got := b.Append(records[0])[0]; got != event.Duplicate {
			t.Fatalf("the first event: %v", got)
		}
	}
	for i, got := range b.Append(records...) {
		if got != event.Duplicate {
			t.Fatalf("event %d: %v", i, got)
		}
	}
	if es := b.Entries(); len(es) != n {
		t.Fatalf("%d entries of %d events", len(es), n)
	}
}

// Forgetting is the expiry of a few keys, however many events they stand for.
func marksAreAFewKeys(t promise) {
	b := New(t, t.addr, func(o *streams.Options) { o.Partitions = 1 })
	for i := range 200 {
		b.Append(Record("A1", i))
	}
	keys := b.Write.Keys(t.Context(), "*:seen:*").Val()
	if len(keys) == 0 || len(keys) > 2 {
		t.Fatalf("marks lie under %v", keys)
	}
	for _, key := range keys {
		if left := b.Write.PTTL(t.Context(), key).Val(); left < time.Hour || left > 2*time.Hour {
			t.Fatalf("%s lives for %v, the window is an hour", key, left)
		}
	}
}

// otherFacts is r with an amount that it did not have.
func otherFacts(r event.Record) event.Record {
	p := *r.Event.Payment
	p.Amount = &event.Money{Value: "0.01", Minor: 1, Exponent: 2, Currency: "EUR"}
	r.Event.Payment = &p
	return r
}

// New events, redeliveries and conflicts of all partitions, in one script call.
func mixedFlush(t promise) {
	b := New(t, t.addr, func(o *streams.Options) { o.Partitions = 4 })
	records := Records("A1", 60)
	var known, flush []event.Record
	var want []event.Appended
	for i, r := range records {
		switch i % 3 {
		case 0:
			want = append(want, event.New)
		case 1:
			known = append(known, r)
			want = append(want, event.Duplicate)
		case 2:
			known = append(known, r)
			r = otherFacts(r)
			want = append(want, event.Conflicting)
		}
		flush = append(flush, r)
	}
	b.Append(known...)
	if got := b.Append(flush...); !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	// Once more: what was new is known now, and a conflict is kept once.
	for i := range want {
		if want[i] == event.New {
			want[i] = event.Duplicate
		}
	}
	if got := b.Append(flush...); !slices.Equal(got, want) {
		t.Fatalf("again: %v, want %v", got, want)
	}
	b.wantAppended(len(records) + len(records)/3)
}

// wantAppended checks that there are so many entries and that they were counted.
func (b *Bench) wantAppended(want int) {
	b.tb.Helper()
	counted := 0
	for p := range b.Layout.Partitions() {
		n, err := b.Write.HGet(b.tb.Context(), b.Layout.Ledger(p), "appended").Int()
		if err != nil && !errors.Is(err, redis.Nil) {
			b.tb.Fatal(err)
		}
		counted += n
	}
	if n := len(b.Entries()); n != want || counted != want {
		b.tb.Fatalf("%d entries, %d counted, want %d", n, counted, want)
	}
}

// Flush appends each record as a callback of its own, all in one flush and in this
// order, and returns what became of each.
func (b *Bench) Flush(records ...event.Record) ([]event.Appended, []error) {
	b.tb.Helper()
	reg := prometheus.NewRegistry()
	w := streams.NewWriter(b.Write, b.Layout, b.Options.Writer, reg)
	out, errs := make([]event.Appended, len(records)), make([]error, len(records))
	var wg sync.WaitGroup
	for i, r := range records {
		wg.Go(func() {
			got, err := w.Append(b.tb.Context(), time.Hour, []event.Record{r})
			if errs[i] = err; err == nil {
				out[i] = got[0]
			}
		})
		Eventually(b.tb, "the record waits", func() bool {
			return metric(b.tb, reg, "paybell_streams_append_queue_records") == float64(i+1)
		})
	}
	defer Run(b.tb, w)()
	wg.Wait()
	return out, errs
}

// Two callers bring the same event at the same time.
func oneEventTwiceInAFlush(t promise) {
	b := New(t, t.addr)
	r, s := Record("A1", 1), Record("B1", 1)
	got, errs := b.Flush(r, s, r, otherFacts(s), r, s)
	want := []event.Appended{event.New, event.New, event.Duplicate, event.Conflicting, event.Duplicate, event.Duplicate}
	if err := errors.Join(errs...); err != nil || !slices.Equal(got, want) {
		t.Fatalf("got %v, %v, want %v", got, err, want)
	}
	b.wantAppended(3)
	if got := b.Append(r, s, otherFacts(s)); !slices.Equal(got, []event.Appended{event.Duplicate, event.Duplicate, event.Conflicting}) {
		t.Fatalf("later: %v", got)
	}
	b.wantAppended(3)
}

// Somebody has overwritten a key of one partition: the records of others, in the same
// flush, are appended, and its own are not, nor marked, nor counted.
func overwrittenPartitionFailsAlone(t promise) {
	server := t.addr
	for name, spoilt := range map[string]func(l streams.Layout) []string{
		"seen":   func(l streams.Layout) []string { return l.Seen(0, time.Hour) },
		"old":    func(l streams.Layout) []string { return l.Seen(0, time.Hour)[1:2] },
		"ledger": func(l streams.Layout) []string { return []string{l.Ledger(0)} },
		"events": func(l streams.Layout) []string { return []string{l.Events(0)} },
	} {
		t.Run(name, func(t *testing.T) {
			b := New(t, server, func(o *streams.Options) { o.Partitions, o.Prefix = 4, "spoilt-"+name })
			keys := spoilt(b.Layout)
			for _, key := range keys {
				if err := b.Write.Set(t.Context(), key, "x", 0).Err(); err != nil {
					t.Fatal(err)
				}
			}
			var records []event.Record
			var want, resent []event.Appended
			healthy := 0
			for i := range 40 {
				r := Record("order-"+strconv.Itoa(i), 1)
				records = append(records, r)
				if b.Layout.Partition(r.Event.OrderingKey()) == 0 {
					want, resent = append(want, 0), append(resent, event.New)
				} else {
					want, resent = append(want, event.New), append(resent, event.Duplicate)
					healthy++
				}
			}
			got, errs := b.Flush(records...)
			if !slices.Equal(got, want) {
				t.Fatalf("got %v, want %v", got, want)
			}
			for i, err := range errs {
				if (err != nil) != (want[i] == 0) || err != nil && !errors.Is(err, streams.ErrUnavailable) {
					t.Errorf("record %d: %v", i, err)
				}
			}
			if err := b.Write.Del(t.Context(), keys...).Err(); err != nil {
				t.Fatal(err)
			}
			b.wantAppended(healthy)
			if got := b.Append(records...); !slices.Equal(got, resent) {
				t.Fatalf("the key mended: %v, want %v", got, resent)
			}
			b.wantAppended(len(records))
		})
	}
}

func resendCompletesACallback(t promise) {
	b := New(t, t.addr)
	records := Records("A1", 5)
	b.Append(records[0], records[3])
	want := []event.Appended{event.Duplicate, event.New, event.New, event.Duplicate, event.New}
	if got := b.Append(records...); !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	if n := len(b.Entries()); n != 5 {
		t.Fatalf("%d entries", n)
	}
}

func nothingIsKeptOfALostServer(t promise) {
	o := streams.DefaultOptions()
	b := New(t, t.addr)
	o.Redis.Address = "127.0.0.1:1" // nobody listens there
	rdb, err := streams.NewWriteClient(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rdb.Close() }()
	w := streams.NewWriter(rdb, b.Layout, o.Writer, prometheus.NewRegistry())
	defer Run(t, w)()
	out, err := w.Append(t.Context(), time.Hour, Records("A1", 2))
	if !errors.Is(err, streams.ErrUnavailable) || out != nil {
		t.Fatalf("%v, %v", out, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Append(ctx, time.Hour, Records("A1", 2)); !errors.Is(err, streams.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Fatalf("a caller that gave up got %v", err)
	}
}

func everyRecordOfABigBatch(t promise) {
	b := New(t, t.addr, func(o *streams.Options) { o.Writer.MaxBatch = 64 })
	records := Records("A1", 300)
	got := b.Append(records...)
	if len(got) != 300 || slices.ContainsFunc(got, func(a event.Appended) bool { return a != event.New }) {
		t.Fatalf("%v", got)
	}
	if n := len(b.Entries()); n != 300 {
		t.Fatalf("%d entries", n)
	}
}

func entriesOfACallbackStandInOrder(t promise) {
	b := New(t, t.addr, func(o *streams.Options) {
		o.Partitions = 1
		o.Writer.MaxBatch = 8
		o.Writer.Connections = 4
	})
	records := Records("A1", 50)
	b.Append(records...)
	g := b.Group("points", "w1")
	es := b.Take(b.Lease(g, 0), 100)
	for i, id := range eventIDs(es) {
		if id != records[i].Event.ID {
			t.Fatalf("entry %d is not record %d", i, i)
		}
	}
	if len(es) != 50 {
		t.Fatalf("%d entries", len(es))
	}
}

// An entry is what Fields says, in its order: subscribers may rely on either.
func entryHoldsTheFields(t promise) {
	b := New(t, t.addr, func(o *streams.Options) { o.Partitions = 1 })
	records := Records("A1", 2) // one with raw, one with item
	b.Append(records...)
	reply, err := b.Write.Do(t.Context(), "XRANGE", b.Layout.Events(0), "-", "+").Slice()
	if err != nil || len(reply) != len(records) {
		t.Fatalf("%d entries, %v", len(reply), err)
	}
	for i, r := range records {
		want, err := r.Fields()
		if err != nil {
			t.Fatal(err)
		}
		entry, _ := reply[i].([]any)
		got, _ := entry[1].([]any)
		if !slices.Equal(got, want) {
			t.Errorf("entry %d:\n got %v\nwant %v", i, got, want)
		}
	}
}

func rawBytesSurvive(t promise) {
	b := New(t, t.addr, func(o *streams.Options) { o.Partitions = 1 })
	r := Record("A1", 1)
	r.Raw = make([]byte, 1<<20)
	for i := range r.Raw {
		r.Raw[i] = byte(i * 7 / 3) // NULs, line breaks and what is no UTF-8
	}
	b.Append(r)
	g := b.Group("points", "w1")
	l := b.Lease(g, 0)
	es := b.Take(l, 1)
	if len(es) != 1 || es[0].Err != nil || !bytes.Equal(es[0].Record.Raw, r.Raw) {
		t.Fatalf("taken: %d entries", len(es))
	}
	if back := b.Backlog(l); len(back) != 1 || !bytes.Equal(back[0].Record.Raw, r.Raw) {
		t.Fatalf("backlog: %d entries", len(back))
	}
	b.Settle(l, streams.Settlement{Dead: []streams.DeadLetter{{EntryID: es[0].ID, Attempts: 1, Reason: "rejected"}}})
	page, err := streams.NewDeadLetters(b.Write, b.Layout).List(t.Context(), "points", streams.DeadLetterQuery{})
	if err != nil || len(page.DeadLetters) != 1 || !bytes.Equal(page.DeadLetters[0].Record.Raw, r.Raw) {
		t.Fatalf("dead letters: %d, %v", len(page.DeadLetters), err)
	}
}

func scriptsAreSentAgainWhereMissing(t promise) {
	b := New(t, t.addr, func(o *streams.Options) { o.Partitions = 1 })
	flush := func() {
		t.Helper()
		if err := b.Write.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	b.Append(Record("warm", 0))
	flush()
	records := Records("A1", 5)
	if got := b.Append(records...); slices.ContainsFunc(got, func(a event.Appended) bool { return a != event.New }) {
		t.Fatalf("append: %v", got)
	}
	if n := len(b.Entries()); n != 6 {
		t.Fatalf("%d entries", n)
	}
	if n := b.Metric("paybell_streams_append_resent_total"); n != 5 {
		t.Fatalf("%v sent again", n)
	}
	g := b.Group("points", "w1")
	flush()
	l := b.Lease(g, 0)
	flush()
	es := b.Take(l, 10)
	flush()
	b.charge(l, "1", ids(es)...)
	flush()
	b.Settle(l, streams.Settlement{Done: ids(es)})
	if p := b.Pending("points", 0); len(p) != 0 || len(es) != 6 {
		t.Fatalf("%d taken, pending %v", len(es), p)
	}
}

func twoWritersOnSeveralConnections(t promise) {
	several := func(o *streams.Options) { o.Writer.Connections, o.Writer.MaxBatch = 4, 16 }
	benches := []*Bench{New(t, t.addr, several), New(t, t.addr, several)}
	const callers, each = 16, 20
	var wg sync.WaitGroup
	for i, b := range benches {
		for c := range callers {
			wg.Go(func() {
				for n := range each {
					r := Record("order-"+strconv.Itoa(c), i*each+n)
					if _, err := b.Writer.Append(t.Context(), time.Hour, []event.Record{r}); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	if n := len(benches[0].Entries()); n != 2*callers*each {
		t.Fatalf("%d entries of %d events", n, 2*callers*each)
	}
}
