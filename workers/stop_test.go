package workers_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paybell/paybell/workers"
	"github.com/paybell/paybell/workers/workertest"
)

func TestStopFinishesWhatRunsAndLeavesTheRest(t *testing.T) {
	for kind, of := range kinds() {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := workertest.NewGroup("g", 2, ttl, time.Now)
				a := newApplied()
				ids := g.Append(records(50, "A", "B", "C", "D")...)
				slow := of(func(d workers.Delivery) error {
					pass(3 * time.Second)
					a.apply(d)
					return nil
				})
				o := options(func(o *workers.Options) { o.Batch, o.Concurrency = 4, 4 })
				p := start(t, g.Consumer("one"), slow, o)
				until(t, "some applied", func() bool { return len(a.ids()) > 4 })
				stopped := time.Now()
				p.stop()
				if took := time.Since(stopped); took > o.Grace {
					t.Errorf("the stop took %v although what ran needed less", took)
				}
				settled := 0
				for _, id := range ids {
					settled += g.Settled(id)
					equal(t, "attempts left on "+id, g.Attempts(id), 0)
				}
				equal(t, "settled", settled, len(a.ids()))
				equal(t, "settled and owed", settled+g.Owed(), len(ids))
				equal(t, "owners", g.Owners(), []string{"", ""})

				start(t, g.Consumer("two"), slow, o)
				until(t, "all settled", func() bool { return g.Owed() == 0 })
				for _, order := range []string{"A", "B", "C", "D"} {
					equal(t, order, a.of(order), names(order, 50))
				}
			})
		})
	}
}

func TestStopEndsAttemptsAfterTheGraceAndChargesNothing(t *testing.T) {
	for kind, of := range map[string]func(workers.HandlerFunc) any{
		"Handler": func(f workers.HandlerFunc) any { return f },
		"BatchHandler": func(f workers.HandlerFunc) any {
			return batch(func(ctx context.Context, ds []workers.Delivery) []error {
				outcomes := make([]error, len(ds))
				for i, d := range ds {
					outcomes[i] = f(ctx, d)
				}
				return outcomes
			})
		},
	} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := workertest.NewGroup("g", 1, ttl, time.Now)
				ids := g.Append(records(1, "A", "B")...)
				causes := make(chan error, 2)
				p := start(t, g.Consumer("one"), of(func(ctx context.Context, _ workers.Delivery) error {
					<-ctx.Done()
					causes <- context.Cause(ctx)
					return ctx.Err()
				}), options(func(o *workers.Options) { o.Timeout, o.Grace = time.Hour, time.Minute }))
				until(t, "both charged", func() bool { return g.Attempts(ids[0])+g.Attempts(ids[1]) == 2 })
				begun := time.Now()
				p.stop()
				// Leases were renewed all the while, or this would have ended sooner.
				equal(t, "the stop took", time.Since(begun), time.Minute)
				equal(t, "cause", <-causes, workers.ErrStopping)
				equal(t, "pending", g.Pending(), 2)
				equal(t, "attempts", g.Attempts(ids[0])+g.Attempts(ids[1]), 0)
				equal(t, "owners", g.Owners(), []string{""})
				equal(t, "stopped", p.metric("deliveries_total", "stopped"), 2)
				equal(t, "in flight", p.metric("in_flight_entries"), 0)
				equal(t, "entries", p.metric("entries"), 0)
			})
		})
	}
}

func TestStuckAttemptKeepsItsSlotAndNeverRunsTwiceAtOnce(t *testing.T) {
	for kind, of := range kinds() {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := workertest.NewGroup("g", 1, ttl, time.Now)
				a := newApplied()
				release := make(chan struct{})
				g.Append(records(1, "A")...)
				p := start(t, g.Consumer("one"), of(func(d workers.Delivery) error {
					if a.called(d) == 1 {
						<-release // It ignores its context.
					}
					a.apply(d)
					return nil
				}), options(func(o *workers.Options) { o.Timeout = time.Second }))
				until(t, "it is reported", func() bool { return p.metric("stuck_attempts") == 1 })
				// Its lease ends; the same process gets it again at once.
				g.Expire(0)
				pass(10 * time.Minute)
				equal(t, "calls while it is stuck", a.attempts("A-1"), 1)
				equal(t, "reports", p.logs.count("attempt ignores its deadline"), 1)
				close(release)
				until(t, "settled", func() bool { return g.Owed() == 0 })
				equal(t, "stuck", p.metric("stuck_attempts"), 0)
				equal(t, "calls", a.attempts("A-1"), 2)
			})
		})
	}
}

func TestStuckAttemptHoldsTheStopUpAndKeepsItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 1, ttl, time.Now)
		release := make(chan struct{})
		ids := g.Append(records(1, "A")...)
		p := start(t, g.Consumer("one"), each(func(workers.Delivery) error {
			<-release
			return nil
		}), options(func(o *workers.Options) { o.Timeout, o.Grace = time.Second, time.Second }))
		until(t, "it runs", func() bool { return g.Attempts(ids[0]) == 1 })
		stopped := make(chan struct{})
		go func() {
			p.stop()
			close(stopped)
		}()
		pass(5 * time.Minute)
		select {
		case <-stopped:
			t.Error("stopped although an attempt was running")
		default:
		}
		equal(t, "owner", g.Owners(), []string{"one"})
		close(release)
		<-stopped
		equal(t, "what it did is settled", g.Settled(ids[0]), 1)
	})
}
