package event

import "time"

// said is what one event says about its order, as a state of its own; folding an
// event is joining it. The event must be one that moves money.
func said(e *Event) *state {
	s := &state{}
	at := &mark{At: millis(e.OccurredAt), ID: refKey(e.ID)}
	if ref := validText(e.Merchant.CustomerRef); ref != "" && len(ref) <= maxCustomerLen {
		s.Customers = firsts{ref: at}
	}
	s.Final = e.Payment != nil && e.Payment.Final
	switch e.Type {
	case PaymentPending, PaymentActionRequired:
		s.Stage, s.LastPending = stagePending, at
	case PaymentAuthorized:
		s.Stage = stageAuthorized
	case PaymentSucceeded:
		s.Stage = stagePaid
		s.capture(e, at)
	case PaymentFailed:
		s.LastFailure = at
	case PaymentClosed:
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
	return s
}

// capture notes money taken: a total where the provider sends totals, else this
// capture's amount. A capture without an amount is noted without one.
func (s *state) capture(e *Event, at *mark) {
	var p Payment
	if e.Payment != nil {
		p = *e.Payment
	}
	l := s.ledger(e)
	if a, currency, ok := s.amount(p.Captured); ok {
		l.CapturedTotals = map[string]totals{totalKey(p): {currency: &a}}
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

// refund notes one refund, and the total where the provider sends that instead of
// the refund's own amount. Totals count on success alone: before it, providers
// differ in whether a total holds the refund.
func (s *state) refund(e *Event, v outcome) {
	var r Refund
	if e.Refund != nil {
		r = *e.Refund
	}
	l := s.ledger(e)
	t := s.told(e, v, r.Amount)
	if v == refundSucceeded && r.Amount == nil && e.Payment != nil {
		if a, currency, ok := s.amount(e.Payment.RefundedTotal); ok {
			l.RefundedTotals = map[string]totals{totalKey(*e.Payment): {currency: &a}}
			if r.ProviderRef == "" {
				return // The total is all there is to know.
			}
		}
	}
	l.Refunds = map[string][]told{partKey(r.ProviderRef, e): {t}}
}

func (s *state) dispute(e *Event, v outcome) {
	var d Dispute
	if e.Dispute != nil {
		d = *e.Dispute
	}
	s.ledger(e).Disputes = map[string][]told{partKey(d.ProviderRef, e): {s.told(e, v, d.Amount)}}
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
	l := &ledger{}
	s.Accounts = map[string]*ledger{refKey(e.Account): l}
	return l
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

// totalKey names the payment that a total is about; "" is the order as a whole.
func totalKey(p Payment) string {
	if p.ParentRef != "" {
		return refKey(p.ParentRef)
	}
	return refKey(p.ProviderRef)
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
