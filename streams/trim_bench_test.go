package streams_test

import (
	"regexp"
	"testing"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/streamstest"
)

var scriptMicros = regexp.MustCompile(`cmdstat_evalsha:calls=\d+,usec=(\d+)`)

// BenchmarkTrim is what looking after 16 partitions costs Redis, by INFO commandstats: one
// pass of the trimmer, with and without comparing the accounts, and one reading of the
// accounts, with nothing to do, with 100 and 1,000 entries pending in each partition, and with
// 1,000 unread.
func BenchmarkTrim(b *testing.B) {
	groups := []string{"orderstatus", "points", "eventlog"}
	for _, state := range []struct {
		name            string
		unread, pending int
	}{{"idle", 0, 0}, {"pending=100", 0, 100}, {"pending=1000", 0, 1000}, {"unread=1000", 1000, 10}} {
		b.Run(state.name, func(b *testing.B) {
			bench := streamstest.New(b, streamstest.Redis(b).Addr(), func(o *streams.Options) { o.Partitions = 16 })
			trim := bench.Trimmer(groups, []string{"shipping"}, func(o *streams.TrimOptions) { o.Keep = streams.DefaultOptions().Keep })
			if _, err := trim.Trim(b.Context()); err != nil {
				b.Fatal(err)
			}
			for i := range 16 {
				bench.AppendTo(i, state.unread+state.pending)
			}
			for _, name := range groups {
				g := bench.Group(name, "w1")
				for i := range 16 {
					l := bench.Lease(g, i)
					for left := state.pending; left > 0; {
						left -= len(bench.Take(l, min(left, 256)))
					}
				}
			}
			ledger := streams.NewLedger(bench.Write, bench.Layout, groups, discard(), bench.Reg)
			for _, what := range []struct {
				name string
				do   func() error
			}{
				{"trim", func() error { return trim.Pass(b.Context(), false) }},
				{"trim and audit", func() error { return trim.Pass(b.Context(), true) }},
				{"ledger", func() error { _, err := ledger.Read(b.Context()); return err }},
			} {
				b.Run(what.name, func(b *testing.B) {
					calls, micros := figure(b, bench, "commandstats", scriptCalls), figure(b, bench, "commandstats", scriptMicros)
					for b.Loop() {
						if err := what.do(); err != nil {
							b.Fatal(err)
						}
					}
					b.ReportMetric((figure(b, bench, "commandstats", scriptCalls)-calls)/float64(b.N), "scripts/pass")
					b.ReportMetric((figure(b, bench, "commandstats", scriptMicros)-micros)/float64(b.N), "redis-us/pass")
				})
			}
		})
	}
}
