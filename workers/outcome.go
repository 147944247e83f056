package workers

import (
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/paybell/paybell/streams"
)

// maxErrorText bounds the error kept in a dead letter.
const maxErrorText = 1 << 10

var (
	errCrash  = errors.New("workers: its attempts are used up, and no outcome of the last one is known")
	errCap    = errors.New("workers: too many events of its order are parked")
	errFull   = errors.New("workers: as much is parked as may be")
	errUnpack = errors.New("workers: log did not return one entry per id")
)

// absorb decides what becomes of every delivery of a run that has returned.
func (p *partition) absorb(r *run) {
	p.release(r)
	p.running--
	p.inFlight -= len(r.items)
	p.settle.ended = append(p.settle.ended, r.name)
	if r.broken == nil && !hasError(r.errs) {
		for _, it := range r.items {
			p.done(it)
		}
		p.lanes.finish(r, nil, p.now())
		p.away.ended()
		return
	}
	v := verdicts{partition: p, run: r, now: p.now()}
	for i, it := range r.items {
		v.judge(it, r.err(i))
	}
	p.lanes.finish(r, v.back, v.now)
	v.conclude()
}

func hasError(outcomes []error) bool {
	for _, err := range outcomes {
		if err != nil {
			return true
		}
	}
	return false
}

// verdicts judges a run in which something failed.
type verdicts struct {
	*partition
	run *run
	now time.Time
	// failed are the keys for which an earlier delivery of the run failed: true where
	// it is owed another run, false where the handler rejected it.
	failed map[string]bool
	// back are owed another run.
	back []*item
	// unavailable is the first error that says so; heard: some outcome does not.
	unavailable error
	heard       bool
	// replaced: the effect store has seen a newer owner. lost: it went back in time.
	replaced bool
	lost     *BehindError
	// retries counts failures, first is the first of them.
	retries int
	first   *item
	err     error
}

func (v *verdicts) judge(it *item, err error) {
	it.suspect = false // It came back, so it is no killer.
	owed, behind := v.failed[it.key]
	if err == nil {
		if owed {
			// Its effect is committed. Running it again behind the failed one would not
			// undo the wrong order, and would hide it.
			v.logger.Error("handler applied an event although an earlier one of its order had failed",
				"group", v.name, "partition", it.entry.Partition, "entry_id", it.entry.ID, "event", it.entry.Record.Event)
		}
		v.heard = true
		v.done(it)
		return
	}
	if v.failed == nil {
		v.failed = make(map[string]bool)
	}
	v.failed[it.key] = owed || !Rejected(err)
	switch {
	case Rejected(err):
		v.heard = true
		v.bury(it, "rejected", err)
	case errors.Is(err, ErrHeld) && behind:
		v.metrics.held.Inc()
		v.uncharge(it)
	case errors.Is(err, ErrReplaced):
		v.replaced = true
		if seen, ok := errors.AsType[*ReplacedError](err); ok {
			v.tenure.lease.Surpass(seen.Epoch)
		}
		v.metrics.stopped.Inc()
		v.uncharge(it)
	case errors.Is(err, ErrBehind):
		v.lost, _ = errors.AsType[*BehindError](err) // it is always one
		v.metrics.stopped.Inc()
		v.uncharge(it)
	case IsUnavailable(err):
		if v.unavailable == nil {
			v.unavailable = err
		}
		v.metrics.unavailable.Inc()
		v.uncharge(it)
	case v.attempts.Err() != nil || v.run.cut:
		// We ended its context, so the failure may be ours.
		v.metrics.stopped.Inc()
		v.uncharge(it)
	case v.run.company > 1 && (v.run.broken != nil || v.run.overran):
		// One of them did it, or hung. Each alone will tell which; the others are not
		// charged for it.
		v.heard = true
		it.solo = true
		v.metrics.isolated.Inc()
		v.uncharge(it)
	default:
		v.heard = true
		v.retry(it, err)
	}
}

// uncharge puts an item back that shall not be charged for this run.
func (v *verdicts) uncharge(it *item) {
	it.charged--
	v.settle.count(it)
	v.back = append(v.back, it)
}

// retry gives an item its next attempt, or gives it up.
func (v *verdicts) retry(it *item, err error) {
	// Who broke or hung a run of its own would do it to its company; and who has one
	// attempt left must not lose it to a killer in its company.
	it.solo = v.run.broken != nil || v.run.overran || it.charged+1 >= v.options.Attempts
	wait, asked := RetryDelay(err)
	if !asked {
		wait = v.options.Backoff.pause(it.charged)
	}
	due := v.now.Add(max(0, wait))
	switch arrived := it.entry.Record.Event.ReceivedAt; {
	case it.charged >= v.options.Attempts:
		v.bury(it, "attempts", err)
		return
	case v.options.MaxAge > 0 && due.Sub(arrived) > v.options.MaxAge:
		v.bury(it, "age", err)
		return
	}
	it.failed, it.due = true, due
	if it.stay.IsZero() {
		it.stay = v.now
	}
	// Where nothing more can be parked, it stays as it would for a short wait.
	it.leave = due.Sub(it.stay) > v.options.ParkAfter && (it.slip != nil || !v.lanes.full())
	v.metrics.retry.Inc()
	v.settle.count(it)
	v.back = append(v.back, it)
	v.retries++
	if v.first == nil {
		v.first, v.err = it, err
	}
}

// conclude logs the run's failures in one line, and pauses the partition when what
// the handler needs is away.
func (v *verdicts) conclude() {
	if v.retries > 0 {
		v.logger.Warn("deliveries failed and will be retried", "group", v.name, "partition", v.first.entry.Partition,
			"count", v.retries, "entry_id", v.first.entry.ID, "event", v.first.entry.Record.Event,
			"attempt", v.first.charged, "err", v.err)
	}
	if v.replaced && !v.draining {
		// A lease that is only renewed would keep its epoch. Letting go of it, once what
		// was charged is taken back, brings a newer one.
		v.logger.Warn("a newer owner has made effects: the partition is let go of", "group", v.name,
			"partition", v.tenure.lease.Partition(), "epoch", v.tenure.lease.Epoch())
		v.drain()
	}
	if v.lost != nil {
		v.fallBehind(v.lost)
	}
	switch {
	case v.unavailable != nil:
		pause := v.away.failed(v.unavailable)
		if asked, ok := RetryDelay(v.unavailable); ok {
			pause = max(0, asked)
		}
		v.probe = v.now.Add(pause)
	case v.heard:
		v.away.ended()
	}
}

// done ends a delivery whose effect is committed.
func (p *partition) done(it *item) {
	p.metrics.done.Inc()
	p.settle.done = append(p.settle.done, it)
}

// bury ends a delivery as a dead letter.
func (p *partition) bury(it *item, reason string, err error) {
	p.metrics.dead.Inc()
	p.metrics.deadLetters.WithLabelValues(reason).Inc()
	p.logger.Error("delivery becomes a dead letter", "group", p.name, "partition", it.entry.Partition,
		"entry_id", it.entry.ID, "event", it.entry.Record.Event, "attempt", it.charged, "reason", reason, "err", err)
	p.settle.dead = append(p.settle.dead, burial{it, streams.DeadLetter{
		Partition: p.tenure.lease.Partition(), Group: p.name, EntryID: it.entry.ID, Record: it.entry.Record,
		Attempts: it.charged, Reason: reason, Error: bounded(err.Error()), DeadAt: p.now().UTC(),
	}})
}

// bounded cuts text to what a dead letter keeps, at the edge of a character.
func bounded(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= maxErrorText {
		return text
	}
	cut := maxErrorText
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut]
}
