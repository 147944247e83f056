package workers

import (
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

func (s *settling) empty() bool { return len(s.done)+len(s.dead)+len(s.uncharge) == 0 }

// next is the next call's share, take-backs first: an entry must not be charged
// again before they are counted.
func (s *settling) next() (call streams.Settlement, uncharge, done, dead int) {
	uncharge = min(len(s.uncharge), settleEntries)
	for _, it := range s.uncharge[:uncharge] {
		// Settling an entry forgets its attempts; nothing is to be taken back then.
		if !it.ended {
			call.Uncharge = append(call.Uncharge, it.entry.ID)
		}
	}
	done = min(len(s.done), settleEntries-uncharge)
	call.Done = make([]string, done)
	for i, it := range s.done[:done] {
		call.Done[i] = it.entry.ID
	}
	dead = min(len(s.dead), settleDead)
	for _, b := range s.dead[:dead] {
		call.Dead = append(call.Dead, b.letter)
	}
	return call, uncharge, done, dead
}

// flush settles all there is to settle. What fails is kept for the next time.
func (p *partition) flush() error {
	for !p.settle.empty() {
		call, uncharge, done, dead := p.settle.next()
		if len(call.Uncharge)+len(call.Done)+len(call.Dead) > 0 {
			if err := p.log.Settle(p.tenure.ctx, p.tenure.lease, call); err != nil {
				return err
			}
		}
		now := p.now()
		for _, it := range p.settle.done[:done] {
			if arrived := it.entry.Record.Event.ReceivedAt; !arrived.IsZero() {
				p.metrics.lag.Observe(now.Sub(arrived).Seconds())
			}
			p.forget(it)
		}
		for _, b := range p.settle.dead[:dead] {
			p.forget(b.item)
		}
		p.settle.uncharge = rest(p.settle.uncharge, uncharge)
		p.settle.done = rest(p.settle.done, done)
		p.settle.dead = rest(p.settle.dead, dead)
	}
	return nil
}

// rest drops the first n, and keeps the array for reuse without what left it.
func rest[T any](s []T, n int) []T {
	kept := copy(s, s[n:])
	clear(s[kept:])
	return s[:kept]
}

// forget ends what this process knows of a settled entry. Its page may live on with
// a neighbour that is held, so its bytes are let go of here.
func (p *partition) forget(it *item) {
	delete(p.known, it.entry.ID)
	p.bytes -= it.size
	*it.entry = streams.Entry{}
}
