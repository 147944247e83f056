package admin

import (
	"context"
	"time"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/event"
)

// Stats tells how far every group has come; *streams.Stats does.
type Stats interface {
	Read(ctx context.Context) (streams.Report, error)
}

// Ledger tells where the events of each of our own groups are, and what of them is lost;
// *streams.Ledger does.
type Ledger interface {
	Read(ctx context.Context) (map[string]streams.Account, error)
	// Acknowledge ends the alarm of a group and returns what it was about.
	Acknowledge(ctx context.Context, group string) (streams.Alarm, error)
}

// DeadLetters reads dead letters, replays and drops them; *streams.DeadLetters does.
type DeadLetters interface {
	List(ctx context.Context, group string, q streams.DeadLetterQuery) (streams.DeadLetterPage, error)
	Show(ctx context.Context, group, id string) (streams.DeadLetter, error)
	Replay(ctx context.Context, group string, ids []string) ([]streams.DeadLetterResult, error)
	Drop(ctx context.Context, group string, ids []string) ([]streams.DeadLetterResult, error)
}

var (
	_ Stats       = (*streams.Stats)(nil)
	_ Ledger      = (*streams.Ledger)(nil)
	_ DeadLetters = (*streams.DeadLetters)(nil)
)

// Orders reads folded orders.
type Orders interface {
	// Find returns orders, the one changed last first.
	Find(ctx context.Context, q OrderQuery) ([]Order, error)
	// Show returns one order and its history, oldest change first, or ErrNoOrder.
	Show(ctx context.Context, key OrderKey) (Order, []OrderChange, error)
}

// Points reads what orders are worth.
type Points interface {
	// Balances returns the points of those orders that have any.
	Balances(ctx context.Context, keys []OrderKey) (map[OrderKey]int64, error)
	// Ledger returns an order's entries, oldest first; none is no error.
	Ledger(ctx context.Context, key OrderKey) ([]PointsEntry, error)
}

// OrderKey names an order.
type OrderKey struct {
	Namespace string
	Ref       string
}

// OrderQuery selects orders; an empty field selects all.
type OrderQuery struct {
	Namespace string `validate:"max=64"`
	Ref       string `validate:"max=512"`
	Limit     int    `validate:"min=1,max=500"`
}

// Order is an order as the operator sees it: nothing about the customer.
type Order struct {
	Namespace string       `json:"namespace"`
	Ref       string       `json:"order_ref"`
	Status    string       `json:"status"`
	Captured  *event.Money `json:"captured,omitempty"`
	Refunded  *event.Money `json:"refunded,omitempty"`
	// Lost is what disputes took; nil while that is nothing.
	Lost      *event.Money `json:"lost,omitempty"`
	Conflicts []string     `json:"conflicts,omitempty"`
	// Points is nil where nothing is known of them.
	Points    *int64    `json:"points,omitempty"`
	UpdatedAt time.Time `json:"updated_at,omitzero"`
}

// OrderChange is what one event did to an order.
type OrderChange struct {
	At      time.Time  `json:"at"`
	EventID string     `json:"event_id"`
	Type    event.Type `json:"type"`
	Account string     `json:"account"`
	// Change is applied, stale, conflict or needs-fetch.
	Change string `json:"change"`
	// Before and After are the order's visible status.
	Before string `json:"before"`
	After  string `json:"after"`
}

// PointsEntry is one entry of the ledger.
type PointsEntry struct {
	At      time.Time `json:"at"`
	EventID string    `json:"event_id"`
	// Points is the difference that the event made.
	Points int64 `json:"points"`
}

// Account is a configured account.
type Account struct {
	Name        string `json:"name"`
	Provider    string `json:"provider"`
	Namespace   string `json:"namespace"`
	DedupWindow string `json:"dedup_window"`
}
