package workers_test

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/streams/streamstest"
	"github.com/paybell/paybell/workers"
	"github.com/paybell/paybell/workers/workertest"
)

// drain runs a handler that does nothing until n events went through it.
func drain(b *testing.B, log workers.Log, n int, inBatches bool) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var handled atomic.Int64
	count := func(more int) {
		if handled.Add(int64(more)) >= int64(n) {
			cancel()
		}
	}
	pool := workers.NewPool(slog.New(slog.DiscardHandler), nil, time.Now)
	var err error
	if inBatches {
		err = pool.AddBatch(log, batch(func(_ context.Context, ds []workers.Delivery) []error {
			count(len(ds))
			return make([]error, len(ds))
		}), workers.DefaultOptions())
	} else {
		err = pool.Add(log, workers.HandlerFunc(func(context.Context, workers.Delivery) error {
			count(1)
			return nil
		}), workers.DefaultOptions())
	}
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	cpu := cpuTime(b)
	b.ResetTimer()
	if err := pool.Run(ctx); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(cpuTime(b)-cpu)/float64(n), "cpu-ns/event")
}

// cpuTime is the time this process has spent on its cores, which other processes on
// the machine change less than they change the clock's.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// endless is a log of one partition that never runs out and remembers nothing, so
// that the figures are the pool's.
type endless struct {
	workers.Lease

	recs []event.Record
	n    int
}

func newEndless(orders int) *endless {
	e := &endless{}
	for i := range orders {
		e.recs = append(e.recs, workertest.Record("evt", fmt.Sprint("order-", i)))
	}
	return e
}

func (*endless) Name() string                           { return "endless" }
func (*endless) Partitions() int                        { return 1 }
func (*endless) LeaseTTL() time.Duration                { return time.Minute }
func (*endless) Ensure(context.Context) error           { return nil }
func (*endless) Heartbeat(context.Context) (int, error) { return 1, nil }
func (*endless) Leave(context.Context) error            { return nil }

func (e *endless) Appended(context.Context, int) (time.Time, error)          { return time.Time{}, nil }
func (e *endless) Advance(context.Context, int, time.Time) error             { return nil }
func (e *endless) Acquire(context.Context, int) (workers.Lease, bool, error) { return e, true, nil }

func (*endless) Partition() int                { return 0 }
func (*endless) Epoch() int64                  { return 1 }
func (*endless) Renew(context.Context) error   { return nil }
func (*endless) Release(context.Context) error { return nil }
func (*endless) Adopt(context.Context) error   { return nil }
func (*endless) Replays() int64                { return 0 }

func (*endless) Parked(context.Context, int, int) ([]streams.Parked, error) { return nil, nil }

func (*endless) Backlog(context.Context, string, int, int64) ([]streams.Entry, error) {
	return nil, nil
}

func (e *endless) Take(_ context.Context, limit int, _ int64) ([]streams.Entry, error) {
	es := make([]streams.Entry, limit)
	for i := range es {
		e.n++
		es[i].ID = strconv.Itoa(e.n) + "-0"
		es[i].Record = e.recs[e.n%len(e.recs)]
	}
	return es, nil
}

func (*endless) Charge(context.Context, []streams.Run) error      { return nil }
func (*endless) Settle(context.Context, streams.Settlement) error { return nil }

// BenchmarkLanes is what the pool costs an event: one partition, a handler that
// does nothing, a log that costs little. The figure to look at is cpu-ns/event.
func BenchmarkLanes(b *testing.B) {
	for _, kind := range []string{"BatchHandler", "Handler"} {
		for _, orders := range []int{1, 1000} {
			b.Run(fmt.Sprintf("%s/orders=%d", kind, orders), func(b *testing.B) {
				drain(b, newEndless(orders), b.N, kind == "BatchHandler")
			})
		}
	}
}

// BenchmarkRedis is the same over a redis-server on this machine, with four
// partitions.
func BenchmarkRedis(b *testing.B) {
	for _, kind := range []string{"BatchHandler", "Handler"} {
		b.Run(kind, func(b *testing.B) {
			bench := streamstest.New(b, streamstest.Redis(b).Addr(), func(o *streams.Options) { o.Partitions = 4 })
			var recs []event.Record
			for i := range b.N {
				if recs = append(recs, streamstest.Record(fmt.Sprint("order-", i%1000), i)); len(recs) == 200 || i == b.N-1 {
					bench.Append(recs...)
					recs = recs[:0]
				}
			}
			drain(b, workers.On(bench.Group("g", "one")), b.N, kind == "BatchHandler")
		})
	}
}
