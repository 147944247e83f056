package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/paybell/paybell/loadtest/faults/judge"
	"github.com/paybell/paybell/loadtest/faults/proxy"
)

// variant is a promise broken on purpose, the faults that bring it to light, and where
// the judge has to see it.
type variant struct {
	name, says string
	deck       func() []fault
	caught     func(v *judge.Verdict) int
	row        string
}

func lost(v *judge.Verdict) int  { return len(v.Lost) }
func twice(v *judge.Verdict) int { return len(v.Twice) }

// disorder is what two owners at once do, whichever comes first.
func disorder(v *judge.Verdict) int { return len(v.OutOfOrder) + len(v.Twice) }

func variants() []variant {
	lostReplies := fault{"lost reply before the gateways", between("gateway", proxy.LostReply)}
	return []variant{
		{"append", "an append that does not know duplicates", func() []fault { return []fault{lostReplies} }, twice, "applied twice"},
		{"ack", "entries acknowledged before their effects are committed", func() []fault { return nil }, lost, "lost"},
		{"trim", "streams trimmed by MAXLEN", func() []fault {
			return []fault{{"postgres restarted", postgresRestarted}}
		}, lost, "lost"},
		{"lease", "leases without fencing", func() []fault {
			return []fault{{"worker frozen beyond its lease", frozen("worker", leaseTTL+time.Second)}}
		}, disorder, "out of order"},
		{"journal", "a journal that is not synced", func() []fault {
			return []fault{{"power lost while the journal is in use", powerLost}}
		}, lost, "lost"},
	}
}

// runBroken shows that the suite notices each broken promise.
func runBroken(ctx context.Context, o options) error {
	var errs []error
	for _, v := range variants() {
		o := o
		o.variant, o.duration, o.rate, o.least = v.name, brokenTime, brokenRate, 0
		r, err := run(ctx, o, v.deck)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", v.says, err))
			continue
		}
		n := v.caught(&r.verdict)
		fmt.Fprintf(os.Stdout, "%-60s %-16s %d\n", v.says, v.row, n)
		if n == 0 {
			r.print(os.Stderr)
			errs = append(errs, fmt.Errorf("%s: not caught: nothing %s", v.says, v.row))
		}
	}
	return errors.Join(errs...)
}

const (
	// brokenTime is how long callbacks are sent to a variant, brokenCatchUp how long it
	// may take to catch up.
	brokenTime    = 12 * time.Second
	brokenCatchUp = 10 * time.Second
	brokenRate    = 200
)
