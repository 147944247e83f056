// Package orderstatus is the built-in handler that keeps the status of every order
// and the history of how it came to be. The status is a function of the folded
// order (handlers/orderfold), so late, reversed and repeated callbacks cannot
// corrupt it (G6), and it is written together with the dedup key (G4).
//
// An event that moves money has one row in the history: applied, stale or
// conflict, with the status before and after. One that would, were it authentic and
// complete, has a row needs-fetch and changes nothing; so has a conflict, whose row
// says conflict. Events of other types, such as a payout or a shipment, have no row
// here: they stand in the event log.
package orderstatus

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/orderfold"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/workers"
)

// Handler keeps orders and order_history.
type Handler struct {
	*effects.Handler
	fold    *orderfold.Folder
	metrics *metrics
	log     *slog.Logger
}

var _ workers.BatchHandler = (*Handler)(nil)

// Deps are what a Handler is given.
type Deps struct {
	// Logger defaults to one that discards.
	Logger *slog.Logger
	// Registerer takes the metrics; nil keeps them unregistered.
	Registerer prometheus.Registerer
}

// New returns the handler of a group on a store.
func New(store *effects.Store, group string, d Deps, opts ...effects.HandlerOption) (*Handler, error) {
	m, err := newMetrics(d.Registerer)
	if err != nil {
		return nil, err
	}
	h := &Handler{fold: orderfold.New("orders", "order_refs"), metrics: m, log: d.Logger}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	h.Handler = store.Handler(group, h.apply, opts...)
	return h, nil
}

// apply is the effect of a batch.
func (h *Handler) apply(ctx context.Context, tx *effects.Tx, ds []workers.Delivery) error {
	history := newHistory(tx)
	err := h.fold.Fold(ctx, tx, effects.Events(ds), nil, func(s orderfold.Step) error {
		history.add(&ds[s.Index], s.Order.Key, string(s.Change), string(s.Before), string(s.After))
		for _, o := range s.Also {
			if o.Absorbed {
				history.move(o.Key, s.Order.Key)
			}
		}
		h.count(tx, ds, s)
		return nil
	})
	if err != nil {
		return fmt.Errorf("orderstatus: %w", err)
	}
	for i := range ds {
		if outcome := unmoved(&ds[i].Event); outcome != "" {
			history.add(&ds[i], orderfold.Home(&ds[i].Event), outcome, nil, nil)
			h.countOutcome(tx, outcome)
		}
	}
	history.save(tx)
	return nil
}

// unmoved is the outcome of an event that moves no money, "" for no row.
func unmoved(e *event.Event) string {
	switch {
	case e.MovesMoney():
		return ""
	case e.Type == event.Conflict:
		return string(event.ChangeConflict)
	case e.Type.Folds() || e.Type == event.PaymentReference || e.Completeness == event.NeedsFetch:
		return string(event.ChangeNeedsFetch)
	default:
		return ""
	}
}

func (h *Handler) count(tx *effects.Tx, ds []workers.Delivery, s orderfold.Step) {
	h.countOutcome(tx, string(s.Change))
	if s.Change != event.ChangeConflict {
		return
	}
	conflicts := s.Order.Conflicts()
	tx.OnCommit(func() {
		h.log.Warn("order has a conflict", "event", ds[s.Index].Event, "conflicts", conflicts)
	})
}

func (h *Handler) countOutcome(tx *effects.Tx, outcome string) {
	tx.OnCommit(func() { h.metrics.events.WithLabelValues(outcome).Inc() })
}
