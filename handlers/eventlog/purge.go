package eventlog

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/paybell/paybell/handlers/effects"
)

// purgeStep is how many rows one transaction of a purge deletes: few enough that the
// handlers do not wait long for it.
const purgeStep = 500

// Purge removes the evidence whose retention has passed, together with its dedup
// keys, and returns how many rows it removed. It works in short transactions, may be
// ended at any time, and may run in several processes at once.
func (r *Reader) Purge(ctx context.Context, o Options) (int64, error) {
	if o.Retention == 0 {
		return 0, nil
	}
	before := r.store.Now().Add(-o.Retention)
	var purged int64
	for {
		n, err := r.PurgeBefore(ctx, before, purgeStep)
		purged += n
		if err != nil || n < purgeStep {
			return purged, err
		}
	}
}

// PurgeBefore removes at most limit rows of events that were received before a time.
func (r *Reader) PurgeBefore(ctx context.Context, before time.Time, limit int) (int64, error) {
	var purged int64
	err := r.store.Update(ctx, func(ctx context.Context, tx *effects.Tx) error {
		purged = 0
		ids := map[string][]string{}
		err := tx.Query(ctx, func(row effects.Row) error {
			var group, id string
			err := row.Scan(&group, &id)
			ids[group] = append(ids[group], id)
			purged++
			return err
		}, `DELETE FROM event_log WHERE (event_id, facts) IN
				(SELECT event_id, facts FROM event_log WHERE received_at < $1 ORDER BY received_at LIMIT $2)
			RETURNING grp, event_id`, before, limit)
		if err != nil {
			return err
		}
		for _, group := range slices.Sorted(maps.Keys(ids)) {
			if err := tx.Forget(ctx, group, ids[group]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("eventlog: purge: %w", err)
	}
	return purged, nil
}
