package streams_test

import (
	"regexp"
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
// no marks, on a server of its own: beside the rate what an event costs Redis, in CPU,
// in bytes of its file and in script calls.
func BenchmarkAppend(b *testing.B) {
	for _, fsync := range []string{"", "everysec", "always"} {
		var args []string
		name := "no-aof"
		if fsync != "" {
			args, name = append(streamstest.AOF(fsync), "--auto-aof-rewrite-percentage", "0"), fsync
		}
		for _, lanes := range []int{1, 2, 4} {
			b.Run(name+"/lanes="+strconv.Itoa(lanes), func(b *testing.B) {
				bench := streamstest.New(b, streamstest.Redis(b, args...).Addr(), func(o *streams.Options) {
					o.Partitions, o.Writer.Connections = 16, lanes
				})
				parallel(b, bench, func(r event.Record) error {
					_, err := bench.Writer.Append(b.Context(), time.Hour, []event.Record{r})
					return err
				})
			})
		}
		b.Run(name+"/naive", func(b *testing.B) {
			bench := streamstest.New(b, streamstest.Redis(b, args...).Addr(), func(o *streams.Options) {
				o.Partitions, o.Redis.Connections = 16, callers
			})
			parallel(b, bench, func(r event.Record) error {
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

var (
	fileSize    = regexp.MustCompile(`aof_current_size:(\d+)`)
	scriptCalls = regexp.MustCompile(`cmdstat_evalsha:calls=(\d+)`)
)

// figure is a sum over what INFO says of the server, 0 where it says nothing.
func figure(b *testing.B, bench *streamstest.Bench, section string, form *regexp.Regexp) float64 {
	b.Helper()
	text, err := bench.Write.Info(b.Context(), section).Result()
	if err != nil {
		b.Fatal(err)
	}
	var sum float64
	for _, m := range form.FindAllStringSubmatch(text, -1) {
		n, _ := strconv.ParseFloat(m[1], 64) // digits
		sum += n
	}
	return sum
}

func parallel(b *testing.B, bench *streamstest.Bench, do func(event.Record) error) {
	b.Helper()
	b.ReportAllocs()
	raw := make([]byte, 1185)
	var next atomic.Int64
	cpu, file := figure(b, bench, "cpu", usedCPU), figure(b, bench, "persistence", fileSize)
	b.SetParallelism(callers / 2) // of two cores
	b.ResetTimer()
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
	b.StopTimer()
	n := float64(b.N)
	b.ReportMetric(n/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric((figure(b, bench, "cpu", usedCPU)-cpu)*1e6/n, "redis-us/event")
	b.ReportMetric((figure(b, bench, "persistence", fileSize)-file)/n, "aof-B/event")
	b.ReportMetric(figure(b, bench, "commandstats", scriptCalls)/n, "scripts/event")
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
			es := bench.Take(l, 256)
			var s streams.Settlement
			for _, e := range es {
				s.Done = append(s.Done, e.ID)
			}
			bench.Settle(l, s)
			left -= len(es)
			bench.Lease(g, 0) // renewed, as a worker would
		}
	}
	b.ReportMetric(float64(groups)*entries/b.Elapsed().Seconds(), "events/s")
}
