package gateway

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/paybell/paybell/gateway/journal"
)

// backlog counts the records that are in the journal, or on their way into it, and
// not yet in the stream. A record is counted before it is durable and for as long as
// it may be ahead of one that comes later, so that the later one goes behind it.
type backlog struct {
	mu    sync.RWMutex // held for writing by mend alone
	parts []atomic.Int64
	total atomic.Int64
	// entering are calls whose fate the journal has not told.
	entering atomic.Int64
	// away is set by an append that the stream did not confirm and cleared by one that
	// it did. It only counts while something waits, or nobody would clear it.
	away atomic.Bool
	// doubtful is set when a record was lost to damage whose partition nobody can tell.
	doubtful atomic.Bool
}

func newBacklog(partitions int) *backlog { return &backlog{parts: make([]atomic.Int64, partitions)} }

// enter counts the records of a call, one for each of the partitions.
func (b *backlog) enter(partitions []int) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	b.entering.Add(1)
	b.add(partitions, 1)
}

// entered says what became of a call: it is in the journal, or nowhere.
func (b *backlog) entered(partitions []int, kept bool) {
	if !kept {
		b.add(partitions, -1)
	}
	b.entering.Add(-1)
}

// leave counts a record that needs not be waited for any more.
func (b *backlog) leave(partition int) {
	b.parts[partition].Add(-1)
	b.total.Add(-1)
}

// add changes the total first: it is never nothing while a partition holds a record.
func (b *backlog) add(partitions []int, n int64) {
	b.total.Add(n * int64(len(partitions)))
	for _, p := range partitions {
		b.parts[p].Add(n)
	}
}

// empty reports whether no partition holds anything.
func (b *backlog) empty() bool { return b.total.Load() == 0 }

// mend makes a doubtful count right again. It can while nothing is on its way and all
// of the journal was looked at: then the count is nothing, save that of stuck
// partitions, which stays in doubt. It reports whether it could.
func (b *backlog) mend(caughtUp func() bool, stuck map[int]journal.Position) bool {
	if !b.doubtful.Load() {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.entering.Load() > 0 || !caughtUp() {
		return false
	}
	var total int64
	for p := range b.parts {
		if _, waits := stuck[p]; waits {
			total += b.parts[p].Load()
		} else {
			b.parts[p].Store(0)
		}
	}
	b.total.Store(total)
	b.doubtful.Store(len(stuck) > 0)
	return true
}

// waits reports whether the stream had confirmed nothing when last it was asked, and
// something waits for it.
func (b *backlog) waits() bool { return b.away.Load() && b.total.Load() > 0 }

// holds reports whether a record of these partitions has to go behind others.
func (b *backlog) holds(partitions []int) bool {
	for _, p := range partitions {
		if b.parts[p].Load() > 0 {
			return true
		}
	}
	return false
}

// patience is how long the stream may confirm nothing, with callers waiting for it,
// before others stop queueing up behind them.
const patience = 500 * time.Millisecond

// pulse tells whether the stream still confirms anything.
type pulse struct {
	mu      sync.Mutex
	waiting int
	// since is when something was confirmed, or when the first of those who wait began.
	since time.Time
}

func (p *pulse) begin(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting == 0 {
		p.since = now
	}
	p.waiting++
}

func (p *pulse) end(now time.Time, confirmed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting--
	if confirmed {
		p.since = now
	}
}

func (p *pulse) stopped(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiting > 0 && now.Sub(p.since) > patience
}
