package streams

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/paybell/paybell/streams/event"
)

// ErrNoGroup is returned for a group that the streams do not have.
var ErrNoGroup = errors.New("streams: there is no such group")

// Redelivery delivers again to a group, and to it alone, what it has settled. A group whose
// effects are all there makes none again; one that lost them gets them back.
type Redelivery struct {
	rdb    Client
	run    *runner
	layout Layout
	group  string
}

// NewRedelivery returns the redelivery to a group.
func NewRedelivery(rdb Client, layout Layout, group string) (*Redelivery, error) {
	if !groupForm.MatchString(group) {
		return nil, fmt.Errorf("streams: group %q: must be 1 to 64 letters, digits or any of . _ -", group)
	}
	return &Redelivery{rdb: rdb, run: newRunner(rdb), layout: layout, group: group}, nil
}

// Kept returns the ids of at most max entries of a partition that were appended at since
// or later and after an entry, "" for none.
func (r *Redelivery) Kept(ctx context.Context, partition int, since time.Time, after string, max int64) ([]string, error) {
	start := laterID(strconv.FormatInt(since.UnixMilli(), 10)+"-0", after)
	if start == after {
		start = nextID(after)
	}
	entries, err := r.rdb.XRangeN(ctx, r.layout.Events(partition), start, "+", max).Result()
	if err != nil {
		return nil, unavailable("streams: read what is kept", err)
	}
	ids := make([]string, len(entries))
	for i := range entries {
		ids[i] = entries[i].ID
	}
	return ids, nil
}

// Buried are the ids of the entries of a partition that the group has as dead letters:
// they are for Replay.
func (r *Redelivery) Buried(ctx context.Context, partition int) (map[string]bool, error) {
	return buried(ctx, r.run, r.layout.Dead(partition, r.group))
}

// Oldest is when the first entry of a partition was appended that is still there; zero
// where there is none.
func (r *Redelivery) Oldest(ctx context.Context, partition int) (time.Time, error) {
	entries, err := r.rdb.XRangeN(ctx, r.layout.Events(partition), "-", "+", 1).Result()
	if err != nil {
		return time.Time{}, unavailable("streams: read what is kept", err)
	}
	if len(entries) == 0 {
		return time.Time{}, nil
	}
	return timeOf(entries[0].ID), nil
}

// Deliver delivers an entry again. Its record is given where the stream does not have it
// any more. It is Replayed, or Owing where the group has not settled it, Missing where it
// is not there, or Full while too much is parked: then it may be tried again later.
func (r *Redelivery) Deliver(ctx context.Context, partition int, entryID string, record *event.Record) (ReplayOutcome, error) {
	args := []any{r.group, r.layout.replayRoom(), entryID}
	if record != nil {
		fields, err := record.Fields()
		if err != nil {
			return "", fmt.Errorf("streams: redeliver %s: %w", entryID, err)
		}
		args = append(args, fields...)
	}
	l := r.layout
	reply, err := r.run.run(ctx, againScript, []string{
		l.Events(partition), l.Attempts(partition, r.group), l.Parked(partition, r.group), l.Parcels(partition, r.group), l.Counts(partition, r.group),
		l.Ledger(partition),
	}, args...)
	if errors.Is(err, errNoGroup) {
		return "", fmt.Errorf("%w: %s", ErrNoGroup, r.group)
	}
	if err != nil {
		return "", err
	}
	text, _ := at(reply, 0).(string) // the script answers a word
	if text == "sealed" {
		return "", fmt.Errorf("%w: the number of partitions was changed meanwhile: begin again", ErrLayout)
	}
	return ReplayOutcome(text), nil
}
