package streams

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TrimOptions are the settings of a Trimmer; Options.Trim fills them.
type TrimOptions struct {
	// Every is how often a pass over all partitions begins.
	Every time.Duration
	// Retention is how much is kept for groups that nobody declared.
	Retention RetentionOptions
	// Keep is how much is kept of what every declared group is done with; nothing where
	// its age is 0.
	Keep KeepOptions
	// GhostIdle is how long a pending entry of a declared subscriber, whose entry
	// was deleted, rests before it is ended as lost.
	GhostIdle time.Duration
}

const (
	// trimLook bounds how many entries one script looks at one by one.
	trimLook = 200
	// trimSteps bounds the scripts of one pass over a partition.
	trimSteps = 50
)

// Trimmer removes from the streams what every declared group has been done with for a
// while, and nothing else: neither length nor age of a stream takes an entry that a
// declared group is still owed. Any number of them may run at once; each script looks
// afresh, so it is the same whether one does the work or all.
type Trimmer struct {
	rdb         Client
	run         *runner
	layout      Layout
	own         []string
	subscribers []string
	o           TrimOptions
	log         *slog.Logger
	m           *trimMetrics
}

// Trimmed is what a pass did.
type Trimmed struct {
	// Entries were removed, Left remain.
	Entries, Left int64
	// Created are declared groups that were missing in a partition.
	Created map[string]int64
	// Lost counts entries by the declared group that was owed them: removed before
	// it read them, or while they were pending.
	Lost map[string]int64
	// Overtaken are undeclared groups from which unsettled entries were taken, by
	// partitions.
	Overtaken map[string]int64
}

// NewTrimmer returns a trimmer for the declared groups: own are those that this
// installation runs itself, subscribers those that other services read. Without
// any group it would trim everything, so it refuses that.
func NewTrimmer(rdb Client, layout Layout, own, subscribers []string, o TrimOptions, log *slog.Logger, reg prometheus.Registerer) (*Trimmer, error) {
	if len(own)+len(subscribers) == 0 {
		return nil, errors.New("streams: trim: no group is declared")
	}
	for _, name := range slices.Concat(own, subscribers) {
		if !groupForm.MatchString(name) {
			return nil, fmt.Errorf("streams: trim: group %q: must be 1 to 64 letters, digits or any of . _ -", name)
		}
	}
	subscribers = slices.DeleteFunc(slices.Clone(subscribers), func(name string) bool { return slices.Contains(own, name) })
	return &Trimmer{
		rdb: rdb, run: newRunner(rdb), layout: layout, own: own, subscribers: subscribers,
		o: o, log: log, m: newTrimMetrics(reg, slices.Concat(own, subscribers)),
	}, nil
}

// Run makes a pass at once, which creates the declared groups that are missing,
// and then one every so often, until ctx ends.
func (t *Trimmer) Run(ctx context.Context) error {
	tick := time.NewTicker(t.o.Every)
	defer tick.Stop()
	failing := false
	for {
		_, err := t.Trim(ctx)
		if ctx.Err() != nil {
			return nil // what failed, failed because it is over
		}
		if err != nil && !failing {
			t.log.Error("trim", "err", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Trim makes one pass over all partitions. What fails in one does not keep it from
// the others.
func (t *Trimmer) Trim(ctx context.Context) (Trimmed, error) {
	sum := Trimmed{Created: map[string]int64{}, Lost: map[string]int64{}, Overtaken: map[string]int64{}}
	keep := t.keep(ctx)
	var errs []error
	for i := range t.layout.Partitions() {
		if err := t.partition(ctx, i, keep, &sum); err != nil {
			t.m.failed.Inc()
			errs = append(errs, fmt.Errorf("streams: trim partition %d: %w", i, err))
		}
	}
	return sum, errors.Join(errs...)
}

// keep is how much of what is settled may stay: nothing on a server that needs the room
// for what is not.
func (t *Trimmer) keep(ctx context.Context) KeepOptions {
	o := t.o.Keep
	if o.Age == 0 {
		return o
	}
	text, err := t.rdb.Info(ctx, "memory").Result()
	if err != nil { // the pass says what is wrong
		return o
	}
	memory := parseInfo(text)
	used, limit := number(memory["used_memory"]), number(memory["maxmemory"])
	if limit > 0 && used > limit/4*3 {
		o.Age = 0
	}
	return o
}

func (t *Trimmer) partition(ctx context.Context, i int, keep KeepOptions, sum *Trimmed) error {
	args := []any{
		t.o.Retention.Age.Milliseconds(), t.o.Retention.Bytes / int64(t.layout.Partitions()),
		t.o.GhostIdle.Milliseconds(), trimLook, keep.Age.Milliseconds(), keep.Bytes / int64(t.layout.Partitions()), len(t.own),
	}
	args = anys(anys(args, t.own), t.subscribers)
	keys := []string{t.layout.Events(i), t.layout.Trim(i), t.layout.Ledger(i)}
	for _, group := range t.own {
		keys = append(keys, t.layout.Counts(i, group), t.layout.Parked(i, group), t.layout.Dead(i, group), t.layout.Parcels(i, group))
	}
	for range trimSteps {
		reply, err := t.run.run(ctx, trimScript, keys, args...)
		if err != nil {
			return err
		}
		if len(reply) != 10 {
			return errors.New("streams: trim: answer of an unknown form")
		}
		removed, _ := reply[0].(int64) // the script answers numbers here
		left, _ := reply[1].(int64)
		more, _ := reply[2].(int64)
		sum.Entries += removed
		t.m.entries.Add(float64(removed))
		t.m.left(i, left)
		t.alarm(i, reply[3:], sum)
		if more == 0 {
			sum.Left += left
			return nil
		}
	}
	return nil
}

// alarm counts and logs what an operator has to know of one partition.
func (t *Trimmer) alarm(i int, reply []any, sum *Trimmed) {
	for _, group := range texts(reply[0]) {
		sum.Created[group]++
		t.m.created.WithLabelValues(group).Inc()
		t.log.Debug("declared group was missing and was created at the start", "group", group, "partition", i)
	}
	t.each(reply[1], func(group string, n int64) {
		t.count(group, n, sum)
		t.log.Error("entries were removed before a declared group had read them", "group", group, "partition", i, "entries", n)
	})
	t.each(reply[2], func(group string, n int64) {
		t.count(group, n, sum)
		t.log.Error("entries were removed while they were pending for a declared group", "group", group, "partition", i, "entries", n)
	})
	for _, group := range texts(reply[3]) {
		sum.Overtaken[group]++
		t.m.overtaken.Inc()
		t.log.Error("undeclared group was overtaken: entries it had not settled were beyond the retention", "group", group, "partition", i)
	}
	for _, group := range texts(reply[4]) {
		t.log.Error("account of a group was missing and begins anew: what it lost before that nobody can tell", "group", group, "partition", i)
	}
	for _, group := range texts(reply[5]) {
		t.log.Error("somebody set a group behind the end of the stream: it begins again at the start", "group", group, "partition", i)
	}
	t.each(reply[6], func(group string, n int64) {
		t.m.again.WithLabelValues(group).Add(float64(n))
		t.log.Warn("a group has entries that it had before, or that were never appended", "group", group, "partition", i, "entries", n)
	})
}

// each calls do for each pair of a group and a number.
func (t *Trimmer) each(counts any, do func(group string, n int64)) {
	pairs, _ := counts.([]any) // the script answers a list
	for j := 0; j+1 < len(pairs); j += 2 {
		group, _ := pairs[j].(string)
		n, _ := pairs[j+1].(int64)
		do(group, n)
	}
}

func (t *Trimmer) count(group string, n int64, sum *Trimmed) {
	sum.Lost[group] += n
	t.m.lost.WithLabelValues(group).Add(float64(n))
}
