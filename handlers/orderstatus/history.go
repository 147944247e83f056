package orderstatus

import (
	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/orderfold"
	"github.com/paybell/paybell/workers"
)

// history collects the rows of a batch.
type history struct {
	rows  *effects.Rows
	moved map[orderfold.Key]orderfold.Key
}

func newHistory(tx *effects.Tx) *history {
	return &history{
		moved: map[orderfold.Key]orderfold.Key{},
		rows: effects.NewRows(
			effects.Text("event_id"), effects.Text("namespace"), effects.Text("order_key"), effects.Text("account"),
			effects.Text("type"), effects.Text("outcome"), effects.Text("status_before"), effects.Text("status_after"),
			effects.Timestamp("occurred_at"), effects.Timestamp("received_at"), effects.Integer("part"), effects.Text("entry_id"),
			effects.Timestamp("recorded_at").Same(tx.Now()),
		),
	}
}

// add notes what a delivery did; before and after are nil where nothing was looked at.
func (h *history) add(d *workers.Delivery, k orderfold.Key, outcome string, before, after any) {
	e := &d.Event
	h.rows.Add(e.ID, k.Namespace, k.Order, e.Account, string(e.Type), outcome, before, after,
		effects.OrNull(e.OccurredAt), e.ReceivedAt, int64(d.Partition), d.EntryID)
}

// move notes that an order became part of another, and its history with it.
func (h *history) move(from, to orderfold.Key) { h.moved[from] = to }

func (h *history) save(tx *effects.Tx) {
	tx.Queue(h.rows, `
		INSERT INTO order_history (event_id, namespace, order_key, account, type, outcome, status_before, status_after,
			occurred_at, received_at, recorded_at, part, entry_id)
		SELECT event_id, namespace, order_key, account, type, outcome, status_before, status_after,
			occurred_at, received_at, recorded_at, part, entry_id
		FROM input WHERE true
		ON CONFLICT (event_id) DO NOTHING`)
	moves := effects.NewRows(effects.Text("namespace"), effects.Text("from_key"), effects.Text("to_key"))
	for from := range h.moved {
		moves.Add(from.Namespace, from.Order, h.last(from).Order)
	}
	tx.Queue(moves, `
		UPDATE order_history AS h SET order_key = input.to_key
		FROM input WHERE h.namespace = input.namespace AND h.order_key = input.from_key`)
}

// last is the order that another one became part of in the end: within a batch, what
// absorbed it may be absorbed too.
func (h *history) last(k orderfold.Key) orderfold.Key {
	for range h.moved { // No chain is longer.
		to, moved := h.moved[k]
		if !moved {
			break
		}
		k = to
	}
	return k
}
