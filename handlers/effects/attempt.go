package effects

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"

	"github.com/paybell/paybell/workers"
)

// attempt makes the effects of the orders' deliveries in one transaction, which
// is run again while it loses races. An error means that nothing was committed,
// or that nobody knows (the keys then tell, next time). Without an error every
// delivery is settled but those whose owner is stale.
func (h *Handler) attempt(ctx context.Context, b *batch, orders [][]int) error {
	picked := slices.Concat(orders...)
	slices.Sort(picked)
	var (
		stale    map[int]int64
		applying bool
		behind   *behindError
	)
	err := h.store.retrying(ctx, func() error {
		applying = false
		return h.store.transaction(ctx, h.at, func(ctx context.Context, tx *Tx) error {
			var err error
			stale, err = h.effect(ctx, tx, b, picked, &applying)
			return err
		})
	})
	if errors.As(err, &behind) {
		return err
	}
	if err != nil && !applying {
		return &untouchedError{err}
	}
	if err != nil {
		return err
	}
	for _, order := range orders {
		if n := slices.IndexFunc(order, func(i int) bool { return stale[i] > 0 }); n >= 0 {
			b.fail(order[n:], fmt.Errorf("%w: %w", ErrStaleOwner, &workers.ReplacedError{Epoch: stale[order[n]]}))
		}
	}
	return nil
}

// untouchedError is a failure before any event was applied.
type untouchedError struct{ error }

// Unwrap implements errors.Unwrap.
func (e *untouchedError) Unwrap() error { return e.error }

// effect is the inside of the transaction: look at the epoch, insert the dedup
// keys, and apply what had no key before. applying is set when it gets there.
func (h *Handler) effect(ctx context.Context, tx *Tx, b *batch, picked []int, applying *bool) (stale map[int]int64, err error) {
	k := h.newKeys(tx, b, picked)
	reached := map[int]int64{}
	h.fence(tx, b, picked, reached)
	k.queue(picked)
	if err := tx.Send(ctx); err != nil {
		return nil, fmt.Errorf("effects: fence and dedup keys of group %s: %w", h.group, err)
	}
	if err := h.positions.check(reached); err != nil {
		return nil, err
	}
	tx.OnCommit(func() { h.positions.commit(reached) })
	if err := stop(h.at, StepFenced); err != nil {
		return nil, err
	}
	fresh, conflicts, err := k.fresh(ctx)
	if err != nil {
		return nil, fmt.Errorf("effects: dedup keys of group %s: %w", h.group, err)
	}
	if err := stop(h.at, StepKeyed); err != nil {
		return nil, err
	}
	*applying = true
	if err := contained(ctx, tx, h.apply, fresh); err != nil {
		return nil, err
	}
	tx.OnCommit(func() { h.slowEvents.applied(fresh) })
	return k.stale, contained(ctx, tx, h.conflicts, conflicts)
}

// fence takes the lock of each (group, partition) of the batch, raises its epoch and
// counts the commit, unless a newer owner has been there; reached are the positions that
// the commit brings. Holding the lock until the commit makes the newer owner wait for what
// the older one has begun.
func (h *Handler) fence(tx *Tx, b *batch, picked []int, reached map[int]int64) {
	epochs, newest := map[int]int64{}, map[int]int64{}
	for _, i := range picked {
		p := b.ds[i].Partition
		epochs[p] = max(epochs[p], b.ds[i].Epoch)
		newest[p] = max(newest[p], entryTime(b.ds[i].EntryID))
	}
	in := NewRows(Integer("part"), Integer("epoch"), Integer("newest"), Text("grp").Same(h.group))
	for _, p := range slices.Sorted(maps.Keys(epochs)) {
		in.Add(int64(p), epochs[p], newest[p])
	}
	tx.QueueQuery(in, `
		INSERT INTO effect_fences AS f (grp, part, epoch, position, newest)
		SELECT grp, part, epoch, 1, newest FROM input WHERE true
		ON CONFLICT (grp, part) DO UPDATE SET epoch = excluded.epoch, position = f.position + 1,
			newest = CASE WHEN excluded.newest > f.newest THEN excluded.newest ELSE f.newest END
		WHERE excluded.epoch >= f.epoch
		RETURNING part, position`, func(row Row) error {
		var part int
		var position int64
		if err := row.Scan(&part, &position); err != nil {
			return err
		}
		reached[part] = position
		return nil
	})
}

// keys are the dedup keys of a transaction's deliveries.
type keys struct {
	h      *Handler
	tx     *Tx
	b      *batch
	picked []int
	// inserted are the event IDs that had no key before.
	inserted map[string]bool
	// stale maps deliveries that were taken under a lower epoch than the partition has
	// by now to that one.
	stale map[int]int64
}

func (h *Handler) newKeys(tx *Tx, b *batch, picked []int) *keys {
	return &keys{h: h, tx: tx, b: b, picked: picked, inserted: make(map[string]bool, len(picked))}
}

// queue inserts the keys that are missing, of the first delivery of each event ID,
// unless it is stale: the fence is locked by now. The order of the IDs makes two
// transactions with the same events wait for each other, not deadlock.
func (k *keys) queue(deliveries []int) {
	first := make(map[string]int, len(deliveries))
	for _, i := range deliveries {
		if _, twice := first[k.b.ds[i].Event.ID]; !twice {
			first[k.b.ds[i].Event.ID] = i
		}
	}
	in := NewRows(Text("event_id"), Text("facts"), Integer("part"), Integer("epoch"),
		Text("grp").Same(k.h.group), Timestamp("applied_at").Same(k.tx.Now()))
	for _, id := range slices.Sorted(maps.Keys(first)) {
		i := first[id]
		in.Add(id, k.b.facts[i], int64(k.b.ds[i].Partition), k.b.ds[i].Epoch)
	}
	k.tx.QueueQuery(in, `
		INSERT INTO effects (grp, event_id, facts, applied_at)
		SELECT grp, event_id, facts, applied_at FROM input
		WHERE epoch >= (SELECT f.epoch FROM effect_fences f WHERE f.grp = input.grp AND f.part = input.part)
		ON CONFLICT (grp, event_id) DO NOTHING
		RETURNING event_id`, func(row Row) error {
		var id string
		if err := row.Scan(&id); err != nil {
			return err
		}
		k.inserted[id] = true
		return nil
	})
}

// fresh returns the deliveries that have to have their effect now, and those whose ID
// is known with other facts and that were not recorded before. What is in neither is
// stale, or had its effect in an earlier transaction.
func (k *keys) fresh(ctx context.Context) (fresh, conflicts []workers.Delivery, err error) {
	if len(k.inserted) == len(k.picked) {
		fresh = make([]workers.Delivery, len(k.picked))
		for n, i := range k.picked {
			fresh[n] = k.b.ds[i]
		}
		return fresh, nil, nil
	}
	kept, err := k.lookUp(ctx)
	if err != nil {
		return nil, nil, err
	}
	var other []int
	for _, i := range k.picked {
		d := &k.b.ds[i]
		switch {
		case k.stale[i] > 0:
		case k.b.facts[i] != kept[d.Event.ID]:
			other = append(other, i)
		case k.inserted[d.Event.ID]:
			fresh = append(fresh, *d)
			delete(k.inserted, d.Event.ID) // The same event again in this batch has had its effect.
		}
	}
	conflicts, err = k.h.recordConflicts(ctx, k.tx, k.b, other, kept)
	return fresh, conflicts, err
}

// lookUp finds why deliveries have inserted no key: which are stale, and which facts
// count for each event ID of the others.
func (k *keys) lookUp(ctx context.Context) (kept map[string]string, err error) {
	if err := k.findStale(ctx); err != nil {
		return nil, err
	}
	var left []int
	kept = map[string]string{}
	for _, i := range k.picked {
		if k.stale[i] > 0 {
			continue
		}
		id := k.b.ds[i].Event.ID
		if _, twice := kept[id]; !twice {
			kept[id] = k.b.facts[i]
		}
		if !k.inserted[id] {
			left = append(left, i)
		}
	}
	if len(k.stale) > 0 {
		k.queue(left) // An event may have come twice, the first time stale.
		if err := k.tx.Send(ctx); err != nil {
			return nil, err
		}
	}
	in := NewRows(Text("event_id"), Text("grp").Same(k.h.group))
	for _, i := range left {
		if id := k.b.ds[i].Event.ID; !k.inserted[id] {
			in.Add(id)
		}
	}
	found := Lookup{Table: "effects", As: "e", Keys: []string{"grp", "event_id"}}
	return kept, k.tx.QueryRows(ctx, in, `SELECT e.event_id, e.facts `+found.From(k.tx.Dialect()), func(row Row) error {
		var id, facts string
		if err := row.Scan(&id, &facts); err != nil {
			return err
		}
		kept[id] = facts
		return nil
	})
}

// findStale compares the epochs of the deliveries with those of the fences.
func (k *keys) findStale(ctx context.Context) error {
	in := NewRows(Integer("part"), Text("grp").Same(k.h.group))
	epochs := map[int]int64{}
	for _, i := range k.picked {
		p := k.b.ds[i].Partition
		if _, twice := epochs[p]; !twice {
			epochs[p] = 0
			in.Add(int64(p))
		}
	}
	fences := Lookup{Table: "effect_fences", As: "f", Keys: []string{"grp", "part"}}
	err := k.tx.QueryRows(ctx, in, `SELECT f.part, f.epoch `+fences.From(k.tx.Dialect()), func(row Row) error {
		var p int
		var epoch int64
		if err := row.Scan(&p, &epoch); err != nil {
			return err
		}
		epochs[p] = epoch
		return nil
	})
	k.stale = map[int]int64{}
	for _, i := range k.picked {
		if seen := epochs[k.b.ds[i].Partition]; k.b.ds[i].Epoch < seen {
			k.stale[i] = seen
		}
	}
	return err
}

// recordConflicts records deliveries whose ID is known with other facts and
// returns those that were not recorded before, in append order.
func (h *Handler) recordConflicts(ctx context.Context, tx *Tx, b *batch, other []int, kept map[string]string) ([]workers.Delivery, error) {
	type conflict struct{ id, facts string }
	in := NewRows(Text("event_id"), Text("facts"), Text("kept_facts"), Integer("part"), Text("entry_id"),
		Text("grp").Same(h.group), Timestamp("recorded_at").Same(tx.Now()))
	first := map[conflict]int{}
	for _, i := range other {
		d := &b.ds[i]
		c := conflict{d.Event.ID, b.facts[i]}
		if _, twice := first[c]; !twice {
			first[c] = i
			in.Add(c.id, c.facts, kept[c.id], int64(d.Partition), d.EntryID)
		}
	}
	var recorded []int
	err := tx.QueryRows(ctx, in, `
		INSERT INTO effect_conflicts (grp, event_id, facts, kept_facts, part, entry_id, recorded_at)
		SELECT grp, event_id, facts, kept_facts, part, entry_id, recorded_at FROM input WHERE true
		ON CONFLICT (grp, event_id, facts) DO NOTHING
		RETURNING event_id, facts`, func(row Row) error {
		var c conflict
		if err := row.Scan(&c.id, &c.facts); err != nil {
			return err
		}
		recorded = append(recorded, first[c])
		return nil
	})
	slices.Sort(recorded)
	out := make([]workers.Delivery, len(recorded))
	for n, i := range recorded {
		out[n] = b.ds[i]
		tx.OnCommit(func() {
			h.store.metrics.conflicts.WithLabelValues(h.group).Inc()
			h.store.log.Warn("event id reused for other facts", "group", h.group, "event_id", b.ds[i].Event.ID)
		})
	}
	return out, err
}

// contained runs an Apply and turns its panic into an error, so that a panic is
// traced to its event like any other failure and does not charge the neighbours.
func contained(ctx context.Context, tx *Tx, apply Apply, ds []workers.Delivery) (err error) {
	if apply == nil || len(ds) == 0 {
		return nil
	}
	defer func() {
		if v := recover(); v != nil {
			err = &workers.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return apply(ctx, tx, ds)
}
