// Package effects makes the effect of an event happen once for each consumer
// group: the dedup key (group, event ID) and the effect are written in one SQL
// transaction, in SQLite or in PostgreSQL. It owns the transaction and knows
// nothing of what is written in it.
//
// What it promises when things fail (G4, G5, G7):
//
//   - A process killed at any instruction leaves either the key and the effect or
//     neither. A commit whose answer was lost is safe to run again: the key
//     makes the second run a no-op.
//   - An outcome of nil is given only after the commit, and commits reach the
//     disk: SQLite runs with synchronous=FULL, and a PostgreSQL session with
//     synchronous_commit off is refused.
//   - Where one event of a batch fails, the others still commit: the batch is
//     divided until the failing event stands alone. Later events of its ordering
//     key are held (workers.ErrHeld).
//   - An owner whose lease was taken over is refused (ErrStaleOwner) as soon as the
//     newer owner has made one effect in the partition.
//   - An event ID that comes back with other facts has no effect; it is recorded
//     in effect_conflicts and counted.
//   - Nothing is half applied when the database goes away. What was not committed is
//     given workers.Unavailable: it stays owed and is charged no attempt.
package effects

import (
	"context"

	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/workers"
)

// Apply makes the effects of deliveries inside tx. They stand in append order,
// none of them has had its effect in this group before, and no event ID comes
// twice. An error rolls back everything. Apply runs again, from the start and
// in another transaction, after an error that passes and while a failing event is
// looked for, so it must keep nothing outside of tx; Tx.OnCommit is for that.
type Apply func(ctx context.Context, tx *Tx, ds []workers.Delivery) error

// Events are the events of deliveries.
func Events(ds []workers.Delivery) []*event.Event {
	out := make([]*event.Event, len(ds))
	for i := range ds {
		out[i] = &ds[i].Event
	}
	return out
}
