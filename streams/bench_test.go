package streams_test

import (
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/streams/streamstest"
)

// callers is how many callbacks are under way at once.
const callers = 128

// BenchmarkAppend compares the group commit with one XADD a request, which keeps
// no marks, on a server of its own.
func BenchmarkAppend(b *testing.B) {
	for _, fsync := range []string{"", "everysec", "always"} {
		var args []string
		name := "no-aof"
		if fsync != "" {
			args, name = streamstest.AOF(fsync), fsync
		}
		for _, lanes := range []int{1, 4} {
			b.Run(name+"/lanes="+strconv.Itoa(lanes), func(b *testing.B) {
				bench := streamstest.New(b, streamstest.Redis(b, args...).Addr(), func(o *streams.Options) {
					o.Partitions, o.Writer.Connections = 16, lanes
				})
				parallel(b, func(r event.Record) error {
					_, err := bench.Writer.Append(b.Context(), time.Hour, []event.Record{r})
					return err
				})
			})
		}
		b.Run(name+"/naive", func(b *testing.B) {
			bench := streamstest.New(b, streamstest.Redis(b, args...).Addr(), func(o *streams.Options) {
				o.Partitions, o.Redis.Connections = 16, callers
			})
			parallel(b, func(r event.Record) error {
				fields, err := r.Fields()
				if err != nil {
					return err
				}
				p := bench.Layout.Partition(r.Event.OrderingKey())
				return bench.Write.XAdd(b.Context(), &redis.XAddArgs{Stream: bench.Layout.Events(p), Values: fields}).Err()
			})
		})
	}
}

func parallel(b *testing.B, do func(event.Record) error) {
	b.Helper()
	b.ReportAllocs()
	raw := make([]byte, 1185)
	var next atomic.Int64
	b.SetParallelism(callers / 2) // of two cores
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r := streamstest.Record("order-"+strconv.FormatInt(next.Add(1), 10), 1)
			r.Raw = raw
			if err := do(r); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkDrain reads and settles 100,000 entries of one partition, 256 at a time.
func BenchmarkDrain(b *testing.B) {
	const entries = 100_000
	bench := streamstest.New(b, streamstest.Redis(b).Addr(), func(o *streams.Options) { o.Partitions = 1 })
	for i := range entries / 500 {
		bench.Append(streamstest.Records(strconv.Itoa(i), 500)...)
	}
	groups := 0
	for b.Loop() {
		groups++
		g := bench.Group("g"+strconv.Itoa(groups), "w1")
		l := bench.Lease(g, 0)
		for left := entries; left > 0; {
			es := bench.Take(g, l, 256)
			var s streams.Settlement
			for _, e := range es {
				s.Done = append(s.Done, e.ID)
			}
			bench.Settle(g, l, s)
			left -= len(es)
			bench.Lease(g, 0) // renewed, as a worker would
		}
	}
	b.ReportMetric(float64(groups)*entries/b.Elapsed().Seconds(), "events/s")
}
