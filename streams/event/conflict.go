package event

import (
	"maps"
	"slices"
)

// Disagreement names why a person, or a query to the provider, should look at an
// order. The list is closed: it is a metric label.
type Disagreement string

// Disagreements, as Conflicts lists them.
const (
	// ConflictTwoWay: one refund was told to have succeeded and failed, or one
	// dispute to be won and lost.
	ConflictTwoWay Disagreement = "two_way"
	// ConflictPaidAndClosed: money was taken, the provider closed the payment, and
	// nothing tells of a refund.
	ConflictPaidAndClosed Disagreement = "paid_and_closed"
	// ConflictCurrency: amounts of the order are in different currencies. Those
	// outside the order's currency are kept and not counted.
	ConflictCurrency Disagreement = "currency"
	// ConflictAmount: one capture, or one refund, was told with different amounts.
	ConflictAmount Disagreement = "amount"
	// ConflictMissingAmount: money moved and nothing tells how much.
	ConflictMissingAmount Disagreement = "missing_amount"
	// ConflictNegativeAmount: an amount below zero was told and not counted.
	ConflictNegativeAmount Disagreement = "negative_amount"
	// ConflictOverRefunded: more was refunded than captured.
	ConflictOverRefunded Disagreement = "over_refunded"
	// ConflictDoublePayment: more than one account took money for the order.
	ConflictDoublePayment Disagreement = "double_payment"
	// ConflictCustomer: events name different customers.
	ConflictCustomer Disagreement = "customer"
	// ConflictOverflow: a sum is larger than Money can hold.
	ConflictOverflow Disagreement = "overflow"
	// ConflictCap: the order has more captures, refunds, disputes or the like than
	// are kept; its sums may be too low.
	ConflictCap Disagreement = "cap"
)

// Conflicts lists the order's disagreements, sorted. It is a pure function of the
// order, as Status is: a disagreement that later events explain is listed no more.
func (o *Order) Conflicts() []Disagreement {
	s := &o.s
	f := s.figures()
	found := make(map[Disagreement]bool)
	found[ConflictCap] = s.Capped
	found[ConflictNegativeAmount] = s.Negative
	found[ConflictCustomer] = len(s.Customers) > 1
	found[ConflictDoublePayment] = len(s.paidBy()) > 1
	found[ConflictPaidAndClosed] = s.Stage == stagePaid && len(s.Closed) > 0 && !s.refundKnown()
	found[ConflictOverRefunded] = f.captured.Sign() > 0 && f.refunded.Cmp(f.captured) > 0
	if f.currency != "" {
		_, capturedFits := moneyOf(f.captured, f.currency)
		_, refundedFits := moneyOf(f.refunded, f.currency)
		found[ConflictOverflow] = !capturedFits || !refundedFits
	}
	s.eachCurrency(func(currency string) {
		if currency != f.currency {
			found[ConflictCurrency] = f.currency != ""
		}
	})
	for _, l := range s.Accounts {
		l.disagreements(found)
	}
	maps.DeleteFunc(found, func(_ Disagreement, is bool) bool { return !is })
	return slices.Sorted(maps.Keys(found))
}

// disagreements adds those that one account's own words hold.
func (l *ledger) disagreements(found map[Disagreement]bool) {
	for _, known := range l.Captures {
		if len(known) == 0 && len(l.CapturedTotals) == 0 {
			found[ConflictMissingAmount] = true
		}
		for _, set := range known {
			if len(set) > 1 {
				found[ConflictAmount] = true
			}
		}
	}
	for _, set := range l.Refunds {
		if hasBoth(set, refundSucceeded, refundFailed) {
			found[ConflictTwoWay] = true
		}
		if differ(set) {
			found[ConflictAmount] = true
		}
		_, currency := visibleAmount(set)
		if visible(set) == refundSucceeded && currency == "" && len(l.RefundedTotals) == 0 {
			found[ConflictMissingAmount] = true
		}
	}
	for _, set := range l.Disputes {
		// The amount in dispute may change while it lasts: that is no disagreement.
		if hasBoth(set, disputeWon, disputeLost) {
			found[ConflictTwoWay] = true
		}
	}
}

// differ reports whether two amounts of one currency were told.
func differ(set []told) bool {
	seen := make(map[string]amount)
	for _, t := range set {
		if t.Currency == "" {
			continue
		}
		if a, ok := seen[t.Currency]; ok && a != t.Amount {
			return true
		}
		seen[t.Currency] = t.Amount
	}
	return false
}

// refundKnown reports whether anything tells of a refund that did not fail.
func (s *state) refundKnown() bool {
	for _, l := range s.Accounts {
		if len(l.RefundedTotals) > 0 {
			return true
		}
		for _, set := range l.Refunds {
			if visible(set) != refundFailed {
				return true
			}
		}
	}
	return false
}
