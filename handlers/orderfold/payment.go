package orderfold

import (
	"slices"

	"github.com/paybell/paybell/streams/event"
)

// refRow is a reference: what was told under it, who claims it, and which other
// references are of the same payment.
type refRow struct {
	ref ref
	// claims are keys of orders, related references of the account, both sorted. Until the
	// row is here the claims are those of the batch, which a new row begins with.
	claims, related []string
	// state is the fold of events that name no order.
	state *event.Order
	told  bool // Something was told under it, so state is not empty.

	// here: the row is there, and locked.
	here bool
	// inRow, claimsInRow and relatedInRow are what stands in it.
	inRow, claimsInRow, relatedInRow string
	// touched is true once something was added here that the row may not have.
	touched bool
}

// claim adds the order to those that claim the reference, and reports whether it was
// not among them.
func (r *refRow) claim(key string) bool {
	added := insert(&r.claims, key)
	r.touched = r.touched || added
	return added
}

// relate makes two references one payment's.
func (r *refRow) relate(other *refRow) {
	r.touched = insert(&r.related, other.ref.Ref) || r.touched
	other.touched = insert(&other.related, r.ref.Ref) || other.touched
}

// tell folds an event that names no order.
func (r *refRow) tell(e *event.Event) {
	r.state.Apply(e)
	r.told, r.touched = true, true
}

// insert adds a text to a sorted set, and reports whether it was not in it.
func insert(set *[]string, text string) bool {
	at, found := slices.BinarySearch(*set, text)
	if !found {
		*set = slices.Insert(*set, at, text)
	}
	return !found
}

// payment is all references of one payment, sorted. Every order that claims one of
// them claims all, and has joined what was told under any.
type payment []*refRow

// payment follows what is related to a reference. All of its rows are loaded.
func (b *folding) payment(start ref) payment {
	p := payment{b.refs[start]}
	for n := 0; n < len(p); n++ {
		for _, r := range p[n].relatives() {
			if row := b.refs[r]; !slices.Contains(p, row) {
				p = append(p, row)
			}
		}
	}
	slices.SortFunc(p, func(x, y *refRow) int { return x.ref.compare(y.ref) })
	return p
}

// relatives are the references that the row names as of the same payment.
func (r *refRow) relatives() []ref {
	out := make([]ref, len(r.related))
	for n, name := range r.related {
		out[n] = ref{r.ref.Namespace, r.ref.Account, name}
	}
	return out
}

// claims are the keys of the orders that claim the payment, sorted.
func (p payment) claims() []string {
	if len(p) == 1 {
		return slices.Clone(p[0].claims)
	}
	var all []string
	for _, row := range p {
		all = append(all, row.claims...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// orphan is the key of the order that the payment itself is while nobody claims it:
// its first reference under which something was told, now or before.
func (p payment) orphan(now ref) Key {
	for _, row := range p {
		if row.told || row.ref == now {
			return row.ref.key()
		}
	}
	return now.key()
}
