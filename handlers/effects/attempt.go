package effects

import (
	"context"
	"database/sql"
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
	)
	err := h.store.retrying(ctx, func() error {
		applying = false
		return h.store.transaction(ctx, h.at, func(ctx context.Context, tx *Tx) error {
			var err error
			stale, err = h.effect(ctx, tx, b, picked, &applying)
			return err
		})
	})
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
	if stale, err = h.fence(ctx, tx, b, picked); err != nil {
		return nil, fmt.Errorf("effects: fence of group %s: %w", h.group, err)
	}
	if err := stop(h.at, StepFenced); err != nil {
		return nil, err
	}
	fresh, conflicts, err := h.key(ctx, tx, b, picked, stale)
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
	return stale, contained(ctx, tx, h.conflicts, conflicts)
}

// fence takes the lock of each (group, partition) of the batch, raises its epoch
// and returns the deliveries that were taken under a lower one, with the higher one.
// Holding the lock until the commit makes the newer owner wait for what the older one
// has begun.
func (h *Handler) fence(ctx context.Context, tx *Tx, b *batch, picked []int) (map[int]int64, error) {
	epochs := map[int]int64{}
	for _, i := range picked {
		p := b.ds[i].Partition
		epochs[p] = max(epochs[p], b.ds[i].Epoch)
	}
	in := NewRows(Integer("part"), Integer("epoch"), Text("grp").Same(h.group))
	for _, p := range slices.Sorted(maps.Keys(epochs)) {
		in.Add(int64(p), epochs[p])
	}
	err := tx.QueryRows(ctx, in, `
		INSERT INTO effect_fences AS f (grp, part, epoch)
		SELECT grp, part, epoch FROM input WHERE true
		ON CONFLICT (grp, part) DO UPDATE
		SET epoch = CASE WHEN excluded.epoch > f.epoch THEN excluded.epoch ELSE f.epoch END
		RETURNING part, epoch`, func(rows *sql.Rows) error {
		var p int
		var epoch int64
		if err := rows.Scan(&p, &epoch); err != nil {
			return err
		}
		epochs[p] = epoch
		return nil
	})
	stale := map[int]int64{}
	for _, i := range picked {
		if seen := epochs[b.ds[i].Partition]; b.ds[i].Epoch < seen {
			stale[i] = seen
		}
	}
	return stale, err
}

// key inserts the dedup keys and returns the deliveries that have to have their
// effect now, and those whose ID is known with other facts and that were not
// recorded before. What is in neither had its effect in an earlier transaction.
func (h *Handler) key(ctx context.Context, tx *Tx, b *batch, picked []int, stale map[int]int64) (fresh, conflicts []workers.Delivery, err error) {
	kept := make(map[string]string, len(picked)) // Event ID → the facts that count.
	for _, i := range picked {
		if _, twice := kept[b.ds[i].Event.ID]; !twice && stale[i] == 0 {
			kept[b.ds[i].Event.ID] = b.facts[i]
		}
	}
	inserted, err := h.insertKeys(ctx, tx, kept)
	if err != nil {
		return nil, nil, err
	}
	if len(inserted) < len(kept) {
		if err := h.lookUpKeys(ctx, tx, kept, inserted); err != nil {
			return nil, nil, err
		}
	}
	var other []int
	for _, i := range picked {
		d := &b.ds[i]
		switch {
		case stale[i] > 0:
		case b.facts[i] != kept[d.Event.ID]:
			other = append(other, i)
		case inserted[d.Event.ID]:
			fresh = append(fresh, *d)
			delete(inserted, d.Event.ID) // The same event again in this batch has had its effect.
		}
	}
	conflicts, err = h.recordConflicts(ctx, tx, b, other, kept)
	return fresh, conflicts, err
}

// insertKeys inserts what is missing and returns it. The order of the IDs makes
// two transactions with the same events wait for each other, not deadlock.
func (h *Handler) insertKeys(ctx context.Context, tx *Tx, kept map[string]string) (map[string]bool, error) {
	in := NewRows(Text("event_id"), Text("facts"), Text("grp").Same(h.group), Timestamp("applied_at").Same(tx.Now()))
	for _, id := range slices.Sorted(maps.Keys(kept)) {
		in.Add(id, kept[id])
	}
	inserted := make(map[string]bool, len(kept))
	return inserted, tx.QueryRows(ctx, in, `
		INSERT INTO effects (grp, event_id, facts, applied_at)
		SELECT grp, event_id, facts, applied_at FROM input WHERE true
		ON CONFLICT (grp, event_id) DO NOTHING
		RETURNING event_id`, func(rows *sql.Rows) error {
		var id string
		if err := rows.Scan(&id); err != nil {
			return err
		}
		inserted[id] = true
		return nil
	})
}

// lookUpKeys replaces the facts of IDs that were known before by those kept then.
func (h *Handler) lookUpKeys(ctx context.Context, tx *Tx, kept map[string]string, inserted map[string]bool) error {
	in := NewRows(Text("event_id"), Text("grp").Same(h.group))
	for id := range kept {
		if !inserted[id] {
			in.Add(id)
		}
	}
	return tx.QueryRows(ctx, in, `
		SELECT e.event_id, e.facts
		FROM input JOIN effects e ON e.grp = input.grp AND e.event_id = input.event_id`, func(rows *sql.Rows) error {
		var id, facts string
		if err := rows.Scan(&id, &facts); err != nil {
			return err
		}
		kept[id] = facts
		return nil
	})
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
		RETURNING event_id, facts`, func(rows *sql.Rows) error {
		var c conflict
		if err := rows.Scan(&c.id, &c.facts); err != nil {
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
