package effectstest

import (
	"context"
	"slices"
	"testing"

	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/workers"
)

// tallyTable has no key on purpose: an effect that happens twice is two rows.
var tallyTable = map[effects.Dialect]string{
	effects.SQLite:   `CREATE TABLE tally (seq INTEGER PRIMARY KEY AUTOINCREMENT, grp TEXT NOT NULL, event_id TEXT NOT NULL, order_key TEXT NOT NULL)`,
	effects.Postgres: `CREATE TABLE tally (seq bigserial PRIMARY KEY, grp text NOT NULL, event_id text NOT NULL, order_key text NOT NULL)`,
}

// newTally makes the table that the suite's effects are counted in.
func newTally(tb testing.TB, s *effects.Store) {
	tb.Helper()
	err := s.Update(tb.Context(), func(ctx context.Context, tx *effects.Tx) error {
		_, err := tx.Exec(ctx, tallyTable[tx.Dialect()])
		return err
	})
	if err != nil {
		tb.Fatalf("make the tally: %v", err)
	}
}

// tally is an Apply that writes one row for each delivery, in order.
func tally(ctx context.Context, tx *effects.Tx, ds []workers.Delivery) error {
	in := effects.NewRows(effects.Text("grp"), effects.Text("event_id"), effects.Text("order_key"))
	for i := range ds {
		in.Add(ds[i].Group, ds[i].Event.ID, ds[i].Event.OrderingKey())
	}
	_, err := tx.ExecRows(ctx, in, `INSERT INTO tally (grp, event_id, order_key) SELECT grp, event_id, order_key FROM input`)
	return err
}

// trail returns the IDs of the effects made, by ordering key, in the order they
// were made in.
func trail(tb testing.TB, s *effects.Store, group string) map[string][]string {
	tb.Helper()
	out := map[string][]string{}
	err := s.Query(tb.Context(), func(row effects.Row) error {
		var id, key string
		if err := row.Scan(&id, &key); err != nil {
			return err
		}
		out[key] = append(out[key], id)
		return nil
	}, `SELECT event_id, order_key FROM tally WHERE grp = $1 ORDER BY seq`, group)
	if err != nil {
		tb.Fatalf("read the tally: %v", err)
	}
	return out
}

// total is how many effects the group has.
func total(tb testing.TB, s *effects.Store) int {
	tb.Helper()
	n := 0
	for _, ids := range trail(tb, s, group) {
		n += len(ids)
	}
	return n
}

// keys is how many dedup keys the group has.
func keys(tb testing.TB, s *effects.Store) int {
	tb.Helper()
	return count(tb, s, `SELECT count(*) FROM effects WHERE grp = $1`, group)
}

func count(tb testing.TB, s *effects.Store, query string, args ...any) int {
	tb.Helper()
	n := -1
	err := s.Query(tb.Context(), func(row effects.Row) error { return row.Scan(&n) }, query, args...)
	if err != nil {
		tb.Fatalf("count: %v", err)
	}
	return n
}

// wantOnce fails unless every delivery's event has had its effect exactly once,
// each order's in append order.
func wantOnce(tb testing.TB, s *effects.Store, ds []workers.Delivery) {
	tb.Helper()
	want := map[string][]string{}
	for i := range ds {
		key := ds[i].Event.OrderingKey()
		if !slices.Contains(want[key], ds[i].Event.ID) {
			want[key] = append(want[key], ds[i].Event.ID)
		}
	}
	got := trail(tb, s, ds[0].Group)
	for key, ids := range want {
		if !slices.Equal(got[key], ids) {
			tb.Errorf("effects of %s = %v, want %v", key, got[key], ids)
		}
	}
	if len(got) != len(want) {
		tb.Errorf("effects of %d orders, want %d", len(got), len(want))
	}
}

// wantNil fails unless every delivery is settled.
func wantNil(tb testing.TB, outcomes []error) {
	tb.Helper()
	for i, err := range outcomes {
		if err != nil {
			tb.Fatalf("outcome %d = %v, want nil", i, err)
		}
	}
}
