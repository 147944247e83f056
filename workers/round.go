package workers

import (
	"context"
	"errors"
	"sync"
	"time"
)

// roundEvery is the least time between two rounds, unless one would be full. A delivery
// that comes alone runs at once; those that come close together, in whatever partitions,
// share one call, and what a call costs by itself is paid once for all of them.
const roundEvery = 25 * time.Millisecond

// roundsAtOnce is how many rounds may gather or run at once, if each is full.
const roundsAtOnce = 2

// roundPatience is how long a round keeps those from beginning that have no part in it: a
// handler that hangs on one order holds up the partitions of its round, and no others.
const roundPatience = time.Second

// rounds makes the calls of a group's BatchHandler. Each is one round over the partitions
// that this process owns: those that have something to run, or to read, are given a seat,
// and each answers it with a run, or with none.
type rounds struct {
	group *group

	mu sync.Mutex
	// wanting are partitions without a seat, with how much they have ready; seated are
	// those that have one, until they have answered it.
	wanting map[*partition]int
	seated  map[*partition]struct{}
	// open is how many rounds gather or run within their patience, opened when the last
	// one began.
	open   int
	opened time.Time
	timer  *time.Timer
}

// seat is a partition's place in a round.
type seat struct {
	round *round
	// limit is how many deliveries it may bring, bytes how large they may be where there is
	// more than one; 0 is no bound.
	limit int
	bytes int64
}

// round is one call of the handler while it is put together.
type round struct {
	rounds *rounds
	// patience ends with the round, or ended it for the others before; rounds.mu guards
	// both.
	patience *time.Timer
	passed   bool

	mu sync.Mutex
	// empty is how many seats were not answered yet.
	empty int
	call  call
}

func newRounds(g *group) *rounds {
	return &rounds{group: g, wanting: make(map[*partition]int), seated: make(map[*partition]struct{})}
}

// want asks for a seat in the next round.
func (rs *rounds) want(p *partition, ready int) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if _, has := rs.seated[p]; has {
		return
	}
	rs.wanting[p] = ready
	rs.tryOpen()
}

// leave takes the wish back; a seat that was given already has to be answered.
func (rs *rounds) leave(p *partition) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	delete(rs.wanting, p)
}

// pass lets others begin while the round goes on.
func (r *round) pass() {
	rs := r.rounds
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if !r.passed {
		r.passed = true
		rs.open--
		rs.tryOpen()
	}
}

// end makes room for the next round; after one in which nothing ran it need not wait.
func (r *round) end(idle bool) {
	r.patience.Stop()
	if idle {
		r.rounds.mu.Lock()
		r.rounds.opened = time.Time{}
		r.rounds.mu.Unlock()
	}
	r.pass()
}

// due opens a round that had to wait for its time.
func (rs *rounds) due() {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.timer = nil
	rs.tryOpen()
}

// tryOpen opens a round if it is time for one; mu is held.
func (rs *rounds) tryOpen() {
	if len(rs.wanting) == 0 {
		return
	}
	batch := rs.group.perRun
	ready := 0
	for _, n := range rs.wanting {
		ready += n
	}
	full := ready >= batch
	if rs.open > 0 && (!full || rs.open >= roundsAtOnce) {
		return
	}
	if wait := rs.opened.Add(roundEvery).Sub(rs.group.now()); !full && wait > 0 {
		if rs.timer == nil {
			rs.timer = time.AfterFunc(wait, rs.due)
		}
		return
	}
	rs.open++
	rs.opened = rs.group.now()
	r := &round{rounds: rs, empty: min(len(rs.wanting), batch)}
	r.patience = time.AfterFunc(roundPatience, r.pass)
	rs.seat(r, batch)
}

// seat gives as many partitions a seat as the round has; together they bring at most batch
// deliveries. Each has an equal share, and those that have more ready what others leave.
// How much one has that has yet to read nobody knows: it has its share. mu is held.
func (rs *rounds) seat(r *round, batch int) {
	share, left := batch/r.empty, batch
	bytes := rs.group.budget.batch / int64(r.empty)
	given := make(map[*partition]int, r.empty)
	for p, n := range rs.wanting {
		if len(given) == r.empty {
			break
		}
		given[p] = n
		if n == 0 || n > share {
			n = share
		}
		left -= n
	}
	for p, n := range given {
		limit := share
		if more := min(n-share, left); more > 0 {
			limit += more
			left -= more
		}
		delete(rs.wanting, p)
		rs.seated[p] = struct{}{}
		p.seats <- seat{r, limit, bytes}
	}
}

// answered takes note that a partition may want another seat.
func (rs *rounds) answered(p *partition) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	delete(rs.seated, p)
}

// join answers a seat; r is nil where there is nothing to run. The last answer begins
// the call.
func (r *round) join(p *partition, run *run) {
	r.rounds.answered(p)
	r.mu.Lock()
	if run != nil {
		r.call.add(p, run)
	}
	r.empty--
	last := r.empty == 0
	r.mu.Unlock()
	if !last {
		return
	}
	if len(r.call.runs) == 0 {
		r.end(true)
		return
	}
	go func() {
		defer r.end(false) // also where the handler ends the goroutine
		r.rounds.group.attempt(&r.call)
	}()
}

// call is one call of the handler, with the runs of one or several partitions.
type call struct {
	runs  []*run
	parts []*partition
	ds    []Delivery
}

// outcome is what came of a call.
type outcome struct {
	// errs has one error a delivery, unless broken says why the whole call failed.
	errs   []error
	broken error
	// overran: the attempt's time was up before it returned. cut: the context of one of
	// the partitions ended before.
	overran, cut bool
	// company is how many deliveries the call had.
	company int
}

func (c *call) add(p *partition, r *run) {
	c.runs, c.parts = append(c.runs, r), append(c.parts, p)
	c.ds = p.deliveries(c.ds, r)
}

// errCut ends the context of a call because one of its partitions has to end its attempts.
var errCut = errors.New("workers: a partition of the call has ended its attempts")

// context ends when the call's time is up, and as soon as any of its partitions must not
// run any more: whoever reads its leases by the context must not act on one that is lost.
func (c *call) context(timeout time.Duration) (context.Context, func()) {
	if len(c.parts) == 1 {
		return context.WithTimeout(c.parts[0].attempts, timeout)
	}
	ctx, cut := context.WithCancelCause(context.WithoutCancel(c.parts[0].attempts))
	ctx, cancel := context.WithTimeout(ctx, timeout)
	stops := make([]func() bool, len(c.parts))
	for i, p := range c.parts {
		stops[i] = context.AfterFunc(p.attempts, func() { cut(errCut) })
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel()
		cut(nil)
	}
}
