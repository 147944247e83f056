package effects_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paybell/paybell/configs/secret"
	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/effects/effectstest"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/workers"
)

// TestG4ServerCrash kills the server again and again while two workers make
// effects on it. With fsync on, as in production.
func TestG4ServerCrash(t *testing.T) {
	server := effectstest.StartPostgres(t, "fsync=on", "full_page_writes=on")
	defer server.Stop()
	s := effectstest.Open(t, server.Database(t), effects.Deps{})
	err := s.Update(t.Context(), func(ctx context.Context, tx *effects.Tx) error {
		_, err := tx.Exec(ctx, `CREATE TABLE made (event_id text NOT NULL)`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var transactions, away atomic.Int64
	apply := func(ctx context.Context, tx *effects.Tx, ds []workers.Delivery) error {
		in := effects.NewRows(effects.Text("event_id"))
		for i := range ds {
			in.Add(ds[i].Event.ID)
		}
		transactions.Add(1)
		_, err := tx.ExecRows(ctx, in, `INSERT INTO made (event_id) SELECT event_id FROM input`)
		return err
	}
	const perWorker, size = 800, 4
	done := make(chan struct{})
	for w := range 2 {
		go func() {
			defer func() { done <- struct{}{} }()
			h := s.Handler("made", apply)
			for from := 0; from < perWorker; from += size {
				var events []event.Event
				for n := range size {
					id := w*perWorker + from + n
					events = append(events, effectstest.Event(id, event.PaymentSucceeded, fmt.Sprintf("A%d", id), "ref", effectstest.CNY(1)))
				}
				ds := effectstest.Deliveries("made", events...)
				for len(ds) > 0 && t.Context().Err() == nil {
					var left []workers.Delivery
					for i, err := range h.HandleBatch(t.Context(), ds) {
						if err != nil {
							if !workers.IsUnavailable(err) {
								t.Errorf("a server that is away is told as %v", err)
							}
							away.Add(1)
							left = append(left, ds[i])
						}
					}
					if ds = left; len(ds) > 0 {
						<-time.After(20 * time.Millisecond) // A worker pauses, too.
					}
				}
			}
		}()
	}
	kills := time.NewTicker(150 * time.Millisecond)
	defer kills.Stop()
	for running, left := 2, 3; running > 0; {
		select {
		case <-done:
			running--
		case <-kills.C:
			if left--; left >= 0 {
				server.Kill()
				server.Start(t)
			}
		}
	}
	if away.Load() == 0 {
		t.Fatal("the server was never away while effects were made")
	}
	var rows, events int
	if err := s.Query(t.Context(), scanner(&rows, &events), `SELECT count(*), count(DISTINCT event_id) FROM made`); err != nil {
		t.Fatal(err)
	}
	if rows != 2*perWorker || events != 2*perWorker {
		t.Errorf("%d effects of %d events, want %d of both", rows, events, 2*perWorker)
	}
}

// TestG5FrozenOwnerIsCutOff freezes an owner inside its transaction, where it holds
// the lock of the partition. The next owner gets through all the same, and what the
// first one had begun is undone.
func TestG5FrozenOwnerIsCutOff(t *testing.T) {
	o := effectstest.Postgres(t)
	o.StallTimeout = time.Second
	s := effectstest.Open(t, o, effects.Deps{})
	inside, thaw := make(chan struct{}), make(chan struct{})
	frozen := func(context.Context, *effects.Tx, []workers.Delivery) error {
		close(inside)
		<-thaw
		return nil
	}
	ds := effectstest.Deliveries("g", effectstest.Event(1, event.PaymentSucceeded, "A1", "r1", effectstest.CNY(1)))
	first := make(chan []error)
	go func() { first <- s.Handler("g", frozen).HandleBatch(t.Context(), ds) }()
	<-inside

	next := slices.Clone(ds)
	next[0].Epoch++
	applied := 0
	out := s.Handler("g", func(context.Context, *effects.Tx, []workers.Delivery) error {
		applied++
		return nil
	}).HandleBatch(t.Context(), next)
	if out[0] != nil || applied != 1 {
		t.Errorf("next owner: %v after %d runs, want nil after 1", out[0], applied)
	}
	close(thaw)
	if out := <-first; !workers.IsUnavailable(out[0]) {
		t.Errorf("frozen owner: %v, want unavailable", out[0])
	}
	if out := s.Handler("g", frozen).HandleBatch(t.Context(), ds); !errors.Is(out[0], effects.ErrStaleOwner) {
		t.Errorf("frozen owner, again: %v, want stale owner", out[0])
	}
}

// TestPostgresTextWithNUL is an event that no attempt can ever store: it becomes a
// dead letter at once, and its neighbour is not held.
func TestPostgresTextWithNUL(t *testing.T) {
	s := effectstest.Open(t, effectstest.Postgres(t), effects.Deps{})
	apply := func(ctx context.Context, tx *effects.Tx, ds []workers.Delivery) error {
		for i := range ds {
			if _, err := tx.Exec(ctx, `SELECT $1::text`, ds[i].Event.OrderRef()); err != nil {
				return err
			}
		}
		return nil
	}
	bad := effectstest.Event(1, event.PaymentSucceeded, "private\x00", "r1", effectstest.CNY(1))
	good := effectstest.Event(2, event.PaymentSucceeded, "A2", "r2", effectstest.CNY(1))
	out := s.Handler("g", apply).HandleBatch(t.Context(), effectstest.Deliveries("g", bad, good))
	if !workers.Rejected(out[0]) || out[1] != nil {
		t.Fatalf("outcomes = %v, want a rejection and nil", out)
	}
}

// TestErrorsHoldNoRow makes PostgreSQL repeat a row's values in its message and
// detail, and looks for them in what would be logged.
func TestErrorsHoldNoRow(t *testing.T) {
	s := effectstest.Open(t, effectstest.Postgres(t), effects.Deps{})
	for name, query := range map[string]string{
		"data":      `SELECT $1::text::integer`,
		"integrity": `INSERT INTO effects (grp, event_id, facts, applied_at) SELECT $1::text, 'e', 'f', now() FROM generate_series(1, 2)`,
	} {
		t.Run(name, func(t *testing.T) {
			err := s.Update(t.Context(), func(ctx context.Context, tx *effects.Tx) error {
				_, err := tx.Exec(ctx, query, "buyer@example.com")
				return err
			})
			var db *effects.DatabaseError
			if !errors.As(err, &db) || db.Code == "" {
				t.Fatalf("error = %v, want a DatabaseError with its code", err)
			}
			if strings.Contains(err.Error(), "buyer") {
				t.Errorf("the error repeats a row: %v", err)
			}
		})
	}
}

// TestG4AsynchronousCommitRefused: settling what the database may still forget
// would lose effects.
func TestG4AsynchronousCommitRefused(t *testing.T) {
	s := openWith(t, effectstest.Postgres(t), "synchronous_commit=off")
	if err := s.Ping(t.Context()); !errors.Is(err, effects.ErrNotDurable) {
		t.Errorf("ping = %v, want not durable", err)
	}
	out := s.Handler("g", nil).HandleBatch(t.Context(), effectstest.Deliveries("g", effectstest.Event(1, event.PaymentSucceeded, "A", "r", effectstest.CNY(1))))
	if !errors.Is(out[0], effects.ErrNotDurable) || !workers.IsUnavailable(out[0]) {
		t.Errorf("outcome = %v, want not durable, unavailable", out[0])
	}
}

func TestDSNIsNotRepeated(t *testing.T) {
	t.Setenv("EFFECTS_TEST_DSN", "postgres://paybell:hunter2@127.0.0.1:notaport/x?sslmode=disable")
	o := effects.DefaultOptions()
	o.Postgres = secret.Source{Env: "EFFECTS_TEST_DSN"}
	_, err := effects.Open(t.Context(), o, effects.Deps{})
	if !errors.Is(err, effects.ErrDSN) || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "EFFECTS_TEST_DSN") {
		t.Errorf("error = %v, want one that names the source and no part of the DSN", err)
	}
}
