package effects_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/handlers"
	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/effects/effectstest"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/workers"
	"github.com/paybell/paybell/workers/workertest"
)

// outcomes reads how many deliveries of a pool came to one outcome.
func outcomes(t *testing.T, reg prometheus.Gatherer, outcome string) (n float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "paybell_workers_deliveries_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetValue() == outcome {
					n += m.GetCounter().GetValue()
				}
			}
		}
	}
	return n
}

// TestTableThatIsLockedChargesNobody: another session keeps a table for itself, as an index
// build does, or a psql that was left open. The group's transactions are ended by
// statement_timeout of the database or the role, or by the attempt's own deadline, each
// several times as often as it takes to make a dead letter; when the table is free
// everything is applied, and nobody was charged for the wait.
func TestTableThatIsLockedChargesNobody(t *testing.T) {
	for name, c := range map[string]struct {
		set     string
		timeout time.Duration
		pooler  []string
	}{
		"statement_timeout of the database":       {"DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = 400', current_database()); END $$", 10 * time.Second, nil},
		"statement_timeout of the role":           {"DROP ROLE IF EXISTS cashier; CREATE ROLE cashier SUPERUSER LOGIN; ALTER ROLE cashier SET statement_timeout = 400", 10 * time.Second, nil},
		"the attempt's deadline":                  {"SELECT 1", time.Second, nil},
		"the attempt's deadline behind PgBouncer": {"SELECT 1", time.Second, []string{"default_pool_size=2"}},
		"query_wait_timeout of PgBouncer":         {"SELECT 1", 10 * time.Second, []string{"default_pool_size=2", "query_wait_timeout=1", "query_timeout=2"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := effectstest.Postgres(t)
			server := o
			if c.pooler != nil {
				pooler := effectstest.PgBouncer(t, c.pooler...)
				o, server = pooler.Options(t), pooler.DirectOptions(t)
			}
			effectstest.Open(t, server, effects.Deps{})
			dsn, err := os.ReadFile(server.Postgres.File)
			if err != nil {
				t.Fatal(err)
			}
			operator, err := pgx.Connect(t.Context(), string(dsn))
			if err != nil {
				t.Fatal(err)
			}
			defer operator.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // the server closes it too
			run := func(query string) {
				t.Helper()
				if _, err := operator.Exec(t.Context(), query); err != nil {
					t.Fatal(err)
				}
			}
			run(c.set)
			parameter := "application_name=busy"
			if name == "statement_timeout of the role" {
				parameter = "user=cashier"
			}
			s := openWith(t, o, parameter)
			h, err := handlers.Builtin(handlers.OrderStatus, handlers.Deps{Store: s})
			if err != nil {
				t.Fatal(err)
			}

			g := workertest.NewGroup(handlers.OrderStatus, 4, time.Minute, time.Now)
			n := 0
			pay := func(orders int) {
				records := make([]event.Record, orders)
				for i := range records {
					n++
					records[i].Event = effectstest.Event(n, event.PaymentSucceeded, fmt.Sprint("A", n), fmt.Sprint("pi_", n), effectstest.CNY(8800))
				}
				g.Append(records...)
			}
			reg := prometheus.NewRegistry()
			pool := workers.NewPool(slog.New(slog.DiscardHandler), reg, time.Now)
			w := workers.DefaultOptions()
			w.Attempts, w.Timeout = 2, c.timeout
			w.Backoff = workers.Backoff{Initial: time.Millisecond, Max: 5 * time.Millisecond}
			if err := pool.AddBatch(g.Consumer("one"), h, w); err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- pool.Run(ctx) }()
			defer func() {
				stop()
				if err := <-ended; err != nil {
					t.Errorf("run: %v", err)
				}
			}()

			pay(20)
			effectstest.Eventually(t, "what came before is applied", func() bool { return g.Owed() == 0 })
			run("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
			pay(40)
			late := time.After(6 * time.Second)
			effectstest.Eventually(t, "the group has been held up many times", func() bool {
				return outcomes(t, reg, "unavailable") >= 40
			})
			<-late
			run("COMMIT")
			effectstest.Eventually(t, "all is applied", func() bool { return g.Owed() == 0 })
			if dead, retried := len(g.Dead()), outcomes(t, reg, "retry"); dead != 0 || retried != 0 {
				t.Errorf("%d dead letters, %v charged attempts, want none of either", dead, retried)
			}
			var paid int
			if err := operator.QueryRow(t.Context(), `SELECT count(*) FROM orders WHERE status = 'paid'`).Scan(&paid); err != nil {
				t.Fatal(err)
			}
			if paid != n {
				t.Errorf("%d of %d orders are paid", paid, n)
			}
		})
	}
}
