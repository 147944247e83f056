package workers_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paybell/paybell/workers"
	"github.com/paybell/paybell/workers/workertest"
)

func TestWhatCannotSucceedBecomesADeadLetter(t *testing.T) {
	const private = "the customer's name"
	for name, tc := range map[string]struct {
		err      error
		change   func(*workers.Options)
		reason   string
		attempts int
	}{
		"rejected at once": {err: workers.Reject(errTest), reason: "rejected", attempts: 1},
		"rejected, wrapped": {
			err: fmt.Errorf("apply: %w", workers.Reject(errTest)), reason: "rejected", attempts: 1,
		},
		"attempts used up": {
			err: errTest, change: func(o *workers.Options) { o.Attempts = 5 }, reason: "attempts", attempts: 5,
		},
		"attempts used up at times of its own": {
			err:    workers.RetryAfter(time.Minute, errTest),
			change: func(o *workers.Options) { o.Attempts = 3 }, reason: "attempts", attempts: 3,
		},
		"too old for another attempt": {
			err: workers.RetryAfter(time.Minute, errTest), reason: "age", attempts: 3,
			change: func(o *workers.Options) { o.MaxAge = 150 * time.Second },
		},
		"held without a reason": {
			err: workers.ErrHeld, change: func(o *workers.Options) { o.Attempts = 2 }, reason: "attempts", attempts: 2,
		},
		"a long error is cut between characters": {
			err:    workers.Reject(errors.New(strings.Repeat("€", 1000))),
			reason: "rejected", attempts: 1,
		},
	} {
		for kind, of := range kinds() {
			t.Run(name+"/"+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := workertest.NewGroup("g", 1, ttl, time.Now)
					a := newApplied()
					recs := records(2, "A", "B")
					recs[0].Event.Merchant.CustomerRef = private
					ids := g.Append(recs...)
					p := start(t, g.Consumer("one"), of(func(d workers.Delivery) error {
						a.called(d)
						if d.Event.ID == "A-1" {
							return tc.err
						}
						a.apply(d)
						return nil
					}), options(tc.change))
					until(t, "all settled", func() bool { return g.Owed() == 0 })
					dead := g.Dead()
					if len(dead) != 1 {
						t.Fatalf("%d dead letters, want 1", len(dead))
					}
					d := dead[0]
					equal(t, "reason", d.Reason, tc.reason)
					equal(t, "attempts", d.Attempts, tc.attempts)
					equal(t, "calls", a.attempts("A-1"), tc.attempts)
					equal(t, "entry", d.EntryID, ids[0])
					equal(t, "event", d.Record.Event.ID, "A-1")
					equal(t, "group", d.Group, "g")
					if !strings.HasPrefix(tc.err.Error(), d.Error) || len(d.Error) < min(len(tc.err.Error()), 1022) || len(d.Error) > 1024 {
						t.Errorf("error text of %d bytes: %q", len(d.Error), d.Error)
					}
					equal(t, "the order goes on after it", a.of("A"), []string{"A-2"})
					equal(t, "the other order", a.of("B"), names("B", 2))
					equal(t, "metric", p.metric("dead_letters_total", tc.reason), 1)
					equal(t, "log lines", p.logs.count("delivery becomes a dead letter"), 1)
					equal(t, "personal data in the log", p.logs.count(private), 0)
				})
			})
		}
	}
}

func TestRetryComesWhenAskedFor(t *testing.T) {
	for kind, of := range kinds() {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := workertest.NewGroup("g", 1, ttl, time.Now)
				g.Append(records(1, "A")...)
				var at []time.Time
				start(t, g.Consumer("one"), of(func(workers.Delivery) error {
					if at = append(at, time.Now()); len(at) == 1 {
						return workers.RetryAfter(90*time.Second, errTest)
					}
					return nil
				}), options(nil))
				until(t, "settled", func() bool { return g.Owed() == 0 })
				equal(t, "pause", at[1].Sub(at[0]), 90*time.Second)
			})
		})
	}
}

func TestBackoffGrowsWithFullJitterUpToItsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 1, ttl, time.Now)
		var orders []string
		for i := range 300 {
			orders = append(orders, fmt.Sprint("order", i))
		}
		g.Append(records(1, orders...)...)
		var mu sync.Mutex
		last := make(map[string]time.Time)
		pauses := make(map[int][]time.Duration) // by the attempt before
		start(t, g.Consumer("one"), each(func(d workers.Delivery) error {
			mu.Lock()
			defer mu.Unlock()
			if d.Attempt > 1 {
				pauses[d.Attempt-1] = append(pauses[d.Attempt-1], time.Since(last[d.Event.ID]))
			}
			last[d.Event.ID] = time.Now()
			return errTest
		}), options(func(o *workers.Options) {
			o.Attempts, o.Backoff = 6, workers.Backoff{Initial: time.Second, Max: 5 * time.Second}
		}))
		until(t, "all given up", func() bool { return g.Owed() == 0 })
		for attempt, bound := range map[int]time.Duration{
			1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second, 4: 5 * time.Second, 5: 5 * time.Second,
		} {
			var least, most, sum time.Duration = time.Hour, 0, 0
			for _, p := range pauses[attempt] {
				least, most, sum = min(least, p), max(most, p), sum+p
			}
			mean := sum / time.Duration(len(pauses[attempt]))
			if most > bound+100*time.Millisecond || // a retry may wait for a round or two
				most < bound*8/10 || least > bound/5 || mean < bound*4/10 || mean > bound*6/10 {
				t.Errorf("after attempt %d: %v to %v, mean %v; want 0 to %v evenly", attempt, least, most, mean, bound)
			}
		}
	})
}

func TestUnavailableChargesNothingAndPausesThePartition(t *testing.T) {
	for kind, of := range kinds() {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := workertest.NewGroup("g", 1, ttl, time.Now)
				a := newApplied()
				ids := g.Append(records(20, "A", "B", "C")...)
				begun := time.Now()
				calls, worst := 0, 0
				p := start(t, g.Consumer("one"), of(func(d workers.Delivery) error {
					worst = max(worst, d.Attempt)
					if calls++; time.Since(begun) < 10*time.Minute {
						return fmt.Errorf("begin: %w", workers.Unavailable(errTest))
					}
					a.apply(d)
					return nil
				}), options(func(o *workers.Options) { o.Attempts, o.Concurrency = 3, 1 }))
				until(t, "the outage is noticed", func() bool { return p.logs.count("group pauses") == 1 })
				equal(t, "paused", p.metric("paused", "handler"), 1)
				until(t, "the outage is nearly over", func() bool { return time.Since(begun) > 9*time.Minute })
				equal(t, "calls stay few", calls < 200, true)
				for _, id := range ids {
					equal(t, "attempts charged to "+id, g.Attempts(id), 0)
				}
				until(t, "all settled", func() bool { return g.Owed() == 0 })
				equal(t, "dead letters", len(g.Dead()), 0)
				equal(t, "attempts seen", worst, 1)
				equal(t, "A", a.of("A"), names("A", 20))
				equal(t, "paused after it", p.metric("paused"), 0)
				equal(t, "resumed", p.logs.count("group resumes"), 1)
			})
		})
	}
}

func TestUnavailableMayNameTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 1, ttl, time.Now)
		g.Append(records(1, "A", "B")...)
		var at []time.Time
		start(t, g.Consumer("one"), each(func(workers.Delivery) error {
			if at = append(at, time.Now()); len(at) <= 2 {
				return workers.Unavailable(workers.RetryAfter(7*time.Minute, errTest))
			}
			return nil
		}), options(nil))
		until(t, "settled", func() bool { return g.Owed() == 0 })
		equal(t, "pause", at[2].Sub(at[0]), 7*time.Minute)
	})
}

func TestUnreadableEntryIsADeadLetterAndDeletedOneIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 1, ttl, time.Now)
		a := newApplied()
		h := each(func(d workers.Delivery) error { a.apply(d); return nil })
		// The first owner takes all and settles nothing.
		g.Fault(func(c workertest.Call) error {
			if c.Op == "Charge" || c.Op == "Settle" {
				return errTest
			}
			return nil
		})
		g.Append(records(1, "A")...)
		bad := g.AppendUnreadable(0, errors.New("field schema is missing"))
		gone := g.Append(records(1, "B")...)[0]
		first := start(t, g.Consumer("one"), h, options(nil))
		until(t, "all taken", func() bool { return g.Pending() == 3 })
		g.Delete(gone)
		g.Expire(0)
		g.Fault(nil)
		first.stop()

		p := start(t, g.Consumer("two"), h, options(nil))
		until(t, "all settled", func() bool { return g.Owed() == 0 })
		equal(t, "applied", a.ids(), []string{"A-1"})
		dead := g.Dead()
		if len(dead) != 1 {
			t.Fatalf("%d dead letters, want 1", len(dead))
		}
		equal(t, "dead letter", []any{dead[0].EntryID, dead[0].Reason, dead[0].Error, dead[0].Attempts},
			[]any{bad, "unreadable", "field schema is missing", 0})
		equal(t, "lost", p.metric("lost_entries_total"), 1)
		equal(t, "lost one settled", g.Settled(gone), 1)
	})
}
