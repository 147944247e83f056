package effects_test

import (
	"context"
	"errors"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"testing"

	"github.com/paybell/paybell/configs/secret"
	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/effects/effectstest"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/workers"
)

// openWith opens a store whose DSN has a start-up parameter more. It is not migrated.
func openWith(t *testing.T, o effects.Options, parameter string) *effects.Store {
	t.Helper()
	dsn, err := os.ReadFile(o.Postgres.File)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("EFFECTS_TEST_DSN", string(dsn)+"&"+parameter)
	o.Postgres = secret.Source{Env: "EFFECTS_TEST_DSN"}
	s, err := effects.Open(t.Context(), o, effects.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return s
}

// applied is an Apply without effects of its own: the dedup key alone is written.
func applied(context.Context, *effects.Tx, []workers.Delivery) error { return nil }

// TestMisconfiguredConnectionMakesNoDeadLetter: the server refuses the connection, or
// what prepares it, with the SQLSTATE of a value that no attempt could store, and means
// the DSN.
func TestMisconfiguredConnectionMakesNoDeadLetter(t *testing.T) {
	o := effectstest.Postgres(t)
	err := effectstest.Open(t, o, effects.Deps{}).Update(t.Context(), func(ctx context.Context, tx *effects.Tx) error {
		if _, err := tx.Exec(ctx, `CREATE SCHEMA other`); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `CREATE FUNCTION other.set_config(name text, text, boolean) RETURNS text LANGUAGE plpgsql
			AS 'BEGIN RAISE EXCEPTION ''no "%" here'', name USING ERRCODE = ''22023''; END'`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for parameter, named := range map[string]string{
		"timezone=No/Where":            `"TimeZone"`,
		"statement_timeout=30sec":      `"statement_timeout"`,
		"client_encoding=nonsense":     `"client_encoding"`,
		"search_path=other,pg_catalog": `"idle_in_transaction_session_timeout"`,
	} {
		t.Run(parameter, func(t *testing.T) {
			s := openWith(t, o, parameter)
			ds := effectstest.Deliveries("g",
				effectstest.Event(1, event.PaymentSucceeded, "A1", "r1", effectstest.CNY(1)),
				effectstest.Event(2, event.PaymentSucceeded, "A2", "r2", effectstest.CNY(1)))
			for i, err := range s.Handler("g", applied).HandleBatch(t.Context(), ds) {
				var db *effects.DatabaseError
				if !errors.As(err, &db) || db.Code != "22023" {
					t.Fatalf("outcome %d = %v, want the server's 22023", i, err)
				}
				if !workers.IsUnavailable(err) || workers.Rejected(err) {
					t.Errorf("outcome %d = %v: unavailable %v, rejected %v, want an unavailable database", i, err, workers.IsUnavailable(err), workers.Rejected(err))
				}
				if !strings.Contains(err.Error(), named) {
					t.Errorf("outcome %d = %v, want one that names %s", i, err, named)
				}
			}
			if err := s.CheckMigrated(t.Context()); !errors.Is(err, effects.ErrAway) {
				t.Errorf("check = %v, want away", err)
			}
		})
	}
}

// TestWritesComeBackWithoutARestart: connections to a server that refuses writes go out
// of use, so that it is the DSN that says where the next ones lead. Reads go on.
func TestWritesComeBackWithoutARestart(t *testing.T) {
	o := effectstest.Postgres(t)
	operator := effectstest.Open(t, o, effects.Deps{})
	// set changes what new sessions of the database begin with.
	set := func(change string) {
		t.Helper()
		err := operator.Update(t.Context(), func(ctx context.Context, tx *effects.Tx) error {
			_, err := tx.Exec(ctx, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I `+change+`', current_database()); END $$`)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	set("SET default_transaction_read_only = on")
	s := openWith(t, o, "application_name=gateway")
	var wg sync.WaitGroup
	for range 4 { // as many connections
		wg.Go(func() {
			if err := s.Query(t.Context(), scanner(new(any)), `SELECT pg_sleep(0.3)`); err != nil {
				t.Errorf("read: %v", err)
			}
		})
	}
	wg.Wait()
	h := s.Handler("g", applied)
	ds := effectstest.Deliveries("g", effectstest.Event(1, event.PaymentSucceeded, "A1", "r1", effectstest.CNY(1)))
	for range 2 {
		if err := s.CheckMigrated(t.Context()); err != nil {
			t.Errorf("read on a read-only server: %v", err)
		}
		if out := h.HandleBatch(t.Context(), ds); !workers.IsUnavailable(out[0]) {
			t.Fatalf("outcome on a read-only server = %v, want unavailable", out[0])
		}
	}
	set("RESET default_transaction_read_only")
	if out := h.HandleBatch(t.Context(), ds); out[0] != nil {
		t.Errorf("outcome when writes are allowed again = %v, want nil", out[0])
	}
}

// TestRefusedConnectionsAreClosed: a group that is tried again for as long as the
// setting stands must not use up the server's connections.
func TestRefusedConnectionsAreClosed(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // The collector would close what leaks.
	o := effectstest.Postgres(t)
	operator := effectstest.Open(t, o, effects.Deps{})
	s := openWith(t, o, "synchronous_commit=off&application_name=refused")
	for range 40 {
		if err := s.Ping(t.Context()); !errors.Is(err, effects.ErrNotDurable) {
			t.Fatalf("ping = %v, want not durable", err)
		}
	}
	effectstest.Eventually(t, "every refused connection has ended", func() bool {
		var n int
		err := operator.Query(t.Context(), scanner(&n), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'refused'`)
		if err != nil {
			t.Fatal(err)
		}
		return n == 0
	})
}
