package event

import (
	"encoding/json"
	"fmt"
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
	before, chosen := o.Conflicts(), o.s.chosen()
	g := o.s.join(said(e))
	if g&grew == 0 && (g&moved == 0 || chosen == o.s.chosen()) {
		return ChangeStale
	}
	for _, c := range o.Conflicts() {
		if !slices.Contains(before, c) {
			return ChangeConflict
		}
	}
	return ChangeApplied
}

// Merge joins what other says: they turned out to be one order. Other is not
// changed, and shares nothing with o afterwards that ever changes.
func (o *Order) Merge(other *Order) {
	if other != nil {
		o.s.join(&other.s)
	}
}

// Clone returns a copy that grows apart from o.
func (o *Order) Clone() *Order {
	c := new(Order)
	c.Merge(o)
	return c
}

// orderVersion is the version of an Order's JSON.
const orderVersion = 1

// MarshalJSON implements json.Marshaler. Equal orders have equal JSON. Store it as
// text: a JSON column of a database may write it differently.
func (o Order) MarshalJSON() ([]byte, error) {
	s := o.s
	s.Version = orderVersion
	return json.Marshal(&s)
}

// UnmarshalJSON implements json.Unmarshaler. It replaces o.
func (o *Order) UnmarshalJSON(text []byte) error {
	var s state
	if err := json.Unmarshal(text, &s); err != nil {
		return fmt.Errorf("%w: %w", ErrOrder, err)
	}
	if s.Version > orderVersion || s.Version < 0 {
		return fmt.Errorf("%w: version %d", ErrOrder, s.Version)
	}
	// Joining into nothing puts whatever was stored into its one canonical form.
	o.s = state{}
	o.s.join(&s)
	return nil
}

// CustomerRef is the merchant's customer reference that the order's earliest event
// with one carries, or "". Where events disagree the order has ConflictCustomer.
func (o *Order) CustomerRef() string { return o.s.Customers.first() }

// Closed reports whether the provider expects no more payment, and in which words
// the earliest such event said so.
func (o *Order) Closed() (words string, closed bool) {
	return o.s.Closed.first(), len(o.s.Closed) > 0
}

// Final reports whether a provider said that the payment cannot change any more.
func (o *Order) Final() bool { return o.s.Final }

// PaidBy returns the accounts that told of a successful payment, sorted.
func (o *Order) PaidBy() []string { return o.s.paidBy() }
