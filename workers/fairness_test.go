package workers_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paybell/paybell/workers"
	"github.com/paybell/paybell/workers/workertest"
)

func TestNeitherRetriesNorFirstAttemptsStarve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 1, ttl, time.Now)
		var bad, good []string
		for i := range 40 {
			bad = append(bad, fmt.Sprint("bad", i))
			good = append(good, fmt.Sprint("good", i))
		}
		g.Append(records(1, bad...)...)
		var mixes []string
		start(t, g.Consumer("one"), batch(func(_ context.Context, ds []workers.Delivery) []error {
			outcomes := make([]error, len(ds))
			retries, firsts := 0, 0
			for i, d := range ds {
				if d.Attempt > 1 {
					retries++
				} else {
					firsts++
				}
				if strings.HasPrefix(d.Event.ID, "bad") && d.Attempt == 1 {
					// All come due at one time, while the good ones arrive.
					outcomes[i] = workers.RetryAfter(time.Minute, errTest)
				}
			}
			if retries > 0 {
				mixes = append(mixes, fmt.Sprintf("%d+%d", retries, firsts))
			}
			if retries == 0 && strings.HasPrefix(ds[0].Event.ID, "good") {
				// Sleep beyond the time they are due, so that both kinds stand ready.
				pass(20 * time.Second)
			}
			return outcomes
		}), options(func(o *workers.Options) { o.Batch, o.Prefetch = 8, 200 }))
		until(t, "bad ones wait", func() bool { return g.Unread() == 0 })
		pass(50 * time.Second)
		g.Append(records(1, good...)...)
		until(t, "all settled", func() bool { return g.Owed() == 0 })
		if len(mixes) < 5 {
			t.Fatalf("batches with retries: %v", mixes)
		}
		for i, mix := range mixes[:5] {
			if mix != "4+4" {
				t.Errorf("batch %d with retries is %s, want half and half while both wait: %v", i, mix, mixes)
			}
		}
	})
}

func TestRetriesAndFirstAttemptsTakeTurnsOnOneSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 1, ttl, time.Now)
		var orders []string
		for i := range 20 {
			orders = append(orders, fmt.Sprint("order", i))
		}
		g.Append(records(1, orders...)...)
		begun := time.Now()
		turns := ""
		start(t, g.Consumer("one"), workers.HandlerFunc(func(_ context.Context, d workers.Delivery) error {
			switch {
			case d.Attempt > 1:
				turns += "r"
			case time.Since(begun) > time.Minute:
				turns += "f"
			default:
				return workers.RetryAfter(time.Until(begun.Add(5*time.Minute)), errTest)
			}
			// The first call from the fifth minute on outlasts the moment all come due.
			if len(turns) == 1 {
				pass(2 * time.Minute)
			}
			return nil
		}), options(func(o *workers.Options) { o.Concurrency, o.Timeout = 1, time.Hour }))
		until(t, "all failed once", func() bool { return g.Unread() == 0 })
		pass(4 * time.Minute)
		for i := range orders {
			orders[i] += "new"
		}
		g.Append(records(1, orders...)...)
		until(t, "all settled", func() bool { return g.Owed() == 0 })
		if turns != "f"+strings.Repeat("rf", 19)+"r" && turns != "f"+strings.Repeat("fr", 19)+"r" {
			t.Errorf("turns %q, want one after the other", turns)
		}
	})
}
