package effects_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	_ "modernc.org/sqlite" // the driver

	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/workers"
)

func hangStore(t *testing.T, path string) *effects.Store {
	t.Helper()
	o := effects.DefaultOptions()
	o.SQLite, o.BusyTimeout = path, 500*time.Millisecond
	s, err := effects.Open(t.Context(), o, effects.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func delivery(id string) workers.Delivery {
	var d workers.Delivery
	d.Group, d.EntryID, d.Epoch, d.Attempt = "g", "1-1", 1, 1
	d.Event = event.Event{ID: id}
	return d
}

// TestDatabaseThatHangsChargesNobody: an attempt whose time is over before an event was
// applied says nothing about the event. Where it ends in the middle of several, each has
// to tell alone.
func TestDatabaseThatHangsChargesNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "effects.db")
	s := hangStore(t, path)
	other, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	tx, err := other.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	slow := s.Handler("g", func(ctx context.Context, _ *effects.Tx, _ []workers.Delivery) error {
		<-ctx.Done()
		return ctx.Err()
	})
	attempt := func() []error {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		return slow.HandleBatch(ctx, []workers.Delivery{delivery("a"), delivery("b")})
	}
	for i, err := range attempt() {
		if !workers.IsUnavailable(err) {
			t.Errorf("delivery %d with the database locked: %v", i, err)
		}
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if out := attempt(); out[0] == nil || workers.IsUnavailable(out[0]) {
		t.Errorf("an event that hangs: %v", out)
	}
}

// slowHandler is the handler of a group in which events named slow fail by fail, and all
// of them while busy is true.
func slowHandler(t *testing.T, fail func(context.Context) error, busy *bool) *effects.Handler {
	t.Helper()
	s := hangStore(t, filepath.Join(t.TempDir(), "effects.db"))
	return s.Handler("g", func(ctx context.Context, _ *effects.Tx, ds []workers.Delivery) error {
		for i := range ds {
			if *busy || strings.HasPrefix(ds[i].Event.ID, "slow") {
				return fail(ctx)
			}
		}
		return nil
	})
}

// timedOut fails as a statement does that takes longer than statement_timeout.
func timedOut(context.Context) error { return &pgconn.PgError{Code: "57014"} }

// orders are deliveries of one order each, with these event IDs.
func orders(ids ...string) []workers.Delivery {
	var out []workers.Delivery
	for _, id := range ids {
		d := delivery(id)
		d.Event.Type = event.PaymentSucceeded
		d.Event.Payment = &event.Payment{OrderRef: id}
		out = append(out, d)
	}
	return out
}

// TestEventThatIsAlwaysTooSlowIsCharged: its neighbours are applied in the same call,
// wherever it stands among them; when it is slow again after one, it is its own fault.
func TestEventThatIsAlwaysTooSlowIsCharged(t *testing.T) {
	busy := false
	for round := range 8 {
		h := slowHandler(t, timedOut, &busy)
		charged := 0
		for n := range 40 {
			ids := []string{fmt.Sprint("a", n), fmt.Sprint("b", n), "slow", fmt.Sprint("c", n), fmt.Sprint("d", n)}
			out := h.HandleBatch(t.Context(), orders(ids...))
			if out[2] == nil || workers.Rejected(out[2]) {
				t.Fatalf("round %d, call %d: the slow event: %v", round, n, out[2])
			}
			if !workers.IsUnavailable(out[2]) {
				charged++
			}
			for i, err := range out {
				if i != 2 && err != nil {
					t.Fatalf("round %d, call %d: neighbour %s: %v", round, n, ids[i], err)
				}
			}
		}
		if charged < 12 {
			t.Errorf("round %d: charged %d times of 40, want enough for a dead letter", round, charged)
		}
	}
}

// TestSlowEventsInFrontHoldUpNobodyForever: they stand before everybody else in every call,
// and the others are tried first sooner or later.
func TestSlowEventsInFrontHoldUpNobodyForever(t *testing.T) {
	busy := false
	h := slowHandler(t, timedOut, &busy)
	ds := orders("slow", "slower", "slowest", "a", "b")
	for range 200 {
		out := h.HandleBatch(t.Context(), ds)
		if out[3] == nil && out[4] == nil {
			return
		}
	}
	t.Error("neither neighbour was applied")
}

// TestTimeOfABusyDatabaseIsNobodysFault: with every statement canceled nobody is charged,
// however often it is tried, and what was slow is applied when the database is free.
func TestTimeOfABusyDatabaseIsNobodysFault(t *testing.T) {
	for name, timeout := range map[string]pgconn.PgError{
		"statement_timeout":         {Code: "57014"},
		"transaction_timeout":       {Code: "25P04"},
		"query_timeout of a pooler": {Code: "08P01", Message: "query_timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			busy := true
			h := slowHandler(t, func(context.Context) error { return &timeout }, &busy)
			ds := orders("a", "b", "c", "d", "e", "slow")
			for n := range 30 {
				for i, err := range h.HandleBatch(t.Context(), ds) {
					if !workers.IsUnavailable(err) {
						t.Fatalf("call %d: outcome %d = %v, want unavailable", n, i, err)
					}
				}
			}
			busy = false
			charged := 0
			for n := range 100 {
				for i, err := range h.HandleBatch(t.Context(), ds) {
					if i < 5 && err != nil && n == 99 {
						t.Errorf("with the database free: outcome %d = %v", i, err)
					}
					if i == 5 && !workers.IsUnavailable(err) {
						charged++
					}
				}
			}
			if charged == 0 {
				t.Error("what is slow by itself is never charged")
			}
		})
	}
}

// TestAttemptThatEndsAloneIsJudgedByItsNeighbours: its own deadline ends an attempt with
// one order. While neighbours are not applied either, that is nobody's fault.
func TestAttemptThatEndsAloneIsJudgedByItsNeighbours(t *testing.T) {
	busy := false
	h := slowHandler(t, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, &busy)
	attempt := func(d workers.Delivery) error {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		return h.HandleBatch(ctx, []workers.Delivery{d})[0]
	}
	slow := orders("slow")[0]
	for n := range 3 {
		if err := attempt(slow); !workers.IsUnavailable(err) {
			t.Fatalf("attempt %d without a neighbour: %v, want unavailable", n, err)
		}
	}
	other := orders("refund")[0]
	other.Event.Type = event.RefundSucceeded
	if err := h.HandleBatch(t.Context(), []workers.Delivery{other})[0]; err != nil {
		t.Fatal(err)
	}
	if err := attempt(slow); !workers.IsUnavailable(err) {
		t.Errorf("after an event of another type: %v, want unavailable", err)
	}
	if err := h.HandleBatch(t.Context(), orders("neighbour"))[0]; err != nil {
		t.Fatal(err)
	}
	if err := attempt(slow); err == nil || workers.IsUnavailable(err) {
		t.Errorf("after a neighbour: %v, want an error that is charged", err)
	}
	if err := attempt(slow); !workers.IsUnavailable(err) {
		t.Errorf("with no neighbour since: %v, want unavailable", err)
	}
}

// TestTimeThatIsOverRejectsNobody: with the time gone before the failing event could be
// looked for, none of the batch may become a dead letter for what one of them holds.
func TestTimeThatIsOverRejectsNobody(t *testing.T) {
	s := hangStore(t, filepath.Join(t.TempDir(), "effects.db"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	h := s.Handler("g", func(context.Context, *effects.Tx, []workers.Delivery) error {
		cancel()
		return &pgconn.PgError{Code: "22021"}
	})
	ds := []workers.Delivery{delivery("a"), delivery("b")}
	for i, key := range []string{"x", "y"} {
		ds[i].Event.Payment = &event.Payment{OrderRef: key}
	}
	for i, err := range h.HandleBatch(ctx, ds) {
		if err == nil || workers.Rejected(err) {
			t.Errorf("outcome %d = %v, want an error that is no rejection", i, err)
		}
	}
}
