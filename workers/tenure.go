package workers

import (
	"context"
	"errors"
	"time"

	"github.com/paybell/paybell/streams"
)

// tenure is the time in which this process may act on a lease, by its own clock.
// It ends a fifth of the lease's life before Redis could give the lease away: that
// fifth is what a handler has to notice that its context ended.
type tenure struct {
	lease Lease
	life  time.Duration
	// ctx ends when the lease is lost or given up.
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

// newTenure begins with a lease that was asked for at the time asked.
func newTenure(ctx context.Context, l Lease, ttl time.Duration, asked time.Time, now func() time.Time) *tenure {
	ctx, cancel := context.WithCancelCause(ctx)
	t := &tenure{lease: l, life: ttl - ttl/5, ctx: ctx, cancel: cancel}
	t.timer = time.AfterFunc(asked.Add(t.life).Sub(now()), t.lose)
	return t
}

// renewed prolongs the tenure by a renewal that was asked for at the time asked.
// Once lost it stays lost.
func (t *tenure) renewed(asked, now time.Time) { t.timer.Reset(asked.Add(t.life).Sub(now)) }

// lose ends the tenure because the lease is, or may be, another owner's.
func (t *tenure) lose() { t.cancel(streams.ErrLeaseLost) }

// lost reports whether the tenure ended by losing the lease.
func (t *tenure) lost() bool { return errors.Is(context.Cause(t.ctx), streams.ErrLeaseLost) }

// end ends the tenure because nothing needs it any more.
func (t *tenure) end() {
	t.timer.Stop()
	t.cancel(context.Canceled)
}
