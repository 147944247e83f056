package streamstest

import (
	"context"
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
)

// Suite is the contract of the streams with an engine. Every engine that paybell
// runs on passes it whole; start returns the address of an empty server that
// belongs to the test alone.
func Suite(t *testing.T, start func(testing.TB) string) {
	t.Helper()
	for _, c := range slices.Concat(appendCases, refuseCases, leaseCases, readCases, feedCases, settleCases, trimCases, parkCases, replayCases, ledgerCases, viewCases, panicCases) {
		t.Run(c.name, func(t *testing.T) { c.run(promise{t, start(t)}) })
	}
}

// contract is one promise and what holds it.
type contract struct {
	name string
	run  func(t promise)
}

// promise is the test of one contract, on the server at addr.
type promise struct {
	*testing.T
	addr string
}

// Bench is what a test of the streams works with: a server, its clients, one
// writer that runs, and as many groups as are asked for.
type Bench struct {
	tb      testing.TB
	Options streams.Options
	Layout  streams.Layout
	Write   streams.Client
	Read    streams.Client
	Reg     *prometheus.Registry
	Writer  *streams.Writer
	// orders counts the orders that AppendTo has made up.
	orders int
}

// New returns a Bench on the server at addr. Its options are the defaults with
// two partitions and a short Block; change may change them.
func New(tb testing.TB, addr string, change ...func(*streams.Options)) *Bench {
	tb.Helper()
	o := streams.DefaultOptions()
	o.Redis.Address = addr
	o.Partitions = 2
	o.Block = 100 * time.Millisecond
	for _, f := range change {
		f(&o)
	}
	b := &Bench{tb: tb, Options: o, Reg: prometheus.NewRegistry()}
	var err error
	if b.Layout, err = streams.NewLayout(o.Prefix, o.Partitions); err != nil {
		tb.Fatal(err)
	}
	if b.Write, err = streams.NewWriteClient(o); err != nil {
		tb.Fatal(err)
	}
	if b.Read, err = streams.NewReadClient(o); err != nil {
		tb.Fatal(err)
	}
	b.Writer = streams.NewWriter(b.Write, b.Layout, o.Writer, b.Reg)
	stop := Run(tb, b.Writer)
	tb.Cleanup(func() {
		stop()
		_ = b.Read.Close()  // nothing uses them any more
		_ = b.Write.Close() // likewise
	})
	return b
}

// Run runs a writer until stop is called.
func Run(tb testing.TB, w *streams.Writer) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := w.Run(ctx); err != nil {
			tb.Errorf("writer: %v", err)
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// Group returns a group of the bench, created in every partition, as a process of its own
// would have it.
func (b *Bench) Group(name, consumer string) *streams.Group {
	b.tb.Helper()
	return b.GroupWith(name, consumer, b.Options.Group())
}

// GroupWith is Group with options of its own.
func (b *Bench) GroupWith(name, consumer string, o streams.GroupOptions) *streams.Group {
	b.tb.Helper()
	feed := streams.NewFeed(b.Read, b.Layout, b.Options.Block)
	g, err := streams.NewGroup(b.Write, feed, b.Layout, name, consumer, o, slog.New(slog.DiscardHandler), b.Reg)
	if err != nil {
		b.tb.Fatal(err)
	}
	if err := g.Ensure(b.tb.Context()); err != nil {
		b.tb.Fatal(err)
	}
	b.tb.Cleanup(func() {
		_ = b.Read.Close() // ends the reads that Close waits for
		feed.Close()
	})
	return g
}

// Append appends records as one callback.
func (b *Bench) Append(records ...event.Record) []event.Appended {
	b.tb.Helper()
	out, err := b.Writer.Append(b.tb.Context(), time.Hour, records)
	if err != nil {
		b.tb.Fatal(err)
	}
	return out
}

// AppendTo appends n records of orders that lie in the partition and returns
// their event IDs in append order.
func (b *Bench) AppendTo(partition, n int) []string {
	b.tb.Helper()
	var ids []string
	for len(ids) < n {
		b.orders++
		r := Record("order-"+strconv.Itoa(b.orders), 0)
		if b.Layout.Partition(r.Event.OrderingKey()) == partition {
			b.Append(r)
			ids = append(ids, r.Event.ID)
		}
	}
	return ids
}

// Lease acquires a partition for a group.
func (b *Bench) Lease(g *streams.Group, partition int) *streams.Lease {
	b.tb.Helper()
	l, ok, err := g.Acquire(b.tb.Context(), partition)
	if err != nil || !ok {
		b.tb.Fatalf("acquire partition %d: %v %v", partition, ok, err)
	}
	return l
}

// Take takes at most limit new entries.
func (b *Bench) Take(l *streams.Lease, limit int) []streams.Entry {
	b.tb.Helper()
	es, err := l.Take(b.tb.Context(), limit, 0)
	if err != nil {
		b.tb.Fatal(err)
	}
	return es
}

// Backlog reads the whole backlog.
func (b *Bench) Backlog(l *streams.Lease) []streams.Entry {
	b.tb.Helper()
	var out []streams.Entry
	for after := ""; ; after = out[len(out)-1].ID {
		es, err := l.Backlog(b.tb.Context(), after, 7, 0)
		if err != nil {
			b.tb.Fatal(err)
		}
		if len(es) == 0 {
			return out
		}
		out = append(out, es...)
	}
}

// Settle settles.
func (b *Bench) Settle(l *streams.Lease, s streams.Settlement) {
	b.tb.Helper()
	if err := l.Settle(b.tb.Context(), s); err != nil {
		b.tb.Fatal(err)
	}
}

// Entries are the entries of all partitions.
func (b *Bench) Entries() []redis.XMessage {
	b.tb.Helper()
	var out []redis.XMessage
	for i := range b.Layout.Partitions() {
		m, err := b.Write.XRange(b.tb.Context(), b.Layout.Events(i), "-", "+").Result()
		if err != nil {
			b.tb.Fatal(err)
		}
		out = append(out, m...)
	}
	return out
}

// Pending are the ids of a group's pending entries in a partition.
func (b *Bench) Pending(group string, partition int) []string {
	b.tb.Helper()
	ps, err := b.Write.XPendingExt(b.tb.Context(), &redis.XPendingExtArgs{
		Stream: b.Layout.Events(partition), Group: group, Start: "-", End: "+", Count: 10_000,
	}).Result()
	if err != nil {
		b.tb.Fatal(err)
	}
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = p.ID
	}
	return out
}

// Metric is the value of a counter or gauge with these label values.
func (b *Bench) Metric(name string, labels ...string) float64 {
	b.tb.Helper()
	return metric(b.tb, b.Reg, name, labels...)
}

func metric(tb testing.TB, reg *prometheus.Registry, name string, labels ...string) float64 {
	tb.Helper()
	families, err := reg.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var values []string
			for _, l := range m.GetLabel() {
				values = append(values, l.GetValue())
			}
			if slices.Equal(values, labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	tb.Fatalf("no metric %s{%s}", name, strings.Join(labels, ","))
	return 0
}

// charge writes down that a run of entries begins.
func (b *Bench) charge(l *streams.Lease, run string, ids ...string) {
	b.tb.Helper()
	if err := l.Charge(b.tb.Context(), []streams.Run{{Name: run, IDs: ids}}); err != nil {
		b.tb.Fatal(err)
	}
}

func ids(es []streams.Entry) []string {
	out := make([]string, len(es))
	for i := range es {
		out[i] = es[i].ID
	}
	return out
}

func eventIDs(es []streams.Entry) []string {
	out := make([]string, len(es))
	for i := range es {
		out[i] = es[i].Record.Event.ID
	}
	return out
}
