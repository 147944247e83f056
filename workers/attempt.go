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

// run is what one partition runs in one call of the handler, and what came of it.
type run struct {
	outcome

	// name is the run's in Redis, while it is charged.
	name  string
	items []*item
	lanes []*lane
	// bytes is how large the items are, most how large they may be; 0 is no bound.
	bytes, most int64
	// solo: its only item must not have company; guard: it holds the pool's guard.
	solo, guard bool
}

func (r *run) take(ln *lane, it *item) {
	if ln.run != r {
		ln.run = r
		r.lanes = append(r.lanes, ln)
	}
	r.items = append(r.items, it)
	r.bytes += it.size
	r.solo = it.solo
}

// fits reports whether an item may be added; the first one may always.
func (r *run) fits(it *item) bool {
	return r.most == 0 || len(r.items) == 0 || r.bytes+it.size <= r.most
}

// err is the outcome of item i.
func (r *run) err(i int) error {
	if r.broken != nil {
		return r.broken
	}
	return r.errs[i]
}

// attempt calls the handler and sends every run back to its partition when it has really
// returned, however long that takes and however it ends.
func (g *group) attempt(c *call) {
	ds := c.ds
	ctx, cancel := c.context(g.options.Timeout)
	started := time.Now()
	stuck := time.AfterFunc(g.options.Timeout+stuckAfter, func() {
		g.metrics.stuck.Inc()
		g.logger.Error("attempt ignores its deadline and keeps its slot", "group", g.name, "partition", ds[0].Partition,
			"entry_id", ds[0].EntryID, "event", ds[0].Event, "deliveries", len(ds))
	})
	o := outcome{company: len(ds)}
	returned := false
	defer func() {
		switch v := recover(); {
		case v != nil:
			failure := &PanicError{Value: v, Stack: debug.Stack()}
			g.metrics.panics.Inc()
			g.logger.Error("handler panicked", "group", g.name, "partition", ds[0].Partition, "entry_id", ds[0].EntryID,
				"deliveries", len(ds), "err", failure, "stack", string(failure.Stack))
			o.broken = failure
		case !returned:
			o.broken = ErrExited
		case len(o.errs) != len(ds):
			o.broken = ErrOutcomes
		}
		o.overran = errors.Is(context.Cause(ctx), context.DeadlineExceeded)
		o.cut = errors.Is(context.Cause(ctx), errCut)
		cancel()
		if !stuck.Stop() {
			g.metrics.stuck.Dec()
		}
		g.metrics.attempt.Observe(time.Since(started).Seconds())
		c.back(o)
	}()
	o.errs = g.handler.HandleBatch(ctx, ds)
	returned = true
}

// back sends every run back with its part of the outcome.
func (c *call) back(o outcome) {
	errs := o.errs
	for i, r := range c.runs {
		r.outcome = o
		if o.broken == nil {
			r.errs, errs = errs[:len(r.items)], errs[len(r.items):]
		}
		c.parts[i].results <- r
	}
}

// single calls a Handler where a BatchHandler is expected.
type single struct{ Handler }

// HandleBatch implements BatchHandler for the one delivery there is.
func (s single) HandleBatch(ctx context.Context, ds []Delivery) []error {
	return []error{s.Handle(ctx, ds[0])}
}
