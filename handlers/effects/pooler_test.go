package effects_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/paybell/paybell/handlers"
	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/effects/effectstest"
	"github.com/paybell/paybell/handlers/points"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/workers"
)

// left reads one number from the database behind a pooler, without it.
func left(t *testing.T, c *pgx.Conn, query string) (n int) {
	t.Helper()
	if err := c.QueryRow(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// TestPgBouncerInTransactionMode makes effects of all groups by two stores at the same time
// through a pooler with two sessions, which is restarted meanwhile. Every effect is there
// once, nobody is charged, and no session keeps what a transaction did in it.
func TestPgBouncerInTransactionMode(t *testing.T) {
	pooler := effectstest.PgBouncer(t)
	o := pooler.Options(t)
	if s := effectstest.Open(t, o, effects.Deps{}); !effects.Shared(s) { // It has migrated through the pooler.
		t.Error("the pooler is not recognised")
	}
	direct := pooler.Direct(t)
	defer direct.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // The server is stopped anyway.
	// clean looks at what the next client of a session finds in it.
	clean := func() {
		t.Helper()
		next, err := pgx.Connect(t.Context(), pooler.DSN()+"&default_query_exec_mode=simple_protocol")
		if err != nil {
			t.Fatal(err)
		}
		defer next.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // As above.
		for what, query := range map[string]string{
			"prepared statements": `SELECT count(*)::int FROM pg_prepared_statements`,
			"session settings":    `SELECT count(*)::int FROM pg_settings WHERE source = 'session' AND name IN ('enable_seqscan', 'idle_in_transaction_session_timeout')`,
			"session locks":       `SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory'`,
		} {
			if n := left(t, next, query); n != 0 {
				t.Errorf("%d %s are left in a session", n, what)
			}
		}
	}
	clean()

	const perStore, size = 400, 8
	var away, charged atomic.Int64
	var running sync.WaitGroup
	half := make(chan struct{}, 2*len(handlers.Names()))
	for w := range 2 {
		s, err := effects.Open(t.Context(), o, effects.Deps{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for _, group := range handlers.Names() {
			h, err := handlers.Builtin(group, handlers.Deps{Store: s, Points: points.DefaultOptions()})
			if err != nil {
				t.Fatal(err)
			}
			running.Go(func() {
				for from := 0; from < perStore; from += size {
					if from == perStore/2 {
						half <- struct{}{}
					}
					ds := effectstest.Deliveries(group, paidThenTold(w*perStore+from, size, false)...)
					for len(ds) > 0 && t.Context().Err() == nil {
						var again []workers.Delivery
						for i, err := range h.HandleBatch(t.Context(), ds) {
							switch {
							case err == nil:
								continue
							case workers.IsUnavailable(err):
								away.Add(1)
							case !errors.Is(err, workers.ErrHeld):
								charged.Add(1)
								t.Errorf("a failure of the pooler's is told as %v", err)
							}
							again = append(again, ds[i])
						}
						if ds = again; len(ds) > 0 {
							<-time.After(20 * time.Millisecond) // A worker pauses, too.
						}
					}
				}
			})
		}
	}
	<-half
	clean()
	pooler.Kill()
	effectstest.Eventually(t, "nobody gets through", func() bool { return away.Load() > 0 })
	pooler.Start(t)
	running.Wait()

	for what, query := range map[string]string{
		"orders paid":      `SELECT count(*) FROM orders WHERE status = 'paid' AND captured_minor = 8800`,
		"rows of history":  `SELECT count(*) FROM order_history`,
		"rows of evidence": `SELECT count(*) FROM event_log`,
		"orders of points": `SELECT count(*) FROM points_orders`,
	} {
		if n := left(t, direct, query); n != 2*perStore {
			t.Errorf("%s: %d, want %d", what, n, 2*perStore)
		}
	}
	clean()
}

// TestWhatOthersLeaveInASession: another program's settings stay in the only session there
// is. They do not reach the transactions of effects, and paybell's do not reach it.
func TestWhatOthersLeaveInASession(t *testing.T) {
	pooler := effectstest.PgBouncer(t, "default_pool_size=1")
	migrateWithout(t, pooler)
	other, err := pgx.Connect(t.Context(), pooler.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // The pooler is stopped anyway.
	const settings = `SELECT current_setting('synchronous_commit') || ' ' || current_setting('enable_seqscan') || ' ' ||
		current_setting('idle_in_transaction_session_timeout') || ' ' || current_setting('transaction_isolation')`
	if _, err := other.Exec(t.Context(), `SET synchronous_commit = off; SET default_transaction_isolation = serializable; SET idle_in_transaction_session_timeout = 7000`); err != nil {
		t.Fatal(err)
	}
	var inside string
	out := openPooled(t, pooler).Handler("g", func(ctx context.Context, tx *effects.Tx, _ []workers.Delivery) error {
		return tx.Query(ctx, scanner(&inside), settings)
	}).HandleBatch(t.Context(), effectstest.Deliveries("g", effectstest.Event(1, event.PaymentSucceeded, "A1", "r1", effectstest.CNY(1))))
	if want := "on off 15s read committed"; out[0] != nil || inside != want {
		t.Errorf("outcome %v, settings of the transaction %q, want %q", out[0], inside, want)
	}
	var outside string
	if err := other.QueryRow(t.Context(), settings, pgx.QueryExecModeSimpleProtocol).Scan(&outside); err != nil || outside != "off on 7s serializable" {
		t.Errorf("the other's settings are %q (%v)", outside, err)
	}
}

// TestSettingsSpelledOtherwise: a pooler repeats what the DSN says.
func TestSettingsSpelledOtherwise(t *testing.T) {
	pooler := effectstest.PgBouncer(t)
	for _, o := range []effects.Options{pooler.Options(t), pooler.DirectOptions(t)} {
		s := openWith(t, o, "client_encoding=utf-8&datestyle=iso,dmy&standard_conforming_strings=ON")
		if err := s.Ping(t.Context()); err != nil {
			t.Errorf("ping = %v", err)
		}
	}
}

// TestPoolerThatIsNotRecognised hands a store another client's session: its prepared
// statements are there already, and those it has prepared are not. It goes over to
// statements without names by itself, and charges nobody.
func TestPoolerThatIsNotRecognised(t *testing.T) {
	for name, spoil := range map[string]string{
		"not there (26000)":     `DEALLOCATE ALL`,
		"there already (42P05)": `PREPARE %s AS SELECT 1`,
	} {
		t.Run(name, func(t *testing.T) {
			s := effectstest.Open(t, effectstest.Postgres(t), effects.Deps{})
			var spoilt atomic.Bool
			apply := func(ctx context.Context, tx *effects.Tx, ds []workers.Delivery) error {
				query := `SELECT 1 + $1::int`
				if !spoilt.Load() {
					if spoil == `DEALLOCATE ALL` {
						if _, err := tx.Exec(ctx, query, 1); err != nil {
							return err
						}
						spoilt.Store(true)
						if _, err := tx.Exec(ctx, spoil); err != nil {
							return err
						}
					} else {
						spoilt.Store(true)
						if _, err := tx.Exec(ctx, fmt.Sprintf(spoil, effects.StatementName(query))); err != nil {
							return err
						}
					}
				}
				_, err := tx.Exec(ctx, query, len(ds))
				return err
			}
			ds := effectstest.Deliveries("g", effectstest.Event(1, event.PaymentSucceeded, "A1", "r1", effectstest.CNY(1)))
			if out := s.Handler("g", apply).HandleBatch(t.Context(), ds); out[0] != nil {
				t.Errorf("outcome = %v, want nil", out[0])
			}
			if !spoilt.Load() || !effects.Shared(s) {
				t.Errorf("spoilt %v, sessions are taken for shared: %v", spoilt.Load(), effects.Shared(s))
			}
			var kept int
			err := s.Update(t.Context(), func(ctx context.Context, tx *effects.Tx) error {
				if _, err := tx.Exec(ctx, `SELECT 2 + $1::int`, 1); err != nil {
					return err
				}
				return tx.Query(ctx, scanner(&kept), `SELECT count(*) FROM pg_prepared_statements WHERE name <> ''`)
			})
			if err != nil || kept != 0 {
				t.Errorf("%d statements are kept (%v), want none", kept, err)
			}
		})
	}
}

// TestDirectConnectionKeepsItsStatements: without a pooler nothing is planned twice, and
// the session's settings are made once.
func TestDirectConnectionKeepsItsStatements(t *testing.T) {
	s := effectstest.Open(t, effectstest.Postgres(t), effects.Deps{})
	settle(t, s, handlers.OrderStatus, 0, 250, false)
	var kept int
	var scan, stall string
	err := s.Update(t.Context(), func(ctx context.Context, tx *effects.Tx) error {
		return tx.Query(ctx, scanner(&kept, &scan, &stall), `SELECT (SELECT count(*) FROM pg_prepared_statements),
			current_setting('enable_seqscan'), current_setting('idle_in_transaction_session_timeout')`)
	})
	if err != nil {
		t.Fatal(err)
	}
	if kept < 5 || scan != "off" || stall != "15s" || effects.Shared(s) {
		t.Errorf("%d statements are kept, enable_seqscan %s, stall %s, shared %v", kept, scan, stall, effects.Shared(s))
	}
}

// TestBusyPoolerChargesNobody: no session is free in time, no connection is taken any more,
// or the server behind the pooler is gone. Groups pause and go on by themselves.
func TestBusyPoolerChargesNobody(t *testing.T) {
	t.Run("no session is free", func(t *testing.T) {
		pooler := effectstest.PgBouncer(t, "default_pool_size=1", "query_wait_timeout=1")
		direct := pooler.Direct(t)
		defer direct.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // The server is stopped anyway.
		migrateWithout(t, pooler)
		h := openPooled(t, pooler).Handler("g", applied)
		hog, err := pgx.Connect(t.Context(), pooler.DSN())
		if err != nil {
			t.Fatal(err)
		}
		defer hog.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // As above.
		if _, err := hog.Exec(t.Context(), "BEGIN"); err != nil {
			t.Fatal(err)
		}
		pausesAndGoesOn(t, h, "query_wait_timeout", func() {
			if _, err := hog.Exec(t.Context(), "COMMIT"); err != nil {
				t.Fatal(err)
			}
		})
	})
	t.Run("no connection is taken", func(t *testing.T) {
		pooler := effectstest.PgBouncer(t, "max_client_conn=1")
		migrateWithout(t, pooler)
		h := openPooled(t, pooler).Handler("g", applied)
		hog, err := pgx.Connect(t.Context(), pooler.DSN())
		if err != nil {
			t.Fatal(err)
		}
		pausesAndGoesOn(t, h, "no more connections allowed", func() {
			if err := hog.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	})
	t.Run("the server is gone", func(t *testing.T) {
		server := effectstest.StartPostgres(t)
		t.Cleanup(server.Stop)
		pooler := effectstest.StartPgBouncer(t, server, "query_wait_timeout=2")
		migrateWithout(t, pooler)
		h := openPooled(t, pooler).Handler("g", applied)
		server.Kill()
		pausesAndGoesOn(t, h, "", func() { server.Start(t) })
	})
	t.Run("the server has no connection left", func(t *testing.T) {
		server := effectstest.StartPostgres(t)
		t.Cleanup(server.Stop)
		pooler := effectstest.StartPgBouncer(t, server, "query_wait_timeout=2")
		migrateWithout(t, pooler)
		direct := pooler.Direct(t)
		defer direct.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // As above.
		limit := func(n int) {
			t.Helper()
			if _, err := direct.Exec(t.Context(), fmt.Sprintf(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I CONNECTION LIMIT %d', current_database()); END $$`, n)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := direct.Exec(t.Context(), `CREATE ROLE guest LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO guest`); err != nil {
			t.Fatal(err)
		}
		limit(0)
		pooler.As(t, "guest")
		h := openPooled(t, pooler).Handler("g", applied)
		pausesAndGoesOn(t, h, "", func() { limit(-1) })
	})
}

// openPooled opens a store through the pooler. It is not migrated.
func openPooled(t *testing.T, p *effectstest.Pooler) *effects.Store {
	t.Helper()
	return openWith(t, p.Options(t), "application_name=pooled")
}

// migrateWithout migrates the database behind a pooler, without it.
func migrateWithout(t *testing.T, p *effectstest.Pooler) {
	t.Helper()
	s, err := effects.Open(t.Context(), p.DirectOptions(t), effects.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// pausesAndGoesOn runs a batch until it has been unavailable twice, mends the cause, and
// runs it until it is applied.
func pausesAndGoesOn(t *testing.T, h workers.BatchHandler, says string, mend func()) {
	t.Helper()
	ds := effectstest.Deliveries("g",
		effectstest.Event(1, event.PaymentSucceeded, "A1", "r1", effectstest.CNY(1)),
		effectstest.Event(2, event.PaymentSucceeded, "A2", "r2", effectstest.CNY(1)))
	run := func(within time.Duration) []error {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		out := h.HandleBatch(ctx, ds)
		for _, err := range out {
			if err != nil && !workers.IsUnavailable(err) {
				t.Fatalf("outcomes = %v, want an unavailable database", out)
			}
		}
		return out
	}
	for range 2 {
		out := run(30 * time.Second)
		if out[0] == nil || !strings.Contains(out[0].Error(), says) {
			t.Fatalf("outcome = %v, want one that says %q", out[0], says)
		}
	}
	if out := run(300 * time.Millisecond); out[0] == nil { // The attempt ends before the pooler does.
		t.Fatal("applied by a database that is away")
	}
	mend()
	effectstest.Eventually(t, "all is applied", func() bool {
		return !slices.ContainsFunc(run(30*time.Second), func(err error) bool { return err != nil })
	})
}
