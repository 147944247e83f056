package workers

import (
	"errors"
	"slices"
	"strconv"

	"github.com/paybell/paybell/streams"
)

// mayStart reports whether another run may start.
func (p *partition) mayStart() bool {
	return !p.draining && p.begun && p.running < p.slots && p.attempts.Err() == nil && !p.now().Before(p.probe)
}

// dispatch starts as many runs as there are slots and ready lanes. A run of a
// BatchHandler needs a seat in a round, unless it must be alone.
func (p *partition) dispatch() error {
	if !p.mayStart() || p.rounds != nil && p.seat == nil && !p.lanes.soloNext() {
		return nil
	}
	limit, bytes := p.perRun, int64(0)
	if p.seat != nil {
		limit, bytes = p.seat.limit, p.seat.bytes
	}
	var runs []*run
	now := p.now()
	for p.running+len(runs) < p.slots {
		r := p.lanes.next(limit, bytes, now)
		if r == nil {
			break
		}
		runs = append(runs, r)
	}
	if slices.ContainsFunc(runs, func(r *run) bool { return r.solo }) {
		// What runs alone may kill this process: what was done before must not be
		// charged for that.
		if err := p.flush(); err != nil {
			p.undo(runs)
			return err
		}
	}
	return p.start(runs)
}

// startGuarded starts a run under the pool's guard, which is held already.
func (p *partition) startGuarded() {
	r := p.lanes.nextGuarded()
	err := p.flush() // what was done must not be charged for a killer
	if err != nil {
		p.undo([]*run{r})
	} else {
		err = p.start([]*run{r})
	}
	if err != nil {
		p.release(r)
		if errors.Is(err, streams.ErrLeaseLost) {
			p.tenure.lose()
			return
		}
		p.resume = p.now().Add(p.redis.failed(err))
	}
}

// start charges what the runs hold, in one call, and starts them. When charging
// fails nothing starts.
func (p *partition) start(runs []*run) error {
	if len(runs) == 0 {
		return nil
	}
	charges := make([]streams.Run, len(runs))
	for i, r := range runs {
		p.named++
		r.name = strconv.Itoa(p.named)
		charges[i] = streams.Run{Name: r.name, IDs: ids(r.items)}
	}
	err := p.tenure.lease.Charge(p.tenure.ctx, charges)
	if err == nil {
		err = p.tenure.ctx.Err()
	}
	if err != nil {
		// They may be charged all the same.
		for _, r := range runs {
			p.settle.ended = append(p.settle.ended, r.name)
		}
		p.settle.first = true
		p.undo(runs)
		return err
	}
	for _, r := range runs {
		for _, it := range r.items {
			it.charged++
		}
		p.running++
		p.inFlight += len(r.items)
		if p.seat != nil && !r.solo { // a partition has one run in a round
			p.seat.round.join(p, r)
			p.seat = nil
			continue
		}
		var c call
		c.add(p, r)
		go p.attempt(&c)
	}
	return nil
}

// decline answers a seat that brought nothing to run.
func (p *partition) decline() {
	if p.seat != nil {
		p.seat.round.join(p, nil)
		p.seat = nil
	}
}

// undo puts back runs that have not started.
func (p *partition) undo(runs []*run) {
	now := p.now()
	for _, r := range runs {
		p.lanes.finish(r, r.items, now)
	}
}

// deliveries adds what a run hands over.
func (p *partition) deliveries(ds []Delivery, r *run) []Delivery {
	for _, it := range r.items {
		ds = append(ds, Delivery{
			Record: it.entry.Record, Group: p.name, Partition: p.tenure.lease.Partition(), EntryID: it.entry.ID,
			Attempt: it.charged, Epoch: p.tenure.lease.Epoch(),
		})
	}
	return ds
}

// release gives the pool's guard back if the run held it.
func (p *partition) release(r *run) {
	if r.guard {
		<-p.guard
	}
}
