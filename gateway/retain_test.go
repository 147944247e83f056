package gateway_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/gateway/journal"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/streams/streamstest"
)

// owing is what groups owe, as a test sets it.
type owing struct {
	mu         sync.Mutex
	live, dead []string
}

func (o *owing) set(live, dead []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.live, o.dead = live, dead
}

func (o *owing) Owed(context.Context) (gateway.Owed, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	ids := func(orders []string) map[string]struct{} {
		out := map[string]struct{}{}
		for _, order := range orders {
			out[streamstest.Record(order, 0).Event.ID] = struct{}{}
		}
		return out
	}
	return gateway.Owed{Live: ids(o.live), Dead: ids(o.dead)}, nil
}

// always opens a keeper in the mode always whose clock the test moves, and waits until
// its door may open.
func always(t *testing.T, o gateway.JournalOptions, stream gateway.Appender, owed *owing, skew *atomic.Int64) kept {
	t.Helper()
	k := openKeeper(t, o, stream, func(d *gateway.KeeperDeps) {
		d.Now = func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }
		d.Owed = owed.Owed
	})
	select {
	case <-k.Opened():
	case <-time.After(10 * time.Second):
		t.Fatal("the door never opened")
	}
	return k
}

// TestEmbeddedStreamIsRebuiltBeforeTheDoorOpens: a restart forgets nothing that was
// replied to, and a redelivery is still a duplicate.
func TestEmbeddedStreamIsRebuiltBeforeTheDoorOpens(t *testing.T) {
	o := journalOptions(t, gateway.JournalAlways)
	first := newGate()
	k := always(t, o, first, &owing{}, &atomic.Int64{})
	want := []string{"A-0", "B-0", "A-1"}
	for _, p := range []struct {
		order string
		n     int
	}{{"A", 0}, {"B", 0}, {"A", 1}} {
		if got := pay(t, k, p.order, p.n); got != event.New {
			t.Fatalf("%s-%d: %v", p.order, p.n, got)
		}
	}
	k.stop() // and everything that the stream held is gone
	second := newGate()
	k = always(t, o, second, &owing{}, &atomic.Int64{})
	got := second.ids()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("rebuilt %v, want %v", got, want)
	}
	if got := pay(t, k, "B", 0); got != event.Duplicate {
		t.Fatalf("a redelivery: %v, want Duplicate", got)
	}
}

// TestEmbeddedStreamThatFailsIsARetryableReply: what is in the journal alone was not
// promised.
func TestEmbeddedStreamThatFailsIsARetryableReply(t *testing.T) {
	g := newGate()
	k := always(t, journalOptions(t, gateway.JournalAlways), g, &owing{}, &atomic.Int64{})
	g.shut.Store(true)
	if _, err := k.Append(t.Context(), week, []event.Record{streamstest.Record("A", 0)}); !errors.Is(err, errAway) {
		t.Fatalf("%v, want the stream's error", err)
	}
}

// TestNothingIsAppendedBeforeItIsDurable: with a disk that does not answer, the stream
// hears of nothing.
func TestNothingIsAppendedBeforeItIsDurable(t *testing.T) {
	g := newGate()
	syncs := make(chan error, 1)
	k := openKeeper(t, journalOptions(t, gateway.JournalAlways), g, slow(syncs))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := k.Append(ctx, week, []event.Record{streamstest.Record("A", 0)}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v, want DeadlineExceeded", err)
	}
	if len(g.ids()) != 0 {
		t.Fatalf("stream holds %v", g.ids())
	}
	close(syncs)
}

// TestRecordIsKeptUntilSettledAndItsWindowHasPassed: unread, pending and parked ones
// stay, dead ones too and pin nothing, the window counts, and room runs out before any
// of what is owed is given up.
func TestRecordIsKeptUntilSettledAndItsWindowHasPassed(t *testing.T) {
	cases := map[string]struct {
		live, dead []string
		later      time.Duration
		want       []string // what a restart finds, of A, B and C
	}{
		"settled, window open":   {nil, nil, week - time.Hour, []string{"A-0", "B-0", "C-0"}},
		"settled, window passed": {nil, nil, week + time.Hour, nil},
		"first is live":          {[]string{"A"}, nil, week + time.Hour, []string{"A-0", "B-0", "C-0"}},
		"second is live":         {[]string{"B"}, nil, week + time.Hour, []string{"B-0", "C-0"}},
		"first is dead":          {nil, []string{"A"}, week + time.Hour, []string{"A-0"}},
		"dead behind live":       {[]string{"B"}, []string{"A"}, week + time.Hour, []string{"A-0", "B-0", "C-0"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			o := journalOptions(t, gateway.JournalAlways)
			owed, skew := &owing{}, &atomic.Int64{}
			owed.set(tc.live, tc.dead)
			k := always(t, o, newGate(), owed, skew)
			for _, order := range []string{"A", "B", "C"} {
				pay(t, k, order, 0)
			}
			skew.Store(int64(tc.later))
			if err := k.Retain(t.Context()); err != nil {
				t.Fatal(err)
			}
			k.stop()
			again := newGate()
			always(t, o, again, owed, skew)
			got := again.ids()
			slices.Sort(got)
			if !slices.Equal(got, tc.want) {
				t.Fatalf("kept %v, want %v", got, tc.want)
			}
		})
	}
}

// TestWindowsAreGivenUpBeforeWhatIsOwed: with three quarters of the room taken, what
// is settled goes, oldest first, and what is not stays until the journal is full.
func TestWindowsAreGivenUpBeforeWhatIsOwed(t *testing.T) {
	for name, live := range map[string][]string{"settled": nil, "owed": {"A"}} {
		t.Run(name, func(t *testing.T) {
			o := journalOptions(t, gateway.JournalAlways)
			o.SegmentBytes, o.MaxBytes = 4<<10, 64<<10
			owed := &owing{}
			owed.set(live, nil)
			k := always(t, o, newGate(), owed, &atomic.Int64{})
			pay(t, k, "A", 0)
			var full bool
			for n := range 200 {
				_, err := k.Append(t.Context(), week, []event.Record{streamstest.Record("B", n)})
				if full = errors.Is(err, journal.ErrFull); full {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if n%10 == 0 {
					if err := k.Retain(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			if full != (live != nil) {
				t.Fatalf("full: %v with %v owed", full, live)
			}
			if bytes := k.gauge(t, "paybell_journal_bytes"); bytes > float64(o.MaxBytes) {
				t.Fatalf("%v bytes", bytes)
			}
		})
	}
}

// TestFullJournalLetsGoOfADeadLettersOrder: an order that could not be settled has held
// the beginning of a full journal, and ends as a dead letter. Its event is kept at the
// end, beyond the bound, and what stood behind it is let go of.
func TestFullJournalLetsGoOfADeadLettersOrder(t *testing.T) {
	o := journalOptions(t, gateway.JournalAlways)
	o.SegmentBytes, o.MaxBytes = 4<<10, 8<<10
	owed := &owing{}
	owed.set([]string{"PIN"}, nil)
	k := always(t, o, newGate(), owed, &atomic.Int64{})
	pay(t, k, "PIN", 0)
	full := func() bool {
		_, err := k.Append(t.Context(), week, []event.Record{streamstest.Record("A", int(time.Now().UnixNano()))})
		return errors.Is(err, journal.ErrFull)
	}
	streamstest.Eventually(t, "the journal is full", full)
	owed.set(nil, []string{"PIN"})
	streamstest.Eventually(t, "there is room again", func() bool { return !full() })
	stream := newGate()
	k.stop()
	always(t, o, stream, owed, &atomic.Int64{})
	if got := stream.ids(); !slices.Contains(got, "PIN-0") {
		t.Fatalf("the dead letter's event was let go of: %v", got)
	}
}
