package stripe

import (
	"fmt"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

// reading is one snapshot event while it is read.
type reading struct {
	event  *event.Event
	word   string
	object provider.Value
	// version is the API version that the object is written in.
	version string
	// id is the object's own.
	id string
	// pay becomes the event's payment.
	pay event.Payment
}

// amount reads the member a word names. Stripe's amounts of payments, refunds
// and disputes are never negative.
func (r *reading) amount(member string) (*event.Money, error) {
	m, err := money(r.object.Member(member), r.object.Member("currency"))
	if err != nil {
		return nil, err
	}
	if m != nil && m.Minor < 0 {
		return nil, fmt.Errorf("%w: negative amount", provider.ErrMalformed)
	}
	return m, nil
}

// required is amount for facts that are nothing without one.
func (r *reading) required(member string) (*event.Money, error) {
	m, err := r.amount(member)
	if err == nil && m == nil {
		err = fmt.Errorf("%w: %s without %s", provider.ErrMalformed, r.event.Type, member)
	}
	return m, err
}

// paymentRef is the name every event about this payment carries: the intent's id
// where the object knows it, else the charge's, else the object's own.
func (r *reading) paymentRef() string {
	for _, member := range []string{"payment_intent", "charge"} {
		if ref := reference(r.object.Member(member)); ref != "" {
			return ref
		}
	}
	return r.id
}

// fail keeps why something failed; nothing is kept when nothing is said.
func (r *reading) fail(code, message string) {
	if code != "" || message != "" {
		r.pay.Failure = &event.Failure{Code: code, Message: message}
	}
}

// paid puts the amount where the type of the event needs it. Beside any other type
// than a payment's success it decides nothing: one that cannot be read is left out.
func (r *reading) paid(member string) (err error) {
	if r.event.Type == event.PaymentSucceeded {
		r.pay.Amount, err = r.required(member)
		return err
	}
	r.pay.Amount = r.beside(member, event.LeftOutAmount)
	return nil
}

// beside reads an amount that decides nothing.
func (r *reading) beside(member, field string) *event.Money {
	m, err := r.amount(member)
	if err != nil {
		r.event.LeftOut = append(r.event.LeftOut, field)
	}
	return m
}

// related notes an invoice that is this payment, or a payment of this invoice. It
// stands apart from the references that tell events from each other, because API
// versions differ in what they say of it.
func (r *reading) related(refs ...string) {
	for _, ref := range refs {
		if ref != "" {
			r.pay.RelatedRefs = append(r.pay.RelatedRefs, ref)
		}
	}
}

func intent(r *reading, w word) error {
	r.pay.ProviderRef = r.id
	r.related(reference(r.object.Member("invoice")))
	switch w.typ {
	case event.PaymentFailed:
		last := r.object.Member("last_payment_error")
		r.fail(last.Member("code").TextOr(""), last.Member("message").TextOr(""))
	case event.PaymentClosed:
		r.fail(r.object.Member("cancellation_reason").TextOr(""), "")
	}
	return r.paid(w.amount)
}

func charge(r *reading, w word) error {
	r.pay.ProviderRef = r.paymentRef()
	r.related(reference(r.object.Member("invoice")))
	r.pay.Method = r.object.At("/payment_method_details/type").TextOr("")
	member := w.amount
	switch w.typ {
	case event.PaymentSucceeded:
		captured, ok := r.object.Member("captured").Bool()
		if !ok {
			return fmt.Errorf("%w: charge does not say whether it is captured", provider.ErrMalformed)
		}
		if !captured {
			// The money is reserved, and becomes ours by charge.captured.
			r.event.Type, member = event.PaymentAuthorized, "amount"
		} else if r.object.Member(member).Kind() <= provider.Null {
			return r.captured()
		}
	case event.PaymentFailed:
		r.fail(r.object.Member("failure_code").TextOr(""), r.object.Member("failure_message").TextOr(""))
	}
	return r.paid(member)
}

// refundedCharge tells the total that was refunded of a charge so far. The
// refunds it consists of come as events of their own; the fold takes the greater
// of total and sum, so that what comes both ways counts once. Where nothing but
// reserved money was released it says nothing: that the payment is closed comes by
// payment_intent.canceled or charge.expired.
func refundedCharge(r *reading, w word) (err error) {
	r.pay.ProviderRef = r.paymentRef()
	r.pay.ParentRef = r.pay.ProviderRef
	r.pay.RefundedTotal, err = r.givenBack(w.amount)
	if r.pay.RefundedTotal == nil {
		r.event.Type = event.Unmapped
		return err
	}
	r.event.Refund = &event.Refund{}
	return err
}

func refund(r *reading, w word) (err error) {
	typ, ok := refundStatus[r.object.Member("status").TextOr("")]
	if !ok || typ == event.RefundSucceeded && r.releases() {
		// A status we do not know decides nothing, and a release gives nothing back.
		r.event.Type = event.Unmapped
	} else {
		r.event.Type = typ
	}
	r.pay.ProviderRef = r.paymentRef()
	if r.pay.ProviderRef == r.id {
		return fmt.Errorf("%w: refund of neither a payment intent nor a charge", provider.ErrMalformed)
	}
	r.pay.ParentRef = r.pay.ProviderRef
	r.event.Refund = &event.Refund{ProviderRef: r.id}
	r.fail(r.object.Member("failure_reason").TextOr(""), "")
	switch r.event.Type {
	case event.RefundSucceeded, event.RefundFailed:
		r.event.Refund.Amount, err = r.required(w.amount)
	default:
		r.event.Refund.Amount = r.beside(w.amount, event.LeftOutRefundAmount)
	}
	return err
}

func dispute(r *reading, w word) (err error) {
	status := r.object.Member("status").TextOr("")
	if typ, ok := disputeStatus[status]; ok {
		r.event.Type = typ
	}
	r.pay.ProviderRef = r.paymentRef()
	if r.pay.ProviderRef == r.id {
		return fmt.Errorf("%w: dispute of neither a payment intent nor a charge", provider.ErrMalformed)
	}
	r.pay.ParentRef = r.pay.ProviderRef
	r.event.Dispute = &event.Dispute{ProviderRef: r.id, Reason: r.object.Member("reason").TextOr("")}
	if due, ok := unixTime(r.object.At("/evidence_details/due_by")); ok {
		r.event.Dispute.DueBy = due
	}
	if r.event.Type == event.DisputeLost {
		r.event.Dispute.Amount, err = r.required(w.amount)
		return err
	}
	r.event.Dispute.Amount = r.beside(w.amount, event.LeftOutDisputeAmount)
	return nil
}

// session reads a checkout session, which is complete when the buyer is through
// with the page: whether the money is there is another question.
func session(r *reading, w word) error {
	intent, invoice := reference(r.object.Member("payment_intent")), reference(r.object.Member("invoice"))
	if intent != "" {
		r.related(invoice)
	}
	if r.word == "checkout.session.completed" {
		switch r.object.Member("payment_status").TextOr("") {
		case "paid":
		case "unpaid":
			r.event.Type = event.PaymentPending
		case "no_payment_required":
			return r.free(w, intent, invoice)
		default:
			r.event.Type = event.Unmapped
		}
	}
	return r.total(w, intent, invoice)
}

// free reads a session that owes nothing now. One whose total is nothing settles its
// order with that; one that is paid later, or that only keeps a card, says nothing of
// money.
func (r *reading) free(w word, intent, invoice string) error {
	if total, err := r.amount(w.amount); err != nil || total == nil || total.Minor != 0 {
		r.event.Type = event.Unmapped
	}
	return r.total(w, intent, invoice)
}

// invoice reads an invoice, which goes by its own name in every API version. Until
// 2025-03-31 it named its intent, and the intent named it; since then what joins them
// comes as invoice_payment.paid.
func invoice(r *reading, w word) error {
	// One that was paid in another way cancels its intent, which then did not pay it.
	if elsewhere, _ := r.object.Member("paid_out_of_band").Bool(); !elsewhere {
		r.related(invoiceIntents(r.object)...)
	}
	return r.total(w, "", r.id)
}

// invoicePayment reads what was paid of an invoice by one payment, and so which
// payment it was (docs.stripe.com/api/invoice-payment).
func invoicePayment(r *reading, w word) error {
	payment := r.object.Member("payment")
	r.pay.ProviderRef = reference(payment.Member("payment_intent"))
	if r.pay.ProviderRef == "" {
		r.pay.ProviderRef = reference(payment.Member("charge"))
	}
	invoice := reference(r.object.Member("invoice"))
	if r.pay.ProviderRef == "" || invoice == "" {
		// Paid outside of Stripe: the invoice tells its total.
		r.event.Type, r.pay.ProviderRef = event.Unmapped, r.id
		return nil
	}
	r.related(invoice)
	return r.paid(w.amount)
}

// total reads an object that may stand for a payment without knowing its intent.
// Then its amount is a total and not one more capture: the capture comes, by its
// own name, in the intent's and the charge's events, and the fold takes the
// greater of the two. Totals of one name are one; a checkout session of a subscription
// and its invoice have the invoice's. A total without a name is one of the whole order.
func (r *reading) total(w word, intent, invoice string) (err error) {
	r.pay.ProviderRef = intent
	if intent != "" || r.event.Type != event.PaymentSucceeded {
		if intent == "" {
			r.pay.ProviderRef = r.id
		}
		return r.paid(w.amount)
	}
	r.pay.ProviderRef = invoice
	if invoice == "" && r.pay.OrderRef == "" {
		r.pay.ProviderRef = r.id
	}
	r.pay.Captured, err = r.required(w.amount)
	return err
}

// invoiceIntents finds the intents an invoice was paid with: a member of the invoice
// in API versions before 2025-03-31, entries of its payments since, where they are
// expanded.
func invoiceIntents(object provider.Value) []string {
	refs := []string{reference(object.Member("payment_intent"))}
	object.At("/payments/data").Each(func(_ string, payment provider.Value) bool {
		refs = append(refs, reference(payment.At("/payment/payment_intent")))
		return true
	})
	return refs
}

// carried objects are kept with their name and amount and fold into nothing.
func carried(r *reading, w word) (err error) {
	r.pay.ProviderRef = r.id
	if w.amount != "" {
		// Payouts may be negative.
		r.pay.Amount, err = money(r.object.Member(w.amount), r.object.Member("currency"))
	}
	return err
}
