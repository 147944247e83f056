package orderfold

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/streams/event"
)

// Folder folds events into the orders of one pair of tables.
type Folder struct {
	sql map[effects.Dialect]*statements
}

// New returns a Folder of the tables with these names; see docs/schema.md for their
// columns.
func New(orders, refs string) *Folder {
	return &Folder{sql: map[effects.Dialect]*statements{
		effects.SQLite:   newStatements(effects.SQLite, orders, refs),
		effects.Postgres: newStatements(effects.Postgres, orders, refs),
	}}
}

// folding is the work on one batch.
type folding struct {
	sql    *statements
	tx     *effects.Tx
	beside func(orders *effects.Rows)
	refs   map[ref]*refRow
	orders map[Key]*Order
	// noted are the orders whose rows were not read yet.
	noted []Key
}

// Fold folds the events that move money, in their order, calls visit after each of
// them, and queues what changed to be written with the commit. Events that move nothing
// are passed over. What visit returns ends the folding. Beside, where it is set, is
// given the namespace and order_key of orders that are about to be locked and read, to
// queue further queries about them; all of them are answered before the first visit.
func (f *Folder) Fold(ctx context.Context, tx *effects.Tx, events []*event.Event, beside func(orders *effects.Rows), visit func(Step) error) error {
	b := &folding{sql: f.sql[tx.Dialect()], tx: tx, beside: beside, refs: map[ref]*refRow{}, orders: map[Key]*Order{}}
	for _, e := range events {
		if e.MovesMoney() {
			b.need(e)
		}
	}
	if err := b.load(ctx); err != nil {
		return fmt.Errorf("orderfold: load: %w", err)
	}
	for i, e := range events {
		if e.MovesMoney() {
			step := b.fold(e)
			step.Index = i
			if err := visit(step); err != nil {
				return err
			}
		}
	}
	if err := b.saveRefs(); err != nil {
		return fmt.Errorf("orderfold: save references: %w", err)
	}
	if err := b.saveOrders(); err != nil {
		return fmt.Errorf("orderfold: save orders: %w", err)
	}
	return nil
}

// need notes the rows that an event touches by what it says itself.
func (b *folding) need(e *event.Event) {
	for _, r := range relatives(e) {
		b.row(r)
	}
	r, ok := original(e)
	switch {
	case e.OrderRef() != "":
		home := Home(e)
		b.order(home)
		for _, r := range claims(e) {
			row := b.row(r)
			row.claims = append(row.claims, home.Order)
		}
	case ok:
		b.row(r)
	default:
		b.order(Home(e))
	}
}

func (b *folding) row(r ref) *refRow {
	row, ok := b.refs[r]
	if !ok {
		row = &refRow{ref: r, relatedInRow: emptySet, state: &event.Order{}}
		b.refs[r] = row
	}
	return row
}

func (b *folding) order(k Key) *Order {
	o, ok := b.orders[k]
	if !ok {
		o = &Order{Key: k, State: &event.Order{}}
		b.orders[k] = o
		b.noted = append(b.noted, k)
	}
	return o
}

// fold folds one event: into the order it names, or else into those that claim its
// payment, or else into the order that the payment itself is.
func (b *folding) fold(e *event.Event) Step {
	payments := b.touched(e)
	targets := b.targets(e, payments)
	o := targets[0]
	before, conflicts := o.State.Status(), o.Conflicts()
	also := map[Key]*Order{}
	joined := false
	for _, p := range payments {
		joined = b.join(p, e, also) || joined
	}
	if r, ok := original(e); ok && e.OrderRef() == "" {
		b.refs[r].tell(e)
	}
	s := Step{Event: e, Order: o, Before: before, Change: o.State.Apply(e)}
	o.folded = true
	for _, rival := range targets[1:] {
		rival.State.Apply(e)
		also[rival.Key] = rival
	}
	for _, p := range payments {
		b.share(p, also)
	}
	if joined && s.Change == event.ChangeStale {
		s.Change = event.ChangeApplied
	}
	for _, d := range o.Conflicts() {
		if !slices.Contains(conflicts, d) {
			s.Change = event.ChangeConflict
		}
	}
	s.After = o.State.Status()
	delete(also, o.Key)
	for _, key := range slices.SortedFunc(maps.Keys(also), Key.compare) {
		s.Also = append(s.Also, also[key])
	}
	return s
}

// touched notes which references the event says are of one payment, and returns the
// payments that it is about.
func (b *folding) touched(e *event.Event) []payment {
	if refs := relatives(e); len(refs) > 0 {
		for _, r := range refs[1:] {
			b.refs[refs[0]].relate(b.refs[r])
		}
	}
	var refs []ref
	if e.OrderRef() != "" {
		refs = claims(e)
	} else if r, ok := original(e); ok {
		refs = []ref{r}
	}
	var out []payment
	for _, r := range refs {
		if !slices.ContainsFunc(out, func(p payment) bool { return slices.Contains(p, b.refs[r]) }) {
			out = append(out, b.payment(r))
		}
	}
	return out
}

// targets are the orders that the event is folded into.
func (b *folding) targets(e *event.Event, payments []payment) []*Order {
	if e.OrderRef() != "" || len(payments) == 0 {
		return []*Order{b.order(Home(e))}
	}
	p := payments[0]
	claims := p.claims()
	if len(claims) == 0 {
		r, _ := original(e)
		return []*Order{b.order(p.orphan(r))}
	}
	out := make([]*Order, len(claims))
	for n, key := range claims {
		out[n] = b.order(Key{e.Namespace, key})
	}
	return out
}

// join lets the orders that claim the payment, by this event too, join what was told
// under its references. The orders that those references were until now are absorbed;
// without a claim the payment itself is one of them. It reports whether anything was
// joined.
func (b *folding) join(p payment, e *event.Event, also map[Key]*Order) (joined bool) {
	all := p.claims()
	if home := Home(e); e.OrderRef() != "" && !slices.Contains(all, home.Order) {
		all = append(all, home.Order)
	}
	take := func(o *Order, row *refRow) {
		if row.told {
			o.State.Merge(row.state)
			o.folded = true
			also[o.Key] = o
			joined = true
		}
	}
	var orphan *Order
	if len(all) == 0 {
		r, _ := original(e)
		orphan = b.order(p.orphan(r))
	}
	absorbed := b.absorb(p, orphan, also)
	for _, row := range p {
		if orphan != nil && (absorbed || !orphan.exists()) {
			take(orphan, row)
		}
		for _, key := range all {
			if row.claim(key) {
				take(b.order(Key{row.ref.Namespace, key}), row)
			}
		}
	}
	return joined
}

// absorb ends the orders that references of the payment were until now, but for the
// one that the payment is from now on.
func (b *folding) absorb(p payment, orphan *Order, also map[Key]*Order) (absorbed bool) {
	for _, row := range p {
		own := b.orders[row.ref.key()]
		if own != nil && own != orphan && own.exists() && !own.Absorbed {
			own.Absorbed = true
			also[own.Key] = own
			absorbed = true
		}
	}
	return absorbed
}

// share tells the orders that have money of a payment that several claim. Its points
// belong to the first of them.
func (b *folding) share(p payment, also map[Key]*Order) {
	var owners []*Order
	for _, key := range p.claims() {
		o := b.order(Key{p[0].ref.Namespace, key})
		if slices.ContainsFunc(p, func(row *refRow) bool { return o.State.HasMoney(row.ref.Account, row.ref.Ref) }) {
			owners = append(owners, o)
		}
	}
	if len(owners) < 2 {
		return
	}
	for n, o := range owners {
		if !o.shared {
			o.shared = true
			also[o.Key] = o
		}
		for _, row := range p {
			if n > 0 && !o.State.CountsElsewhere(row.ref.Account, row.ref.Ref) {
				o.State.CountElsewhere(row.ref.Account, row.ref.Ref)
				also[o.Key] = o
			}
		}
	}
}
