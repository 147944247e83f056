package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
)

// stateBytes is what Redis may keep of one event for good: its dedup mark and its share
// in dead letters are some 45, the rest is what a short run cannot tell from noise.
const stateBytes = 150

// rules say what may grow by how much from the second quarter of a run to its last: by a
// quarter, and by slack, which is what trimming and the collector leave to chance.
var rules = [things]struct {
	name  string
	unit  int64
	slack float64
}{
	entries:           {"entries", 1, 1600}, // trimming is by nodes of a hundred, in 16 partitions
	memory:            {"redis KiB", 1 << 10, 0},
	gatewayRSS:        {"gateway RSS KiB", 1 << 10, 8 << 20},
	workerRSS:         {"worker RSS KiB", 1 << 10, 8 << 20},
	gatewayGoroutines: {"gateway goroutines", 1, 64},
	workerGoroutines:  {"worker goroutines", 1, 64},
}

// report writes the one table and answers with all that is wrong.
func report(out io.Writer, p plan, samples []sample, end ending) error {
	if len(samples) < 16 {
		return fmt.Errorf("only %d samples", len(samples))
	}
	var errs []error
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%d events\tmax\tsecond quarter\tlast quarter\tper 1000 events\n", p.events)
	quarter := len(samples) / 4
	early, late := samples[quarter:2*quarter], samples[len(samples)-quarter:]
	for i, rule := range rules {
		most := int64(0)
		for _, s := range samples {
			most = max(most, s.value[i])
		}
		a, b := mean(early, i), mean(late, i)
		unit := float64(rule.unit)
		slope := (b - a) / max(1, float64(late[0].sent-early[0].sent))
		fmt.Fprintf(t, "%s\t%d\t%.0f\t%.0f\t%+.1f\n", rule.name, most/rule.unit, a/unit, b/unit, 1000*slope/unit)
		switch {
		case i == memory && slope > stateBytes:
			errs = append(errs, fmt.Errorf("redis keeps %.0f bytes of every event, more than %d", slope, stateBytes))
		case i != memory && b > a*1.25+rule.slack:
			errs = append(errs, fmt.Errorf("%s grew from %.0f to %.0f", rule.name, a/unit, b/unit))
		}
	}
	want := ending{awarded: int64(p.events) - bad(p.events), dead: bad(p.events)}
	want.applied = want.awarded + 2*int64(p.events)
	for _, c := range []struct {
		name      string
		got, want int64
	}{
		{"points awarded", end.awarded, want.awarded},
		{"effects of all groups", end.applied, want.applied},
		{"dead letters", end.dead, want.dead},
		{"parked at the end", end.parked, 0},
	} {
		fmt.Fprintf(t, "%s\t%d\tof %d\t\t\n", c.name, c.got, c.want)
		if c.got != c.want {
			errs = append(errs, fmt.Errorf("%s: %d, not %d", c.name, c.got, c.want))
		}
	}
	fmt.Fprintf(t, "caught up after\t%.1fs\t\t\t\n", end.behind.Seconds())
	return errors.Join(append(errs, t.Flush())...)
}

// mean is the mean of one thing.
func mean(samples []sample, i int) float64 {
	sum := 0.0
	for _, s := range samples {
		sum += float64(s.value[i])
	}
	return sum / float64(len(samples))
}
