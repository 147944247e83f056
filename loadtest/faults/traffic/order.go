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

func newOrder(run string, n int, r *rand.Rand) order {
	o := order{
		ref: fmt.Sprintf("%s-%d", run, n), customer: fmt.Sprintf("%s-c%d", run, n),
		account: standard, pinned: r.IntN(2) == 0,
	}
	course := courses[r.IntN(len(courses))]
	switch {
	case r.IntN(500) == 0:
		o.ref += "-" + Poisoned
		course = courses[0]
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

// id is the provider's id of an order's fact.
func (o *order) id(seq int) string {
	if o.account == stripe {
		return fmt.Sprintf("evt_%s_%d", o.ref, seq)
	}
	return fmt.Sprintf("msg_%s_%d", o.ref, seq)
}
