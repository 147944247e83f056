package app

import (
	"context"
	"errors"

	"github.com/paybell/paybell/gateway/admin"
	"github.com/paybell/paybell/handlers/orderfold"
	"github.com/paybell/paybell/handlers/orderstatus"
	"github.com/paybell/paybell/handlers/points"
)

// ordersView is the folded orders as the operator's door shows them.
type ordersView struct{ orders *orderstatus.Reader }

// Find implements admin.Orders.
func (v ordersView) Find(ctx context.Context, q admin.OrderQuery) ([]admin.Order, error) {
	found, err := v.orders.Find(ctx, orderstatus.Query{Namespace: q.Namespace, Name: q.Ref, Limit: q.Limit})
	if err != nil {
		return nil, err
	}
	out := make([]admin.Order, 0, len(found))
	for i := range found {
		out = append(out, shownOrder(&found[i]))
	}
	return out, nil
}

// Show implements admin.Orders.
func (v ordersView) Show(ctx context.Context, key admin.OrderKey) (admin.Order, []admin.OrderChange, error) {
	o, history, err := v.orders.Get(ctx, key.Namespace, key.Ref)
	if errors.Is(err, orderstatus.ErrNoOrder) {
		return admin.Order{}, nil, admin.ErrNoOrder
	}
	if err != nil {
		return admin.Order{}, nil, err
	}
	changes := make([]admin.OrderChange, 0, len(history))
	for _, e := range history {
		changes = append(changes, admin.OrderChange{
			At: e.RecordedAt, EventID: e.EventID, Type: e.Type, Account: e.Account,
			Change: string(e.Outcome), Before: string(e.Before), After: string(e.After),
		})
	}
	return shownOrder(&o), changes, nil
}

func shownOrder(o *orderstatus.Order) admin.Order {
	out := admin.Order{
		Namespace: o.Namespace, Ref: o.Name, Status: string(o.Status),
		Captured: o.Captured, Refunded: o.Refunded, Lost: o.Lost, UpdatedAt: o.UpdatedAt,
	}
	for _, c := range o.Conflicts {
		out.Conflicts = append(out.Conflicts, string(c))
	}
	return out
}

// pointsView is the ledger as the operator's door shows it.
type pointsView struct{ ledger *points.Reader }

// Balances implements admin.Points.
func (v pointsView) Balances(ctx context.Context, keys []admin.OrderKey) (map[admin.OrderKey]int64, error) {
	folded := make([]orderfold.Key, 0, len(keys))
	shown := make(map[orderfold.Key]admin.OrderKey, len(keys))
	for _, k := range keys {
		key := orderfold.Named(k.Namespace, k.Ref)
		folded = append(folded, key)
		shown[key] = k
	}
	found, err := v.ledger.ForOrders(ctx, folded)
	if err != nil {
		return nil, err
	}
	out := make(map[admin.OrderKey]int64, len(found))
	for key, points := range found {
		out[shown[key]] = points
	}
	return out, nil
}

// Ledger implements admin.Points.
func (v pointsView) Ledger(ctx context.Context, key admin.OrderKey) ([]admin.PointsEntry, error) {
	entries, err := v.ledger.Ledger(ctx, orderfold.Named(key.Namespace, key.Ref))
	if err != nil {
		return nil, err
	}
	out := make([]admin.PointsEntry, 0, len(entries))
	for _, e := range entries {
		out = append(out, admin.PointsEntry{At: e.RecordedAt, EventID: e.EventID, Points: e.Points})
	}
	return out, nil
}
