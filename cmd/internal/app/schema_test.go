package app_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/paybell/paybell/cmd/internal/app"
	"github.com/paybell/paybell/configs"
	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/effects/effectstest"
	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/streamstest"
)

// onPostgres runs gateway and workers on that database and a Redis of its own.
func onPostgres(t *testing.T, o effects.Options) *running {
	t.Helper()
	cfg, err := configs.Load(configs.Input{Set: []string{
		"data_dir=" + filepath.Join(t.TempDir(), "data"), "gateway.address=127.0.0.1:0", "admin.address=127.0.0.1:0",
		"gateway.drain_delay=0s", "streams.lease_ttl=2s", "database.postgres.file=" + o.Postgres.File,
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := app.AddSandbox(cfg, true); err != nil {
		t.Fatal(err)
	}
	cfg.Streams.Redis.Address = streamstest.Redis(t, streamstest.AOF("always")...).Addr()
	return run(t, cfg)
}

// keeps sends a callback and fails the test unless the door is ready and takes it.
func (r *running) keeps(order string) {
	r.t.Helper()
	if code, body := r.ready(); code != http.StatusOK {
		r.t.Errorf("/readyz: %d %q", code, body)
	}
	if code, body := r.send("stripe-sandbox", sample(r.t, order, "88.00", "USD")); code != http.StatusOK {
		r.t.Errorf("callback: %d %q", code, body)
	}
}

// pausedFor reports whether every group of ours says that it pauses, and why.
func (r *running) pausedFor(why string) bool {
	paused := r.status().Paused
	for _, group := range []string{"orderstatus", "points", "eventlog"} {
		if !slices.ContainsFunc(paused[group], func(text string) bool { return strings.Contains(text, why) }) {
			return false
		}
	}
	return true
}

// TestDatabaseThatTurnsOutNotToBeMigratedKeepsTheDoorOpen: it was away when the process
// started, and is one that nobody has migrated when it comes. The groups say so, and begin
// when it is.
func TestDatabaseThatTurnsOutNotToBeMigratedKeepsTheDoorOpen(t *testing.T) {
	server := effectstest.StartPostgres(t)
	t.Cleanup(server.Stop)
	o := server.Database(t)
	server.Kill()
	r := onPostgres(t, o)
	r.keeps("A1")
	server.Start(t)
	effectstest.Eventually(t, "the groups say that the database is not migrated", func() bool { return r.pausedFor("not migrated") })
	r.keeps("A2")
	effectstest.Open(t, o, effects.Deps{}) // migrates
	effectstest.Eventually(t, "both orders are paid", func() bool { return r.order("A1") != nil && r.order("A2") != nil })
}

// TestSchemaThatBecomesNewerPausesTheGroups: somebody migrates the database by a build that
// this one must not run beside. The door takes callbacks all the while.
func TestSchemaThatBecomesNewerPausesTheGroups(t *testing.T) {
	o := effectstest.Postgres(t)
	store := effectstest.Open(t, o, effects.Deps{})
	r := onPostgres(t, o)
	r.keeps("A1")
	effectstest.Eventually(t, "an order is paid", func() bool { return r.order("A1") != nil })
	oldest := func(schema int) {
		t.Helper()
		err := store.Update(t.Context(), func(ctx context.Context, tx *effects.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE deployment SET oldest_schema = $1`, schema)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	oldest(9999)
	r.keeps("A2")
	effectstest.Eventually(t, "the groups take nothing and say why", func() bool {
		r.keeps("A3")
		return r.pausedFor("newer than this build")
	})
	oldest(0)
	effectstest.Eventually(t, "all orders are paid", func() bool { return r.order("A2") != nil && r.order("A3") != nil })
	if groups := r.status().Streams.Groups; slices.ContainsFunc(groups, func(g streams.GroupStats) bool { return g.Dead > 0 }) {
		t.Errorf("dead letters: %+v", groups)
	}
}

// TestDatabaseOfTheWrongKindRefusesTheStart: what waiting cannot cure is told at once.
func TestDatabaseOfTheWrongKindRefusesTheStart(t *testing.T) {
	server := effectstest.StartPostgres(t)
	t.Cleanup(server.Stop)
	for name, c := range map[string]struct{ dsn, says string }{
		"encoding":         {dsnOf(t, server.Odd(t, "ENCODING 'SQL_ASCII' TEMPLATE template0")), "server_encoding is SQL_ASCII"},
		"no such database": {server.DSN("elsewhere"), "no database of this name"},
		"asynchronous":     {dsnOf(t, server.Database(t)) + "&synchronous_commit=off", "synchronous_commit is off"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("APP_TEST_DSN", c.dsn)
			cfg, err := configs.Load(configs.Input{Set: []string{
				"data_dir=" + filepath.Join(dir, "data"), "gateway.address=127.0.0.1:0", "admin.address=127.0.0.1:0",
				"embedded.address=127.0.0.1:0", "database.postgres.env=APP_TEST_DSN",
			}})
			if err != nil {
				t.Fatal(err)
			}
			if err := app.AddSandbox(cfg, true); err != nil {
				t.Fatal(err)
			}
			_, err = app.New(t.Context(), cfg, app.Role{Gateway: true, Workers: true}, slog.New(slog.DiscardHandler), "test")
			var bad *app.ConfigError
			if !errors.As(err, &bad) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("start = %v, want a refusal that says %q", err, c.says)
			}
		})
	}
}

func dsnOf(t *testing.T, o effects.Options) string {
	t.Helper()
	dsn, err := o.Postgres.Read()
	if err != nil {
		t.Fatal(err)
	}
	return dsn.Value.Reveal()
}
