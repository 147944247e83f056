package effects_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/paybell/paybell/handlers"
	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/effects/effectstest"
	"github.com/paybell/paybell/handlers/points"
	"github.com/paybell/paybell/streams/event"
)

// cost is what a thousand events are allowed to cost, of each built-in group.
type cost struct{ transactions, statements, roundTrips, parsed int64 }

// paidThenTold are events n to n+size, of which each pays an order of its own, or tells of it
// again.
func paidThenTold(n, size int, again bool) []event.Event {
	out := make([]event.Event, size)
	for i := range out {
		order := n + i
		out[i] = effectstest.Event(order, event.PaymentSucceeded, fmt.Sprintf("A%d", order), fmt.Sprintf("pi_%d", order), effectstest.CNY(8800))
		out[i].Merchant.CustomerRef = fmt.Sprintf("c%d", order)
		if again {
			out[i].ID += "_again"
			out[i].Type = event.PaymentPending
		}
	}
	return out
}

// settle runs 1,000 events, or a little more, in batches of that size.
func settle(t *testing.T, s *effects.Store, group string, from, size int, again bool) {
	t.Helper()
	h, err := handlers.Builtin(group, handlers.Deps{Store: s, Points: points.DefaultOptions()})
	if err != nil {
		t.Fatal(err)
	}
	for n := from; n < from+1000; n += size {
		ds := effectstest.Deliveries(group, paidThenTold(n, size, again)...)
		if err := errors.Join(h.HandleBatch(t.Context(), ds)...); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStatementsOfAThousandEvents bounds what settling costs by what it sends: times
// would tell of the machine. Told again, an order is read and written instead of made.
func TestStatementsOfAThousandEvents(t *testing.T) {
	for _, c := range []struct {
		group            string
		size             int
		postgres, sqlite cost
	}{
		{handlers.OrderStatus, 1, cost{1000, 9000, 3000, 0}, cost{1000, 9000, 0, 0}},
		{handlers.OrderStatus, 256, cost{4, 36, 12, 0}, cost{4, 108, 0, 0}},
		{handlers.Points, 1, cost{1000, 11000, 3000, 0}, cost{1000, 11000, 0, 0}},
		{handlers.Points, 256, cost{4, 44, 12, 0}, cost{4, 140, 0, 0}},
		{handlers.EventLog, 1, cost{1000, 5000, 2000, 0}, cost{1000, 5000, 0, 0}},
		{handlers.EventLog, 256, cost{4, 20, 8, 0}, cost{4, 44, 0, 0}},
	} {
		name := fmt.Sprintf("%s in batches of %d", c.group, c.size)
		t.Run("postgres "+name, func(t *testing.T) {
			o, traffic := effectstest.Watched(t, effectstest.Postgres(t))
			s := effectstest.Open(t, o, effects.Deps{})
			settle(t, s, c.group, 0, c.size, false) // The connection prepares its statements.
			settle(t, s, c.group, 0, c.size, true)
			for _, again := range []bool{false, true} {
				traffic.Reset()
				settle(t, s, c.group, 10_000, c.size, again)
				got := cost{traffic.Transactions.Load(), traffic.Statements.Load(), traffic.RoundTrips.Load(), 0}
				wantCost(t, again, got, c.postgres)
			}
		})
		t.Run("sqlite "+name, func(t *testing.T) {
			s := effectstest.Open(t, effectstest.SQLite(t), effects.Deps{})
			traffic, err := effects.CountSQLite(s)
			if err != nil {
				t.Fatal(err)
			}
			settle(t, s, c.group, 0, c.size, false)
			settle(t, s, c.group, 0, c.size, true)
			for _, again := range []bool{false, true} {
				before := cost{traffic.Transactions.Load(), traffic.Statements.Load(), 0, traffic.Parsed.Load()}
				settle(t, s, c.group, 10_000, c.size, again)
				got := cost{
					traffic.Transactions.Load() - before.transactions, traffic.Statements.Load() - before.statements,
					0, traffic.Parsed.Load() - before.parsed,
				}
				wantCost(t, again, got, c.sqlite)
			}
		})
	}
}

func wantCost(t *testing.T, again bool, got, atMost cost) {
	t.Helper()
	t.Logf("told again %t: %+v", again, got)
	if got.transactions != atMost.transactions || got.statements > atMost.statements ||
		got.roundTrips > atMost.roundTrips || got.parsed > atMost.parsed {
		t.Errorf("told again %t: %+v, want at most %+v", again, got, atMost)
	}
}

// TestTablesAreNotRead is a plan that was made while the tables were empty and is kept
// while they grow: the rows of a batch must be found by index all the same.
func TestTablesAreNotRead(t *testing.T) {
	s := effectstest.Open(t, effectstest.Postgres(t), effects.Deps{})
	for _, group := range handlers.Names() {
		for from := range 8 {
			settle(t, s, group, from*1000, 50, false)
			settle(t, s, group, from*1000, 50, true)
		}
	}
	effectstest.Eventually(t, "the server has counted what was written", func() bool {
		var n int
		if err := s.Query(t.Context(), scanner(&n), `SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'event_log'`); err != nil {
			t.Fatal(err)
		}
		return n >= 16_000
	})
	err := s.Query(t.Context(), func(row effects.Row) error {
		var table string
		var read int
		if err := row.Scan(&table, &read); err != nil {
			return err
		}
		t.Errorf("%d rows of %s were read one after another", read, table)
		return nil
	}, `SELECT relname, seq_tup_read FROM pg_stat_user_tables WHERE seq_tup_read > 1000`)
	if err != nil {
		t.Fatal(err)
	}
}
