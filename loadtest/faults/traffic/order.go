package traffic

import (
	"fmt"
	"math/rand/v2"
)

// Names that decide what becomes of an order. The fault suite's build of paybell
// makes the handler of the group points fail on Poisoned orders for good, and every
// handler on Limping ones for a while.
const (
	Poisoned = "poison"
	Limping  = "limp"
	Forgery  = "forged"
)

// Poison is how the handler fails on a Poisoned order, as a further part of its
// reference; without one it returns an error.
type Poison string

// The kinds of poison beside an error.
const (
	// Panics: the handler panics.
	Panics Poison = "panic"
	// Hangs: it does not return before its time is over.
	Hangs Poison = "hang"
	// Kills: it takes the worker process along.
	Kills Poison = "kill"
)

// FirstOnly is in the reference of a Poisoned order of which one event alone fails,
// the one that says payment.pending: what it tells later is well.
const FirstOnly = "first"

// unmapped is what becomes of a signed callback that says nothing known.
const unmapped = "unmapped"

// fact is one thing that happens to an order.
type fact struct {
	kind    string // the canonical type
	dollars int
}

// order is what one order's provider has to tell.
type order struct {
	ref, customer, account string
	facts                  []fact
	// pinned: sent to one gateway, each fact only when the one before was accepted.
	pinned bool
	// conflict: the first fact is told again with another amount under the same id.
	conflict bool
}

// courses are what orders go through. Amounts are filled in by the seed.
var courses = [][]string{
	{"payment.succeeded"},
	{"payment.pending", "payment.succeeded"},
	{"payment.pending", "payment.authorized", "payment.succeeded", "refund.succeeded"},
	{"payment.pending", "payment.failed", "payment.succeeded"},
	{"payment.succeeded", "refund.succeeded", "refund.succeeded"},
	{"payment.pending"},
	{"payment.authorized"},
	{"payment.succeeded", unmapped},
}

// recovers is what an order goes through of which the first event alone is poisoned.
var recovers = []string{"payment.pending", "payment.succeeded"}

// newOrder draws an order; an ill one is poisoned in a way that was asked for.
func newOrder(run string, n int, ill Poison, r *rand.Rand) order {
	o := order{
		ref: fmt.Sprintf("%s-%d", run, n), customer: fmt.Sprintf("%s-c%d", run, n),
		account: standard, pinned: r.IntN(2) == 0,
	}
	course := courses[r.IntN(len(courses))]
	switch {
	case ill != "":
		o.ref += "-" + Poisoned + "-" + string(ill)
		course = o.sicken(r)
	case r.IntN(500) == 0:
		o.ref += "-" + Poisoned
		course = o.sicken(r)
	case r.IntN(60) == 0:
		o.ref += "-" + Limping
	case r.IntN(4) == 0:
		o.account, course = stripe, courses[0]
	case r.IntN(100) == 0:
		o.conflict, o.pinned, course = true, true, courses[0]
	}
	paid := 2 + r.IntN(200)
	left := paid
	for _, kind := range course {
		f := fact{kind: kind}
		switch kind {
		case "payment.succeeded":
			f.dollars = paid
		case "refund.succeeded":
			f.dollars = 1 + r.IntN(max(1, left-1))
			f.dollars = min(f.dollars, left)
			left -= f.dollars
		}
		o.facts = append(o.facts, f)
	}
	return o
}

// sicken draws whether a poisoned order has later events that are well.
func (o *order) sicken(r *rand.Rand) []string {
	if r.IntN(2) == 0 {
		return courses[0]
	}
	o.ref += "-" + FirstOnly
	return recovers
}

// id is the provider's id of an order's fact.
func (o *order) id(seq int) string {
	if o.account == stripe {
		return fmt.Sprintf("evt_%s_%d", o.ref, seq)
	}
	return fmt.Sprintf("msg_%s_%d", o.ref, seq)
}
