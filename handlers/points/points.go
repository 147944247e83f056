// Package points is the built-in handler that keeps a ledger of points per
// customer. What an order is worth is a pure function of the folded order
// (event.Worth): so many points for the money captured, less the part that was
// refunded, nothing once it is charged back. Each entry of the ledger is that
// target less what the ledger already holds for the order.
//
// What it promises: any permutation of the same events, any of them twice, ends at
// the same balances, and a full refund at exactly 0 (G6); entry, balance and dedup
// key are one transaction (G4). Points belong to the customer the folded order
// names. While it names none they stand on the order alone; when it names one, or
// another one, they move.
//
// A change of the rules does not touch orders until their next event arrives, which
// then makes up the whole difference.
package points

import (
	"context"
	"fmt"

	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/orderfold"
	"github.com/paybell/paybell/workers"
)

// Handler keeps points_ledger and points_balances.
type Handler struct {
	*effects.Handler
	fold  *orderfold.Folder
	award award
}

var _ workers.BatchHandler = (*Handler)(nil)

// New returns the handler of a group on a store.
func New(store *effects.Store, group string, o Options, opts ...effects.HandlerOption) (*Handler, error) {
	a, err := newAward(o)
	if err != nil {
		return nil, fmt.Errorf("points: %w", err)
	}
	h := &Handler{fold: orderfold.New("points_orders", "points_order_refs"), award: a}
	h.Handler = store.Handler(group, h.apply, opts...)
	return h, nil
}

// apply is the effect of a batch.
func (h *Handler) apply(ctx context.Context, tx *effects.Tx, ds []workers.Delivery) error {
	var targets []target
	held := holdings{}
	err := h.fold.Fold(ctx, tx, effects.Events(ds), func(orders *effects.Rows) { held.queue(tx, orders) }, func(s orderfold.Step) error {
		for _, o := range append([]*orderfold.Order{s.Order}, s.Also...) {
			t, err := h.target(s, o)
			if err != nil {
				return fmt.Errorf("event %s: %w", s.Event.ID, err)
			}
			targets = append(targets, t)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("points: %w", err)
	}
	settle(tx, targets, held)
	return nil
}

// target is what an order is worth after an event.
type target struct {
	key      orderfold.Key
	eventID  string
	customer string
	points   int64
}

func (h *Handler) target(s orderfold.Step, o *orderfold.Order) (target, error) {
	t := target{key: o.Key, eventID: s.Event.ID}
	if o.Absorbed {
		return t, nil // What it was worth is now part of what another order is worth.
	}
	var err error
	t.customer = o.State.CustomerRef()
	t.points, err = h.award.worth(o.State)
	return t, err
}
