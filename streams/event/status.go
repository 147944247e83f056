package event

import "slices"

// Status is what an order's state looks like from outside.
type Status string

// The visible statuses, in the order in which the first that matches wins.
const (
	// StatusChargedBack: a dispute is lost, and nothing of what was captured remains.
	StatusChargedBack Status = "charged_back"
	// StatusDisputed: a dispute is open.
	StatusDisputed Status = "disputed"
	// StatusRefunded: all that was captured was refunded.
	StatusRefunded Status = "refunded"
	// StatusPartiallyRefunded: a part was refunded, or lost to a dispute.
	StatusPartiallyRefunded Status = "partially_refunded"
	// StatusPaid: money was captured. It beats failed and closed, whatever the order
	// of arrival.
	StatusPaid Status = "paid"
	// StatusAuthorized: funds are reserved by an attempt that is not closed.
	StatusAuthorized Status = "authorized"
	// StatusPending: an attempt is under way.
	StatusPending Status = "pending"
	// StatusClosed: the last attempt was closed, and none is open.
	StatusClosed Status = "closed"
	// StatusFailed: the last attempt failed.
	StatusFailed Status = "failed"
	// StatusUnknown: nothing is known that decides.
	StatusUnknown Status = "unknown"
)

// view is what an order looks like from outside: pure functions of its state.
type view struct {
	status   Status
	currency string
	sums
	// worth are the sums without the payments whose points belong to another order.
	worth     sums
	conflicts []Disagreement
}

// view looks at the order, once for each state.
func (o *Order) view() *view {
	if o.seen == nil {
		o.seen = o.s.view()
	}
	return o.seen
}

func (s *state) view() *view {
	v := &view{currency: s.currency()}
	all := s.allBooks(v.currency)
	for _, b := range all {
		v.add(b.sum())
		v.worth.add(b.own())
	}
	v.status = s.status(v.sums)
	v.conflicts = s.conflicts(v, all)
	return v
}

// same reports whether two views look alike.
func (v *view) same(w *view) bool {
	return v.status == w.status && v.currency == w.currency && v.sums == w.sums && slices.Equal(v.conflicts, w.conflicts)
}

func (s *state) status(f sums) Status {
	lost, open := s.disputes()
	nothingLeft := f.back() == f.captured
	switch {
	case lost && nothingLeft:
		return StatusChargedBack
	case open:
		return StatusDisputed
	case !s.paid():
		all := s.attempts()
		return all.status()
	case f.refunded.isZero() && f.lost.isZero() && !f.lostAll:
		return StatusPaid
	case nothingLeft && !f.captured.isZero():
		return StatusRefunded
	default:
		return StatusPartiallyRefunded
	}
}

// paid reports whether any payment took money.
func (s *state) paid() bool {
	for _, l := range s.Accounts {
		if l != nil && (len(l.Captures) > 0 || len(l.CapturedTotals) > 0) {
			return true
		}
	}
	return false
}

// disputes reports whether a dispute is lost, and whether one is open.
func (s *state) disputes() (lost, open bool) {
	for _, l := range s.Accounts {
		for _, set := range l.Disputes {
			switch visible(set) {
			case disputeOpened, disputeUpdated:
				open = true
			case disputeLost:
				lost = true
			}
		}
	}
	return lost, open
}

// Status is the order's visible status.
func (o *Order) Status() Status { return o.view().status }

// Captured is the money taken for the order, in the order's currency; the zero
// Money while no amount is known. An amount beyond int64 is cut to the largest that
// fits, and the order has ConflictOverflow.
func (o *Order) Captured() Money { return o.view().money(o.view().captured) }

// Refunded is the money given back, as Captured.
func (o *Order) Refunded() Money { return o.view().money(o.view().refunded) }

// Lost is the money that disputes took, as Captured; of a dispute whose amount is
// not known all that its payment captured.
func (o *Order) Lost() Money { return o.view().money(o.view().lost) }

func (v *view) money(s sum) Money {
	if v.currency == "" {
		return Money{}
	}
	return s.money(v.currency)
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
		for _, t := range l.CapturedTotals {
			for currency := range t {
				visit(currency)
			}
		}
		for _, t := range l.RefundedTotals {
			for currency := range t {
				visit(currency)
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
