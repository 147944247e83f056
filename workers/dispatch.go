package workers

import (
	"errors"
	"slices"

	"github.com/paybell/paybell/streams"
)

// mayStart reports whether another run may start.
func (p *partition) mayStart() bool {
	return !p.draining && p.running < p.slots && p.attempts.Err() == nil && !p.now().Before(p.probe)
}

// dispatch starts as many runs as there are slots and ready lanes.
func (p *partition) dispatch() error {
	if !p.mayStart() {
		return nil
	}
	var runs []*run
	now := p.now()
	for p.running+len(runs) < p.slots {
		r := p.lanes.next(p.perRun, now)
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
	p.ids = p.ids[:0]
	for _, r := range runs {
		for _, it := range r.items {
			p.ids = append(p.ids, it.entry.ID)
		}
	}
	counts, err := p.log.Charge(p.tenure.ctx, p.tenure.lease, p.ids)
	if err == nil && len(counts) != len(p.ids) {
		err = errCounts
	}
	if err == nil {
		err = p.tenure.ctx.Err()
	}
	if err != nil {
		for _, r := range runs {
			for _, it := range r.items {
				it.doubts++
			}
		}
		p.undo(runs)
		return err
	}
	for _, r := range runs {
		p.charged(r, counts[:len(r.items)])
		counts = counts[len(r.items):]
		p.running++
		p.inFlight += len(r.items)
		go p.attempt(p.attempts, r, p.deliveries(r), p.results)
	}
	return nil
}

// undo puts back runs that have not started.
func (p *partition) undo(runs []*run) {
	now := p.now()
	for _, r := range runs {
		p.lanes.finish(r, r.items, now)
	}
}

// charged takes over the counts. Where Charges failed and yet counted, the attempts
// that never ran are taken back.
func (p *partition) charged(r *run, counts []int) {
	for i, it := range r.items {
		it.charged++
		for ; it.doubts > 0 && counts[i] > it.charged; it.doubts-- {
			p.settle.uncharge = append(p.settle.uncharge, it)
			counts[i]--
		}
		it.doubts = 0
		it.charged = counts[i]
	}
}

func (p *partition) deliveries(r *run) []Delivery {
	ds := make([]Delivery, len(r.items))
	for i, it := range r.items {
		d := &ds[i]
		d.Record = it.entry.Record
		d.Group, d.Partition, d.EntryID = p.name, p.tenure.lease.Partition, it.entry.ID
		d.Attempt, d.Epoch = it.charged, p.tenure.lease.Epoch
	}
	return ds
}

// release gives the pool's guard back if the run held it.
func (p *partition) release(r *run) {
	if r.guard {
		<-p.guard
	}
}
