package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

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
	// calm: nobody is killed, because the fault needs processes that live on.
	calm bool
}

func lost(v *judge.Verdict) int  { return len(v.Lost) }
func twice(v *judge.Verdict) int { return len(v.Twice) }

// disorder is what two owners at once do, whichever comes first: one overtakes the
// other, does again what it did, or settles what it was about to do.
func disorder(v *judge.Verdict) int { return len(v.OutOfOrder) + len(v.Twice) + len(v.Lost) }

func variants() []variant {
	lostReplies := fault{"lost reply before the gateways", between("gateway", proxy.LostReply)}
	return []variant{
		{"append", "an append that does not know duplicates", func() []fault { return []fault{lostReplies} }, twice, "applied twice", false},
		{"ack", "entries acknowledged before their effects are committed", func() []fault { return nil }, lost, "lost", false},
		{"trim", "streams trimmed by MAXLEN", func() []fault {
			return []fault{{"postgres restarted", postgresRestarted}}
		}, lost, "lost", false},
		{"lease", "leases without fencing", func() []fault {
			return []fault{{"worker frozen beyond its lease", frozen("worker", leaseTTL+time.Second)}}
		}, disorder, "disorder", true},
		{"journal", "a journal that is not synced", func() []fault {
			return []fault{{"power lost while the journal is in use", powerLost}}
		}, lost, "lost", false},
	}
}

// runBroken shows that the suite notices each broken promise.
func runBroken(ctx context.Context, o options) error {
	all := variants()
	errs := make([]error, len(all))
	var runs errgroup.Group
	runs.SetLimit(brokenAtOnce)
	for i, v := range all {
		runs.Go(func() error {
			if err := v.show(ctx, o); err != nil {
				errs[i] = fmt.Errorf("%s: %w", v.says, err)
			}
			return nil
		})
	}
	return errors.Join(runs.Wait(), errors.Join(errs...))
}

// show is nil when a variant is caught.
func (v *variant) show(ctx context.Context, o options) error {
	o.variant, o.calm, o.duration, o.rate = v.name, v.calm, brokenTime, brokenRate
	o.callbacks, o.kills, o.least = brokenRate, 0, 0
	r, err := run(ctx, o, v.deck)
	if err != nil {
		return err
	}
	n := v.caught(&r.verdict)
	fmt.Fprintf(os.Stdout, "%-60s %-16s %d\n", v.says, v.row, n)
	if n == 0 {
		err = fmt.Errorf("not caught: nothing %s", v.row)
	}
	if err = errors.Join(err, r.missing()); err != nil {
		r.print(os.Stderr)
	}
	return err
}

const (
	// brokenTime is how long callbacks are sent to a variant, brokenCatchUp how long it
	// may take to catch up.
	brokenTime    = 12 * time.Second
	brokenCatchUp = 10 * time.Second
	brokenRate    = 200
	// brokenAtOnce is how many variants run at the same time. Each has servers, ports
	// and directories of its own.
	brokenAtOnce = 2
)
