package workers

import (
	"errors"

	"github.com/paybell/paybell/streams"
)

// Bounds of one Settle call. A dead letter carries its whole callback.
const (
	settleEntries = 256
	settleDead    = 8
)

// settling is what has to be told to Redis. It is kept until Redis has taken it,
// or until the lease is lost.
type settling struct {
	done     []*item
	dead     []burial
	uncharge []*item
}

// burial is a dead letter with the delivery that it ends.
type burial struct {
	item   *item
	letter streams.DeadLetter
}

// next is the next call's share, take-backs first: an entry must not be charged
// again before they are counted. Dead letters have calls of their own.
func (s *settling) next() (call streams.Settlement, uncharge, done int) {
	uncharge = min(len(s.uncharge), settleEntries)
	done = min(len(s.done), settleEntries-uncharge)
	call.Uncharge = ids(s.uncharge[:uncharge])
	for _, it := range s.done[:done] {
		if it.entry.Gone {
			call.Gone = append(call.Gone, it.entry.ID)
		} else {
			call.Done = append(call.Done, it.entry.ID)
		}
	}
	return call, uncharge, done
}

func ids(items []*item) []string {
	out := make([]string, len(items))
	for i, it := range items {
		out[i] = it.entry.ID
	}
	return out
}

// flush settles what is done and takes attempts back. What fails is kept for the
// next time.
func (p *partition) flush() error {
	for len(p.settle.done)+len(p.settle.uncharge) > 0 {
		call, uncharge, done := p.settle.next()
		if err := p.log.Settle(p.tenure.ctx, p.tenure.lease, call); err != nil {
			return err
		}
		now := p.now()
		for _, it := range p.settle.done[:done] {
			if arrived := it.entry.Record.Event.ReceivedAt; !arrived.IsZero() {
				p.metrics.lag.Observe(now.Sub(arrived).Seconds())
			}
			p.forget(it)
		}
		p.settle.uncharge = rest(p.settle.uncharge, uncharge)
		p.settle.done = rest(p.settle.done, done)
	}
	return nil
}

// flushDead hands the dead letters over. Where their key was overwritten, Redis refuses them
// and takes everything else, so they hold up nobody but themselves.
func (p *partition) flushDead() error {
	if p.now().Before(p.deadAt) {
		return nil
	}
	for len(p.settle.dead) > 0 {
		n := min(len(p.settle.dead), settleDead)
		var call streams.Settlement
		for _, b := range p.settle.dead[:n] {
			call.Dead = append(call.Dead, b.letter)
		}
		err := p.log.Settle(p.tenure.ctx, p.tenure.lease, call)
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
	return len(p.settle.done)+len(p.settle.uncharge)+len(p.lanes.moves) == 0 && (len(p.settle.dead) == 0 || p.refused.failures > 0)
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
	*it.entry = streams.Entry{}
}
