package workers

import (
	"errors"

	"github.com/paybell/paybell/streams"
)

// settleDead and settleDeadBytes bound the dead letters of one call: each carries its whole
// callback.
const (
	settleDead      = 8
	settleDeadBytes = 1 << 20
)

// settling is what has to be told to Redis. It is kept until Redis has taken it,
// or until the lease is lost.
type settling struct {
	done  []*item
	dead  []burial
	ended []string
	// counts are what is charged to deliveries that go on.
	counts []streams.Count
	// first: something of it has to be told before more is charged, which would count
	// twice otherwise.
	first bool
}

// burial is a dead letter with the delivery that it ends.
type burial struct {
	item   *item
	letter streams.DeadLetter
}

// empty reports whether there is nothing to tell but dead letters.
func (s *settling) empty() bool { return len(s.done)+len(s.ended)+len(s.counts) == 0 }

// count notes what is charged to a delivery that goes on, where Redis does not know it.
func (s *settling) count(it *item) {
	s.first = true
	if it.charged != it.counted {
		it.counted = it.charged
		s.counts = append(s.counts, streams.Count{EntryID: it.entry.ID, Attempts: it.charged})
	}
}

func ids(items []*item) []string {
	out := make([]string, len(items))
	for i, it := range items {
		out[i] = it.entry.ID
	}
	return out
}

// flush settles what is done and ends runs. What fails is kept for the next time.
func (p *partition) flush() error {
	s := &p.settle
	if s.empty() {
		return nil
	}
	call := streams.Settlement{Done: make([]string, 0, len(s.done)), Ended: s.ended, Counts: s.counts}
	if p.watch != nil && len(s.done) > 0 {
		call.Position = p.watch.Store.Position(p.tenure.lease.Partition())
	}
	for _, it := range s.done {
		if it.entry.Gone {
			call.Gone = append(call.Gone, it.entry.ID)
		} else {
			call.Done = append(call.Done, it.entry.ID)
		}
		if it.counted > 0 {
			call.Counts = append(call.Counts, streams.Count{EntryID: it.entry.ID})
		}
	}
	if err := p.tenure.lease.Settle(p.tenure.ctx, call); err != nil {
		return err
	}
	now := p.now()
	for _, it := range s.done {
		if arrived := it.entry.Record.Event.ReceivedAt; !arrived.IsZero() {
			p.metrics.lag.Observe(now.Sub(arrived).Seconds())
		}
		p.forget(it)
	}
	s.done = rest(s.done, len(s.done))
	s.ended, s.counts, s.first = s.ended[:0], s.counts[:0], false
	return nil
}

// flushDead hands the dead letters over. Where their key was overwritten, Redis refuses them
// and takes everything else, so they hold up nobody but themselves.
func (p *partition) flushDead() error {
	if p.now().Before(p.deadAt) {
		return nil
	}
	for len(p.settle.dead) > 0 {
		var call streams.Settlement
		n, bytes := 0, int64(0)
		for _, b := range p.settle.dead[:min(len(p.settle.dead), settleDead)] {
			if bytes += b.item.size; n > 0 && bytes > settleDeadBytes {
				break
			}
			call.Dead = append(call.Dead, b.letter)
			n++
		}
		err := p.tenure.lease.Settle(p.tenure.ctx, call)
		if errors.Is(err, streams.ErrLeaseLost) {
			return err
		}
		if err != nil {
			p.deadAt = p.now().Add(p.refused.failed(err))
			return nil
		}
		p.refused.ended()
		for _, b := range p.settle.dead[:n] {
			p.forget(b.item)
		}
		p.settle.dead = rest(p.settle.dead, n)
	}
	return nil
}

// settled reports whether a partition that is draining has settled all it can: a
// dead letter that is refused now is left to the next owner.
func (p *partition) settled() bool {
	return p.settle.empty() && len(p.lanes.moves) == 0 && (len(p.settle.dead) == 0 || p.refused.failures > 0)
}

// rest drops the first n, and keeps the array for reuse without what left it.
func rest[T any](s []T, n int) []T {
	kept := copy(s, s[n:])
	clear(s[kept:])
	return s[:kept]
}

// forget ends what this process knows of a settled entry.
func (p *partition) forget(it *item) {
	if it.slip != nil {
		p.lanes.drop(it.slip)
		p.unpacked.entries--
		p.unpacked.bytes -= it.size
	}
	p.let(it)
}

// let lets go of an entry. Its page may live on with a neighbour that is held, so its
// bytes are let go of here.
func (p *partition) let(it *item) {
	delete(p.known, it.entry.ID)
	p.bytes -= it.size
	p.budget.change(-it.size)
	*it.entry = streams.Entry{}
}
