package handlers_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/paybell/paybell/handlers"
	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/effects/effectstest"
	"github.com/paybell/paybell/handlers/points"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/workers"
)

// perRound is how many events one iteration settles, whatever the size of its batches.
const perRound = 1024

// BenchmarkSettle settles events in batches beside a plain batched upsert of their
// bodies, which is what the database can do at best. On PostgreSQL every commit is
// synced, as it always is on SQLite; "pgbouncer" is the same behind a pooler. "all" is the three groups one after another, and
// counts deliveries. Run it with -benchtime=20x or so: an iteration is 1,024 events.
func BenchmarkSettle(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) { settleAll(b, effectstest.SQLite, nil) })
	b.Run("postgres", func(b *testing.B) {
		server := effectstest.StartPostgres(b, "fsync=on", "full_page_writes=on")
		b.Cleanup(server.Stop)
		settleAll(b, server.Database, server)
	})
	b.Run("pgbouncer", func(b *testing.B) {
		server := effectstest.StartPostgres(b, "fsync=on", "full_page_writes=on")
		b.Cleanup(server.Stop)
		settleAll(b, func(tb testing.TB) effects.Options { return effectstest.StartPgBouncer(tb, server).Options(tb) }, server)
	})
}

func settleAll(b *testing.B, database func(testing.TB) effects.Options, server *effectstest.Server) {
	b.Helper()
	for _, story := range []string{"new", "mixed"} {
		for _, size := range []int{1, 16, 256} {
			for _, what := range []string{"upsert", handlers.OrderStatus, handlers.Points, handlers.EventLog, "all"} {
				b.Run(fmt.Sprintf("%s/%d/%s", story, size, what), func(b *testing.B) {
					settle(b, benchHandlers(b, database(b), what), server, stories[story], size)
				})
			}
		}
	}
}

func settle(b *testing.B, hs []workers.BatchHandler, server *effectstest.Server, story func(n, size int) []event.Event, size int) {
	b.Helper()
	var batches [][]workers.Delivery
	for n := 0; n < b.N*perRound; n += size {
		ds := effectstest.Deliveries("", story(n, size)...)
		for i := range ds {
			ds[i].Raw = benchBody
		}
		batches = append(batches, ds)
	}
	used := func() time.Duration { return 0 }
	if server != nil {
		used = func() time.Duration { return server.CPU(b) }
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	ours, theirs := ownCPU(), used()
	b.ResetTimer()
	for _, ds := range batches {
		for _, h := range hs {
			if err := errors.Join(h.HandleBatch(b.Context(), ds)...); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.StopTimer()
	ours, theirs = ownCPU()-ours, used()-theirs
	runtime.ReadMemStats(&after)
	each := float64(b.N * perRound * len(hs))
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(each/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(ours.Microseconds())/each, "cpu-us/event")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/each, "allocs/event")
	if server != nil {
		b.ReportMetric(float64(theirs.Microseconds())/each, "server-us/event")
	}
}

// ownCPU is the processor time this process has used.
func ownCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // It cannot fail with these arguments.
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

var benchBody = benchCallback()

func benchHandlers(tb testing.TB, o effects.Options, what string) []workers.BatchHandler {
	tb.Helper()
	names := []string{what}
	switch what {
	case "upsert":
		return []workers.BatchHandler{newUpsert(tb, o)}
	case "all":
		names = handlers.Names()
	}
	s := effectstest.Open(tb, o, effects.Deps{})
	var out []workers.BatchHandler
	for _, name := range names {
		h, err := handlers.Builtin(name, handlers.Deps{Store: s, Points: points.DefaultOptions()})
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, h)
	}
	return out
}

// stories make the events n to n+size.
var stories = map[string]func(n, size int) []event.Event{
	// new: every event pays an order of its own.
	"new": func(n, size int) []event.Event {
		out := make([]event.Event, size)
		for i := range out {
			out[i] = paid(n+i, n+i)
		}
		return out
	},
	// mixed: an order is paid, told again in other words, and partly given back by an event
	// that names the payment alone; the four events come a hundred apart.
	"mixed": func(n, size int) []event.Event {
		out := make([]event.Event, size)
		for i := range out {
			part, order := (n+i)/100%4, (n+i)/400*100+(n+i)%100
			e := paid(n+i, order)
			switch part {
			case 0:
				e.Type = event.PaymentPending
			case 2:
				back := effectstest.CNY(300)
				e.Type = event.RefundSucceeded
				e.Payment = &event.Payment{ParentRef: e.Payment.ProviderRef}
				e.Refund = &event.Refund{ProviderRef: fmt.Sprintf("re_%d", order), Amount: &back}
			}
			out[i] = e
		}
		return out
	},
}

func paid(n, order int) event.Event {
	e := effectstest.Event(n, event.PaymentSucceeded, fmt.Sprintf("A%d", order), fmt.Sprintf("pi_%d", order), effectstest.CNY(8800))
	e.Merchant.CustomerRef = fmt.Sprintf("customer-%d", order%5000)
	return e
}

// upsert writes the bodies and nothing else.
type upsert func(context.Context, []workers.Delivery) error

// HandleBatch implements workers.BatchHandler.
func (f upsert) HandleBatch(ctx context.Context, ds []workers.Delivery) []error {
	return []error{f(ctx, ds)}
}

// newUpsert returns the plainest thing that keeps the bodies: one statement over arrays
// on PostgreSQL, one prepared statement a row in one transaction on SQLite.
func newUpsert(tb testing.TB, o effects.Options) upsert {
	tb.Helper()
	driver, dsn := "sqlite", "file:"+o.SQLite+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_txlock=immediate"
	if o.SQLite == "" {
		read, err := o.Postgres.Read()
		if err != nil {
			tb.Fatal(err)
		}
		driver, dsn = "pgx", read.Value.Reveal()
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() }) // It is for this benchmark alone.
	if _, err := db.ExecContext(tb.Context(), `CREATE TABLE bodies (id text PRIMARY KEY, status text NOT NULL, body text NOT NULL)`); err != nil {
		tb.Fatal(err)
	}
	if driver == "pgx" {
		return func(ctx context.Context, ds []workers.Delivery) error {
			ids, bodies := make([]string, len(ds)), make([]string, len(ds))
			for i := range ds {
				ids[i], bodies[i] = ds[i].Event.ID, string(ds[i].Raw)
			}
			_, err := db.ExecContext(ctx, `INSERT INTO bodies (id, status, body)
				SELECT u.id, 'done', u.body FROM unnest($1::text[], $2::text[]) AS u (id, body)
				ON CONFLICT (id) DO UPDATE SET status = excluded.status, body = excluded.body`, ids, bodies)
			return err
		}
	}
	row, err := db.PrepareContext(tb.Context(), `INSERT INTO bodies (id, status, body) VALUES (?, 'done', ?)
		ON CONFLICT (id) DO UPDATE SET status = excluded.status, body = excluded.body`)
	if err != nil {
		tb.Fatal(err)
	}
	return func(ctx context.Context, ds []workers.Delivery) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() //nolint:errcheck // After a commit there is nothing to roll back.
		in := tx.StmtContext(ctx, row)
		defer in.Close()
		for i := range ds {
			if _, err := in.ExecContext(ctx, ds[i].Event.ID, string(ds[i].Raw)); err != nil {
				return err
			}
		}
		return tx.Commit()
	}
}

// benchCallback is a body as a provider sends it, about 1,200 bytes.
func benchCallback() []byte {
	b := []byte(`{"id":"evt_1NG8Du2eZvKYlo2CUI79vXWy","object":"event","api_version":"2024-06-20","type":"payment_intent.succeeded"`)
	for i := 0; len(b) < 1180; i++ {
		b = fmt.Appendf(b, `,"field_%d":"%x"`, i, sha256.Sum256([]byte{byte(i)}))
	}
	return append(b, '}')
}
