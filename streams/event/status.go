package event

import (
	"math/big"
)

// Status is what an order's state looks like from outside.
type Status string

// The visible statuses, in the order in which the first that matches wins.
const (
	// StatusChargedBack: a dispute over all that was captured is lost.
	StatusChargedBack Status = "charged_back"
	// StatusDisputed: a dispute is open.
	StatusDisputed Status = "disputed"
	// StatusRefunded: all that was captured was refunded.
	StatusRefunded Status = "refunded"
	// StatusPartiallyRefunded: a part was refunded.
	StatusPartiallyRefunded Status = "partially_refunded"
	// StatusPaid: money was captured. It beats failed and closed, whatever the order
	// of arrival.
	StatusPaid Status = "paid"
	// StatusClosed: no payment is expected any more.
	StatusClosed Status = "closed"
	// StatusAuthorized: funds are reserved.
	StatusAuthorized Status = "authorized"
	// StatusFailed: the last attempt failed.
	StatusFailed Status = "failed"
	// StatusPending: an attempt is under way.
	StatusPending Status = "pending"
	// StatusUnknown: nothing is known that decides.
	StatusUnknown Status = "unknown"
)

// Status is the order's visible status.
func (o *Order) Status() Status {
	s := &o.s
	f := s.figures()
	lost, open := s.disputes(f)
	switch {
	case lost:
		return StatusChargedBack
	case open:
		return StatusDisputed
	case s.Stage == stagePaid && f.captured.Sign() > 0 && f.refunded.Cmp(f.captured) >= 0:
		return StatusRefunded
	case s.Stage == stagePaid && f.refunded.Sign() > 0:
		return StatusPartiallyRefunded
	case s.Stage == stagePaid:
		return StatusPaid
	case len(s.Closed) > 0:
		return StatusClosed
	case s.Stage == stageAuthorized:
		return StatusAuthorized
	case s.LastFailure != nil && (s.LastPending == nil || s.LastFailure.compare(*s.LastPending) > 0):
		return StatusFailed
	case s.Stage == stagePending:
		return StatusPending
	default:
		return StatusUnknown
	}
}

// Captured is the money taken for the order, in the order's currency; the zero
// Money while no amount is known. An amount beyond int64 is cut to the largest that
// fits, and the order has ConflictOverflow.
func (o *Order) Captured() Money {
	f := o.s.figures()
	if f.currency == "" {
		return Money{}
	}
	m, _ := moneyOf(f.captured, f.currency)
	return m
}

// Refunded is the money given back, as Captured.
func (o *Order) Refunded() Money {
	f := o.s.figures()
	if f.currency == "" {
		return Money{}
	}
	m, _ := moneyOf(f.refunded, f.currency)
	return m
}

// figures are an order's sums, scaled (see amount.scaled), in its currency.
type figures struct {
	currency           string
	captured, refunded *big.Int
}

// figures adds up. Of each account captured is the larger of the totals it sent
// and the sum of its captures, and likewise refunded: each is a lower bound of the
// same money. Accounts add up, they cannot speak of the same money.
func (s *state) figures() figures {
	f := figures{currency: s.currency(), captured: new(big.Int), refunded: new(big.Int)}
	if f.currency == "" {
		return f
	}
	for _, l := range s.Accounts {
		captures := new(big.Int)
		for _, known := range l.Captures {
			if set := known[f.currency]; len(set) > 0 {
				captures.Add(captures, set[0].scaled())
			}
		}
		f.captured.Add(f.captured, larger(captures, sumTotals(l.CapturedTotals, f.currency)))
		refunds := new(big.Int)
		for _, set := range l.Refunds {
			if visible(set) != refundSucceeded {
				continue
			}
			if a, currency := visibleAmount(set); currency == f.currency {
				refunds.Add(refunds, a.scaled())
			}
		}
		f.refunded.Add(f.refunded, larger(refunds, sumTotals(l.RefundedTotals, f.currency)))
	}
	return f
}

// sumTotals adds the payments' totals; a total of the whole order, which names no
// payment, is another lower bound.
func sumTotals(byPayment map[string]totals, currency string) *big.Int {
	sum := new(big.Int)
	for payment, t := range byPayment {
		if a := t[currency]; a != nil && payment != "" {
			sum.Add(sum, a.scaled())
		}
	}
	if a := byPayment[""][currency]; a != nil {
		sum = larger(sum, a.scaled())
	}
	return sum
}

func larger(a, b *big.Int) *big.Int {
	if a.Cmp(b) >= 0 {
		return a
	}
	return b
}

// currency is the order's: that of the earliest capture, so that a stray amount
// cannot denominate a paid order anew; before any capture the first by name.
func (s *state) currency() string {
	if len(s.Currencies) > 0 {
		return s.Currencies.first()
	}
	var least string
	s.eachCurrency(func(currency string) {
		if least == "" || currency < least {
			least = currency
		}
	})
	return least
}

// eachCurrency visits the currencies of all amounts, some of them more than once.
func (s *state) eachCurrency(visit func(currency string)) {
	for _, l := range s.Accounts {
		for _, known := range l.Captures {
			for currency := range known {
				visit(currency)
			}
		}
		for _, byPayment := range []map[string]totals{l.CapturedTotals, l.RefundedTotals} {
			for _, t := range byPayment {
				for currency := range t {
					visit(currency)
				}
			}
		}
		for _, byPart := range []map[string][]told{l.Refunds, l.Disputes} {
			for _, set := range byPart {
				for _, t := range set {
					if t.Currency != "" {
						visit(t.Currency)
					}
				}
			}
		}
	}
}

// disputes reports whether a dispute over all the money is lost, and whether one is
// open. A lost dispute whose amount is not told, or is in another currency, is
// taken for one over all the money: no part of it is known to remain.
func (s *state) disputes(f figures) (lost, open bool) {
	for _, l := range s.Accounts {
		for _, set := range l.Disputes {
			switch visible(set) {
			case disputeOpened, disputeUpdated:
				open = true
			case disputeLost:
				a, currency := visibleAmount(set)
				lost = lost || currency == "" || currency != f.currency || a.scaled().Cmp(f.captured) >= 0
			}
		}
	}
	return lost, open
}
