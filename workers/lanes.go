package workers

import (
	"container/heap"
	"slices"
	"time"

	"github.com/paybell/paybell/streams"
)

// item is a delivery owed, from being read until being settled.
type item struct {
	entry *streams.Entry
	key   string
	size  int64
	// charged is how many attempts it has had, the one that runs included; counted is what
	// Redis has written down for the entry by itself.
	charged, counted int
	// suspect: attempts were charged by an owner before this one, which may have
	// been killed by it.
	suspect bool
	// solo: it must be the only one of its run, so that nobody is charged for it.
	solo bool
	// failed: an attempt of this process failed; due is when the next one may start.
	failed bool
	due    time.Time
	// slip is what is known of it outside the stream; nil while it is not parked.
	slip *slip
	// stay is when it first failed since it was read; leave: it is to be parked.
	stay  time.Time
	leave bool
}

// lane keeps the events of one ordering key in order. It exists while an event of
// the key is running or kept from running.
type lane struct {
	key     string
	waiting deque[*item]
	// run holds the events before the waiting ones; nil while none is running.
	run *run
	// parked are the events behind the waiting ones: they are kept outside the stream
	// and outside this process.
	parked []*slip
	// wake is when the first parked event may run; the lane sleeps at place at of
	// lanes.asleep, or elsewhere when at is negative.
	wake time.Time
	at   int
}

// lanes decides what may run next. It is owned by one goroutine and knows neither
// Redis nor handlers. Every entry passes through fresh, in append order. When it is
// drawn from there and its key has a lane, it goes to the lane's end; a lane is
// thus always older than what fresh holds of its key.
//
// A lane that is not running stands in exactly one of ripe (its first event may
// run), resting (its first event waits for its retry), guarded (its first event
// waits for the pool's guard) and asleep (its first event is parked).
type lanes struct {
	fresh   deque[*item]
	byKey   map[string]*lane
	ripe    deque[*lane]
	resting restingLanes
	guarded deque[*lane]
	asleep  sleepingLanes
	parking
	// guardAt is the number of charged attempts from which a suspect runs only
	// under the guard.
	guardAt int
	// held counts what waits in lanes.
	held int
	// ripeFirst alternates, so that neither retries nor first attempts starve.
	ripeFirst bool
	spare     []*lane
}

func newLanes(guardAt int, bounds Parked) lanes {
	return lanes{
		byKey: make(map[string]*lane), guardAt: guardAt,
		parking: parking{bounds: bounds, slips: make(map[string]*slip)},
	}
}

func (l *lanes) add(it *item) { l.fresh.pushBack(it) }

// ready is how many items might run now.
func (l *lanes) ready(now time.Time) int {
	n := l.fresh.len() + l.ripe.len()
	if len(l.resting) > 0 && !l.due().After(now) {
		n++
	}
	return n
}

// soloNext reports whether what comes next must be alone.
func (l *lanes) soloNext() bool {
	if l.ripe.len() > 0 {
		return l.ripe.front().waiting.front().solo
	}
	return l.fresh.len() > 0 && l.fresh.front().solo
}

// next draws at most limit items that may run now, as one run, or nil. Of more than one
// they have at most so many bytes; 0 is no bound. Items of one
// key stand in append order, and none of their key is running elsewhere or waits
// before them.
func (l *lanes) next(limit int, bytes int64, now time.Time) *run {
	for len(l.resting) > 0 && !l.due().After(now) {
		l.ripe.pushBack(heap.Pop(&l.resting).(*lane)) //nolint:errcheck // The heap holds nothing else.
	}
	if l.ripe.len() == 0 && l.fresh.len() == 0 {
		return nil
	}
	r := &run{items: make([]*item, 0, min(limit, l.ripe.len()+l.fresh.len())), most: bytes}
	share := limit
	if l.ripe.len() > 0 && l.fresh.len() > 0 {
		share = (limit + 1) / 2
	}
	l.ripeFirst = !l.ripeFirst
	if l.ripeFirst {
		l.drawRipe(r, share, now)
		l.drawFresh(r, limit)
		l.drawRipe(r, limit, now)
	} else {
		l.drawFresh(r, share)
		l.drawRipe(r, limit, now)
		l.drawFresh(r, limit)
	}
	if len(r.items) == 0 {
		return nil
	}
	return r
}

// drawFresh draws from fresh until the run has limit items.
func (l *lanes) drawFresh(r *run, limit int) {
	for l.fresh.len() > 0 && len(r.items) < limit && !r.solo {
		it := l.fresh.front()
		ln := l.byKey[it.key]
		if ln != nil && (ln.run != r || ln.waiting.len()+len(ln.parked) > 0) {
			l.wait(ln, l.fresh.popFront())
			continue
		}
		guard := ln == nil && l.needsGuard(it)
		if !guard && (it.solo && len(r.items) > 0 || !r.fits(it)) {
			return
		}
		l.fresh.popFront()
		if ln == nil {
			ln = l.open(it.key)
		}
		if guard {
			l.wait(ln, it)
			l.guarded.pushBack(ln)
			continue
		}
		r.take(ln, it)
	}
}

// drawRipe draws from ripe lanes until the run has limit items. Of a lane whose
// first event failed before, only that one is drawn: it decides for those behind it.
func (l *lanes) drawRipe(r *run, limit int, now time.Time) {
	for l.ripe.len() > 0 && len(r.items) < limit && !r.solo {
		ln := l.ripe.front()
		first := ln.waiting.front()
		if l.needsGuard(first) {
			l.guarded.pushBack(l.ripe.popFront())
			continue
		}
		if first.solo && len(r.items) > 0 || !r.fits(first) {
			return
		}
		l.ripe.popFront()
		l.held--
		r.take(ln, ln.waiting.popFront())
		for !first.failed && !first.solo && ln.waiting.len() > 0 && len(r.items) < limit {
			if it := ln.waiting.front(); it.solo || it.failed || it.due.After(now) || !r.fits(it) {
				break
			}
			l.held--
			r.take(ln, ln.waiting.popFront())
		}
	}
}

// nextGuarded draws the first event that waits for the guard.
func (l *lanes) nextGuarded() *run {
	r := &run{guard: true}
	ln := l.guarded.popFront()
	l.held--
	r.take(ln, ln.waiting.popFront())
	return r
}

// finish ends a run. The items of back, in the run's order, are owed another run
// and go before what waits in their lanes.
func (l *lanes) finish(r *run, back []*item, now time.Time) {
	for _, it := range slices.Backward(back) {
		l.byKey[it.key].waiting.pushFront(it)
	}
	l.held += len(back)
	for _, ln := range r.lanes {
		ln.run = nil
		l.place(ln, now)
	}
}

// place puts a lane that has stopped running where its first event belongs.
func (l *lanes) place(ln *lane, now time.Time) {
	if ln.waiting.len() > 0 && ln.waiting.front().leave {
		l.leave(ln)
	}
	switch {
	case ln.waiting.len() > 0 && ln.waiting.front().due.After(now):
		heap.Push(&l.resting, ln)
	case ln.waiting.len() > 0:
		l.ripe.pushBack(ln)
	case len(ln.parked) > 0:
		l.sleep(ln, now)
	default:
		l.close(ln)
	}
}

// due is when the first resting lane may run; there must be one.
func (l *lanes) due() time.Time { return l.resting[0].waiting.front().due }

func (l *lanes) needsGuard(it *item) bool { return it.suspect && it.charged >= l.guardAt }

// wait puts an event behind its lane, and so outside the stream where that lane's
// end is.
func (l *lanes) wait(ln *lane, it *item) {
	if len(ln.parked) > 0 {
		l.follow(ln, it)
		return
	}
	ln.waiting.pushBack(it)
	l.held++
}

func (l *lanes) open(key string) *lane {
	var ln *lane
	if n := len(l.spare); n > 0 {
		ln, l.spare = l.spare[n-1], l.spare[:n-1]
	} else {
		ln = &lane{at: -1}
	}
	ln.key = key
	l.byKey[key] = ln
	return ln
}

func (l *lanes) close(ln *lane) {
	delete(l.byKey, ln.key)
	ln.parked = nil
	l.spare = append(l.spare, ln)
}

// restingLanes is a heap by the time the first event is due.
type restingLanes []*lane

// Len implements heap.Interface.
func (h restingLanes) Len() int { return len(h) }

// Less implements heap.Interface.
func (h restingLanes) Less(i, j int) bool {
	return h[i].waiting.front().due.Before(h[j].waiting.front().due)
}

// Swap implements heap.Interface.
func (h restingLanes) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *restingLanes) Push(x any) { *h = append(*h, x.(*lane)) } //nolint:errcheck // Only lanes are pushed.

// Pop implements heap.Interface.
func (h *restingLanes) Pop() any {
	old := *h
	ln := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return ln
}
