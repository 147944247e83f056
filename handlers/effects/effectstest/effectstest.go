// Package effectstest starts the databases that effects are tested on, and holds
// the suite both of them pass. Tests alone import it.
package effectstest

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/paybell/paybell/configs/secret"
	"github.com/paybell/paybell/handlers/effects"
)

// shared is the PostgreSQL server of this test binary. It is started by the first
// test that asks for one and stopped by Main.
var shared struct {
	sync.Mutex
	server *Server
	// stops is true where Main will stop the server.
	stops bool
}

// Main runs the tests of a package, stops what they started and fails if a
// goroutine is left: func TestMain(m *testing.M) { effectstest.Main(m) }. It is also
// where a child process of the crash tests begins its work.
func Main(m *testing.M) { goleak.VerifyTestMain(runner{m}) }

type runner struct{ tests *testing.M }

// Run implements goleak.TestingM.
func (r runner) Run() int {
	if order := os.Getenv(childEnv); order != "" {
		return child(order)
	}
	shared.Lock()
	shared.stops = true
	shared.Unlock()
	code := r.tests.Run()
	shared.Lock()
	defer shared.Unlock()
	if shared.server != nil {
		shared.server.Stop()
	}
	return code
}

// Each runs a test on every database, each time on an empty, migrated store.
func Each(t *testing.T, test func(t *testing.T, s *effects.Store)) {
	t.Helper()
	EachOptions(t, func(t *testing.T, o effects.Options) {
		t.Helper()
		test(t, Open(t, o, effects.Deps{}))
	})
}

// EachOptions runs a test on every database, each time with the options of an
// empty one that is not migrated.
func EachOptions(t *testing.T, test func(t *testing.T, o effects.Options)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, SQLite(t)) })
	t.Run("postgres", func(t *testing.T) { test(t, Postgres(t)) })
}

// SQLite returns the options of a new file.
func SQLite(tb testing.TB) effects.Options {
	tb.Helper()
	o := effects.DefaultOptions()
	o.SQLite = filepath.Join(tb.TempDir(), "effects.db")
	return o
}

// Postgres returns the options of a new, empty database on the server of this test
// binary. Where Main does not run the tests nobody would stop that, so the test gets
// a server for itself.
func Postgres(tb testing.TB) effects.Options {
	tb.Helper()
	shared.Lock()
	defer shared.Unlock()
	if !shared.stops {
		own := StartPostgres(tb)
		tb.Cleanup(own.Stop)
		return own.Database(tb)
	}
	if shared.server == nil {
		shared.server = StartPostgres(tb)
	}
	return shared.server.Database(tb)
}

// PgBouncer starts a PgBouncer, as StartPgBouncer does, in front of the server of this test
// binary.
func PgBouncer(tb testing.TB, settings ...string) *Pooler {
	tb.Helper()
	Postgres(tb) // It starts the server.
	shared.Lock()
	server := shared.server
	shared.Unlock()
	if server == nil { // Nobody would stop it, see Postgres.
		server = StartPostgres(tb)
		tb.Cleanup(server.Stop)
	}
	return StartPgBouncer(tb, server, settings...)
}

// options are those of a PostgreSQL database.
func options(tb testing.TB, dsn string) effects.Options {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "dsn")
	if err := os.WriteFile(file, []byte(dsn), 0o600); err != nil {
		tb.Fatalf("write the DSN: %v", err)
	}
	o := effects.DefaultOptions()
	o.Postgres = secret.Source{File: file}
	return o
}

// Open opens and migrates a store, and closes it when the test ends.
func Open(tb testing.TB, o effects.Options, d effects.Deps) *effects.Store {
	tb.Helper()
	s, err := effects.Open(tb.Context(), o, d)
	if err != nil {
		tb.Fatalf("open the store: %v", err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close the store: %v", err)
		}
	})
	if _, err := s.Migrate(tb.Context()); err != nil {
		tb.Fatalf("migrate: %v", err)
	}
	return s
}

// Counted sums the series of a counter.
func Counted(tb testing.TB, reg prometheus.Gatherer, name string) float64 {
	tb.Helper()
	families, err := reg.Gather()
	if err != nil {
		tb.Fatalf("gather: %v", err)
	}
	var sum float64
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// Eventually polls until done is true and fails the test after a generous time.
func Eventually(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			tb.Fatalf("gave up waiting until %s", what)
		}
	}
}
