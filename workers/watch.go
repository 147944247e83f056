package workers

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// EffectStore is where a group's effects are kept, as far as the pool has to know it. It
// counts its commits for each partition, and so tells when it went back to an earlier
// state: a backup was restored, or a standby was promoted that lacked the last commits.
// Redis keeps the count as of the last settlement.
type EffectStore interface {
	// Begin tells what Redis knows when this process begins to run a partition; -1 while
	// that is not known yet. A commit that does not bring the store beyond it must fail
	// with a BehindError.
	Begin(partition int, position int64)
	// Position is that of the last commit that is known; 0 where none is.
	Position(partition int) int64
	// Standings asks the store how far it is, for each partition that it knows.
	Standings(ctx context.Context) (map[int]Standing, error)
}

// Standing is how far an effect store is in one partition.
type Standing struct {
	// Position counts its commits.
	Position int64
	// Newest is when the latest entry that it has an effect of was appended, by Redis's
	// clock.
	Newest time.Time
}

// Watch is how a group's effect store and Redis are compared.
type Watch struct {
	Store EffectStore
	// Recover is called for a partition of which Redis has lost entries that the store has
	// effects of: it lost its memory, or came back from an older file. What was appended
	// later than since is to be appended again. nil where Redis keeps nothing anyway.
	Recover func(ctx context.Context, partition int, since, until time.Time) error
}

// ErrBehind is the outcome of a delivery whose effect store is behind what Redis knows
// was settled. Nothing was committed and no attempt is charged; the group is set back to
// what the stream still has.
var ErrBehind = errors.New("workers: the effect store went back to an earlier state")

// BehindError is an ErrBehind that tells at which position the store is.
type BehindError struct{ Position, Settled int64 }

// Error implements error.
func (e *BehindError) Error() string {
	return fmt.Sprintf("%v: it is at position %d, and effects up to %d were settled", ErrBehind, e.Position, e.Settled)
}

// Unwrap returns ErrBehind.
func (e *BehindError) Unwrap() error { return ErrBehind }

// watchTimeout bounds one question to the store, or to Redis.
const watchTimeout = 10 * time.Second

// found is what one comparison has found of a partition.
type found struct {
	partition int
	behind    *BehindError
	newest    time.Time
}

// watchStore compares the store with Redis until ctx ends: a partition in which nothing
// happens has no commit that would notice.
func (c *consumer) watchStore(ctx context.Context) {
	tick := time.NewTicker(c.log.LeaseTTL() / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// Asked before, so that a commit in between does not look like one that is missing.
		settled := make([]int64, c.log.Partitions())
		for i := range settled {
			settled[i] = c.watch.Store.Position(i)
		}
		asking, cancel := context.WithTimeout(ctx, watchTimeout)
		standings, err := c.watch.Store.Standings(asking)
		cancel()
		if err != nil {
			continue // a handler that runs finds it away, and says so
		}
		newest := make([]time.Time, len(settled))
		for i, s := range standings {
			// One that there is not: Redis may have come back from before a change of their
			// number, and lost what stood there.
			if at := &newest[i%len(newest)]; i >= 0 && s.Newest.After(*at) {
				*at = s.Newest
			}
		}
		for i, known := range settled {
			f := found{partition: i, newest: newest[i]}
			if known > standings[i].Position {
				f.behind = &BehindError{Position: standings[i].Position, Settled: known}
			}
			if f.behind == nil && f.newest.IsZero() {
				continue
			}
			select {
			case c.findings <- f:
			case <-ctx.Done():
				return
			}
		}
	}
}

// heed acts on a finding, where the partition runs here.
func (c *consumer) heed(ctx context.Context, f found) {
	p := c.owned[f.partition]
	if p == nil || p.quitting {
		return
	}
	if f.behind != nil {
		select {
		case p.behind <- f.behind:
		default: // it was told before
		}
		return
	}
	since := p.tenure.lease.Newest()
	if c.watch.Recover == nil || !f.newest.After(since) || c.recovering[f.partition] {
		return
	}
	c.recovering[f.partition] = true
	c.listeners.Go(func() {
		c.recover(ctx, f.partition, f.newest)
		select {
		case c.recovered <- f.partition:
		case <-ctx.Done():
		}
	})
}

// recover has what Redis lost of a partition appended again, once Redis itself has said
// that it lacks what the store has effects of.
func (c *consumer) recover(ctx context.Context, partition int, newest time.Time) {
	asking, cancel := context.WithTimeout(ctx, watchTimeout)
	since, err := c.log.Appended(asking, partition)
	cancel()
	if err != nil || !newest.After(since) {
		return
	}
	c.metrics.rollbacks.Inc()
	c.logger.Error("redis has lost entries whose effects are in the database: it lost its memory, or came back from an older file; what the event log has of them is appended again",
		"group", c.name, "partition", partition, "since", since, "until", newest)
	err = c.watch.Recover(ctx, partition, since, newest)
	if err == nil {
		err = c.log.Advance(ctx, partition, newest)
	}
	if err != nil && ctx.Err() == nil {
		c.logger.Error("entries that Redis lost are not all appended again; it is tried once more", "group", c.name, "partition", partition, "err", err)
	}
}

// rewind sets the group back in this partition, which runs nothing any more. Where it
// fails the next owner finds the store behind likewise.
func (p *partition) rewind() {
	entries, since, err := p.tenure.lease.Rewind(p.tenure.ctx, p.lost.Position)
	if err != nil {
		p.logger.Error("the group could not be set back yet", "group", p.name, "partition", p.tenure.lease.Partition(), "err", err)
		return
	}
	p.metrics.rewinds.Inc()
	p.logger.Error("the database went back to an earlier state: what the stream still has is delivered again",
		"group", p.name, "partition", p.tenure.lease.Partition(), "position", p.lost.Position, "settled", p.lost.Settled,
		"entries", entries, "since", since)
}

// fallBehind lets go of a partition whose effect store is behind, and sets the group back.
func (p *partition) fallBehind(err *BehindError) {
	if p.lost == nil {
		p.lost = err
	}
	if !p.draining {
		p.drain()
	}
}
