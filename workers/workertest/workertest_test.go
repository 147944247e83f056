package workertest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/workers"
	"github.com/paybell/paybell/workers/workertest"
)

var errTest = errors.New("no")

// recorder is a testing.TB that keeps what it is told instead of failing.
type recorder struct {
	testing.TB

	errs []string
}

func (r *recorder) Helper() {}
func (r *recorder) Errorf(format string, args ...any) {
	r.errs = append(r.errs, fmt.Sprintf(format, args...))
}

func TestCheckHoldsABatchToItsContract(t *testing.T) {
	ds := workertest.Deliveries("g", workertest.Record("a1", "A"), workertest.Record("b1", "B"), workertest.Record("a2", "A"))
	for name, tc := range map[string]struct {
		outcomes []error
		errs     int
	}{
		"all applied":                     {[]error{nil, nil, nil}, 0},
		"one fails and holds its order":   {[]error{errTest, nil, workers.ErrHeld}, 0},
		"the last fails":                  {[]error{nil, nil, errTest}, 0},
		"too few":                         {[]error{nil}, 1},
		"applied behind a failed one":     {[]error{errTest, nil, nil}, 1},
		"run behind a failed one":         {[]error{errTest, nil, errTest}, 1},
		"held although nothing failed":    {[]error{nil, nil, workers.ErrHeld}, 1},
		"held behind another order's one": {[]error{nil, errTest, workers.ErrHeld}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := &recorder{TB: t}
			workertest.Check(r, ds, tc.outcomes)
			if len(r.errs) != tc.errs {
				t.Errorf("%d complaints, want %d: %q", len(r.errs), tc.errs, r.errs)
			}
		})
	}
}

// batch is a function as a BatchHandler.
type batch func([]workers.Delivery) []error

func (f batch) HandleBatch(_ context.Context, ds []workers.Delivery) []error { return f(ds) }

func TestHandleRunsAHandlerOnce(t *testing.T) {
	var got []string
	note := func(d workers.Delivery) { got = append(got, fmt.Sprint(d.Event.ID, " ", d.Attempt, " ", d.EntryID)) }
	err := workertest.Handle(t, workers.HandlerFunc(func(_ context.Context, d workers.Delivery) error {
		note(d)
		return errTest
	}), workertest.Record("a1", "A"))
	if !errors.Is(err, errTest) {
		t.Errorf("outcome %v", err)
	}
	outcomes := workertest.HandleBatch(t, batch(func(ds []workers.Delivery) []error {
		for _, d := range ds {
			note(d)
		}
		return make([]error, len(ds))
	}), workertest.Record("b1", "B"), workertest.Record("b2", "B"))
	if len(outcomes) != 2 {
		t.Errorf("%d outcomes", len(outcomes))
	}
	if want := "[a1 1 1-0 b1 1 1-0 b2 1 2-0]"; fmt.Sprint(got) != want {
		t.Errorf("deliveries %v, want %s", got, want)
	}
}

// clock is a clock that is moved by hand.
type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

func TestGroupGivesAPartitionToOneOwnerAtATime(t *testing.T) {
	c := &clock{time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)}
	g := workertest.NewGroup("g", 1, time.Minute, c.now)
	one, two := g.Consumer("one"), g.Consumer("two")
	ids := g.Append(workertest.Record("a1", "A"), workertest.Record("a2", "A"), workertest.Record("a3", "A"))
	acquire := func(c *workertest.Consumer) (workers.Lease, bool) {
		t.Helper()
		l, ok, err := c.Acquire(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		return l, ok
	}
	first, _ := acquire(one)
	if _, ok := acquire(two); ok {
		t.Fatal("two owners")
	}
	if es, err := first.Take(t.Context(), 2, 0); len(es) != 2 || err != nil {
		t.Fatalf("taken %d %v", len(es), err)
	}
	if err := first.Charge(t.Context(), []streams.Run{{Name: "1", IDs: ids[:2]}}); err != nil || g.Attempts(ids[1]) != 1 {
		t.Fatalf("charged %d %v", g.Attempts(ids[1]), err)
	}
	c.Time = c.Add(30 * time.Second)
	if again, ok := acquire(one); !ok || again.Epoch() != first.Epoch() {
		t.Fatalf("renewed %v %v, want %v", again, ok, first)
	}
	c.Time = c.Add(61 * time.Second)
	second, ok := acquire(two)
	if !ok || second.Epoch() <= first.Epoch() {
		t.Fatalf("second lease %v %v after %v", second, ok, first)
	}
	settle := streams.Settlement{Done: ids[:1]}
	if err := first.Settle(t.Context(), settle); !errors.Is(err, streams.ErrLeaseLost) {
		t.Errorf("the old owner settles: %v", err)
	}
	if _, err := first.Take(t.Context(), 1, 0); !errors.Is(err, streams.ErrLeaseLost) {
		t.Errorf("the old owner takes: %v", err)
	}
	if err := two.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := second.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	es, err := second.Backlog(t.Context(), "", 10, 0)
	if err != nil || len(es) != 2 || es[0].ID != ids[0] || es[0].Attempts != 1 {
		t.Fatalf("backlog %v %v", es, err)
	}
	if rest, err := second.Backlog(t.Context(), es[0].ID, 10, 0); len(rest) != 1 || err != nil {
		t.Errorf("backlog after the first: %d %v", len(rest), err)
	}
	settle.Dead = []streams.DeadLetter{{EntryID: ids[1]}}
	for range 2 { // Settling again changes nothing.
		if err := second.Settle(t.Context(), settle); err != nil {
			t.Fatal(err)
		}
	}
	if g.Settled(ids[0]) != 1 || len(g.Dead()) != 1 || g.Pending() != 0 || g.Unread() != 1 || g.Owed() != 1 {
		t.Errorf("settled %d, dead %d, pending %d, unread %d", g.Settled(ids[0]), len(g.Dead()), g.Pending(), g.Unread())
	}
}
