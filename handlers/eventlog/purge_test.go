package eventlog_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/effects/effectstest"
	"github.com/paybell/paybell/handlers/eventlog"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/workers"
)

const day = 24 * time.Hour

// kept is what the tests below fill the event log with: an event a day, at this hour less
// one, and a newest of a minute ago.
func kept(days int) []workers.Delivery {
	now := time.Now().UTC().Truncate(time.Millisecond)
	events := make([]event.Event, days)
	for n := range events {
		events[n] = effectstest.Event(n, event.PaymentSucceeded, "A1", "pi_1", effectstest.CNY(8800))
		events[n].ReceivedAt = now.Add(-time.Hour - time.Duration(days-1-n)*day)
	}
	events[days-1].ReceivedAt = now.Add(-time.Minute)
	return effectstest.Deliveries(group, events...)
}

// purger is one that keeps evidence for 400 days, with its metrics.
func purger(t *testing.T, s *effects.Store, d eventlog.PurgerDeps) (*eventlog.Purger, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewRegistry()
	d.Registerer = reg
	p, err := eventlog.NewPurger(s, eventlog.DefaultOptions(), d)
	if err != nil {
		t.Fatal(err)
	}
	return p, reg
}

// rows counts the evidence and its dedup keys.
func rows(t *testing.T, s *effects.Store) (evidence, keys int) {
	t.Helper()
	err := s.Query(t.Context(), func(row effects.Row) error { return row.Scan(&evidence, &keys) },
		`SELECT (SELECT count(*) FROM event_log), (SELECT count(*) FROM effects WHERE grp = 'eventlog')`)
	if err != nil {
		t.Fatal(err)
	}
	return evidence, keys
}

// ahead is a clock that is wrong.
func ahead(by time.Duration) func() time.Time {
	return func() time.Time { return time.Now().Add(by) }
}

// redis is a server's clock that is wrong.
func redis(by time.Duration) map[string]func(context.Context) (time.Time, error) {
	return map[string]func(context.Context) (time.Time, error){
		"redis": func(context.Context) (time.Time, error) { return time.Now().Add(by), nil },
	}
}

func TestPurge(t *testing.T) {
	effectstest.Each(t, func(t *testing.T, s *effects.Store) {
		p, reg := purger(t, s, eventlog.PurgerDeps{Clocks: redis(0)})
		if n, err := p.Purge(t.Context()); n != 0 || err != nil {
			t.Fatalf("an empty log: purged %d, %v", n, err)
		}
		ds := kept(1000)
		handle(t, s, ds...)
		forever, err := eventlog.NewPurger(s, eventlog.Options{}, eventlog.PurgerDeps{})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := forever.Purge(t.Context()); n != 0 || err != nil {
			t.Errorf("for ever: purged %d, %v, want none", n, err)
		}
		if n, err := p.Purge(t.Context()); n != 600 || err != nil {
			t.Errorf("purged %d, %v, want 600", n, err)
		}
		reader := eventlog.NewReader(s)
		left, err := reader.ByOrder(t.Context(), "shop", "A1", 2000)
		if err != nil || len(left) != 400 || left[0].Event.ID != ds[600].Event.ID {
			t.Fatalf("%d left, %v, want the 400 youngest", len(left), err)
		}
		if n := effectstest.Counted(t, reg, "paybell_eventlog_purged_events_total"); n != 600 {
			t.Errorf("%v counted", n)
		}
		// The keys went with the rows: what comes again is evidence again, and what
		// is still there is not written twice.
		handle(t, s, ds[0], ds[999])
		if evidence, keys := rows(t, s); evidence != 401 || keys != 401 {
			t.Errorf("%d rows and %d keys after two redeliveries, want 401", evidence, keys)
		}
	})
}

// TestRunDeletesABoundedNumberOfRows, and the next one goes on, the oldest first.
func TestRunDeletesABoundedNumberOfRows(t *testing.T) {
	effectstest.Each(t, func(t *testing.T, s *effects.Store) {
		ds := kept(1500)
		handle(t, s, ds...)
		p, _ := purger(t, s, eventlog.PurgerDeps{})
		p.AtMost(700)
		for _, want := range []int64{700, 400, 0} {
			if n, err := p.Purge(t.Context()); n != want || err != nil {
				t.Errorf("purged %d, %v, want %d", n, err, want)
			}
		}
	})
}

// TestClocksThatAreWrongDeleteNoEvidence: whichever clock is far ahead, evidence and dedup
// keys of the last 400 days stay, and where clocks can be compared it is an alarm.
func TestClocksThatAreWrongDeleteNoEvidence(t *testing.T) {
	const far = 500 * day
	for name, c := range map[string]struct {
		process, database, redis time.Duration
		// gateway is how far ahead the clock was that the newest event was received by.
		gateway time.Duration
		// refused is what the refusal names; "" where nothing has to be refused.
		refused map[effects.Dialect]string
	}{
		"a worker":                   {process: far, refused: map[effects.Dialect]string{effects.SQLite: "redis says", effects.Postgres: "database says"}},
		"a worker, and Redis":        {process: far, redis: far, refused: map[effects.Dialect]string{effects.Postgres: "database says"}},
		"a worker, by six minutes":   {process: 6 * time.Minute, refused: map[effects.Dialect]string{effects.SQLite: "redis says", effects.Postgres: "database says"}},
		"a worker, far behind":       {process: -far, refused: map[effects.Dialect]string{effects.SQLite: "redis says", effects.Postgres: "database says"}},
		"the database":               {database: far, refused: map[effects.Dialect]string{effects.Postgres: "database says"}},
		"the database and a worker":  {process: far, database: far, refused: map[effects.Dialect]string{effects.SQLite: "redis says", effects.Postgres: "redis says"}},
		"all":                        {process: far, database: far, redis: far},
		"Redis":                      {redis: far, refused: map[effects.Dialect]string{effects.SQLite: "redis says", effects.Postgres: "redis says"}},
		"a gateway":                  {gateway: far},
		"a worker, by four minutes":  {process: 4 * time.Minute},
		"a gateway and the database": {gateway: far, database: far, refused: map[effects.Dialect]string{effects.Postgres: "database says"}},
	} {
		t.Run(name, func(t *testing.T) {
			effectstest.EachOptions(t, func(t *testing.T, o effects.Options) {
				s := effectstest.Open(t, o, effects.Deps{Now: ahead(c.process)})
				ds := kept(400)
				ds[399].Event.ReceivedAt = ds[399].Event.ReceivedAt.Add(c.gateway)
				handle(t, s, ds...)
				if c.database != 0 && s.Dialect() == effects.Postgres {
					setDatabaseClock(t, s, c.database)
					s = effectstest.Open(t, o, effects.Deps{Now: ahead(c.process)})
				}
				p, reg := purger(t, s, eventlog.PurgerDeps{Clocks: redis(c.redis)})
				n, err := p.Purge(t.Context())
				want := c.refused[s.Dialect()]
				if n != 0 || errors.Is(err, eventlog.ErrClocks) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("purged %d, %v, want none, and %q", n, err, want)
				}
				if refused := effectstest.Counted(t, reg, "paybell_eventlog_purge_refused_total"); (refused == 1) != (want != "") {
					t.Errorf("%v refusals counted", refused)
				}
				if evidence, keys := rows(t, s); evidence != 400 || keys != 400 {
					t.Errorf("%d rows and %d keys left of 400", evidence, keys)
				}
			})
		})
	}
}

// setDatabaseClock sets the clock of a PostgreSQL database wrong for the connections that
// are opened from now on: their now() is another function than the server's.
func setDatabaseClock(t *testing.T, s *effects.Store, by time.Duration) {
	t.Helper()
	err := s.Update(t.Context(), func(ctx context.Context, tx *effects.Tx) error {
		for _, query := range []string{
			`CREATE FUNCTION public.now() RETURNS timestamptz LANGUAGE sql AS
				$$ SELECT pg_catalog.now() + make_interval(hours => ` + strings.TrimSuffix(by.String(), "h0m0s") + `) $$`,
			`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database()); END $$`,
		} {
			if _, err := tx.Exec(ctx, query); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestClockThatCannotBeAskedDeletesNothing: it may be the one that knows better.
func TestClockThatCannotBeAskedDeletesNothing(t *testing.T) {
	effectstest.Each(t, func(t *testing.T, s *effects.Store) {
		handle(t, s, kept(401)...)
		refused := errors.New("connection refused")
		p, _ := purger(t, s, eventlog.PurgerDeps{Clocks: map[string]func(context.Context) (time.Time, error){
			"redis": func(context.Context) (time.Time, error) { return time.Time{}, refused },
		}})
		if n, err := p.Purge(t.Context()); n != 0 || !errors.Is(err, refused) {
			t.Errorf("purged %d, %v, want none and why", n, err)
		}
	})
}

// TestRunPurgesAgainSoon where a run has left some over, else after an hour; and what it
// refuses is an error in words that say what to do.
func TestRunPurgesAgainSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := effectstest.Open(t, effectstest.SQLite(t), effects.Deps{})
		handle(t, s, kept(405)...)
		var out bytes.Buffer
		var by atomic.Int64
		p, _ := purger(t, s, eventlog.PurgerDeps{Logger: slog.New(slog.NewTextHandler(&out, nil)), Clocks: map[string]func(context.Context) (time.Time, error){
			"redis": func(context.Context) (time.Time, error) { return time.Now().Add(time.Duration(by.Load())), nil },
		}})
		p.AtMost(2)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- p.Run(ctx) }()
		for _, step := range []struct {
			after time.Duration
			by    time.Duration
			left  int
		}{
			{time.Second, 0, 403},
			{58 * time.Second, 0, 403},
			{time.Second, 0, 401},
			{time.Minute, -10 * time.Minute, 400}, // less than it may: the next in an hour
			{time.Hour, 0, 400},
		} {
			<-time.After(step.after)
			synctest.Wait()
			by.Store(int64(step.by))
			if evidence, _ := rows(t, s); evidence != step.left {
				t.Errorf("%d left, want %d", evidence, step.left)
			}
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
		log := out.String()
		if strings.Count(log, "level=ERROR") != 1 || !strings.Contains(log, "set the wrong one right (NTP), and the next run goes on: redis says 2000-01-01T00:") {
			t.Errorf("log:\n%s", log)
		}
	})
}
