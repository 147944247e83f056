package points

import (
	"cmp"
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
func settle(tx *effects.Tx, targets []target, held holdings) {
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
			held.add(t.key, ref, delta)
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
	tx.Queue(entries, `
		INSERT INTO points_ledger (namespace, order_key, customer_ref, delta, target, event_id, recorded_at)
		SELECT namespace, order_key, customer_ref, delta, target, event_id, recorded_at FROM input WHERE true`)
	balance(tx, changes)
}

// holdings are what the ledger holds for each order, by customer; "" is the order
// itself.
type holdings map[orderfold.Key]map[string]int64

func (h holdings) add(k orderfold.Key, ref string, points int64) {
	if h[k] == nil {
		h[k] = map[string]int64{}
	}
	h[k][ref] += points
}

// queue queues the reading of orders' holdings. The orders' rows are locked by the
// fold before it, so nobody adds to them.
func (h holdings) queue(tx *effects.Tx, orders *effects.Rows) {
	entries := effects.Lookup{Table: "points_ledger", As: "l", Keys: []string{"namespace", "order_key"}}
	tx.QueueQuery(orders, `
		SELECT l.namespace, l.order_key, l.customer_ref, l.delta `+entries.From(tx.Dialect()), func(row effects.Row) error {
		var k orderfold.Key
		var ref sql.NullString
		var points int64
		if err := row.Scan(&k.Namespace, &k.Order, &ref, &points); err != nil {
			return err
		}
		h.add(k, ref.String, points)
		return nil
	})
}

// balance adds the changes to the customers' balances, in the order of their names so
// that transactions wait for each other in one direction. A balance of 0 has no row.
func balance(tx *effects.Tx, changes map[customer]int64) {
	now := effects.Timestamp("now").Same(tx.Now())
	changed := effects.NewRows(effects.Text("namespace"), effects.Text("customer_ref"), effects.Integer("delta"), now)
	lowered := effects.NewRows(effects.Text("namespace"), effects.Text("customer_ref"))
	for _, c := range slices.SortedFunc(maps.Keys(changes), func(a, b customer) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.ref, b.ref))
	}) {
		if changes[c] != 0 {
			changed.Add(c.namespace, c.ref, changes[c])
		}
		if changes[c] < 0 {
			lowered.Add(c.namespace, c.ref)
		}
	}
	tx.Queue(changed, `
		INSERT INTO points_balances AS b (namespace, customer_ref, balance, updated_at)
		SELECT namespace, customer_ref, delta, now FROM input WHERE true
		ON CONFLICT (namespace, customer_ref) DO UPDATE
		SET balance = b.balance + excluded.balance, updated_at = excluded.updated_at`)
	tx.Queue(lowered, `
		DELETE FROM points_balances
		WHERE balance = 0 AND (namespace, customer_ref) IN (SELECT namespace, customer_ref FROM input)`)
}
