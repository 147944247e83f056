package workers

import (
	"context"
	"errors"
	"time"

	"github.com/paybell/paybell/streams"
)

// partition runs the deliveries of one partition of a group for as long as a lease
// on it is held. Its one goroutine owns all of its state; attempts and the wait for
// new entries run beside it and report on channels.
//
// It adopts what earlier owners left pending and reads it in entry order, and only
// then takes new entries. Every entry is in known until it is settled, so that
// nothing which this owner has run, or is running, is run again when Redis hands it
// out again, or when settling it fails.
type partition struct {
	*group
	tenure *tenure
	// attempts is the parent of every attempt's context. It ends with the tenure,
	// or earlier when the grace of a stop has passed.
	attempts context.Context
	abort    context.CancelCauseFunc
	// quit asks for the end: start nothing more, finish and settle what runs.
	quit     chan struct{}
	draining bool
	// quitting: quit is closed. It is the consumer's.
	quitting bool
	// begun: the effect store has been told what Redis knows of it, and runs may start.
	// behind tells that the store went back to an earlier state, lost is set then.
	begun  bool
	behind chan *BehindError
	lost   *BehindError

	lanes lanes
	known map[string]*item
	bytes int64
	// budget is charged with bytes. short is set while it has no room for more, and closed
	// when somebody has given something back.
	budget *holder
	short  <-chan struct{}
	// unpacked is the part of known that is parked.
	unpacked struct {
		entries int
		bytes   int64
	}
	settle settling
	// named is how many runs were charged; each has its number as its name.
	named int
	// seats are given by the group's rounds, one at a time; seat is the one that has to be
	// answered.
	seats   chan seat
	seat    *seat
	running int
	results chan *run

	reader reader
	timer  *time.Timer
	// resume is when Redis is asked again after a failed call, probe when the next
	// run may start after one found what the handler needs away, deadAt when refused
	// dead letters are offered again.
	redis, away, refused  trouble
	crowded               trouble
	resume, probe, deadAt time.Time

	// inFlight counts the entries of the runs that are running.
	inFlight int
	shown    gauges
}

func newPartition(g *group, t *tenure) *partition {
	p := &partition{
		group: g, tenure: t, quit: make(chan struct{}), begun: g.watch == nil, behind: make(chan *BehindError, 1),
		lanes:   newLanes(max(1, g.options.Attempts/2), g.options.Parked.share(g.log.Partitions())),
		known:   make(map[string]*item),
		budget:  g.budget.join(g),
		results: make(chan *run, g.slots),
		seats:   make(chan seat, 1),
		reader:  newReader(),
		timer:   time.NewTimer(time.Hour),
		redis:   trouble{outage: &g.redisAway, initial: 100 * time.Millisecond, max: 2 * time.Second},
		refused: trouble{outage: &g.deadRefused, initial: 100 * time.Millisecond, max: 10 * time.Second},
		crowded: trouble{outage: &g.parkedFull},
		away:    trouble{outage: &g.handlerAway, initial: g.options.Backoff.Initial, max: g.options.Backoff.Max},
	}
	p.attempts, p.abort = context.WithCancelCause(t.ctx)
	return p
}

// run returns when the lease is lost, or when it was asked to quit and everything
// that ran is settled. In either case no attempt is running any more.
func (p *partition) run() {
	defer p.end()
	for {
		more, failed := p.step()
		if p.tenure.ctx.Err() != nil {
			return
		}
		// When the grace has passed, settling is tried once more and not waited for.
		if p.draining && p.running == 0 && (p.settled() || failed && p.attempts.Err() != nil) {
			if p.lost != nil {
				p.rewind()
			}
			return
		}
		p.await(more)
	}
}

// end waits for the attempts that still run; nothing they did is settled.
func (p *partition) end() {
	if p.rounds != nil {
		p.rounds.leave(p)
		select {
		case s := <-p.seats:
			p.seat = &s
		default:
		}
		p.decline()
	}
	p.abort(context.Canceled)
	for ; p.running > 0; p.running-- {
		p.release(<-p.results)
	}
	p.budget.leave()
	p.reader.stop()
	p.timer.Stop()
	p.redis.ended()
	p.away.ended()
	p.refused.ended()
	p.crowded.ended()
	p.show(gauges{})
}

// step does all that can be done now, and reports whether more can be done at once,
// and whether a call failed.
func (p *partition) step() (more, failed bool) {
	if p.now().Before(p.resume) {
		p.decline()
		return false, false
	}
	more, err := p.work()
	p.decline()
	switch {
	case p.tenure.ctx.Err() != nil:
	case err == nil:
		p.redis.ended()
	case errors.Is(err, streams.ErrLeaseLost):
		p.tenure.lose()
	default:
		p.resume = p.now().Add(p.redis.failed(err))
	}
	p.show(gauges{entries: len(p.known), held: p.lanes.held, inFlight: p.inFlight, parked: len(p.lanes.slips)})
	return more && err == nil, err != nil
}

// work starts the next runs before it settles the last ones, so that the handler
// works while Redis is talked to.
func (p *partition) work() (more bool, err error) {
	p.short = nil
	if p.settle.first {
		if err := p.flush(); err != nil {
			return false, err
		}
	}
	if p.seat != nil && p.reader.news {
		// What has come meanwhile runs in this round.
		p.reader.news = false
		if _, err := p.read(); err != nil {
			return false, err
		}
	}
	if err := p.dispatch(); err != nil {
		return false, err
	}
	if err := p.flush(); err != nil {
		return false, err
	}
	// What leaves is told after what was taken back, and before more is woken.
	if err := p.flushMoves(); err != nil {
		return false, err
	}
	if err := p.flushDead(); err != nil {
		return false, err
	}
	if p.replayed() && !p.now().Before(p.reader.recallAt) {
		if err := p.recall(); err != nil {
			return false, err
		}
	}
	woken, err := p.unpack()
	if err != nil {
		return false, err
	}
	if p.reader.news {
		return woken, nil
	}
	more, err = p.read()
	return more || woken, err
}

// await sleeps until something has happened. With more it only looks.
func (p *partition) await(more bool) {
	p.ask()
	if more {
		p.collect()
		return
	}
	p.timer.Reset(p.sleep())
	var guard chan<- struct{}
	if p.lanes.guarded.len() > 0 && p.mayStart() && !p.now().Before(p.resume) {
		guard = p.guard
	}
	quit := p.quit
	if p.draining {
		quit = nil
	}
	select {
	case r := <-p.results:
		p.absorb(r)
		p.collect()
	case w := <-p.reader.woke:
		p.wake(w)
	case guard <- struct{}{}:
		p.startGuarded()
	case s := <-p.seats:
		p.seat = &s
	case <-quit:
		p.drain()
	case lost := <-p.behind:
		p.fallBehind(lost)
	case <-p.short:
		p.short = nil
	case <-p.tenure.ctx.Done():
	case <-p.timer.C:
	}
}

// drain starts nothing more.
func (p *partition) drain() {
	p.draining = true
	p.reader.stop()
	if p.rounds != nil {
		p.rounds.leave(p)
	}
}

// ask asks for a seat in the next round where there is something to run or to read.
func (p *partition) ask() {
	if p.rounds == nil || p.seat != nil || !p.mayStart() || p.now().Before(p.resume) {
		return
	}
	if n := p.lanes.ready(p.now()); n > 0 || p.reader.news {
		p.rounds.want(p, n)
	}
}

// collect absorbs the results that are there already, so that they are settled in
// one call.
func (p *partition) collect() {
	for {
		select {
		case r := <-p.results:
			p.absorb(r)
		case s := <-p.seats:
			p.seat = &s
		default:
			return
		}
	}
}

// sleep is how long nothing is due by the clock.
func (p *partition) sleep() time.Duration {
	now := p.now()
	if now.Before(p.resume) {
		return p.resume.Sub(now)
	}
	due := now.Add(time.Hour)
	sooner := func(t time.Time) {
		if t.Before(due) {
			due = t
		}
	}
	if len(p.settle.dead) > 0 {
		sooner(p.deadAt)
	}
	if p.replayed() {
		sooner(p.reader.recallAt)
	}
	if len(p.lanes.asleep) > 0 && p.mayUnpack() && p.short == nil {
		sooner(p.lanes.asleep[0].wake)
	}
	switch {
	case p.draining || p.running >= p.slots:
	case now.Before(p.probe):
		sooner(p.probe)
	case len(p.lanes.resting) > 0 && (p.rounds == nil || p.lanes.due().After(now)): // else a seat is asked for
		sooner(p.lanes.due())
	}
	return max(0, due.Sub(now))
}

// show brings the group's gauges from what this partition showed before to g.
func (p *partition) show(g gauges) {
	p.metrics.entries.Add(float64(g.entries - p.shown.entries))
	p.metrics.heldNow.Add(float64(g.held - p.shown.held))
	p.metrics.inFlight.Add(float64(g.inFlight - p.shown.inFlight))
	p.metrics.parked.Add(float64(g.parked - p.shown.parked))
	p.shown = g
}
