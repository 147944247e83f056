package effects_test

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/effects/effectstest"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/workers"
)

// raced is the store of a race, with the rows that are raced for.
func raced(t *testing.T, tables ...string) (*effects.Store, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewRegistry()
	s := effectstest.Open(t, effectstest.Postgres(t), effects.Deps{Registerer: reg})
	err := s.Update(t.Context(), func(ctx context.Context, tx *effects.Tx) error {
		for _, statement := range tables {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, reg
}

// TestDeadlockIsRunAgainAtOnce makes two batches lock two rows crosswise. PostgreSQL
// ends one of them (40P01), and its worker never hears of it.
func TestDeadlockIsRunAgainAtOnce(t *testing.T) {
	s, reg := raced(t, `CREATE TABLE counters (name text PRIMARY KEY, n integer NOT NULL)`, `INSERT INTO counters VALUES ('a', 0), ('b', 0)`)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	type result struct {
		out  []error
		runs int
	}
	results := make(chan result, 2)
	locked := [2]chan struct{}{make(chan struct{}), make(chan struct{})}
	for worker, path := range [2][2]string{{"a", "b"}, {"b", "a"}} {
		ds := effectstest.Deliveries("g", effectstest.Event(worker, event.PaymentSucceeded, path[0], path[0], effectstest.CNY(1)))
		ds[0].Partition = worker // With a fence of its own, or the second batch would wait for the first one.
		go func() {
			runs := 0
			h := s.Handler("g", func(ctx context.Context, tx *effects.Tx, _ []workers.Delivery) error {
				runs++
				for n, name := range path {
					if _, err := tx.Exec(ctx, `UPDATE counters SET n = n + 1 WHERE name = $1`, name); err != nil {
						return err
					}
					if n == 0 && runs == 1 {
						close(locked[worker])
						select {
						case <-locked[1-worker]:
						case <-ctx.Done():
							return ctx.Err()
						}
					}
				}
				return nil
			})
			results <- result{h.HandleBatch(ctx, ds), runs}
		}()
	}
	runs := 0
	for range 2 {
		r := <-results
		if r.out[0] != nil {
			t.Errorf("outcome = %v, want nil", r.out[0])
		}
		runs += r.runs
	}
	if n := effectstest.Counted(t, reg, "paybell_effects_retries_total"); n != 1 || runs != 3 {
		t.Errorf("%v retries counted in %d runs, want 1 in 3", n, runs)
	}
	var a, b int
	if err := s.Query(t.Context(), scanner(&a, &b), `SELECT (SELECT n FROM counters WHERE name = 'a'), (SELECT n FROM counters WHERE name = 'b')`); err != nil || a != 2 || b != 2 {
		t.Errorf("counters %d and %d, %v, want 2 and 2", a, b, err)
	}
}

// TestSerializationFailureIsRunAgainAtOnce moves a row to another partition of its table
// while a batch waits for it, which PostgreSQL answers with 40001 also where the
// transaction only reads what is committed.
func TestSerializationFailureIsRunAgainAtOnce(t *testing.T) {
	s, reg := raced(t, `CREATE TABLE accounts (name text NOT NULL, region text NOT NULL, n integer NOT NULL) PARTITION BY LIST (region)`,
		`CREATE TABLE accounts_east PARTITION OF accounts FOR VALUES IN ('east')`,
		`CREATE TABLE accounts_west PARTITION OF accounts FOR VALUES IN ('west')`,
		`INSERT INTO accounts VALUES ('a', 'east', 0)`)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	type result struct {
		out  []error
		runs int
	}
	batch := make(chan result, 1)
	err := s.Update(ctx, func(ctx context.Context, tx *effects.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE accounts SET region = 'west' WHERE name = 'a'`); err != nil {
			return err
		}
		go func() {
			runs := 0
			h := s.Handler("g", func(ctx context.Context, tx *effects.Tx, _ []workers.Delivery) error {
				runs++
				_, err := tx.Exec(ctx, `UPDATE accounts SET n = n + 1 WHERE name = 'a'`)
				return err
			})
			ds := effectstest.Deliveries("g", effectstest.Event(1, event.PaymentSucceeded, "A1", "r1", effectstest.CNY(1)))
			batch <- result{h.HandleBatch(ctx, ds), runs}
		}()
		effectstest.Eventually(t, "the batch waits for the row", func() bool {
			var n int
			if err := s.Query(ctx, scanner(&n), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`); err != nil {
				t.Fatal(err)
			}
			return n == 1
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r := <-batch
	if r.out[0] != nil {
		t.Errorf("outcome = %v, want nil", r.out[0])
	}
	if n := effectstest.Counted(t, reg, "paybell_effects_retries_total"); n != 1 || r.runs != 2 {
		t.Errorf("%v retries counted in %d runs, want 1 in 2", n, r.runs)
	}
	var n int
	if err := s.Query(t.Context(), scanner(&n), `SELECT n FROM accounts WHERE region = 'west'`); err != nil || n != 1 {
		t.Errorf("the row stands at %d, %v, want 1", n, err)
	}
}
