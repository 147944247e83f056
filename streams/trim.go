package streams

import (
	"context"
	"crypto/rand"
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
	// trimFurther bounds the scripts of one pass beyond one for each partition: what is
	// left over is the next pass's.
	trimFurther = 64
	// auditEvery is how often accounts are compared with what is there. It costs more than
	// trimming does, and more the more is unread.
	auditEvery = 5 * time.Second
	// trimmerTTL is how long the trimmer's lease lives beyond the time to the next pass.
	trimmerTTL = 5 * time.Second
)

// Trimmer removes from the streams what every declared group has been done with for a
// while, and nothing else: neither length nor age of a stream takes an entry that a
// declared group is still owed. Of those that run, one does the work, by a lease in Redis,
// and another where it ends. That saves work and is all it is for: each script looks
// afresh, so two at once, also one of an older version, do no harm.
type Trimmer struct {
	rdb         Client
	run         *runner
	layout      Layout
	own         []string
	subscribers []string
	// owner is this trimmer's name in the lease, holds whether it had it when it asked last.
	owner string
	holds bool
	o     TrimOptions
	log   *slog.Logger
	m     *trimMetrics
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
		rdb: rdb, run: newRunner(rdb), layout: layout, own: own, subscribers: subscribers, owner: rand.Text(),
		o: o, log: log, m: newTrimMetrics(reg, slices.Concat(own, subscribers)),
	}, nil
}

// Run makes a pass at once, which creates the declared groups that are missing, whoever
// trims; then, where and as soon as no other trimmer does, one every so often, until ctx
// ends.
func (t *Trimmer) Run(ctx context.Context) error {
	tick := time.NewTicker(t.o.Every)
	defer tick.Stop()
	defer t.release(ctx)
	failing := false
	var audited time.Time
	for first := true; ; first = false {
		err := t.hold(ctx)
		if err == nil && (first || t.holds) {
			audit := time.Since(audited) >= auditEvery
			if audit {
				audited = time.Now()
			}
			_, err = t.pass(ctx, audit, first)
		}
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

// hold takes the lease, or keeps it, unless another trimmer has it.
func (t *Trimmer) hold(ctx context.Context) error {
	held, err := t.lease(ctx, t.o.Every+trimmerTTL)
	t.holds = held && err == nil
	t.m.holds(t.holds)
	return err
}

// release gives the lease back, so that another trimmer need not wait for its end.
func (t *Trimmer) release(ctx context.Context) {
	if !t.holds {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, _ = t.lease(ctx, 0) // it ends by itself
	t.m.holds(false)
}

func (t *Trimmer) lease(ctx context.Context, ttl time.Duration) (held bool, err error) {
	reply, err := t.run.run(ctx, trimmerScript, []string{t.layout.Trimmer()}, t.owner, ttl.Milliseconds())
	if err != nil {
		return false, err
	}
	return number(at(reply, 0)) == 1, nil
}

// Trim makes one pass over all partitions, whoever has the lease, and compares the accounts
// with what is there. What fails in one partition does not keep it from the others.
func (t *Trimmer) Trim(ctx context.Context) (Trimmed, error) { return t.pass(ctx, true, true) }

// pass visits every partition once, then those again, in turn, that have more to do. Unless
// it is made in any case, it ends when the lease is lost, which it renews.
func (t *Trimmer) pass(ctx context.Context, audit, anyway bool) (Trimmed, error) {
	sum := Trimmed{Created: map[string]int64{}, Lost: map[string]int64{}, Overtaken: map[string]int64{}}
	left := make([]int64, t.layout.Partitions())
	var errs []error
	failed := func(i int, err error) {
		t.m.failed.Inc()
		errs = append(errs, fmt.Errorf("streams: trim partition %d: %w", i, err))
	}
	keep, run := t.keep(ctx), ""
	if audit && len(t.subscribers) > 0 {
		run = t.runID(ctx)
	}
	var again []int
	visit := func(i int) {
		more, err := t.partition(ctx, i, keep, &sum, &left[i])
		if err != nil {
			failed(i, err)
		} else if more {
			again = append(again, i)
		}
	}
	renewed := time.Now()
	lost := func() bool {
		if ctx.Err() != nil {
			return true
		}
		if anyway || time.Since(renewed) < time.Second {
			return false
		}
		renewed = time.Now()
		return t.hold(ctx) != nil || !t.holds
	}
	for i := range t.layout.Partitions() {
		if lost() {
			break
		}
		visit(i)
		if !audit {
			continue
		}
		// Behind trimming, which puts a group right that stands behind the end.
		if err := t.audit(ctx, i, run, &sum); err != nil {
			failed(i, err)
		}
	}
	for n := 0; n < trimFurther && len(again) > 0 && !lost(); n++ {
		i := again[0]
		again = again[1:]
		visit(i)
	}
	for _, n := range left {
		sum.Left += n
	}
	return sum, errors.Join(errs...)
}

// runID names the server's process, "" where it does not tell.
func (t *Trimmer) runID(ctx context.Context) string {
	text, err := t.rdb.Info(ctx, "server").Result()
	if err != nil { // the pass says what is wrong
		return ""
	}
	return parseInfo(text)["run_id"]
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

// script runs one of the trimmer's scripts (declared.lua) on a partition.
func (t *Trimmer) script(ctx context.Context, s *script, i int, keep KeepOptions, run string, answers int) ([]any, error) {
	args := []any{
		t.o.Retention.Age.Milliseconds(), t.o.Retention.Bytes / int64(t.layout.Partitions()),
		t.o.GhostIdle.Milliseconds(), trimLook, keep.Age.Milliseconds(), keep.Bytes / int64(t.layout.Partitions()), len(t.own), run,
	}
	args = anys(anys(args, t.own), t.subscribers)
	keys := []string{t.layout.Events(i), t.layout.Trim(i), t.layout.Ledger(i)}
	for _, group := range t.own {
		keys = append(keys, t.layout.Counts(i, group), t.layout.Parked(i, group), t.layout.Dead(i, group), t.layout.Parcels(i, group))
	}
	reply, err := t.run.run(ctx, s, keys, args...)
	if err == nil && len(reply) != answers {
		err = fmt.Errorf("streams: %s: answer of an unknown form", s.name)
	}
	return reply, err
}

// partition trims a partition, and reports whether there is more to do.
func (t *Trimmer) partition(ctx context.Context, i int, keep KeepOptions, sum *Trimmed, left *int64) (more bool, err error) {
	reply, err := t.script(ctx, trimScript, i, keep, "", 6)
	if err != nil {
		return false, err
	}
	removed := number(reply[0])
	*left = number(reply[1])
	sum.Entries += removed
	t.m.entries.Add(float64(removed))
	t.made(i, reply[3], sum)
	for _, group := range texts(reply[4]) {
		sum.Overtaken[group]++
		t.m.overtaken.Inc()
		t.log.Error("undeclared group was overtaken: entries it had not settled were beyond the retention", "group", group, "partition", i)
	}
	for _, group := range texts(reply[5]) {
		t.log.Error("somebody set a group behind the end of the stream: it begins again at the start", "group", group, "partition", i)
	}
	return number(reply[2]) == 1, nil
}

// audit compares the accounts of a partition with what is there, and counts and logs what an
// operator has to know.
func (t *Trimmer) audit(ctx context.Context, i int, run string, sum *Trimmed) error {
	reply, err := t.script(ctx, auditScript, i, KeepOptions{}, run, 5)
	if err != nil {
		return err
	}
	t.made(i, reply[0], sum)
	t.each(reply[1], func(group string, n int64) {
		t.count(group, n, sum)
		t.log.Error("entries were removed before a declared group had read them", "group", group, "partition", i, "entries", n)
	})
	t.each(reply[2], func(group string, n int64) {
		t.count(group, n, sum)
		t.log.Error("entries were removed while they were pending for a declared group", "group", group, "partition", i, "entries", n)
	})
	for _, group := range texts(reply[3]) {
		t.log.Error("account of a group was missing and begins anew: what it lost before that nobody can tell", "group", group, "partition", i)
	}
	t.each(reply[4], func(group string, n int64) {
		t.m.again.WithLabelValues(group).Add(float64(n))
		t.log.Error("a group has entries twice: settled twice, given again by hand, or never appended", "group", group, "partition", i, "entries", n)
	})
	return nil
}

// made counts and logs the groups that were created in a partition.
func (t *Trimmer) made(i int, groups any, sum *Trimmed) {
	for _, group := range texts(groups) {
		sum.Created[group]++
		t.m.created.WithLabelValues(group).Inc()
		t.log.Debug("declared group was missing and was created at the start", "group", group, "partition", i)
	}
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
