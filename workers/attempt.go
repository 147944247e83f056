package workers

import (
	"context"
	"errors"
	"runtime/debug"
	"time"
)

// stuckAfter is how long after its context ended an attempt that has not returned
// is reported.
const stuckAfter = 5 * time.Second

// run is one call of the handler, and what came of it.
type run struct {
	items []*item
	lanes []*lane
	// solo: its only item must not have company; guard: it holds the pool's guard.
	solo, guard bool

	// outcomes has one error an item, unless broken says why the whole call failed.
	outcomes []error
	broken   error
	// overran: the attempt's time was up before it returned.
	overran bool
}

func (r *run) take(ln *lane, it *item) {
	if ln.run != r {
		ln.run = r
		r.lanes = append(r.lanes, ln)
	}
	r.items = append(r.items, it)
	r.solo = it.solo
}

// outcome is the error of item i.
func (r *run) outcome(i int) error {
	if r.broken != nil {
		return r.broken
	}
	return r.outcomes[i]
}

// attempt calls the handler and sends the run back when it has really returned,
// however long that takes and however it ends.
func (g *group) attempt(ctx context.Context, r *run, ds []Delivery, results chan<- *run) {
	ctx, cancel := context.WithTimeout(ctx, g.options.Timeout)
	started := time.Now()
	stuck := time.AfterFunc(g.options.Timeout+stuckAfter, func() {
		g.metrics.stuck.Inc()
		g.logger.Error("attempt ignores its deadline and keeps its slot", "group", g.name, "partition", ds[0].Partition,
			"entry_id", ds[0].EntryID, "event", ds[0].Event, "deliveries", len(ds))
	})
	returned := false
	defer func() {
		switch v := recover(); {
		case v != nil:
			failure := &PanicError{Value: v, Stack: debug.Stack()}
			g.metrics.panics.Inc()
			g.logger.Error("handler panicked", "group", g.name, "partition", ds[0].Partition, "entry_id", ds[0].EntryID,
				"deliveries", len(ds), "err", failure, "stack", string(failure.Stack))
			r.broken = failure
		case !returned:
			r.broken = ErrExited
		case len(r.outcomes) != len(ds):
			r.broken = ErrOutcomes
		}
		r.overran = errors.Is(context.Cause(ctx), context.DeadlineExceeded)
		cancel()
		if !stuck.Stop() {
			g.metrics.stuck.Dec()
		}
		g.metrics.attempt.Observe(time.Since(started).Seconds())
		results <- r
	}()
	r.outcomes = g.handler.HandleBatch(ctx, ds)
	returned = true
}

// single calls a Handler where a BatchHandler is expected.
type single struct{ Handler }

// HandleBatch implements BatchHandler for the one delivery there is.
func (s single) HandleBatch(ctx context.Context, ds []Delivery) []error {
	return []error{s.Handle(ctx, ds[0])}
}
