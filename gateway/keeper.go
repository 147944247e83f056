package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/paybell/paybell/gateway/journal"
	"github.com/paybell/paybell/streams/event"
)

// Keeper is an Appender that has a journal beside the stream.
//
// In the mode fallback a record goes to the stream, and to the journal when the
// stream cannot take it. While a partition has records in the journal, new ones of it
// go behind them, so that the order of an event's key holds across the switch, both
// ways. Run empties the journal into the stream, oldest first.
//
// In the mode always a record is durable in the journal before it goes to the stream,
// and stays there until every group has settled it and its dedup window has passed.
// Run puts everything that is kept into the stream again before it opens the door.
type Keeper struct {
	o        JournalOptions
	d        KeeperDeps
	journal  *journal.Journal
	backlog  *backlog
	pulse    pulse
	tries    firstPart
	wake     chan struct{} // the journal has got something
	opened   chan struct{} // closed when callbacks may come
	m        *keeperMetrics
	underway underway
	drainErr atomic.Pointer[error] // of the last append from the journal that failed
	lost     atomic.Int64          // events that were set aside
}

// KeeperDeps are what a Keeper is given.
type KeeperDeps struct {
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time
	// Stream is where records belong.
	Stream Appender
	// Partitions is how many the stream has; Partition is that of an ordering key.
	Partitions int
	Partition  func(orderingKey string) int
	// Permanent reports whether an error of Stream is about the record itself, so that
	// trying again is of no use.
	Permanent func(err error) bool
	// Owed tells what groups have not settled. Only the mode always needs it.
	Owed func(ctx context.Context) (Owed, error)
	// Disk is where the journal lies.
	Disk journal.Disk
	// QueueBytes is how many bytes of callbacks may wait for a sync at once; 0 is 64 MiB.
	QueueBytes int64
}

// OpenKeeper takes the journal's directory and counts what it holds.
func OpenKeeper(o JournalOptions, d KeeperDeps) (*Keeper, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("gateway: journal: %w", err)
	}
	bounds := o.bounds()
	bounds.QueueBytes = d.QueueBytes
	j, report, err := journal.Open(o.Dir, bounds, journal.Deps{Logger: d.Logger, Now: d.Now, Disk: d.Disk})
	if err != nil {
		return nil, err
	}
	k := &Keeper{
		o: o, d: d, journal: j, backlog: newBacklog(d.Partitions),
		wake: make(chan struct{}, 1), opened: make(chan struct{}),
		underway: underway{now: make(map[*passage]struct{})},
	}
	if k.m, err = newKeeperMetrics(d.Registerer, k); err == nil && o.Mode == JournalFallback {
		err = k.countBacklog()
		close(k.opened)
	}
	if err != nil {
		return nil, errors.Join(err, j.Close())
	}
	if report.Payloads > 0 {
		d.Logger.Warn("journal holds events of an earlier run", "payloads", report.Payloads, "mode", o.Mode, "dir", o.Dir)
	}
	return k, nil
}

// Run commits what is put into the journal and brings it to the stream, until ctx
// ends. The door must have closed by then, and what Stream is must still run.
func (k *Keeper) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { return k.journal.Run(ctx) })
	g.Go(func() error {
		if k.o.Mode == JournalAlways {
			return k.runAlways(ctx)
		}
		return k.drain(ctx)
	})
	return g.Wait()
}

// Opened is closed when callbacks may be taken: at once in the mode fallback, and when
// all that is kept is in the stream again in the mode always.
func (k *Keeper) Opened() <-chan struct{} { return k.opened }

// Ready is nil when the journal can be expected to take a callback now.
func (k *Keeper) Ready() error { return k.journal.Ready() }

// Keeps names where a callback is kept now.
func (k *Keeper) Keeps() string {
	switch {
	case k.o.Mode == JournalAlways:
		return "journal and stream"
	case k.backlog.waits(), k.pulse.stopped(k.d.Now()):
		return "journal"
	default:
		return "stream"
	}
}

// Holds is how many events the journal holds, and the bytes of its files. In the mode
// fallback the events are those that are not in the stream yet.
func (k *Keeper) Holds() (events int, bytes int64) {
	s := k.journal.Stats()
	return s.Payloads, s.Bytes
}

// Close lets go of the journal. Run must have returned.
func (k *Keeper) Close() error { return k.journal.Close() }

// Append implements Appender.
func (k *Keeper) Append(ctx context.Context, window time.Duration, records []event.Record) ([]event.Appended, error) {
	take := k.appendOrKeep
	if k.o.Mode == JournalAlways {
		take = k.appendBoth
	}
	out, err := take(ctx, window, records)
	if _, refused := errors.AsType[*notKeptError](err); refused {
		k.m.refused.Inc()
	}
	return out, err
}

// appendOrKeep appends records to the stream, or keeps them in the journal where the
// stream does not take them or others of their partitions wait there.
func (k *Keeper) appendOrKeep(ctx context.Context, window time.Duration, records []event.Record) ([]event.Appended, error) {
	var partitions []int // asked for where one of them may hold something
	if !k.backlog.empty() {
		partitions = k.partitions(records)
	}
	var cause error
	tried := !k.backlog.holds(partitions) && !k.backlog.waits() && !k.pulse.stopped(k.d.Now())
	if tried {
		out, err := k.try(ctx, window, records)
		if err == nil || !k.fallsBack(err) {
			return out, err
		}
		cause = err
	}
	if partitions == nil {
		partitions = k.partitions(records)
	}
	out, err := k.fallBack(ctx, window, records, partitions, cause)
	if err == nil {
		return out, nil
	}
	if !tried && ctx.Err() == nil && !k.backlog.holds(partitions) {
		// The journal refuses, perhaps for what another partition owes; these owe nothing.
		if out, tryErr := k.try(ctx, window, records); tryErr == nil {
			return out, nil
		}
	}
	return nil, err
}

// partitions are those of the records.
func (k *Keeper) partitions(records []event.Record) []int {
	out := make([]int, len(records))
	for i := range records {
		out[i] = k.d.Partition(records[i].Event.OrderingKey())
	}
	return out
}

// try gives the stream two thirds of the caller's time: the rest is the journal's.
func (k *Keeper) try(ctx context.Context, window time.Duration, records []event.Record) ([]event.Appended, error) {
	k.pulse.begin(k.d.Now())
	out, err := k.d.Stream.Append(k.tries.of(ctx), window, records)
	k.pulse.end(k.d.Now(), err == nil)
	return out, err
}

// fallsBack reports whether the journal has to take what the stream did not: not
// when the record can never be taken, and not when the stream is at work and merely
// has too much of it, which is for the provider to wait for.
func (k *Keeper) fallsBack(err error) bool {
	if k.d.Permanent(err) {
		return false
	}
	full, ok := errors.AsType[overloaded](err)
	return !ok || !full.Overloaded() || k.pulse.stopped(k.d.Now())
}

// fallBack makes the records durable in the journal. A caller that gives up leaves a
// record behind that is counted until it is in the stream, or refused.
func (k *Keeper) fallBack(ctx context.Context, window time.Duration, records []event.Record, partitions []int, cause error) ([]event.Appended, error) {
	payloads, err := encodePayloads(window, records)
	if err != nil {
		return nil, err
	}
	k.backlog.enter(partitions)
	done := make(chan error, 1)
	err = k.journal.Submit(payloads, func(_ journal.Position, err error) {
		if err == nil {
			if cause != nil {
				k.backlog.away.Store(true)
			}
			k.m.kept.Add(float64(len(records)))
		}
		k.backlog.entered(partitions, err == nil)
		k.rouse()
		done <- err
	})
	if err != nil {
		k.backlog.entered(partitions, false)
		return nil, notKept(err, cause)
	}
	select {
	case err := <-done:
		if err != nil {
			return nil, notKept(err, cause)
		}
	case <-ctx.Done():
		return nil, notKept(context.Cause(ctx), cause)
	}
	out := make([]event.Appended, len(records))
	for i := range out {
		out[i] = event.Journaled
	}
	return out, nil
}

func (k *Keeper) rouse() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// notKept is what a caller gets whose records neither took.
func notKept(err, cause error) error {
	if cause != nil {
		return &notKeptError{fmt.Errorf("gateway: neither stream (%w) nor journal: %w", cause, err)}
	}
	return &notKeptError{fmt.Errorf("gateway: append to the journal: %w", err)}
}

// notKeptError counts a bound of the journal as overload.
type notKeptError struct{ error }

func (e *notKeptError) Unwrap() error { return e.error }

// Overloaded implements overloaded.
func (e *notKeptError) Overloaded() bool {
	return errors.Is(e.error, journal.ErrFull) || errors.Is(e.error, journal.ErrBusy)
}

func encodePayloads(window time.Duration, records []event.Record) ([][]byte, error) {
	payloads := make([][]byte, len(records))
	for i := range records {
		var err error
		if payloads[i], err = encodePayload(window, &records[i]); err != nil {
			return nil, fmt.Errorf("gateway: journal event %s: %w", records[i].Event.ID, err)
		}
	}
	return payloads, nil
}
