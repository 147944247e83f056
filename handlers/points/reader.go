package points

import (
	"context"
	"fmt"
	"time"

	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/orderfold"
)

// Entry is one entry of the ledger. It names no customer.
type Entry struct {
	EventID string `json:"event_id"`
	// Points is the difference that the event made, Target what the order was worth
	// after it.
	Points     int64     `json:"points"`
	Target     int64     `json:"target"`
	RecordedAt time.Time `json:"recorded_at"`
}

// Reader reads what the handler keeps.
type Reader struct{ store *effects.Store }

// NewReader returns a reader of a store.
func NewReader(store *effects.Store) *Reader { return &Reader{store} }

// Balance is the points of a customer.
func (r *Reader) Balance(ctx context.Context, namespace, customerRef string) (int64, error) {
	var points int64
	err := r.store.Query(ctx, func(row effects.Row) error { return row.Scan(&points) },
		`SELECT balance FROM points_balances WHERE namespace = $1 AND customer_ref = $2`, namespace, customerRef)
	if err != nil {
		return 0, fmt.Errorf("points: read a balance: %w", err)
	}
	return points, nil
}

// ForOrders is the points of those orders that have an entry in the ledger.
func (r *Reader) ForOrders(ctx context.Context, keys []orderfold.Key) (map[orderfold.Key]int64, error) {
	in := effects.NewRows(effects.Text("namespace"), effects.Text("order_key"))
	for _, k := range keys {
		in.Add(k.Namespace, k.Order)
	}
	out := map[orderfold.Key]int64{}
	err := r.store.QueryRows(ctx, in, `
		SELECT l.namespace, l.order_key, CAST(SUM(l.delta) AS bigint)
		FROM (SELECT DISTINCT namespace, order_key FROM input) k
		JOIN points_ledger l ON l.namespace = k.namespace AND l.order_key = k.order_key
		GROUP BY l.namespace, l.order_key`, func(row effects.Row) error {
		var k orderfold.Key
		var points int64
		err := row.Scan(&k.Namespace, &k.Order, &points)
		out[k] = points
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("points: read points of orders: %w", err)
	}
	return out, nil
}

// Ledger is the entries of an order, oldest first.
func (r *Reader) Ledger(ctx context.Context, key orderfold.Key) ([]Entry, error) {
	var out []Entry
	err := r.store.Query(ctx, func(row effects.Row) error {
		var e Entry
		var at effects.Time
		err := row.Scan(&e.EventID, &e.Points, &e.Target, &at)
		e.RecordedAt = at.Time
		out = append(out, e)
		return err
	}, `SELECT event_id, delta, target, recorded_at FROM points_ledger
		WHERE namespace = $1 AND order_key = $2 ORDER BY seq`, key.Namespace, key.Order)
	if err != nil {
		return nil, fmt.Errorf("points: read a ledger: %w", err)
	}
	return out, nil
}
