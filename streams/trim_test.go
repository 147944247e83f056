package streams_test

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/streams/streamstest"
)

// paybell gives a stream no length. An operator in panic does, and has to be told
// what that took; Redis 7 numbers its entries, the embedded engine does not.
func TestMAXLENThatEatsUnreadEventsIsAnAlarm(t *testing.T) {
	b := streamstest.New(t, streamstest.Redis(t).Addr(), func(o *streams.Options) { o.Partitions = 1 })
	trim := b.Trimmer([]string{"points"}, []string{"shipping"})
	b.AppendTo(0, 10)
	b.Trim(trim)
	b.Ack("shipping", b.Subscriber("shipping", 4)...)
	if err := b.Write.XTrimMaxLen(t.Context(), b.Layout.Events(0), 3).Err(); err != nil {
		t.Fatal(err)
	}
	// Of ten, three are left: shipping had read four, points none.
	if got := b.Trim(trim); got.Lost["shipping"] != 3 || got.Lost["points"] != 7 {
		t.Fatalf("%+v", got)
	}
	for range 2 {
		if got := b.Trim(trim); len(got.Lost) != 0 {
			t.Fatalf("told again: %+v", got)
		}
	}
	// Work goes on, and the next loss is counted from here.
	if got := b.Subscriber("shipping", 10); len(got) != 3 {
		t.Fatalf("%d entries read of the three that are left", len(got))
	}
	b.AppendTo(0, 5)
	if err := b.Write.XTrimMaxLen(t.Context(), b.Layout.Events(0), 1).Err(); err != nil {
		t.Fatal(err)
	}
	if got := b.Trim(trim); got.Lost["shipping"] != 4 || got.Lost["points"] != 7 {
		t.Fatalf("%+v", got)
	}
}

// What was trimmed before a group was declared was never this group's.
func TestLateGroupHasLostNothing(t *testing.T) {
	b := streamstest.New(t, streamstest.Redis(t).Addr(), func(o *streams.Options) { o.Partitions = 1 })
	b.AppendTo(0, 10)
	b.Ack("points", b.Subscriber("points", 10)...)
	if err := b.Write.XTrimMaxLen(t.Context(), b.Layout.Events(0), 4).Err(); err != nil {
		t.Fatal(err)
	}
	both := b.Trimmer(nil, []string{"shipping"})
	for range 2 {
		if got := b.Trim(both); len(got.Lost) != 0 {
			t.Fatalf("%+v", got)
		}
	}
	if got := b.Subscriber("shipping", 10); len(got) != 4 {
		t.Fatalf("%d entries", len(got))
	}
	if got := b.Trim(both); len(got.Lost) != 0 {
		t.Fatalf("%+v", got)
	}
}

// Trimming is what makes room, so it must work on a server that has none.
func TestTrimMakesRoomOnAFullServer(t *testing.T) {
	b := streamstest.New(t, streamstest.Redis(t).Addr(), func(o *streams.Options) { o.Partitions = 1 })
	for i := range 50 {
		r := streamstest.Record("order", i)
		r.Raw = make([]byte, 5000)
		b.Append(r)
	}
	b.Ack("points", b.Subscriber("points", 50)...)
	full(t, b, true)
	if got := b.Trim(b.Trimmer([]string{"points"}, []string{"shipping"})); got.Entries != 0 || got.Created["shipping"] != 1 {
		t.Fatalf("%+v: the group that was missing gets everything first", got)
	}
	if got := b.Trim(b.Trimmer([]string{"points"}, nil, func(o *streams.TrimOptions) { o.Retention.Age = time.Nanosecond })); got.Entries != 50 {
		t.Fatalf("%+v", got)
	}
}

func TestStreamStaysFlat(t *testing.T) {
	b := streamstest.New(t, streamstest.Redis(t).Addr())
	g := b.Group("points", "w1")
	trim := b.Trimmer([]string{"points"}, nil, func(o *streams.TrimOptions) { o.Every = 5 * time.Millisecond })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- trim.Run(ctx) }()
	leases := []*streams.Lease{b.Lease(g, 0), b.Lease(g, 1)}
	for round := range 30 {
		records := make([]event.Record, 100)
		for i := range records {
			records[i] = streamstest.Record("order", 100*round+i)
			records[i].Raw = make([]byte, 2000)
		}
		b.Append(records...)
		for _, l := range leases {
			for es := b.Take(l, 256); len(es) > 0; es = b.Take(l, 256) {
				s := streams.Settlement{}
				for _, e := range es {
					s.Done = append(s.Done, e.ID)
				}
				b.Settle(l, s)
			}
		}
	}
	streamstest.Eventually(t, "both streams are as good as empty", func() bool { return len(b.Entries()) < 10 })
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func TestTrimmerOfNobodyIsRefused(t *testing.T) {
	o := streams.DefaultOptions()
	for name, groups := range map[string][]string{"no group": nil, "no name": {"a b"}} {
		if _, err := streams.NewTrimmer(nil, layout(t, 1), groups, nil, o.Trim(), discard(), prometheus.NewRegistry()); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
