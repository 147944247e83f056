package workers

import (
	"math"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// budget bounds the bytes that all partitions of all groups of a Pool hold in memory.
//
// Half of it belongs to the partitions in equal parts, so that none is kept from working by
// what another holds. The other half is for whoever needs more: nobody takes more of it than
// is left afterwards, by him, by his group and by all, so that a group which is slow, or
// waits for something, leaves the others room. And whoever holds nothing may read one
// entry, whatever its size and whatever the others hold.
type budget struct {
	// limit and batch, the part of it that one call of a handler may have, do not change
	// once the pool runs. 0 is no bound.
	limit, batch int64
	used, most   prometheus.Gauge

	mu      sync.Mutex
	held    int64
	holders map[*holder]struct{}
	// freed is closed when something is given back; nil while nobody waits for it.
	freed chan struct{}
}

// holder is what one partition of a group holds. It is joined before it takes anything.
type holder struct {
	budget *budget
	group  *group
	// held is guarded by budget.mu.
	held int64
}

// batchShare is the part of the budget that one call of a handler may hold: a handler
// makes copies of what it is given.
const batchShare = 16

func newBudget(reg prometheus.Registerer) *budget {
	gauge := func(name, help string) prometheus.Gauge {
		return register(reg, prometheus.NewGauge(prometheus.GaugeOpts{Name: "paybell_workers_" + name, Help: help}))
	}
	return &budget{
		holders: make(map[*holder]struct{}),
		used:    gauge("prefetch_bytes", "Bytes of entries that all groups hold in memory together: read and not yet settled."),
		most:    gauge("prefetch_bytes_max", "Bytes of entries that all groups may hold in memory together; 0 is no bound."),
	}
}

// bound sets the budget's size.
func (b *budget) bound(bytes int64) {
	b.limit, b.batch = bytes, bytes/batchShare
	b.most.Set(float64(bytes))
}

func (b *budget) join(g *group) *holder {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := &holder{budget: b, group: g}
	b.holders[h] = struct{}{}
	return h
}

// leave gives everything back.
func (h *holder) leave() {
	b := h.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	b.add(h, -h.held)
	delete(b.holders, h)
}

// reserve takes at most want bytes, and least at least, or none: then wait is closed when
// somebody has given something back. With alone, what is to be read has nothing beside it,
// and goes whatever is left.
func (h *holder) reserve(want, least int64, alone bool) (got int64, wait <-chan struct{}) {
	b := h.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	got = min(want, b.room(h))
	if got < least {
		if !alone {
			if b.freed == nil {
				b.freed = make(chan struct{})
			}
			return 0, b.freed
		}
		got = max(got, 1)
	}
	b.add(h, got)
	return got, nil
}

// change takes or gives back bytes, without being asked.
func (h *holder) change(bytes int64) {
	b := h.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	b.add(h, bytes)
}

// add is change; mu is held.
func (b *budget) add(h *holder, bytes int64) {
	h.held += bytes
	b.held += bytes
	b.used.Add(float64(bytes))
	if bytes < 0 && b.freed != nil {
		close(b.freed)
		b.freed = nil
	}
}

// room is how much a partition may take; mu is held.
func (b *budget) room(h *holder) int64 {
	if b.limit == 0 {
		return math.MaxInt64
	}
	part := b.limit / 2 / int64(len(b.holders))
	above := func(held int64) int64 { return max(0, held-part) }
	var all, group int64
	for other := range b.holders {
		n := above(other.held)
		all += n
		if other.group == h.group {
			group += n
		}
	}
	// Of what is taken beyond its part, r, no more than all leave: r ≤ half - (all + r),
	// and likewise for what its group and itself have with it.
	shared := (b.limit/2 - all - group - above(h.held)) / 3
	return max(0, part-h.held) + max(0, shared)
}
