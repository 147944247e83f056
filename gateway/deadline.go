package gateway

import (
	"context"
	"sync/atomic"
	"time"
)

// deadlines bounds calls in time. A context with a timer for each of them would cost more
// than the rest of a callback's way to the appender, so calls that begin within a moment
// share one: the first has the whole time, the others up to the moment less. A call that
// has returned leaves its context to the others, and the deadline ends it.
type deadlines struct {
	after  time.Duration
	moment time.Duration
	last   atomic.Pointer[deadline]
}

type deadline struct {
	shared context.Context    //nolint:containedctx // it is what is shared
	end    context.CancelFunc // nobody's to call: the others still use it
	begun  time.Time
}

// sharedMoment is how far apart calls may begin that end together.
const sharedMoment = 10 * time.Millisecond

func newDeadlines(after time.Duration) *deadlines {
	return &deadlines{after: after, moment: min(sharedMoment, after/64)}
}

// of returns a context that ends after d.after, whatever becomes of ctx.
func (d *deadlines) of(ctx context.Context) context.Context {
	now := time.Now()
	if last := d.last.Load(); last != nil && now.Sub(last.begun) < d.moment {
		return last.shared
	}
	shared, end := context.WithTimeout(context.WithoutCancel(ctx), d.after) //nolint:gosec // the deadline ends it
	d.last.Store(&deadline{shared, end, now})
	return shared
}

// firstPart bounds calls to two thirds of their callers' time. Callers with one context
// share the part of it.
type firstPart struct{ last atomic.Pointer[part] }

type part struct {
	whole context.Context    //nolint:containedctx // whose part it is
	first context.Context    //nolint:containedctx // it is what is shared
	end   context.CancelFunc // as of a deadline
}

// of returns a context that ends with ctx, or when two thirds of its time are over.
func (f *firstPart) of(ctx context.Context) context.Context {
	end, ok := ctx.Deadline()
	if !ok {
		return ctx
	}
	if last := f.last.Load(); last != nil && last.whole == ctx {
		return last.first
	}
	first, stop := context.WithTimeout(ctx, time.Until(end)*2/3) //nolint:gosec // the deadline ends it
	f.last.Store(&part{ctx, first, stop})
	return first
}
