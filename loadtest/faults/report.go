package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/paybell/paybell/loadtest/faults/judge"
)

// result is what a run has come to.
type result struct {
	course  *course
	verdict judge.Verdict
	lasted  time.Duration
}

// print writes the one table, at once: another run may be writing too.
func (r *result) print(out io.Writer) {
	w := new(bytes.Buffer)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name string, value any) { fmt.Fprintf(t, "%s\t%v\n", name, value) }
	c, v := r.course, r.verdict
	row("callbacks sent", v.Sent)
	row("  of them forged", v.Forged)
	row("replied success", v.Accepted)
	row("replied to come again", v.ComeAgain)
	row("refused by a full journal", c.tally.full)
	row("events", v.Events)
	row("lost", len(v.Lost))
	row("applied twice", len(v.Twice))
	row("out of order", len(v.OutOfOrder))
	row("forged accepted", len(v.ForgedAccepted))
	row("dead letters expected", v.DeadExpected)
	row("dead letters found", v.DeadFound)
	row("dead letters replayed under kills", c.tally.replayed)
	row("ledger difference", v.LedgerDifference)
	row("entries deleted by hand", len(c.chaos.destroyed))
	total, _ := c.tally.total()
	row("kills with callbacks in flight", total)
	for _, k := range c.tally.places() {
		row("  "+k.kind+", "+k.place, c.tally.kills[k])
	}
	row("kills with none in flight, not counted", c.tally.idle)
	for _, name := range slices.Sorted(maps.Keys(c.tally.faults)) {
		row("fault: "+name, c.tally.faults[name])
	}
	for _, name := range slices.Sorted(maps.Keys(c.tally.impossible)) {
		row("not possible here: "+name, c.tally.impossible[name])
	}
	row("longest time from recovery to caught up", c.tally.behind.Round(100*time.Millisecond))
	for _, kind := range slices.Sorted(maps.Keys(c.tally.memory)) {
		row("peak memory, "+kind, fmt.Sprintf("%d MiB", c.tally.memory[kind]>>20))
	}
	row("lasted", r.lasted.Round(time.Second))
	row("seed", c.o.seed)
	_ = t.Flush() // a buffer takes everything
	for _, list := range []struct {
		name   string
		events []string
	}{{"lost", v.Lost}, {"applied twice", v.Twice}, {"out of order", v.OutOfOrder}, {"forged accepted", v.ForgedAccepted}, {"ledger", v.Ledger}, {"other", v.Other}} {
		for _, text := range list.events[:min(20, len(list.events))] {
			fmt.Fprintf(w, "%s: %s\n", list.name, text)
		}
	}
	_, _ = out.Write(w.Bytes()) // a table that cannot be printed has nobody to be told
}

// failed is nil when everything was kept that was promised.
func (r *result) failed() error {
	var broken error
	if v := r.verdict; !v.OK() {
		broken = errors.New("a promise was broken: see the table")
	}
	return errors.Join(broken, r.course.grown(), r.missing())
}

// grown names the processes that have had more memory than they may use.
func (c *course) grown() error {
	var errs []error
	for _, kind := range []string{small("gateway"), small("worker")} {
		if peak := c.tally.memory[kind]; peak > smallMemory {
			errs = append(errs, fmt.Errorf("the %s had %d MiB", kind, peak>>20))
		}
	}
	return errors.Join(errs...)
}

// missing is what the run has proven too little with.
func (r *result) missing() error { return r.course.missing(r.verdict.Sent, r.verdict.Accepted) }
