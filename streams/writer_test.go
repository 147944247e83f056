package streams_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/streams/streamstest"
)

// idleWriter is a writer that does not run yet: what it is given waits.
func idleWriter(t *testing.T, b *streamstest.Bench, o streams.WriterOptions) (*streams.Writer, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewRegistry()
	return streams.NewWriter(b.Write, b.Layout, o, reg), reg
}

// waiting is how many records wait in the writer of reg.
func waiting(t *testing.T, reg *prometheus.Registry) int {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "paybell_streams_append_queue_records" {
			return int(f.GetMetric()[0].GetGauge().GetValue())
		}
	}
	t.Fatal("no such metric")
	return 0
}

// appendLater appends in the background and hands over what came of it.
func appendLater(ctx context.Context, w *streams.Writer, records ...event.Record) chan error {
	done := make(chan error, 1)
	go func() {
		_, err := w.Append(ctx, time.Hour, records)
		done <- err
	}()
	return done
}

func TestG9FullQueueRefusesAtOnce(t *testing.T) {
	b := streamstest.New(t, streamstest.Miniredis(t).Addr())
	for _, c := range []struct {
		name   string
		o      func(*streams.WriterOptions)
		record func() event.Record
	}{
		{"records", func(o *streams.WriterOptions) { o.Queue = 3 }, func() event.Record { return streamstest.Record("A1", 1) }},
		{"bytes", func(o *streams.WriterOptions) { o.QueueBytes = 3<<20 + 3<<12 }, func() event.Record {
			r := streamstest.Record("A1", 1)
			r.Raw = make([]byte, 1<<20)
			return r
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := streams.DefaultWriterOptions()
			c.o(&o)
			w, reg := idleWriter(t, b, o)
			var waits []chan error
			for n := range 3 {
				waits = append(waits, appendLater(t.Context(), w, c.record()))
				streamstest.Eventually(t, "the record waits", func() bool { return waiting(t, reg) == n+1 })
			}
			if _, err := w.Append(t.Context(), time.Hour, []event.Record{c.record()}); !errors.Is(err, streams.ErrOverloaded) {
				t.Fatalf("the fourth: %v", err)
			}
			defer streamstest.Run(t, w)()
			for _, wait := range waits {
				if err := <-wait; err != nil {
					t.Errorf("one that waited: %v", err)
				}
			}
			// Once it was sent, there is room again, also for more than the queue holds.
			if _, err := w.Append(t.Context(), time.Hour, streamstest.Records("big", 5)); err != nil {
				t.Fatalf("later: %v", err)
			}
		})
	}
}

func TestCallerThatGivesUpHarmsNobody(t *testing.T) {
	b := streamstest.New(t, streamstest.Miniredis(t).Addr())
	w, reg := idleWriter(t, b, streams.DefaultWriterOptions())
	ctx, cancel := context.WithCancel(t.Context())
	before := appendLater(t.Context(), w, streamstest.Record("before", 1))
	streamstest.Eventually(t, "the first waits", func() bool { return waiting(t, reg) == 1 })
	gone := appendLater(ctx, w, streamstest.Records("gone", 3)...)
	streamstest.Eventually(t, "the second waits", func() bool { return waiting(t, reg) == 4 })
	after := appendLater(t.Context(), w, streamstest.Record("after", 1))
	streamstest.Eventually(t, "the third waits", func() bool { return waiting(t, reg) == 5 })
	cancel()
	if err := <-gone; !errors.Is(err, streams.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Fatalf("err = %v", err)
	}
	defer streamstest.Run(t, w)()
	for _, wait := range []chan error{before, after} {
		if err := <-wait; err != nil {
			t.Fatal(err)
		}
	}
	var orders []string
	for _, e := range b.Entries() {
		order, _ := e.Values[event.FieldOrder].(string)
		orders = append(orders, order)
	}
	slices.Sort(orders)
	if !slices.Equal(orders, []string{"after", "before"}) {
		t.Fatalf("appended %v", orders)
	}
}

func TestStoppedWriterHasSentWhatWaited(t *testing.T) {
	b := streamstest.New(t, streamstest.Miniredis(t).Addr())
	o := streams.DefaultWriterOptions()
	o.MaxBatch = 1 // so that most of it is still to be sent when the end is known
	w, reg := idleWriter(t, b, o)
	var waits []chan error
	for i := range 10 {
		waits = append(waits, appendLater(t.Context(), w, streamstest.Record("A1", i)))
	}
	streamstest.Eventually(t, "all wait", func() bool { return waiting(t, reg) == 10 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Run(ctx); err != nil {
		t.Fatal(err)
	}
	for _, wait := range waits {
		if err := <-wait; err != nil {
			t.Error(err)
		}
	}
	if n := len(b.Entries()); n != 10 {
		t.Errorf("%d entries", n)
	}
	if _, err := w.Append(t.Context(), time.Hour, streamstest.Records("late", 1)); !errors.Is(err, streams.ErrStopped) {
		t.Errorf("after the end: %v", err)
	}
}

func TestRecordThatCannotBeEncodedSendsNothing(t *testing.T) {
	b := streamstest.New(t, streamstest.Miniredis(t).Addr())
	records := streamstest.Records("A1", 2)
	records[1].Event.Account = ""
	_, err := b.Writer.Append(t.Context(), time.Hour, records)
	if !errors.Is(err, event.ErrRecord) || errors.Is(err, streams.ErrUnavailable) {
		t.Fatalf("err = %v", err)
	}
	if n := len(b.Entries()); n != 0 {
		t.Fatalf("%d entries of a callback that cannot be kept whole", n)
	}
	if out, err := b.Writer.Append(t.Context(), time.Hour, nil); err != nil || len(out) != 0 {
		t.Fatalf("of nothing: %v, %v", out, err)
	}
}

// Whoever comes while a batch is on its way is in the next one, so the number of
// pipelines is far below the number of callers.
func TestCallersShareRoundTrips(t *testing.T) {
	b := streamstest.New(t, streamstest.Miniredis(t).Addr())
	w, reg := idleWriter(t, b, streams.DefaultWriterOptions())
	const callers = 100
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			if _, err := w.Append(t.Context(), time.Hour, []event.Record{streamstest.Record("order-"+strconv.Itoa(i), 1)}); err != nil {
				t.Error(err)
			}
		})
	}
	streamstest.Eventually(t, "all wait", func() bool { return waiting(t, reg) == callers })
	defer streamstest.Run(t, w)()
	wg.Wait()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "paybell_streams_append_batch_records" {
			if n := f.GetMetric()[0].GetHistogram().GetSampleCount(); n != 1 {
				t.Fatalf("%d pipelines for what one can carry", n)
			}
			return
		}
	}
	t.Fatal("no such metric")
}

func TestScriptsAreLoadedWithTheConnection(t *testing.T) {
	b := streamstest.New(t, streamstest.Miniredis(t).Addr())
	b.Append(streamstest.Records("A1", 3)...)
	if n := b.Metric("paybell_streams_append_resent_total"); n != 0 {
		t.Fatalf("%v records were sent again with the script", n)
	}
}
