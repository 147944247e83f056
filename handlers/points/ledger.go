package points

import (
	"cmp"
	"context"
	"database/sql"
	"maps"
	"slices"

	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/orderfold"
)

// customer names whose points they are.
type customer struct{ namespace, ref string }

// settle writes the entries that bring the ledger to the targets, one after
// another, and the balances that follow from them.
func settle(ctx context.Context, tx *effects.Tx, targets []target) error {
	held, err := holdings(ctx, tx, targets)
	if err != nil {
		return err
	}
	entries := effects.NewRows(
		effects.Text("namespace"), effects.Text("order_key"), effects.Text("customer_ref"),
		effects.Integer("delta"), effects.Integer("target"), effects.Text("event_id"),
		effects.Timestamp("recorded_at").Same(tx.Now()),
	)
	changes := map[customer]int64{}
	for _, t := range targets {
		book := func(ref string, delta int64) {
			if delta == 0 {
				return
			}
			held[t.key][ref] += delta
			if ref != "" {
				changes[customer{t.key.Namespace, ref}] += delta
			}
			entries.Add(t.key.Namespace, t.key.Order, effects.TextOrNull(ref), delta, t.points, t.eventID)
		}
		// First what others hold is taken back; all holdings are between 0 and the
		// largest target there was, so no difference can overflow.
		for _, ref := range slices.Sorted(maps.Keys(held[t.key])) {
			if ref != t.customer {
				book(ref, -held[t.key][ref])
			}
		}
		book(t.customer, t.points-held[t.key][t.customer])
	}
	if _, err := tx.ExecRows(ctx, entries, `
		INSERT INTO points_ledger (namespace, order_key, customer_ref, delta, target, event_id, recorded_at)
		SELECT namespace, order_key, customer_ref, delta, target, event_id, recorded_at FROM input WHERE true`); err != nil {
		return err
	}
	return balance(ctx, tx, changes)
}

// holdings reads what the ledger holds for each order, by customer; "" is the
// order itself. The orders' rows are locked by the fold, so nobody adds to it.
func holdings(ctx context.Context, tx *effects.Tx, targets []target) (map[orderfold.Key]map[string]int64, error) {
	held := map[orderfold.Key]map[string]int64{}
	in := effects.NewRows(effects.Text("namespace"), effects.Text("order_key"))
	for _, t := range targets {
		if held[t.key] == nil {
			held[t.key] = map[string]int64{}
			in.Add(t.key.Namespace, t.key.Order)
		}
	}
	return held, tx.QueryRows(ctx, in, `
		SELECT l.namespace, l.order_key, l.customer_ref, CAST(SUM(l.delta) AS bigint)
		FROM input JOIN points_ledger l ON l.namespace = input.namespace AND l.order_key = input.order_key
		GROUP BY l.namespace, l.order_key, l.customer_ref`, func(rows *sql.Rows) error {
		var k orderfold.Key
		var ref sql.NullString
		var points int64
		if err := rows.Scan(&k.Namespace, &k.Order, &ref, &points); err != nil {
			return err
		}
		held[k][ref.String] = points
		return nil
	})
}

// balance adds the changes to the customers' balances, in the order of their names so
// that transactions wait for each other in one direction. A balance of 0 has no row.
func balance(ctx context.Context, tx *effects.Tx, changes map[customer]int64) error {
	in := effects.NewRows(effects.Text("namespace"), effects.Text("customer_ref"), effects.Integer("delta"),
		effects.Timestamp("now").Same(tx.Now()))
	for _, c := range slices.SortedFunc(maps.Keys(changes), func(a, b customer) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.ref, b.ref))
	}) {
		if changes[c] != 0 {
			in.Add(c.namespace, c.ref, changes[c])
		}
	}
	if _, err := tx.ExecRows(ctx, in, `
		INSERT INTO points_balances AS b (namespace, customer_ref, balance, updated_at)
		SELECT namespace, customer_ref, delta, now FROM input WHERE true
		ON CONFLICT (namespace, customer_ref) DO UPDATE
		SET balance = b.balance + excluded.balance, updated_at = excluded.updated_at`); err != nil {
		return err
	}
	_, err := tx.ExecRows(ctx, in, `
		DELETE FROM points_balances
		WHERE balance = 0 AND (namespace, customer_ref) IN (SELECT namespace, customer_ref FROM input)`)
	return err
}
