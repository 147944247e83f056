package stripe

import (
	"strings"

	"github.com/paybell/paybell/streams/event"
)

// word is what one of Stripe's event types means here.
type word struct {
	typ event.Type
	// amount is the member of the object that holds the amount of this fact.
	amount string
	read   func(r *reading, w word) error
}

// vocabulary is the mapping as data. What is not in it is unmapped: Stripe has
// several hundred types and adds to them without notice.
var vocabulary = map[string]word{
	"payment_intent.created":                   {event.PaymentPending, "amount", intent},
	"payment_intent.processing":                {event.PaymentPending, "amount", intent},
	"payment_intent.requires_action":           {event.PaymentActionRequired, "amount", intent},
	"payment_intent.amount_capturable_updated": {event.PaymentAuthorized, "amount_capturable", intent},
	"payment_intent.succeeded":                 {event.PaymentSucceeded, "amount_received", intent},
	"payment_intent.payment_failed":            {event.PaymentFailed, "amount", intent},
	"payment_intent.canceled":                  {event.PaymentClosed, "amount", intent},

	"charge.pending":   {event.PaymentPending, "amount", charge},
	"charge.succeeded": {event.PaymentSucceeded, "amount_captured", charge}, // or authorized: see charge
	"charge.captured":  {event.PaymentSucceeded, "amount_captured", charge},
	"charge.failed":    {event.PaymentFailed, "amount", charge},
	"charge.expired":   {event.PaymentClosed, "amount", charge},
	"charge.refunded":  {event.RefundSucceeded, "amount_refunded", refundedCharge},

	// Refunds go by the status of the refund; the types here are never seen.
	"refund.created":        {event.Unmapped, "amount", refund},
	"refund.updated":        {event.Unmapped, "amount", refund},
	"refund.failed":         {event.Unmapped, "amount", refund},
	"charge.refund.updated": {event.Unmapped, "amount", refund},

	// Disputes go by the status of the dispute where that is decided.
	"charge.dispute.created":          {event.DisputeOpened, "amount", dispute},
	"charge.dispute.updated":          {event.DisputeUpdated, "amount", dispute},
	"charge.dispute.funds_withdrawn":  {event.DisputeUpdated, "amount", dispute},
	"charge.dispute.funds_reinstated": {event.DisputeUpdated, "amount", dispute},
	"charge.dispute.closed":           {event.DisputeClosed, "amount", dispute},

	"checkout.session.completed":               {event.PaymentSucceeded, "amount_total", session}, // by payment_status
	"checkout.session.async_payment_succeeded": {event.PaymentSucceeded, "amount_total", session},
	"checkout.session.async_payment_failed":    {event.PaymentFailed, "amount_total", session},
	"checkout.session.expired":                 {event.PaymentClosed, "amount_total", session},

	"invoice.paid":              {event.PaymentSucceeded, "amount_paid", invoice},
	"invoice.payment_succeeded": {event.PaymentSucceeded, "amount_paid", invoice},
	"invoice.payment_failed":    {event.PaymentFailed, "amount_due", invoice},

	"invoice_payment.paid": {event.PaymentSucceeded, "amount_paid", invoicePayment},

	"mandate.updated": {event.MandateUpdated, "", carried},
}

// prefixes are families whose every type means the same here.
var prefixes = []struct {
	prefix string
	word   word
}{
	{"payout.", word{event.PayoutUpdated, "amount", carried}},
	{"customer.subscription.", word{event.SubscriptionUpdated, "", carried}},
}

func lookUp(name string) (word, bool) {
	if w, ok := vocabulary[name]; ok {
		return w, true
	}
	for _, p := range prefixes {
		if strings.HasPrefix(name, p.prefix) {
			return p.word, true
		}
	}
	return word{}, false
}

// refundStatus is what the status of a refund means.
var refundStatus = map[string]event.Type{
	"pending":         event.RefundPending,
	"requires_action": event.RefundPending,
	"succeeded":       event.RefundSucceeded,
	"failed":          event.RefundFailed,
	"canceled":        event.RefundFailed,
}

// disputeStatus is what a decided status of a dispute means. It goes before the
// event's own type: charge.dispute.funds_reinstated comes after a dispute was
// won, and must not make it look open again.
var disputeStatus = map[string]event.Type{
	"won":            event.DisputeWon,
	"lost":           event.DisputeLost,
	"warning_closed": event.DisputeClosed,
	"prevented":      event.DisputeClosed,
}
