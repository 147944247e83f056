package streams

import "context"

// ReplayOutcome is what became of one dead letter.
type ReplayOutcome string

// What can become of a dead letter that is to be replayed or dropped.
const (
	// Replayed: it is parked, due now, and no dead letter any more.
	Replayed ReplayOutcome = "replayed"
	// Dropped: it is gone for good.
	Dropped ReplayOutcome = "dropped"
	// Missing: the group has no such dead letter; it was replayed or dropped before.
	Missing ReplayOutcome = "missing"
	// Owing: the group owes the event already, because it was created again. The dead
	// letter stays.
	Owing ReplayOutcome = "owed"
	// Empty: its entry was deleted before it became a dead letter, so that there is
	// nothing to deliver. It stays.
	Empty ReplayOutcome = "empty"
	// Full: so much is parked in its partition that it would stand in the way of the
	// group's own retries. It stays; try again when less is parked.
	Full ReplayOutcome = "full"
)

// replayRoom is how much of a group may be parked for one more to be replayed: half of what
// workers park at most, by default. Every partition has an equal share, as with workers.
const replayRoom = 80_000

// replayRoom is a partition's share of replayRoom.
func (l Layout) replayRoom() int { return max(1, replayRoom/l.Partitions()) }

// DeadLetterResult is what became of the dead letter called ID.
type DeadLetterResult struct {
	ID      string        `json:"id"`
	Outcome ReplayOutcome `json:"outcome"`
}

// Counts is the hash of a group's account: events settled, dropped and lost, dead
// letters replayed, how often the group was created, and the base it began from.
func (l Layout) Counts(partition int, group string) string {
	return l.heads[partition] + "counts:" + group
}

// Replay delivers dead letters again, to their group alone: each is moved into the
// parked list of its partition, due now, with its event, no attempts charged and the
// field replay_of, in one step. The partition's owner finds it within about a second
// and runs it in its place of the order. It returns what became of those it came to,
// in the order of ids; with an error, the rest was not touched, or its answer was lost.
func (d *DeadLetters) Replay(ctx context.Context, group string, ids []string) ([]DeadLetterResult, error) {
	return d.each(ids, func(partition int, entryID, id string) ([]any, error) {
		l := d.layout
		return d.run.run(ctx, replayScript, []string{
			l.Dead(partition, group), l.Attempts(partition, group), l.Parked(partition, group),
			l.Parcels(partition, group), l.Counts(partition, group),
		}, entryID, id, l.replayRoom())
	})
}

// Drop ends dead letters for good. Their events are settled by it.
func (d *DeadLetters) Drop(ctx context.Context, group string, ids []string) ([]DeadLetterResult, error) {
	return d.each(ids, func(partition int, entryID, _ string) ([]any, error) {
		return d.run.run(ctx, dropScript, []string{d.layout.Dead(partition, group), d.layout.Counts(partition, group)}, entryID)
	})
}

// each does something to dead letters, once all of the ids have been understood.
func (d *DeadLetters) each(ids []string, do func(partition int, entryID, id string) ([]any, error)) ([]DeadLetterResult, error) {
	for _, id := range ids {
		if _, _, err := parseDeadLetterID(id, d.layout.Partitions()); err != nil {
			return nil, err
		}
	}
	out := make([]DeadLetterResult, 0, len(ids))
	for _, id := range ids {
		partition, entryID, _ := parseDeadLetterID(id, d.layout.Partitions()) // read before
		reply, err := do(partition, entryID, id)
		if err != nil {
			return out, err
		}
		text, _ := at(reply, 0).(string) // the scripts answer a word
		out = append(out, DeadLetterResult{ID: id, Outcome: ReplayOutcome(text)})
	}
	return out, nil
}
