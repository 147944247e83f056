package effects_test

import (
	"context"
	"database/sql"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/configs/secret"
	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/effects/effectstest"
)

func TestMain(m *testing.M) { effectstest.Main(m) }

func TestConformanceSQLite(t *testing.T) {
	effectstest.Conformance(t, effectstest.SQLite)
}

func TestConformancePostgres(t *testing.T) {
	effectstest.Conformance(t, effectstest.Postgres)
}

func scanner(into ...any) func(effects.Row) error {
	return func(row effects.Row) error { return row.Scan(into...) }
}

// TestG4SQLiteSyncsCommits holds the settings that make a commit survive a power cut.
func TestG4SQLiteSyncsCommits(t *testing.T) {
	o := effectstest.SQLite(t)
	s := effectstest.Open(t, o, effects.Deps{})
	var synchronous int
	var journal string
	err := s.Update(t.Context(), func(ctx context.Context, tx *effects.Tx) error {
		return tx.Query(ctx, scanner(&synchronous, &journal), `SELECT s.synchronous, j.journal_mode FROM pragma_synchronous s, pragma_journal_mode j`)
	})
	if err != nil || synchronous != 2 || journal != "wal" {
		t.Errorf("synchronous = %d, journal = %q, %v; want 2 (FULL) and wal", synchronous, journal, err)
	}
	for _, name := range []string{o.SQLite, o.SQLite + "-wal"} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("mode of %s = %v, want 0600: it holds raw callbacks", name, info.Mode())
		}
	}
	if err := s.Query(t.Context(), scanner(), `DELETE FROM effects`); err == nil {
		t.Error("the reading side may write")
	}
}

func TestSQLitePathNeedsNoEscaping(t *testing.T) {
	o := effectstest.SQLite(t)
	o.SQLite = t.TempDir() + "/odd name?#%20.db"
	effectstest.Open(t, o, effects.Deps{})
	if info, err := os.Stat(o.SQLite); err != nil || info.Size() == 0 {
		t.Errorf("the file named is not the one written: %v", err)
	}
}

// TestRows sends every kind of column there and back, with and without NULL, in
// numbers that do not fit one SQLite statement.
func TestRows(t *testing.T) {
	effectstest.Each(t, func(t *testing.T, s *effects.Store) {
		at := time.Date(2026, 1, 2, 3, 4, 5, 6_000_000, time.FixedZone("", 3600))
		const n = 12_000
		in := effects.NewRows(effects.Integer("i"), effects.Text("a"), effects.Blob("b"), effects.Timestamp("t"), effects.Boolean("f"),
			effects.Text("same").Same("x"))
		for i := range int64(n) {
			if i%2 == 0 {
				in.Add(i, "text", []byte{0, 1}, at, true)
			} else {
				in.Add(i, nil, nil, nil, false)
			}
		}
		seen := 0
		err := s.Update(t.Context(), func(ctx context.Context, tx *effects.Tx) error {
			seen = 0
			return tx.QueryRows(ctx, in, `SELECT i, a, b, t, f, same FROM input`, func(row effects.Row) error {
				var i int64
				var a sql.NullString
				var b []byte
				var got effects.Time
				var f bool
				var same string
				if err := row.Scan(&i, &a, &b, &got, &f, &same); err != nil {
					return err
				}
				full := i%2 == 0
				if i != int64(seen) || a.Valid != full || f != full || (b != nil) != full || same != "x" ||
					full && (a.String != "text" || string(b) != "\x00\x01" || !got.Equal(at)) || !full && !got.IsZero() {
					t.Errorf("row %d came back as %d %v %v %v %v %q", seen, i, a, b, got, f, same)
				}
				seen++
				return nil
			})
		})
		if err != nil || seen != n {
			t.Errorf("%d rows came back, %v, want %d", seen, err, n)
		}
	})
}

func TestOptionsValidate(t *testing.T) {
	valid := effects.DefaultOptions()
	valid.SQLite = "effects.db"
	if err := valid.Validate(); err != nil {
		t.Fatalf("defaults with a file: %v", err)
	}
	for name, c := range map[string]struct {
		change func(*effects.Options)
		want   string
	}{
		"nowhere":         {func(o *effects.Options) { o.SQLite = "" }, "sqlite: "},
		"twice":           {func(o *effects.Options) { o.Postgres.Env = "X" }, "sqlite: "},
		"bad source":      {func(o *effects.Options) { o.SQLite, o.Postgres = "", secret.Source{Env: "X", File: "y"} }, "postgres: "},
		"connections":     {func(o *effects.Options) { o.MaxConnections = 0 }, "max_connections: "},
		"readers":         {func(o *effects.Options) { o.ReadConnections = 0 }, "read_connections: "},
		"idle timeout":    {func(o *effects.Options) { o.IdleTimeout = 0 }, "idle_timeout: "},
		"busy timeout":    {func(o *effects.Options) { o.BusyTimeout = time.Hour }, "busy_timeout: "},
		"stall timeout":   {func(o *effects.Options) { o.StallTimeout = 0 }, "stall_timeout: "},
		"negative retry":  {func(o *effects.Options) { o.Retries = -1 }, "retries: "},
		"all of it wrong": {func(o *effects.Options) { *o = effects.Options{SQLite: "x", Retries: 9999} }, "idle_timeout: "},
	} {
		t.Run(name, func(t *testing.T) {
			o := valid
			c.change(&o)
			if err := o.Validate(); err == nil || !strings.Contains("\n"+err.Error(), "\n"+c.want) {
				t.Errorf("Validate = %v, want a line beginning with %q", err, c.want)
			}
		})
	}
}
