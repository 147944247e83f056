// Package orderfold keeps folded orders in SQL, for the handlers whose effect is a
// function of the folded order. It is called inside the transaction of
// handlers/effects and has no transaction, group or meaning of its own.
//
// An event with an order reference belongs to the order (namespace, order
// reference). An event without one, such as a refund that names only the payment it
// gives back, belongs to the reference of its original payment, which is
// scoped by namespace and account, as every provider reference is. An event that
// carries an order reference beside provider references claims those for its
// order: from then on everything told under a claimed reference, before or
// after, is joined into the order. Until then the reference is an order by itself.
// References that an event says are of one payment are as one: who claims one of them
// claims all.
//
// What it promises (G6): after any permutation of the same events, any of them
// twice, split over any number of concurrent transactions, the rows of orders and
// references are the same. It follows from the lattice (event.Order) and from
// three rules: a reference keeps the fold of what was told under it for ever;
// claims and relations are only ever added; and what is told under a payment that two
// orders claim is joined into both. As soon as both have money of it they carry the
// disagreement "shared_reference", and its points count for the first of them by key.
//
// Concurrency. Whoever folds an event holds the locks of the rows of all references of
// its payments, and of the orders that claim them. References are locked before orders,
// each in the order of their keys, so that transactions wait for each other in one
// direction. Orders that the batch names are locked together with its references; those
// that are found behind a lock, as claims and relations are, and rows that are new may
// break that order, and whoever the database then ends runs again. Orders that are new are
// inserted with the commit; whoever loses that race runs again too (effects.ErrRace).
package orderfold

import (
	"cmp"
	"slices"
	"strings"

	"github.com/paybell/paybell/streams/event"
)

// Key names an order inside one table. Order is "order/<reference>",
// "ref/<account>/<provider reference>", or "event/<id>" for what names neither.
type Key struct {
	Namespace string
	Order     string
}

func (k Key) compare(l Key) int {
	return cmp.Or(strings.Compare(k.Namespace, l.Namespace), strings.Compare(k.Order, l.Order))
}

// ref is a provider's reference of a payment.
type ref struct{ Namespace, Account, Ref string }

func (r ref) compare(s ref) int {
	return cmp.Or(strings.Compare(r.Namespace, s.Namespace), strings.Compare(r.Account, s.Account), strings.Compare(r.Ref, s.Ref))
}

func (r ref) key() Key { return Key{r.Namespace, "ref/" + r.Account + "/" + r.Ref} }

// OrderKey is the key of the order with that reference.
func OrderKey(namespace, orderRef string) Key { return Key{namespace, "order/" + orderRef} }

// Named is the key of the order that operators call by that name: the order's
// reference, or the key itself of an order without one.
func Named(namespace, name string) Key {
	if strings.HasPrefix(name, "ref/") || strings.HasPrefix(name, "event/") {
		return Key{namespace, name}
	}
	return OrderKey(namespace, name)
}

// Name is what Named takes.
func (k Key) Name() string { return strings.TrimPrefix(k.Order, "order/") }

// Home is where an event belongs by what it says itself, before any claim.
func Home(e *event.Event) Key {
	if orderRef := e.OrderRef(); orderRef != "" {
		return OrderKey(e.Namespace, orderRef)
	}
	if r, ok := original(e); ok {
		return r.key()
	}
	return Key{e.Namespace, "event/" + e.ID}
}

// original is the reference of the payment that the event is about.
func original(e *event.Event) (ref, bool) {
	if e.Payment == nil {
		return ref{}, false
	}
	r := ref{e.Namespace, e.Account, e.Payment.ParentRef}
	if r.Ref == "" {
		r.Ref = e.Payment.ProviderRef
	}
	return r, r.Ref != ""
}

// claims are the references that an event with an order reference claims for it.
func claims(e *event.Event) []ref {
	var out []ref
	for _, text := range append([]string{e.Payment.ProviderRef, e.Payment.ParentRef}, e.Payment.RelatedRefs...) {
		if r := (ref{e.Namespace, e.Account, text}); text != "" && !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return out
}

// relatives are the references that an event says are of one payment, none where it
// says so of no two.
func relatives(e *event.Event) []ref {
	r, ok := original(e)
	if !ok {
		return nil
	}
	out := []ref{r}
	others := e.Payment.RelatedRefs
	if e.Type.OfPayment() {
		others = append(slices.Clip(others), e.Payment.ProviderRef)
	}
	for _, text := range others {
		if other := (ref{e.Namespace, e.Account, text}); text != "" && !slices.Contains(out, other) {
			out = append(out, other)
		}
	}
	if len(out) == 1 {
		return nil
	}
	return out
}

// SharedReference is the disagreement of orders that claim one payment and both have
// its money.
const SharedReference event.Disagreement = "shared_reference"

// Order is an order as this transaction sees it.
type Order struct {
	Key Key
	// State is the fold. It is read-only outside of this package.
	State *event.Order
	// Absorbed is true once another order claimed the reference that this order was:
	// all it held is theirs now, and its row is gone.
	Absorbed bool

	shared bool
	// inRow is the state as it stands in the order's row, "" while it has none;
	// sharedInRow likewise.
	inRow       string
	sharedInRow bool
	// folded is true once something was folded into it here.
	folded bool
}

// exists reports whether there is such an order, in its row or made here.
func (o *Order) exists() bool { return o.inRow != "" || o.folded }

// OrderRef is the merchant's reference, or "".
func (o *Order) OrderRef() string {
	orderRef, ok := strings.CutPrefix(o.Key.Order, "order/")
	if !ok {
		return ""
	}
	return orderRef
}

// Conflicts are the order's disagreements, the fold's and ours.
func (o *Order) Conflicts() []event.Disagreement {
	out := o.State.Conflicts()
	if o.shared {
		out = append(out, SharedReference)
	}
	return out
}

// Step is what one event came to.
type Step struct {
	Event *event.Event
	// Index is the event's place among those given to Fold.
	Index int
	// Order is the order the event was folded into; of several that claim its
	// payment, the first by key.
	Order         *Order
	Change        event.Change
	Before, After event.Status
	// Also are further orders that changed: others that claim the same payment, and
	// orders that were absorbed.
	Also []*Order
}
