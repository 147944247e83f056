package workers

import (
	"cmp"
	"container/heap"
	"slices"
	"strings"
	"time"

	"github.com/paybell/paybell/streams"
)

// slip is what is known of a delivery that is, or is about to be, parked. Its entry
// is read again when it is due.
type slip struct {
	id  string
	key string
	// due is when it may run; the zero time: as soon as it is the first of its order.
	due time.Time
	// attempts were charged to it; suspect: an owner before this one ended while it ran.
	attempts int
	suspect  bool
	size     int64
}

// parking is the part of lanes that is kept outside the stream. Its owner carries
// moves out, in their order, and gives up what is in overflow.
type parking struct {
	bounds Parked
	// slips are all that are parked, also while they are read to be run.
	slips map[string]*slip
	bytes int64
	moves []move
	// overflow has no room behind the parked events of its order.
	overflow []*item
}

// move is an item that leaves the memory, and what Redis has to be told of it;
// nothing where told says that it knows.
type move struct {
	item *item
	slip *slip
	told bool
}

// full reports whether the partition has its share of what may be parked.
func (k *parking) full() bool {
	return len(k.slips) >= k.bounds.Entries || k.bytes >= k.bounds.Bytes
}

func (k *parking) keep(s *slip) {
	if k.slips[s.id] == nil {
		k.slips[s.id] = s
		k.bytes += s.size
	}
}

// drop forgets a slip whose delivery is settled, or is not parked after all.
func (k *parking) drop(s *slip) {
	if k.slips[s.id] == s {
		delete(k.slips, s.id)
		k.bytes -= s.size
	}
}

// leave parks the waiting events of a lane: the first one until it is due, the
// others behind it.
func (l *lanes) leave(ln *lane) {
	behind := ln.parked
	ln.parked = nil
	first := ln.waiting.popFront()
	l.held--
	first.leave = false
	s := first.slip
	if s == nil {
		s = &slip{id: first.entry.ID, key: ln.key, size: first.size}
	}
	s.due, s.attempts, s.suspect = first.due, first.charged, false
	l.away(ln, first, s, false)
	for ln.waiting.len() > 0 {
		it := ln.waiting.popFront()
		l.held--
		if it.slip != nil { // It has not been run since it was read.
			l.away(ln, it, it.slip, true)
			continue
		}
		l.follow(ln, it)
	}
	ln.parked = append(ln.parked, behind...)
}

// follow parks an event behind the parked ones of its lane.
func (l *lanes) follow(ln *lane, it *item) {
	if len(ln.parked) >= l.bounds.PerOrder {
		l.overflow = append(l.overflow, it)
		return
	}
	l.away(ln, it, &slip{id: it.entry.ID, key: ln.key, attempts: it.charged, suspect: it.suspect, size: it.size}, false)
}

func (l *lanes) away(ln *lane, it *item, s *slip, told bool) {
	ln.parked = append(ln.parked, s)
	l.keep(s)
	l.moves = append(l.moves, move{it, s, told})
}

// know takes over what was parked by somebody else: an owner before, or a replay.
func (l *lanes) know(s *slip, now time.Time) {
	if l.slips[s.id] != nil {
		return
	}
	l.keep(s)
	ln := l.byKey[s.key]
	if ln == nil {
		ln = l.open(s.key)
		ln.parked = append(ln.parked, s)
		l.sleep(ln, now)
		return
	}
	i, _ := slices.BinarySearchFunc(ln.parked, s, func(a, b *slip) int {
		if newer(a.id, b.id) {
			return 1
		}
		return -1
	})
	ln.parked = slices.Insert(ln.parked, i, s)
	if ln.at >= 0 && i == 0 {
		ln.wake = later(s.due, now)
		heap.Fix(&l.asleep, ln.at)
	}
}

// lose forgets a delivery that turned out not to be parked.
func (l *lanes) lose(s *slip, now time.Time) {
	l.drop(s)
	ln := l.byKey[s.key]
	if ln == nil {
		return
	}
	ln.parked = slices.DeleteFunc(ln.parked, func(other *slip) bool { return other == s })
	if ln.at < 0 {
		return
	}
	heap.Remove(&l.asleep, ln.at)
	l.place(ln, now)
}

func (l *lanes) sleep(ln *lane, now time.Time) {
	ln.wake = later(ln.parked[0].due, now)
	heap.Push(&l.asleep, ln)
}

// dueSlip is the first delivery that wake would return now, nil where no lane is due.
func (l *lanes) dueSlip(now time.Time) *slip {
	if len(l.asleep) == 0 || l.asleep[0].wake.After(now) {
		return nil
	}
	return l.asleep[0].parked[0]
}

// wake ends the sleep of the lane that is due first and returns it with those of its
// events that may be read now: one that failed decides for those behind it. It
// returns nil where no lane is due.
func (l *lanes) wake(now time.Time, entries int, bytes int64) (*lane, []*slip) {
	if len(l.asleep) == 0 || l.asleep[0].wake.After(now) {
		return nil, nil
	}
	ln := heap.Pop(&l.asleep).(*lane) //nolint:errcheck // The heap holds nothing else.
	n := 0
	for _, s := range ln.parked {
		alone := s.attempts > 0 || s.due.After(now)
		if n > 0 && (alone || n >= entries || s.size > bytes) {
			break
		}
		n++
		bytes -= s.size
		if alone {
			break
		}
	}
	return ln, ln.parked[:n:n]
}

// later is the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// newer reports whether entry id a comes after b. Ids are two numbers without
// leading zeros, so the longer of two is the greater.
func newer(a, b string) bool {
	aMillis, aSeq, _ := strings.Cut(a, "-")
	bMillis, bSeq, _ := strings.Cut(b, "-")
	return cmp.Or(
		cmp.Compare(len(aMillis), len(bMillis)), cmp.Compare(aMillis, bMillis),
		cmp.Compare(len(aSeq), len(bSeq)), cmp.Compare(aSeq, bSeq)) > 0
}

// sleepingLanes is a heap by the time the first parked event is due.
type sleepingLanes []*lane

// Len implements heap.Interface.
func (h sleepingLanes) Len() int { return len(h) }

// Less implements heap.Interface.
func (h sleepingLanes) Less(i, j int) bool { return h[i].wake.Before(h[j].wake) }

// Swap implements heap.Interface.
func (h sleepingLanes) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

// Push implements heap.Interface.
func (h *sleepingLanes) Push(x any) {
	ln := x.(*lane) //nolint:errcheck // Only lanes are pushed.
	ln.at = len(*h)
	*h = append(*h, ln)
}

// Pop implements heap.Interface.
func (h *sleepingLanes) Pop() any {
	old := *h
	ln := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	ln.at = -1
	return ln
}

// moveEntries bounds the deliveries that leave in one call.
const moveEntries = 256

// parkedPage is how much of what is parked is asked for at once.
const parkedPage = 500

// recallEvery is how long replays may wait to be found: asking what is parked costs
// as much as there is.
const recallEvery = time.Second

// replayed reports whether dead letters were replayed since the last recall.
func (p *partition) replayed() bool {
	return p.reader.stage == taking && !p.draining && p.tenure.lease.Replays() != p.reader.replays
}

// recall learns what is parked, so that no order runs past its parked events.
func (p *partition) recall() error {
	replays := p.tenure.lease.Replays()
	for first := 0; ; first += parkedPage {
		page, err := p.tenure.lease.Parked(p.tenure.ctx, first, parkedPage)
		if err != nil {
			return err
		}
		now := p.now()
		for _, d := range page {
			s := &slip{
				id: d.ID, key: d.Key, attempts: d.Attempts, suspect: d.Attempts > d.Known,
				size: entryOverhead + int64(d.Bytes),
			}
			if d.Wait > 0 {
				s.due = now.Add(d.Wait)
			}
			if s.key == "" {
				s.key = "parked/" + d.ID // What reads as no event has no order.
			}
			p.lanes.know(s, now)
		}
		if len(page) < parkedPage {
			p.reader.replays, p.reader.recallAt = replays, now.Add(recallEvery)
			return nil
		}
	}
}

// flushMoves tells Redis what leaves the stream, and lets go of it.
func (p *partition) flushMoves() error {
	for _, it := range p.lanes.overflow {
		p.bury(it, "cap", errCap)
	}
	p.lanes.overflow = rest(p.lanes.overflow, len(p.lanes.overflow))
	for len(p.lanes.moves) > 0 {
		n := min(len(p.lanes.moves), moveEntries)
		now := p.now()
		var ps []streams.Parking
		for _, m := range p.lanes.moves[:n] {
			if !m.told {
				ps = append(ps, streams.Parking{
					EntryID: m.slip.id, Wait: max(0, m.slip.due.Sub(now)), Behind: m.slip.due.IsZero(), Attempts: m.slip.attempts,
				})
			}
		}
		without, err := p.tenure.lease.Park(p.tenure.ctx, ps)
		if err != nil {
			return err
		}
		for _, m := range p.lanes.moves[:n] {
			if m.item.slip != nil {
				p.unpacked.entries--
				p.unpacked.bytes -= m.item.size
			}
			p.let(m.item)
		}
		for _, id := range without {
			if s := p.lanes.slips[id]; s != nil {
				p.lanes.lose(s, now)
			}
		}
		p.lanes.moves = rest(p.lanes.moves, n)
	}
	return nil
}

// unpack reads parked deliveries that are due, and reports whether it found any.
// What is read of them is bounded apart from new entries, so that neither keeps the
// other from being read; of the budget, one may always be read where none is.
func (p *partition) unpack() (more bool, err error) {
	for p.mayUnpack() {
		now := p.now()
		first := p.lanes.dueSlip(now)
		if first == nil {
			return more, nil
		}
		bytes := p.charge(p.options.PrefetchBytes-p.unpacked.bytes, first.size, p.unpacked.entries == 0)
		if bytes == 0 {
			return more, nil
		}
		err := p.unpackDue(now, bytes)
		p.budget.change(-bytes) // due has charged what came
		if err != nil {
			return more, err
		}
		more = true
	}
	return more, nil
}

// unpackDue reads what is due of the lane that is due first, of at most so many bytes, one
// delivery at least.
func (p *partition) unpackDue(now time.Time, bytes int64) error {
	ln, slips := p.lanes.wake(now, p.options.Batch-p.unpacked.entries, bytes)
	ids := make([]string, len(slips))
	for i, s := range slips {
		ids[i] = s.id
	}
	es, err := p.tenure.lease.Unpack(p.tenure.ctx, ids)
	if err == nil && len(es) != len(ids) {
		err = errUnpack
	}
	if err != nil {
		p.lanes.place(ln, now)
		return err
	}
	ln.parked = ln.parked[len(slips):]
	for i := range es {
		p.due(ln, slips[i], &es[i])
	}
	p.lanes.place(ln, now)
	return nil
}

// mayUnpack reports whether there is room for parked deliveries that are due. While
// one is on its way out it must not be read, nor before all of them are known: the
// first of an order may be on a later page than those behind it.
func (p *partition) mayUnpack() bool {
	return !p.draining && p.reader.stage != recalling && len(p.lanes.moves) == 0 &&
		p.unpacked.entries < p.options.Batch && p.unpacked.bytes < p.options.PrefetchBytes
}

// due makes a parked delivery one that runs here.
func (p *partition) due(ln *lane, s *slip, e *streams.Entry) {
	it := &item{entry: e, key: ln.key, charged: e.Attempts, counted: e.Attempts, slip: s, size: size(e)}
	p.hold(it)
	p.unpacked.entries++
	p.unpacked.bytes += it.size
	switch {
	case e.Gone:
		p.metrics.lost.Inc()
		p.logger.Error("parked delivery was deleted before it was settled: its event is lost to this group",
			"group", p.name, "partition", e.Partition, "entry_id", e.ID)
		p.settle.done = append(p.settle.done, it)
	case e.Err != nil:
		p.bury(it, "unreadable", e.Err)
	case s.suspect && e.Attempts >= p.options.Attempts:
		p.bury(it, "crash", errCrash)
	default:
		it.suspect, it.solo = s.suspect, s.suspect
		it.failed = e.Attempts > 0 && !s.suspect
		ln.waiting.pushBack(it)
		p.lanes.held++
	}
}
