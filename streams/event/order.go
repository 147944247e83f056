package event

import (
	"slices"
)

// Order is what the events of one order say together. Its zero value is an order
// of which nothing is known. It is a join semilattice: Apply joins what one event
// says, Merge joins what another Order says, and joining is commutative,
// associative and idempotent. So any permutation of the events, any of them
// twice, and any way of splitting them over orders that are merged later, ends in
// the same Order, with the same JSON, byte for byte.
//
// To keep that true every component only grows: a flag is set, a maximum or an
// earliest rises, a set gains a member. What is seen (Status, Captured, Refunded,
// Conflicts, Worth) are pure functions of it and may go up and down.
//
// Every set is bounded. A full set keeps the members that come first in a fixed
// order and the Order has ConflictCap from then on.
//
// An Order is not safe for concurrent use. Copy it with Clone, never by value.
type Order struct {
	s state
	// seen is what s looks like; nil until somebody asks.
	seen *view
}

// Change is what applying one event came to. Unlike the Order it may depend on
// the order of arrival: of two events that say the same, the later one is stale.
type Change string

// Changes an event can make.
const (
	// ChangeApplied: the order grew.
	ChangeApplied Change = "applied"
	// ChangeStale: the order already implied what the event says. Times it keeps to
	// choose between events may have moved all the same: store the order anyway.
	ChangeStale Change = "stale"
	// ChangeConflict: the order grew, and by it gained a conflict.
	ChangeConflict Change = "conflict"
	// ChangeNeedsFetch: the event may not move money (see Event.MovesMoney); the
	// order did not take it.
	ChangeNeedsFetch Change = "needs-fetch"
)

// Apply joins what e says. Events that do not fold change nothing.
func (o *Order) Apply(e *Event) Change {
	if !e.MovesMoney() {
		if e.Type.Folds() || e.Completeness == NeedsFetch {
			return ChangeNeedsFetch
		}
		return ChangeStale
	}
	before, chosen := o.view(), o.s.chosen()
	g := o.s.join(said(e))
	o.seen = nil
	after := o.view()
	gained := func(d Disagreement) bool { return !slices.Contains(before.conflicts, d) }
	switch {
	case slices.ContainsFunc(after.conflicts, gained):
		return ChangeConflict
	case g&grew != 0, g&tried != 0 && !o.s.paid(), chosen != o.s.chosen(), !before.same(after):
		return ChangeApplied
	default:
		return ChangeStale
	}
}

// Merge joins what other says: they turned out to be one order. Other is not
// changed, and shares nothing with o afterwards that ever changes.
func (o *Order) Merge(other *Order) {
	if other != nil {
		o.s.join(&other.s)
		o.seen = nil
	}
}

// Clone returns a copy that grows apart from o.
func (o *Order) Clone() *Order {
	c := new(Order)
	c.Merge(o)
	return c
}

// CustomerRef is the merchant's customer reference that the order's earliest event
// with one carries, or "". Where events disagree the order has ConflictCustomer.
func (o *Order) CustomerRef() string { return o.s.Customers.first() }

// Closed reports whether some attempt to pay was closed, and in which words the
// earliest such event said so. The order itself is closed when its Status says so.
func (o *Order) Closed() (words string, closed bool) {
	return o.s.Closed.first(), len(o.s.Closed) > 0
}

// Final reports whether a provider said that the payment cannot change any more.
func (o *Order) Final() bool { return o.s.Final }

// PaidBy returns the accounts that told of a successful payment, sorted.
func (o *Order) PaidBy() []string { return o.s.paidBy() }

// HasMoney reports whether the account told of money of that payment: taken, given
// back or in dispute.
func (o *Order) HasMoney(account, payment string) bool {
	l := o.s.Accounts[refKey(account)]
	if l == nil {
		return false
	}
	name := refKey(payment)
	_, captured := l.Captures[name]
	_, total := l.CapturedTotals[name]
	_, refunded := l.RefundedTotals[name]
	if captured || total || refunded {
		return true
	}
	for _, of := range []map[string][]string{l.RefundOf, l.DisputeOf} {
		for _, payments := range of {
			if slices.Contains(payments, name) {
				return true
			}
		}
	}
	return false
}

// CountElsewhere notes that the points of a payment belong to another order, which
// claims it too. Worth leaves the payment out from then on.
func (o *Order) CountElsewhere(account, payment string) {
	o.s.join(&state{Accounts: map[string]*ledger{refKey(account): {Elsewhere: []string{refKey(payment)}}}})
	o.seen = nil
}

// CountsElsewhere reports whether CountElsewhere was told that payment.
func (o *Order) CountsElsewhere(account, payment string) bool {
	l := o.s.Accounts[refKey(account)]
	return l != nil && slices.Contains(l.Elsewhere, refKey(payment))
}
