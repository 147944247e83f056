package event

import "strings"

// Type is our classification of an event. The list is closed: what does not
// fit is Unmapped, and the provider's own word stays in ProviderEvent.Type.
type Type string

// The closed list of types.
const (
	PaymentPending        Type = "payment.pending"
	PaymentActionRequired Type = "payment.action_required"
	PaymentAuthorized     Type = "payment.authorized"
	PaymentSucceeded      Type = "payment.succeeded"
	PaymentFailed         Type = "payment.failed"
	PaymentClosed         Type = "payment.closed"
	PaymentReference      Type = "payment.reference"
	RefundPending         Type = "refund.pending"
	RefundSucceeded       Type = "refund.succeeded"
	RefundFailed          Type = "refund.failed"
	DisputeOpened         Type = "dispute.opened"
	DisputeUpdated        Type = "dispute.updated"
	DisputeWon            Type = "dispute.won"
	DisputeLost           Type = "dispute.lost"
	DisputeClosed         Type = "dispute.closed"
	PayoutUpdated         Type = "payout.updated"
	MandateUpdated        Type = "mandate.updated"
	SubscriptionUpdated   Type = "subscription.updated"
	OrderCreated          Type = "order.created"
	OrderShipped          Type = "order.shipped"
	StockChanged          Type = "stock.changed"
	TestPing              Type = "test.ping"
	Unmapped              Type = "unmapped"
	// Conflict is a callback that reused a known event ID for other facts. It is
	// kept and counted, and has no effect.
	Conflict Type = "conflict"
)

// Folds reports whether an event of this type grows the state of an order.
func (t Type) Folds() bool {
	switch t {
	case PaymentPending, PaymentActionRequired, PaymentAuthorized, PaymentSucceeded, PaymentFailed, PaymentClosed,
		RefundPending, RefundSucceeded, RefundFailed,
		DisputeOpened, DisputeUpdated, DisputeWon, DisputeLost, DisputeClosed:
		return true
	default:
		return false
	}
}

// OfPayment reports whether an event of this type is about a payment itself, and not
// about a refund or a dispute of it.
func (t Type) OfPayment() bool { return strings.HasPrefix(string(t), "payment.") }
