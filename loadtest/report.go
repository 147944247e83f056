package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// result is what a run found out.
type result struct {
	plan        plan
	sent        *sent
	want        expected
	loading     time.Duration
	settling    time.Duration
	behind      time.Duration
	differences []string
}

// print writes the one table.
func (r *result) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t"+format+"\n", append([]any{name}, args...)...)
	}
	s := r.sent
	row("run", "%s, %d callbacks/s for %s, %s, appendfsync %s", r.plan.scenario, r.plan.rate, r.plan.duration, r.plan.database, r.plan.appendfsync)
	row("sent", "%d, of which %d redeliveries", s.Sent, s.Redeliveries)
	row("accepted", "%d (%.2f %%), %.0f/s", s.Accepted, 100*ratio(s.Accepted, s.Sent-s.Forged), perSecond(s.Accepted, r.plan.duration))
	if r.plan.scenario == "ramp" {
		row("held", "up to %d/s of %d/s: 99 %% accepted, p99 under a second", s.Held, 10*r.plan.rate)
	}
	if s.Forged > 0 {
		row("forged", "%d, none let in; reply p50 %.2f ms, that of true ones %.2f ms", s.Forged, s.RefusedP50, s.TrueP50)
	}
	row("reply", "p50 %.2f ms, p95 %.2f ms, p99 %.2f ms, max %.2f ms", s.P50, s.P95, s.P99, s.Max)
	if r.plan.drain {
		row("settled", "%d events in each of %d groups, %.0f events/s, worker killed %d times",
			len(r.want.certain), len(groups), perSecond(len(r.want.certain), r.settling), r.plan.kills)
	} else {
		row("settled", "%d events in each of %d groups, %.0f events/s, %s after the last reply",
			len(r.want.certain), len(groups), perSecond(len(r.want.certain), r.settling), r.behind.Round(time.Millisecond))
	}
	row("dropped", "%d iterations", s.Dropped)
	row("failed checks", "%d", s.ChecksFailed)
	row("differences", "%d", len(r.differences))
	return t.Flush()
}

// verdict is an error that says all that is wrong.
func (r *result) verdict() error {
	var errs []error
	for _, rule := range r.sent.Failed {
		errs = append(errs, fmt.Errorf("threshold crossed: %s", rule))
	}
	if r.sent.Sent == 0 {
		errs = append(errs, errors.New("nothing was sent"))
	}
	if len(r.differences) > 0 {
		errs = append(errs, fmt.Errorf("%d differences:\n  %s", len(r.differences), strings.Join(first(r.differences, 20), "\n  ")))
	}
	return errors.Join(errs...)
}

func ratio(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

func perSecond(n int, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}

func first(all []string, n int) []string {
	if len(all) > n {
		return append(all[:n:n], fmt.Sprintf("… and %d more", len(all)-n))
	}
	return all
}
