package workers_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/workers"
	"github.com/paybell/paybell/workers/workertest"
)

// plan is one drawn course of things.
type plan struct {
	batch      bool
	partitions int
	keys       []int    // of each event, in append order
	scripts    []string // of each event: one letter a call, "" from then on
	takes      []int    // ms that a call for the event takes
	options    workers.Options
	faults     []fault
	lose       int // every so many answers are lost; 0 for none
}

// fault is something that happens at a time.
type fault struct {
	at   time.Duration
	what string
	part int
}

func drawPlan(t *rapid.T) plan {
	p := plan{
		batch:      rapid.Bool().Draw(t, "batch"),
		partitions: rapid.IntRange(1, 3).Draw(t, "partitions"),
		keys:       rapid.SliceOfN(rapid.IntRange(0, 5), 1, 60).Draw(t, "keys"),
		options: options(func(o *workers.Options) {
			o.Batch = rapid.IntRange(1, 16).Draw(t, "batch size")
			o.Concurrency = rapid.IntRange(1, 4).Draw(t, "concurrency")
			o.Prefetch = rapid.IntRange(16, 40).Draw(t, "prefetch")
			o.Timeout = 5 * time.Second
			o.Attempts = 100
			o.ParkAfter = rapid.SampledFrom([]time.Duration{time.Millisecond, 500 * time.Millisecond, time.Hour}).Draw(t, "park after")
			o.Parked.Entries = rapid.SampledFrom([]int{1, 12, 10_000}).Draw(t, "parked")
		}),
	}
	// f fails, l asks for a later time, u is unavailable, p panics, h hangs until its
	// time is up, r rejects.
	script := rapid.StringMatching(`([flu]{0,3}|[ph]?)r?`)
	for range p.keys {
		s := ""
		if rapid.IntRange(0, 3).Draw(t, "troubled") == 0 {
			s = script.Draw(t, "script")
		}
		p.scripts = append(p.scripts, s)
		p.takes = append(p.takes, rapid.SampledFrom([]int{0, 0, 1, 20, 900}).Draw(t, "takes"))
	}
	if rapid.Bool().Draw(t, "faulty") {
		p.lose = rapid.SampledFrom([]int{0, 7, 23}).Draw(t, "lose")
		for range rapid.IntRange(0, 4).Draw(t, "faults") {
			p.faults = append(p.faults, fault{
				at:   time.Duration(rapid.IntRange(0, 30_000).Draw(t, "at")) * time.Millisecond,
				what: rapid.SampledFrom([]string{"kill", "expire", "outage", "heal", "stop"}).Draw(t, "what"),
				part: rapid.IntRange(0, p.partitions-1).Draw(t, "part"),
			})
		}
	}
	return p
}

// course is a plan being carried out.
type course struct {
	plan
	g       *workertest.Group
	mu      sync.Mutex
	index   map[string]int
	calls   map[string]int
	applied map[string]int
	firsts  map[string][]string
	running map[string]string // order → consumer and event that run now
	killed  map[string]bool
	away    bool
	count   int
	errs    []error
}

func (c *course) wrong(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

// handle carries out one call for one event.
func (c *course) handle(ctx context.Context, consumer string, d workers.Delivery) error {
	c.mu.Lock()
	i := c.index[d.Event.ID]
	n := c.calls[d.Event.ID]
	c.calls[d.Event.ID]++
	key := consumer + d.Event.OrderingKey()
	if other := c.running[key]; other != "" {
		c.wrong("%s runs %s beside %s", consumer, d.Event.ID, other)
	}
	c.running[key] = d.Event.ID
	if len(c.faults) == 0 && c.lose == 0 && c.g.Settled(d.EntryID) > 0 {
		c.wrong("%s is run after it was settled", d.Event.ID)
	}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.running, key)
		c.mu.Unlock()
	}()
	pass(time.Duration(c.takes[i]) * time.Millisecond)
	var step byte
	if n < len(c.scripts[i]) {
		step = c.scripts[i][n]
	}
	switch step {
	case 'f':
		return errTest
	case 'l':
		return workers.RetryAfter(time.Second, errTest)
	case 'u':
		return workers.Unavailable(errTest)
	case 'p':
		panic("poison")
	case 'h':
		<-ctx.Done()
		return ctx.Err()
	case 'r':
		return workers.Reject(errTest)
	}
	return nil
}

// commit makes the effects of one call durable, unless its process is dead.
func (c *course) commit(consumer string, ds []workers.Delivery, outcomes []error) []error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, d := range ds {
		switch {
		case c.killed[consumer]:
			outcomes[i] = errors.New("the process is dead")
		case outcomes[i] == nil:
			if c.applied[d.Event.ID]++; c.applied[d.Event.ID] == 1 {
				order := d.Event.OrderingKey()
				c.firsts[order] = append(c.firsts[order], d.Event.ID)
			}
		}
	}
	return outcomes
}

func (c *course) handler(consumer string) any {
	if c.batch {
		return batch(func(ctx context.Context, ds []workers.Delivery) []error {
			// A panic undoes the whole batch, as it would a transaction.
			run := each(func(d workers.Delivery) error { return c.handle(ctx, consumer, d) })
			return c.commit(consumer, ds, run.HandleBatch(ctx, ds))
		})
	}
	return workers.HandlerFunc(func(ctx context.Context, d workers.Delivery) error {
		return c.commit(consumer, []workers.Delivery{d}, []error{c.handle(ctx, consumer, d)})[0]
	})
}

// fault is the fault of a call.
func (c *course) fault(call workertest.Call) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count++
	if c.killed[call.Consumer] || c.away || call.Done && c.lose > 0 && c.count%c.lose == 0 {
		return errAway
	}
	return nil
}

// run carries the plan out and returns what went wrong.
func (c *course) run(t *testing.T) {
	t.Helper()
	c.g = workertest.NewGroup("g", c.partitions, ttl, time.Now)
	c.g.Fault(c.fault)
	var recs []event.Record
	for i, k := range c.keys {
		rec := workertest.Record(fmt.Sprint("event", i), fmt.Sprint("order", k))
		c.index[rec.Event.ID] = i
		recs = append(recs, rec)
	}
	half := len(recs) / 2
	ids := c.g.Append(recs[:half]...)
	one := start(t, c.g.Consumer("one"), c.handler("one"), c.options)
	two := start(t, c.g.Consumer("two"), c.handler("two"), c.options)
	pass(time.Second)
	ids = append(ids, c.g.Append(recs[half:]...)...)
	begun := time.Now()
	for at := time.Duration(0); at <= 30*time.Second; at += 10 * time.Millisecond {
		for _, f := range c.faults {
			if f.at/(10*time.Millisecond) != at/(10*time.Millisecond) {
				continue
			}
			c.mu.Lock()
			switch f.what {
			case "kill":
				c.killed["one"] = true
			case "outage":
				c.away = true
			case "heal":
				c.away = false
			}
			c.mu.Unlock()
			switch f.what {
			case "expire":
				c.g.Expire(f.part)
			case "stop":
				two.stop()
				name := fmt.Sprint("two at ", at)
				two = start(t, c.g.Consumer(name), c.handler(name), c.options)
			}
		}
		if len(c.faults) == 0 {
			break
		}
		pass(time.Until(begun.Add(at)))
	}
	c.mu.Lock()
	c.away = false
	c.mu.Unlock()
	until(t, "all settled", func() bool { return c.g.Owed() == 0 })
	one.stop()
	two.stop()
	c.verify(recs, ids)
}

func (c *course) verify(recs []event.Record, ids []string) {
	dead := make(map[string]bool)
	for _, d := range c.g.Dead() {
		dead[d.Record.Event.ID] = true
		if d.Reason != "rejected" {
			c.wrong("%s is dead: %s", d.Record.Event.ID, d.Reason)
		}
	}
	want := make(map[string][]string)
	for i, rec := range recs {
		id, key := rec.Event.ID, rec.Event.OrderingKey()
		if n := c.g.Settled(ids[i]); n != 1 {
			c.wrong("%s was settled %d times", id, n)
		}
		n := c.applied[id]
		if n > 0 {
			want[key] = append(want[key], id)
		}
		quiet := len(c.faults) == 0 && c.lose == 0
		switch {
		case n == 0 && !dead[id]:
			c.wrong("%s was neither applied nor given up", id)
		case quiet && n > 0 && dead[id]:
			c.wrong("%s was applied and given up", id)
		case quiet && n > 1:
			c.wrong("%s was applied %d times", id, n)
		}
	}
	for key := range want {
		if fmt.Sprint(c.firsts[key]) != fmt.Sprint(want[key]) {
			c.wrong("%s: applied %v, appended %v", key, c.firsts[key], want[key])
		}
	}
}

// TestAnyCourseSettlesEverythingInOrder: whatever handlers answer, and whoever is
// killed, stopped, cut off or replaced meanwhile, every event is settled once, what
// is not rejected was applied, each order in append order, and while nothing
// disturbs, exactly once.
func TestAnyCourseSettlesEverythingInOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := &course{
			plan: drawPlan(rt), index: make(map[string]int), calls: make(map[string]int),
			applied: make(map[string]int), firsts: make(map[string][]string), running: make(map[string]string),
			killed: make(map[string]bool),
		}
		synctest.Test(t, c.run)
		if t.Failed() {
			rt.Fatalf("the course did not end")
		}
		for _, err := range c.errs {
			rt.Errorf("%v", err)
		}
	})
}
