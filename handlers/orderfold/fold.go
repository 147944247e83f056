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
type Folder struct{ sql statements }

// New returns a Folder of the tables with these names; see docs/schema.md for their
// columns.
func New(orders, refs string) *Folder { return &Folder{sql: newStatements(orders, refs)} }

// folding is the work on one batch.
type folding struct {
	sql    *statements
	tx     *effects.Tx
	refs   map[ref]*refRow
	orders map[Key]*Order
}

// refRow is a reference: what was told under it, and who claims it.
type refRow struct {
	ref ref
	// claims are keys of orders, sorted.
	claims []string
	// state is the fold of events that name no order.
	state *event.Order
	told  bool // Something was told under it, so state is not empty.

	// inRow and claimsInRow are what stands in the reference's row.
	inRow, claimsInRow string
	// wantClaims and wantTold are what the batch has for it.
	wantClaims []string
	wantTold   bool
}

// Fold folds the events that move money, in their order, calls visit after each of
// them, and writes what changed. Events that move nothing are passed over. What
// visit returns ends the folding.
func (f *Folder) Fold(ctx context.Context, tx *effects.Tx, events []*event.Event, visit func(Step) error) error {
	b := &folding{sql: &f.sql, tx: tx, refs: map[ref]*refRow{}, orders: map[Key]*Order{}}
	for _, e := range events {
		b.need(e)
	}
	if err := b.loadRefs(ctx); err != nil {
		return fmt.Errorf("orderfold: load references: %w", err)
	}
	if err := b.loadOrders(ctx); err != nil {
		return fmt.Errorf("orderfold: load orders: %w", err)
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
	if err := b.saveRefs(ctx); err != nil {
		return fmt.Errorf("orderfold: save references: %w", err)
	}
	if err := b.saveOrders(ctx); err != nil {
		return fmt.Errorf("orderfold: save orders: %w", err)
	}
	return nil
}

// need notes the rows that an event touches by what it says itself.
func (b *folding) need(e *event.Event) {
	if !e.MovesMoney() {
		return
	}
	if e.OrderRef() == "" {
		if r, ok := original(e); ok {
			b.row(r).wantTold = true
			return
		}
		b.order(Home(e))
		return
	}
	home := Home(e)
	b.order(home)
	for _, r := range claims(e) {
		b.row(r).wantClaims = append(b.row(r).wantClaims, home.Order)
	}
}

func (b *folding) row(r ref) *refRow {
	row, ok := b.refs[r]
	if !ok {
		row = &refRow{ref: r, state: &event.Order{}}
		b.refs[r] = row
	}
	return row
}

func (b *folding) order(k Key) *Order {
	o, ok := b.orders[k]
	if !ok {
		o = &Order{Key: k, State: &event.Order{}}
		b.orders[k] = o
	}
	return o
}

// needsLock reports whether the reference may change here. Claims are never taken
// back, so one that is there needs no lock.
func (r *refRow) needsLock() bool {
	return r.wantTold || slices.ContainsFunc(r.wantClaims, func(key string) bool { return !slices.Contains(r.claims, key) })
}

// reach notes the orders that a held reference may carry its events to.
func (b *folding) reach(r *refRow) {
	if len(r.claims) == 0 && (r.told || r.wantTold) {
		b.order(r.ref.key())
	}
	if r.told || r.wantTold {
		for _, key := range r.claims {
			b.order(Key{r.ref.Namespace, key})
		}
	}
}

// fold folds one event.
func (b *folding) fold(e *event.Event) Step {
	if e.OrderRef() != "" {
		return b.foldOrder(e, b.order(Home(e)))
	}
	r, ok := original(e)
	if !ok {
		return b.foldOrder(e, b.order(Home(e)))
	}
	row := b.refs[r]
	row.state.Apply(e)
	row.told = true
	targets := []string{r.key().Order}
	if len(row.claims) > 0 {
		targets = row.claims
	}
	var step Step
	for n, key := range targets {
		o := b.order(Key{r.Namespace, key})
		s := o.apply(e, len(row.claims) > 1)
		if n == 0 {
			step = s
			continue
		}
		step.Also = append(step.Also, o)
	}
	return step
}

// apply folds an event into the order.
func (o *Order) apply(e *event.Event, shared bool) Step {
	s := Step{Event: e, Order: o, Before: o.State.Status()}
	s.Change = o.State.Apply(e)
	if shared && !o.shared {
		o.shared = true
		s.Change = event.ChangeConflict
	}
	s.After = o.State.Status()
	o.folded = true
	return s
}

// foldOrder folds an event into its own order, which first joins what was told
// under the references that the event claims for it.
func (b *folding) foldOrder(e *event.Event, o *Order) Step {
	var told []*refRow
	if e.OrderRef() != "" {
		for _, r := range claims(e) {
			if row := b.refs[r]; row.claim(o) && row.told {
				told = append(told, row)
			}
		}
	}
	if len(told) == 0 {
		return o.apply(e, false)
	}
	before, conflicts := o.State.Status(), o.Conflicts()
	also := map[Key]*Order{}
	for _, row := range told {
		b.join(row, o, also)
	}
	s := o.apply(e, false)
	s.Before = before
	s.Change = joinedChange(s.Change, conflicts, o.Conflicts())
	for _, key := range slices.SortedFunc(maps.Keys(also), Key.compare) {
		s.Also = append(s.Also, also[key])
	}
	return s
}

// joinedChange is the change when the order also took what was told before.
func joinedChange(c event.Change, before, after []event.Disagreement) event.Change {
	for _, d := range after {
		if !slices.Contains(before, d) {
			return event.ChangeConflict
		}
	}
	if c == event.ChangeStale {
		return event.ChangeApplied
	}
	return c
}

// claim adds the order to those that claim the reference, and reports whether it
// was not among them.
func (r *refRow) claim(o *Order) bool {
	at, claimed := slices.BinarySearch(r.claims, o.Key.Order)
	if !claimed {
		r.claims = slices.Insert(r.claims, at, o.Key.Order)
	}
	return !claimed
}

// join joins what was told under a newly claimed reference. The order that the
// reference was until now is absorbed; orders that claim it too now share it.
func (b *folding) join(r *refRow, o *Order, also map[Key]*Order) {
	o.State.Merge(r.state)
	if len(r.claims) == 1 {
		orphan := b.order(r.ref.key())
		orphan.Absorbed = true
		also[orphan.Key] = orphan
		return
	}
	for _, key := range r.claims {
		rival := b.order(Key{r.ref.Namespace, key})
		if rival.shared = true; rival != o {
			also[rival.Key] = rival
		}
	}
}
