package orderstatus

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/orderfold"
	"github.com/paybell/paybell/streams/event"
)

// ErrNoOrder is returned for an order that no event has told of.
var ErrNoOrder = errors.New("orderstatus: no such order")

// Order is an order as it stands. It holds nothing about the customer.
type Order struct {
	Namespace string `json:"namespace"`
	// Name is the merchant's reference, or the key of an order without one
	// ("ref/<account>/<provider reference>"); see orderfold.Named.
	Name   string       `json:"order_ref"`
	Status event.Status `json:"status"`
	// Captured and Refunded are nil while no amount is known.
	Captured *event.Money `json:"captured,omitempty"`
	Refunded *event.Money `json:"refunded,omitempty"`
	// Lost is what disputes took; nil while that is nothing.
	Lost      *event.Money         `json:"lost,omitempty"`
	Conflicts []event.Disagreement `json:"conflicts,omitempty"`
	CreatedAt time.Time            `json:"created_at"`
	UpdatedAt time.Time            `json:"updated_at"`
}

// Entry is what one event did to an order.
type Entry struct {
	EventID string     `json:"event_id"`
	Type    event.Type `json:"type"`
	Account string     `json:"account"`
	// Outcome is applied, stale, conflict or needs-fetch. Before and After are ""
	// where the event was not folded.
	Outcome    event.Change `json:"outcome"`
	Before     event.Status `json:"before,omitempty"`
	After      event.Status `json:"after,omitempty"`
	OccurredAt time.Time    `json:"occurred_at,omitzero"`
	ReceivedAt time.Time    `json:"received_at"`
	RecordedAt time.Time    `json:"recorded_at"`
	Partition  int          `json:"partition"`
	EntryID    string       `json:"entry_id"`
}

// Query selects orders; what is empty selects all.
type Query struct {
	Namespace string
	// Name is exact.
	Name string
	// Limit is 1 to 1000.
	Limit int
}

// Reader reads what the handler keeps.
type Reader struct{ store *effects.Store }

// NewReader returns a reader of a store.
func NewReader(store *effects.Store) *Reader { return &Reader{store} }

const orderColumns = `namespace, order_key, status, currency, captured_minor, captured_value,
	refunded_minor, refunded_value, lost_minor, lost_value, conflicts, created_at, updated_at`

// Find returns orders, the one changed last first.
func (r *Reader) Find(ctx context.Context, q Query) ([]Order, error) {
	query, args := `SELECT `+orderColumns+` FROM orders`, []any{min(max(q.Limit, 1), 1000)}
	var where []string
	if q.Namespace != "" {
		args = append(args, q.Namespace)
		where = append(where, fmt.Sprintf("namespace = $%d", len(args)))
	}
	if q.Name != "" {
		key := orderfold.Named("", q.Name)
		args = append(args, key.Name())
		column := "order_ref"
		if key.Name() == key.Order {
			column = "order_key"
		}
		where = append(where, fmt.Sprintf("%s = $%d", column, len(args)))
	}
	if len(where) > 0 {
		query += ` WHERE ` + strings.Join(where, " AND ")
	}
	var out []Order
	err := r.store.Query(ctx, func(row effects.Row) error {
		o, err := scanOrder(row)
		out = append(out, o)
		return err
	}, query+` ORDER BY updated_at DESC, namespace, order_key LIMIT $1`, args...)
	if err != nil {
		return nil, fmt.Errorf("orderstatus: find orders: %w", err)
	}
	return out, nil
}

// Get returns one order and its history in the order it was made, or ErrNoOrder.
// An order that no event has moved yet, but of which something is in the history,
// has the status unknown.
func (r *Reader) Get(ctx context.Context, namespace, name string) (Order, []Entry, error) {
	key := orderfold.Named(namespace, name)
	o := Order{Namespace: namespace, Name: name, Status: event.StatusUnknown}
	found := false
	err := r.store.Query(ctx, func(row effects.Row) error {
		var err error
		o, err = scanOrder(row)
		found = true
		return err
	}, `SELECT `+orderColumns+` FROM orders WHERE namespace = $1 AND order_key = $2`, key.Namespace, key.Order)
	if err != nil {
		return Order{}, nil, fmt.Errorf("orderstatus: read an order: %w", err)
	}
	var entries []Entry
	err = r.store.Query(ctx, func(row effects.Row) error {
		var e Entry
		var before, after sql.NullString
		var occurred, received, recorded effects.Time
		err := row.Scan(&e.EventID, &e.Type, &e.Account, &e.Outcome, &before, &after, &occurred, &received, &recorded, &e.Partition, &e.EntryID)
		e.Before, e.After = event.Status(before.String), event.Status(after.String)
		e.OccurredAt, e.ReceivedAt, e.RecordedAt = occurred.Time, received.Time, recorded.Time
		entries = append(entries, e)
		return err
	}, `SELECT event_id, type, account, outcome, status_before, status_after, occurred_at, received_at, recorded_at, part, entry_id
		FROM order_history WHERE namespace = $1 AND order_key = $2
		ORDER BY seq`, key.Namespace, key.Order)
	if err != nil {
		return Order{}, nil, fmt.Errorf("orderstatus: read a history: %w", err)
	}
	if !found && len(entries) == 0 {
		return Order{}, nil, ErrNoOrder
	}
	return o, entries, nil
}

func scanOrder(row effects.Row) (Order, error) {
	var o Order
	var key, conflicts string
	var currency, captured, refunded, lost sql.NullString
	var capturedMinor, refundedMinor, lostMinor sql.NullInt64
	var created, updated effects.Time
	err := row.Scan(&o.Namespace, &key, &o.Status, &currency, &capturedMinor, &captured, &refundedMinor, &refunded,
		&lostMinor, &lost, &conflicts, &created, &updated)
	if err != nil {
		return Order{}, err
	}
	o.Name = orderfold.Key{Order: key}.Name()
	o.Captured = stored(capturedMinor, captured.String, currency.String)
	o.Refunded = stored(refundedMinor, refunded.String, currency.String)
	if lostMinor.Int64 != 0 {
		o.Lost = stored(lostMinor, lost.String, currency.String)
	}
	for word := range strings.FieldsSeq(conflicts) {
		o.Conflicts = append(o.Conflicts, event.Disagreement(word))
	}
	o.CreatedAt, o.UpdatedAt = created.Time, updated.Time
	return o, nil
}

// stored is money as it was stored: the text has the exponent's digits.
func stored(minor sql.NullInt64, value, currency string) *event.Money {
	if !minor.Valid {
		return nil
	}
	_, fraction, _ := strings.Cut(value, ".")
	return &event.Money{Value: value, Minor: minor.Int64, Exponent: len(fraction), Currency: currency}
}
