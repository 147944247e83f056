package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/paybell/paybell/gateway/provider"
)

const (
	// clockBound is how far the process's clock may be from the event store's: what is
	// left of a tolerance of five minutes is enough for a callback's way.
	clockBound = time.Minute
	// clockEvery is how often the clocks are compared although nobody needs to know.
	clockEvery = 15 * time.Second
)

// clock compares the process's clock with the event store's. Signed times are checked by
// the process's: where it is wrong, authentic callbacks look old or early. It trusts the
// event store's no further than to say that one of the two is wrong.
type clock struct {
	store func(ctx context.Context) (time.Time, error)
	now   func() time.Time
	log   *slog.Logger
	// ahead is by how much the process's clock was ahead at the last answer; nil before
	// the first.
	ahead atomic.Pointer[time.Duration]

	mu    sync.Mutex // held while asking
	asked time.Time
}

func newClock(d Deps) *clock { return &clock{store: d.Clock, now: d.Now, log: d.Logger} }

// run compares the clocks until ctx ends, so that metric and log tell also where nobody
// asks /readyz.
func (c *clock) run(ctx context.Context) {
	t := time.NewTicker(clockEvery)
	defer t.Stop()
	for ctx.Err() == nil {
		c.compare(ctx)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
	}
}

// compare asks the event store for its time, at most once in readyFresh whoever needs to
// know. While it cannot be asked, the last answer counts.
func (c *clock) compare(ctx context.Context) {
	if c.store == nil {
		return
	}
	if !c.mu.TryLock() {
		if c.ahead.Load() != nil {
			return // somebody asks already, and there is an answer to go by
		}
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	// By the wall clock alone: one that was set is compared anew at once.
	asked := c.now().Round(0)
	if since := asked.Sub(c.asked); since >= 0 && since < readyFresh {
		return
	}
	c.asked = asked
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyTimeout)
	defer cancel()
	told, err := c.tell(ctx)
	if err != nil {
		return // that the event store is not there is told by those who need it
	}
	answered := c.now().Round(0)
	var ahead time.Duration // the time that asking took counts for neither
	switch {
	case told.Before(asked):
		ahead = asked.Sub(told)
	case told.After(answered):
		ahead = answered.Sub(told)
	}
	before := c.off()
	c.ahead.Store(&ahead)
	switch after := c.off(); {
	case after != nil && before == nil:
		c.log.LogAttrs(ctx, slog.LevelError, "the clock is wrong, here or in the event store: set it right (NTP)", slog.Any("err", after))
	case after == nil && before != nil:
		c.log.LogAttrs(ctx, slog.LevelInfo, "the clock is right again", slog.Duration("ahead", ahead))
	}
}

// tell keeps a panic from being taken for an answer.
func (c *clock) tell(ctx context.Context) (told time.Time, err error) {
	defer contain(&err)
	return c.store(ctx)
}

// off is by how much the clock is wrong, as an error; nil where it is not, or nobody knows.
func (c *clock) off() error {
	ahead := c.ahead.Load()
	if ahead == nil || ahead.Abs() <= clockBound {
		return nil
	}
	return &clockError{ahead: *ahead}
}

// excuse makes a refusal that is for the signed time alone ErrClock where that may be our
// own clock's fault: it is wrong, or could not be compared yet.
func (c *clock) excuse(ctx context.Context, refusal error) error {
	r, ok := errors.AsType[*provider.Refusal](refusal)
	if c.store == nil || !ok || r.Reason != provider.ReasonStale && r.Reason != provider.ReasonFuture {
		return refusal
	}
	c.compare(ctx)
	if c.ahead.Load() != nil && c.off() == nil {
		return refusal
	}
	return fmt.Errorf("%w: %w", ErrClock, refusal)
}

// seconds is the metric: NaN before the first answer.
func (c *clock) seconds() float64 {
	if ahead := c.ahead.Load(); ahead != nil {
		return ahead.Seconds()
	}
	return math.NaN()
}

// clockError is a clock that is wrong.
type clockError struct{ ahead time.Duration }

// Error implements error.
func (e *clockError) Error() string { return "gateway: " + e.PublicReason() }

// PublicReason is what /readyz says.
func (e *clockError) PublicReason() string {
	side := "ahead of"
	if e.ahead < 0 {
		side = "behind"
	}
	return fmt.Sprintf("the clock is %s %s the event store's", e.ahead.Abs().Round(time.Second), side)
}
