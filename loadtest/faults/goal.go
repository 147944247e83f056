package main

import (
	"errors"
	"fmt"
)

// kinds are the kinds of processes, of which each has to be killed.
var kinds = []string{"gateway", "worker", "redis", "postgres"}

// missing says what a run has not come to: without it the zeros of its table prove
// nothing. Kills count with callbacks in flight alone.
func (c *course) missing(sent, accepted int) error {
	var errs []error
	want := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	o := &c.o
	want(sent >= o.callbacks, "%d callbacks were sent, want %d", sent, o.callbacks)
	want(accepted > 0 && 2*accepted >= sent, "%d of %d callbacks were accepted, want half of them", accepted, sent)
	total, least := c.tally.total()
	want(total >= o.kills, "%d kills, want %d", total, o.kills)
	want(least >= o.least, "a named point has seen %d kills, want %d", least, o.least)
	if o.variant == "" { // a broken one has the faults that bring it to light, and no others
		for _, kind := range kinds {
			want(c.tally.of(kind) > 0, "no %s was killed", kind)
		}
	}
	return errors.Join(errs...)
}
