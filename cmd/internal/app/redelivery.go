package app

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/paybell/paybell/configs"
	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/eventlog"
	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/event"
)

// Redelivery is what is asked for, and what came of it.
type Redelivery struct {
	Group string
	// Since is when the first of them was appended.
	Since time.Time
	// DryRun only counts.
	DryRun bool
	// Each is called before each delivery, and ends the redelivery by an error.
	Each func() error

	// Kept were taken from the streams, Logged from the event log, where the streams did
	// not have them any more. Owed were left alone: the
	// group has not settled them, or has them as dead letters.
	Kept, Logged, Owed int

	// buried are entries of the partition that is looked at which are dead letters.
	buried map[string]bool
}

// roomEvery is how often is looked whether there is room for more.
const roomEvery = 200 * time.Millisecond

// Run delivers what the group has settled since again, to it alone: from the streams as
// far as these keep it, and before that from the event log of the configured database.
func (r *Redelivery) Run(ctx context.Context, c *configs.Config, store *effects.Store) error {
	return withDeployment(ctx, c, func(_ *streams.Deployment, rdb streams.Client) error {
		layout, err := streams.NewLayout(c.Streams.Prefix, c.Streams.Partitions)
		if err != nil {
			return fmt.Errorf("streams: %w", err)
		}
		again, err := streams.NewRedelivery(rdb, layout, r.Group)
		if err != nil {
			return err
		}
		reader := eventlog.NewReader(store)
		p, err := streams.ReadPartitions(ctx, rdb, c.Streams.Prefix)
		if err != nil {
			return err
		}
		// The log tells partitions that there are no more, too.
		for partition := layout.Partitions(); partition < slices.Max(append(p.Former, p.Number)); partition++ {
			if err := r.logged(ctx, again, reader, layout, partition); err != nil {
				return err
			}
		}
		for partition := range layout.Partitions() {
			if r.buried, err = again.Buried(ctx, partition); err != nil {
				return err
			}
			if err := r.logged(ctx, again, reader, layout, partition); err != nil {
				return err
			}
			if err := r.kept(ctx, again, partition); err != nil {
				return err
			}
		}
		return nil
	})
}

// logged delivers what the event log has of a partition and its stream has not.
func (r *Redelivery) logged(ctx context.Context, again *streams.Redelivery, reader *eventlog.Reader, layout streams.Layout, partition int) error {
	var until time.Time
	var err error
	if partition < layout.Partitions() {
		if until, err = again.Oldest(ctx, partition); err != nil {
			return err
		}
	}
	if until.IsZero() {
		until = time.Now()
	} else {
		until = until.Add(-time.Millisecond)
	}
	ids, err := reader.Appended(ctx, partition, r.Since, until)
	for err == nil && len(ids) > 0 {
		n := min(len(ids), recoveryPage)
		var entries []eventlog.Entry
		if entries, err = reader.Entries(ctx, ids[:n]); err != nil {
			break
		}
		for i := range entries {
			// The log tells the partition of then, which a change of their number moves.
			home := layout.Partition(entries[i].Event.OrderingKey())
			if err := r.deliver(ctx, again, home, entries[i].EntryID, &entries[i].Record, &r.Logged); err != nil {
				return err
			}
		}
		ids = ids[n:]
	}
	return err
}

// kept delivers what the stream has of a partition.
func (r *Redelivery) kept(ctx context.Context, again *streams.Redelivery, partition int) error {
	for after := ""; ; {
		ids, err := again.Kept(ctx, partition, r.Since, after, recoveryPage)
		if err != nil || len(ids) == 0 {
			return err
		}
		for _, id := range ids {
			if err := r.deliver(ctx, again, partition, id, nil, &r.Kept); err != nil {
				return err
			}
		}
		after = ids[len(ids)-1]
	}
}

func (r *Redelivery) deliver(ctx context.Context, again *streams.Redelivery, partition int, id string, record *event.Record, counted *int) error {
	switch {
	case r.buried[id]:
		r.Owed++
		return nil
	case r.DryRun:
		*counted++
		return nil
	}
	if err := r.Each(); err != nil {
		return err
	}
	for {
		outcome, err := again.Deliver(ctx, partition, id, record)
		if err != nil {
			return err
		}
		switch outcome {
		case streams.Replayed:
			*counted++
		case streams.Owing:
			r.Owed++
		case streams.Full: // until the workers have made room
			if !pause(ctx, roomEvery) {
				return context.Cause(ctx)
			}
			continue
		}
		return nil
	}
}
