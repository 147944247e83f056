package workers_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/workers"
	"github.com/paybell/paybell/workers/workertest"
)

func TestAttemptOfAReplacedOwnerIsToldAtTheNextRenewal(t *testing.T) {
	for name, replace := range map[string]func(*workertest.Group){
		"by another":                 func(g *workertest.Group) { g.Steal(0, "two") },
		"by itself, after an expiry": func(g *workertest.Group) { g.Expire(0) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := workertest.NewGroup("g", 1, ttl, time.Now)
				told := make(chan error, 99)
				start(t, g.Consumer("one"), batch(func(ctx context.Context, _ []workers.Delivery) []error {
					<-ctx.Done()
					told <- context.Cause(ctx)
					return []error{nil}
				}), options(func(o *workers.Options) {
					// With no room for another entry nothing is read, and no read tells.
					o.Timeout, o.Batch, o.Concurrency, o.Prefetch = time.Hour, 1, 1, 1
				}))
				id := g.Append(records(1, "A")...)[0]
				until(t, "it runs", func() bool { return g.Attempts(id) == 1 })
				begun := time.Now()
				replace(g)
				equal(t, "cause", <-told, streams.ErrLeaseLost)
				if took := time.Since(begun); took > ttl/3 {
					t.Errorf("told after %v, want %v", took, ttl/3)
				}
			})
		})
	}
}

func TestNothingStartsAfterTheLeaseMayHaveEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 1, ttl, time.Now)
		var mu sync.Mutex
		slow := false
		g.Fault(func(c workertest.Call) error {
			mu.Lock()
			defer mu.Unlock()
			if c.Op == "Charge" && c.Done && !slow {
				slow = true
				mu.Unlock()
				pass(ttl) // The answer comes when the lease has ended.
				mu.Lock()
			}
			if slow && (c.Op == "Renew" || c.Op == "Acquire") && !c.Done {
				return errAway
			}
			return nil
		})
		g.Append(records(1, "A")...)
		a := newApplied()
		p := start(t, g.Consumer("one"), each(func(d workers.Delivery) error { a.called(d); return nil }), options(nil))
		until(t, "the loss is noticed", func() bool { return p.metric("lease_losses_total") == 1 })
		pass(time.Minute)
		equal(t, "calls", a.attempts("A-1"), 0)
	})
}
