package event

import (
	"slices"
	"time"
)

// said is what one event says about its order, as a state of its own; folding an
// event is joining it. The event must be one that moves money.
func said(e *Event) *state {
	s := &state{}
	at := &mark{At: millis(e.OccurredAt), ID: refKey(e.ID)}
	if ref := validText(e.Merchant.CustomerRef); ref != "" && CheckRef(ref) == nil {
		s.Customers = firsts{ref: at}
	}
	s.Final = e.Payment != nil && e.Payment.Final
	for _, field := range e.LeftOut {
		if isReference(field) {
			s.Unreadable, _ = joinNames(s.Unreadable, []string{field})
		}
	}
	now := momentOf(at)
	switch e.Type {
	case PaymentPending, PaymentActionRequired:
		s.try(e, attempt{Pending: now})
	case PaymentAuthorized:
		s.try(e, attempt{Authorized: now})
	case PaymentSucceeded:
		s.capture(e, at)
	case PaymentFailed:
		s.try(e, attempt{Failed: now})
	case PaymentClosed:
		s.try(e, attempt{Closed: now})
		s.Closed = firsts{refKey(e.ProviderEvent.Type): at}
	case RefundPending:
		s.refund(e, refundPending)
	case RefundSucceeded:
		s.refund(e, refundSucceeded)
	case RefundFailed:
		s.refund(e, refundFailed)
	case DisputeOpened:
		s.dispute(e, disputeOpened)
	case DisputeUpdated:
		s.dispute(e, disputeUpdated)
	case DisputeWon:
		s.dispute(e, disputeWon)
	case DisputeLost:
		s.dispute(e, disputeLost)
	case DisputeClosed:
		s.dispute(e, disputeClosed)
	}
	s.relate(e)
	return s
}

// try notes how far an attempt came: that of the payment the event is about.
func (s *state) try(e *Event, a attempt) {
	s.ledger(e).Attempts = map[string]attempt{paymentKey(e): a}
}

// capture notes money taken: a total where the provider sends totals, else this
// capture's amount. A capture without an amount is noted without one.
func (s *state) capture(e *Event, at *mark) {
	var p Payment
	if e.Payment != nil {
		p = *e.Payment
	}
	l := s.ledger(e)
	s.refundedTotal(e)
	if a, currency, ok := s.amount(p.Captured); ok {
		l.CapturedTotals = map[string]totals{paymentKey(e): {currency: &a}}
		s.Currencies = firsts{currency: at}
		return
	}
	known := amounts{}
	if a, currency, ok := s.amount(p.Amount); ok {
		known[currency] = []amount{a}
		s.Currencies = firsts{currency: at}
	}
	l.Captures = map[string]amounts{partKey(p.ProviderRef, e): known}
}

// refund notes one refund, and the total where one is told. Totals count on success
// alone: before it, providers differ in whether a total holds the refund.
func (s *state) refund(e *Event, v outcome) {
	var r Refund
	if e.Refund != nil {
		r = *e.Refund
	}
	if v == refundSucceeded && s.refundedTotal(e) && r.Amount == nil && r.ProviderRef == "" {
		return // The total is all there is to know.
	}
	l, key := s.ledger(e), partKey(r.ProviderRef, e)
	l.Refunds = map[string][]told{key: {s.told(e, v, r.Amount)}}
	if payment := paymentKey(e); payment != "" {
		l.RefundOf = map[string][]string{key: {payment}}
	}
}

// refundedTotal notes what was given back so far, and when that was told.
func (s *state) refundedTotal(e *Event) bool {
	if e.Payment == nil {
		return false
	}
	a, currency, ok := s.amount(e.Payment.RefundedTotal)
	if ok {
		at := momentOf(&mark{At: millis(e.OccurredAt)})
		s.ledger(e).RefundedTotals = map[string]series{paymentKey(e): {currency: {a: at}}}
	}
	return ok
}

func (s *state) dispute(e *Event, v outcome) {
	var d Dispute
	if e.Dispute != nil {
		d = *e.Dispute
	}
	l, key := s.ledger(e), partKey(d.ProviderRef, e)
	l.Disputes = map[string][]told{key: {s.told(e, v, d.Amount)}}
	if payment := paymentKey(e); payment != "" {
		l.DisputeOf = map[string][]string{key: {payment}}
	}
}

// relate notes the other names of the payment. A capture that names the payment it is
// a part of has two.
func (s *state) relate(e *Event) {
	name := paymentKey(e)
	if name == "" {
		return
	}
	related := e.Payment.RelatedRefs
	if e.Type.OfPayment() {
		related = append(slices.Clip(related), e.Payment.ProviderRef)
	}
	var others []string
	for _, ref := range related {
		if key := refKey(ref); key != "" && key != name {
			others, _ = joinNames(others, []string{key})
		}
	}
	if len(others) > 0 {
		s.ledger(e).Related = map[string][]string{name: others}
	}
}

func (s *state) told(e *Event, v outcome, m *Money) told {
	t := told{Value: v, At: millis(e.OccurredAt)}
	if n := e.ProviderEvent.Sequence; n != nil {
		sequence := *n
		t.Sequence = &sequence
	}
	if a, currency, ok := s.amount(m); ok {
		t.Amount, t.Currency = a, currency
	}
	return t
}

// ledger is the account's part of s, made when missing.
func (s *state) ledger(e *Event) *ledger {
	name := refKey(e.Account)
	if s.Accounts == nil {
		s.Accounts = map[string]*ledger{name: {}}
	}
	return s.Accounts[name]
}

// amount reads money that can be counted. Money whose parts disagree is as good as
// none; an amount below zero would let a sum fall, so it is flagged instead.
func (s *state) amount(m *Money) (a amount, currency string, ok bool) {
	if m == nil || m.Validate() != nil {
		return amount{}, "", false
	}
	if m.Minor < 0 {
		s.Negative = true
		return amount{}, "", false
	}
	return amountOf(*m), m.Currency, true
}

// partKey names a capture, refund or dispute: by the provider's reference, which is
// unique in its account, or else by the only event that tells of it.
func partKey(ref string, e *Event) string {
	if ref != "" {
		return refKey(ref)
	}
	return refKey(e.ID)
}

// paymentKey names the payment that the event is about; "" is one without a
// reference, or the order as a whole.
func paymentKey(e *Event) string {
	switch {
	case e.Payment == nil:
		return ""
	case e.Payment.ParentRef != "":
		return refKey(e.Payment.ParentRef)
	default:
		return refKey(e.Payment.ProviderRef)
	}
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
