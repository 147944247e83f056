package handlers_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/paybell/paybell/handlers"
	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/effects/effectstest"
	"github.com/paybell/paybell/handlers/points"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/workers"
)

// BenchmarkHandler makes the effects of new orders, one paid event each, in batches
// of 256, on a server that syncs every commit.
func BenchmarkHandler(b *testing.B) {
	for _, database := range []struct {
		name string
		open func(testing.TB) effects.Options
	}{
		{"sqlite", effectstest.SQLite},
		{"postgres", func(tb testing.TB) effects.Options {
			tb.Helper()
			server := effectstest.StartPostgres(tb, "fsync=on", "full_page_writes=on")
			tb.Cleanup(server.Stop)
			return server.Database(tb)
		}},
	} {
		for _, name := range handlers.Names() {
			b.Run(database.name+"/"+name, func(b *testing.B) {
				s := effectstest.Open(b, database.open(b), effects.Deps{})
				h, err := handlers.Builtin(name, handlers.Deps{Store: s, Points: points.DefaultOptions()})
				if err != nil {
					b.Fatal(err)
				}
				run(b, h, name)
			})
		}
	}
}

func run(b *testing.B, h workers.BatchHandler, group string) {
	b.Helper()
	const size = 256
	body := make([]byte, 1200)
	n := 0
	for b.Loop() {
		b.StopTimer()
		events := make([]event.Event, size)
		for i := range events {
			n++
			events[i] = effectstest.Event(n, event.PaymentSucceeded, fmt.Sprintf("A%d", n), fmt.Sprintf("pi_%d", n), effectstest.CNY(8800))
			events[i].Merchant.CustomerRef = fmt.Sprintf("customer-%d", n%5000)
		}
		ds := effectstest.Deliveries(group, events...)
		for i := range ds {
			ds[i].Raw = body
		}
		b.StartTimer()
		if err := errors.Join(h.HandleBatch(b.Context(), ds)...); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}
