package effects_test

import (
	"context"
	"database/sql"
	"path/filepath"
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
// applied says nothing about the event. One that hangs in the middle of an event is
// charged: the event may be what hangs.
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

// TestStatementThatTakesTooLongIsOneEventsFault: statement_timeout is not a shutdown.
func TestStatementThatTakesTooLongIsOneEventsFault(t *testing.T) {
	s := hangStore(t, filepath.Join(t.TempDir(), "effects.db"))
	h := s.Handler("g", func(_ context.Context, _ *effects.Tx, ds []workers.Delivery) error {
		for i := range ds {
			if ds[i].Event.ID == "slow" {
				return &pgconn.PgError{Code: "57014"}
			}
		}
		return nil
	})
	ds := []workers.Delivery{delivery("a"), delivery("slow"), delivery("c")}
	for i, key := range []string{"x", "y", "z"} {
		ds[i].Event.Payment = &event.Payment{OrderRef: key}
	}
	out := h.HandleBatch(t.Context(), ds)
	if out[0] != nil || out[2] != nil || out[1] == nil || workers.IsUnavailable(out[1]) {
		t.Errorf("outcomes %v", out)
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
