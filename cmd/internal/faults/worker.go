//go:build faults

package faults

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/workers"
)

// Log passes the points between the steps of reading and settling.
func (f *Faults) Log(l workers.Log) workers.Log {
	return &log{Log: l, f: f, held: map[int]belief{}}
}

type log struct {
	workers.Log
	f *Faults

	mu sync.Mutex
	// held are the leases that an owner without fencing has had.
	held map[int]belief
}

// belief is a lease, and since when it was not confirmed.
type belief struct {
	lease workers.Lease
	since time.Time
}

// beliefTTL is for how long the owner without fencing believes in a lease that another
// holds.
const beliefTTL = 10 * time.Second

// dawdle bounds the time that the handler of an owner without fencing takes.
const dawdle = 300 * time.Millisecond

// Acquire implements workers.Log.
func (l *log) Acquire(ctx context.Context, partition int) (workers.Lease, bool, error) {
	got, ok, err := l.Log.Acquire(ctx, partition)
	if ok {
		got = &lease{got, l}
	}
	if l.f.broken != "lease" || err != nil {
		return got, ok, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if ok {
		l.held[partition] = belief{got, time.Now()}
	} else if was, had := l.held[partition]; had && time.Since(was.since) < beliefTTL {
		return was.lease, true, nil
	}
	return got, ok, nil
}

type lease struct {
	workers.Lease
	log *log
}

// Renew implements workers.Lease.
func (l *lease) Renew(ctx context.Context) error {
	err := l.Lease.Renew(ctx)
	if l.log.f.broken != "lease" {
		return err
	}
	l.log.mu.Lock()
	defer l.log.mu.Unlock()
	was, had := l.log.held[l.Partition()]
	if err == nil {
		l.log.held[l.Partition()] = belief{l, time.Now()}
	} else if had && errors.Is(err, streams.ErrLeaseLost) && time.Since(was.since) < beliefTTL {
		return nil
	}
	return err
}

// Release implements workers.Lease.
func (l *lease) Release(ctx context.Context) error {
	l.log.mu.Lock()
	delete(l.log.held, l.Partition())
	l.log.mu.Unlock()
	return l.Lease.Release(ctx)
}

// Adopt implements workers.Lease.
func (l *lease) Adopt(ctx context.Context) error {
	err := l.Lease.Adopt(ctx)
	if err == nil {
		l.log.f.pass(Adopted)
	}
	return err
}

// Take implements workers.Lease.
func (l *lease) Take(ctx context.Context, limit int, bytes int64) ([]streams.Entry, error) {
	es, err := l.Lease.Take(ctx, limit, bytes)
	if err != nil || len(es) == 0 {
		return es, err
	}
	if l.log.f.broken == "ack" {
		ids := make([]string, len(es))
		for i := range es {
			ids[i] = es[i].ID
		}
		if err := l.Lease.Settle(ctx, streams.Settlement{Done: ids}); err != nil {
			return nil, err
		}
	}
	if l.log.f.broken == "lease" {
		return l.unshared(ctx, es)
	}
	l.log.f.pass(Taken)
	return es, nil
}

// unshared leaves out what another owner has taken at the same time. Without leases a group
// gives each entry to one of its consumers, whatever order it belongs to.
func (l *lease) unshared(ctx context.Context, es []streams.Entry) ([]streams.Entry, error) {
	taken := "faults:taken:" + strconv.Itoa(l.Partition()) + ":" + l.log.Name()
	pipe := l.log.f.rdb.Pipeline()
	first := make([]*redis.BoolCmd, len(es))
	for i := range es {
		first[i] = pipe.HSetNX(ctx, taken, es[i].ID, "")
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	out := es[:0]
	for i := range es {
		if first[i].Val() {
			out = append(out, es[i])
		}
	}
	return out, nil
}

// Charge implements workers.Lease.
func (l *lease) Charge(ctx context.Context, runs []streams.Run) error {
	err := l.Lease.Charge(ctx, runs)
	if err == nil {
		l.log.f.pass(Charged)
	}
	return err
}

// Settle implements workers.Lease.
func (l *lease) Settle(ctx context.Context, s streams.Settlement) error {
	err := l.Lease.Settle(ctx, s)
	if err == nil {
		l.log.f.pass(Settled)
		if len(s.Dead) > 0 {
			l.log.f.pass(Dead)
		}
	}
	return err
}

// Park implements workers.Lease.
func (l *lease) Park(ctx context.Context, ps []streams.Parking) ([]string, error) {
	without, err := l.Lease.Park(ctx, ps)
	if err == nil {
		l.log.f.pass(Parked)
	}
	return without, err
}

// Unpack implements workers.Lease.
func (l *lease) Unpack(ctx context.Context, ids []string) ([]streams.Entry, error) {
	es, err := l.Lease.Unpack(ctx, ids)
	if err == nil {
		l.log.f.pass(Unpacked)
	}
	return es, err
}

// Step passes the points inside a transaction and behind it.
func (f *Faults) Step(s effects.Step) error {
	switch s {
	case effects.StepFenced:
		f.pass(Fenced)
	case effects.StepKeyed:
		f.pass(Keyed)
	case effects.StepApplied:
		f.pass(Applied)
	case effects.StepCommitted:
		f.pass(Committed)
	default: // the transaction has only begun
	}
	return nil
}

// epochless takes the epoch from what is handed over, so that SQL cannot tell a stale
// owner either. It takes its time, so that two owners at once come into each other's way.
type epochless struct{ workers.BatchHandler }

// HandleBatch implements workers.BatchHandler.
func (h epochless) HandleBatch(ctx context.Context, ds []workers.Delivery) []error {
	select {
	case <-ctx.Done():
	case <-time.After(rand.N(dawdle)): //nolint:gosec // a guessable pause harms nobody
	}
	for i := range ds {
		ds[i].Epoch = 1
	}
	return h.BatchHandler.HandleBatch(ctx, ds)
}

// Trimmer passes Trimmed for as long as the trimmer runs, or replaces it by one that
// keeps the last few entries of a partition, whoever has read them.
func (f *Faults) Trimmer(run func(context.Context) error, rdb streams.Client, layout streams.Layout) func(context.Context) error {
	if f.broken != "trim" {
		return run
	}
	return func(ctx context.Context) error {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				for i := range layout.Partitions() {
					_ = rdb.XTrimMaxLen(ctx, layout.Events(i), 10) // the next round tries again
				}
			}
		}
	}
}
