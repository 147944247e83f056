package workertest

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/event"
)

// Group is a consumer group in memory: what Redis keeps. Consumers read it.
type Group struct {
	name string
	ttl  time.Duration
	now  func() time.Time

	mu      sync.Mutex
	parts   []*part
	members map[string]time.Time
	epoch   int64
	missing bool
	fault   func(Call) error
}

// part is one partition of a Group.
type part struct {
	entries  []streams.Entry
	place    map[string]int // entry id → index in entries
	next     int            // the first entry not delivered
	pending  map[string]string
	attempts map[string]int
	settled  map[string]int
	dead     []streams.DeadLetter
	parked   map[string]parked
	replays  int64
	position int64
	owner    string
	epoch    int64
	// runs are what the owner is running, by owner and name.
	runs  map[string][]string
	until time.Time
	news  chan struct{}
}

// parked is a delivery that is kept outside the stream.
type parked struct {
	entry streams.Entry
	known int
	// due is the zero time for what follows the one before it.
	due time.Time
}

// Call is one call of a consumer on its Log.
type Call struct {
	// Op is the name of the method.
	Op       string
	Consumer string
	// Partition is -1 for calls that name none.
	Partition int
	// Done is false before the call has had its effect and true after it: an error
	// then is an answer that was lost.
	Done bool
	// IDs are the entries of a Charge or an Unpack, Settlement what a Settle and
	// Parkings what a Park carries.
	IDs        []string
	Settlement streams.Settlement
	Parkings   []streams.Parking
}

// NewGroup returns an empty group. Its leases live for ttl on the clock now.
func NewGroup(name string, partitions int, ttl time.Duration, now func() time.Time) *Group {
	g := &Group{name: name, ttl: ttl, now: now, members: make(map[string]time.Time), missing: true}
	for range partitions {
		g.parts = append(g.parts, &part{
			place: make(map[string]int), pending: make(map[string]string), attempts: make(map[string]int),
			runs: make(map[string][]string), settled: make(map[string]int), parked: make(map[string]parked), news: make(chan struct{}),
		})
	}
	return g
}

// Partition is where the events of an ordering key stand.
func (g *Group) Partition(key string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key)) // a hash does not fail
	return int(h.Sum32()>>1) % len(g.parts)
}

// Append appends records to the partitions of their ordering keys and returns their
// entry ids, which are unique in the group.
func (g *Group) Append(recs ...event.Record) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	ids := make([]string, len(recs))
	for i, rec := range recs {
		ids[i] = g.append(streams.Entry{Partition: g.Partition(rec.Event.OrderingKey()), Record: rec})
	}
	return ids
}

// AppendUnreadable appends an entry that reads as no record.
func (g *Group) AppendUnreadable(partition int, err error) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.append(streams.Entry{Partition: partition, Err: err})
}

func (g *Group) append(e streams.Entry) string {
	p := g.parts[e.Partition]
	e.ID = fmt.Sprintf("%d-%d", len(p.entries)+1, e.Partition)
	p.place[e.ID] = len(p.entries)
	p.entries = append(p.entries, e)
	close(p.news)
	p.news = make(chan struct{})
	return e.ID
}

// Replay parks the dead letter of an entry, due now and with no attempts charged.
func (g *Group) Replay(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.of(id)
	p.dead = slices.DeleteFunc(p.dead, func(d streams.DeadLetter) bool { return d.EntryID == id })
	p.parked[id] = parked{entry: p.entries[p.place[id]], due: g.now()}
	p.replays++
}

// Delete deletes an entry from the stream, delivered or not.
func (g *Group) Delete(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.of(id)
	e := &p.entries[p.place[id]]
	*e = streams.Entry{ID: id, Partition: e.Partition, Gone: true}
}

// Destroy makes the group forget what it has delivered, as after XGROUP DESTROY:
// whoever reads next creates it again at the start.
func (g *Group) Destroy() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.missing = true
	for _, p := range g.parts {
		p.next, p.pending = 0, make(map[string]string)
	}
}

// Clear loses the streams, and the group with them. The ids of their entries are given
// out again, as by a Redis whose clock was set back.
func (g *Group) Clear() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.missing = true
	for _, p := range g.parts {
		p.entries, p.place = nil, make(map[string]int)
		p.next, p.pending, p.settled = 0, make(map[string]string), make(map[string]int)
	}
}

// Fault calls f before and after the effect of every call of every consumer, and
// makes the call return its error. nil heals.
func (g *Group) Fault(f func(Call) error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fault = f
}

// Expire ends the lease of a partition at once, as a freeze of its owner would.
func (g *Group) Expire(partition int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.parts[partition].until = time.Time{}
}

// Steal gives the lease of a partition to somebody else for a lease's life.
func (g *Group) Steal(partition int, owner string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.epoch++
	p := g.parts[partition]
	p.inherit(owner)
	p.owner, p.until = owner, g.now().Add(g.ttl)
	p.epoch = g.epoch
}

// Owners are the owners of the partitions, "" where there is none.
func (g *Group) Owners() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	owners := make([]string, len(g.parts))
	for i, p := range g.parts {
		if p.until.After(g.now()) {
			owners[i] = p.owner
		}
	}
	return owners
}

// Members are the consumers that have announced themselves, sorted.
func (g *Group) Members() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Sorted(maps.Keys(g.members))
}

// Unread is how many entries have not been delivered.
func (g *Group) Unread() int {
	return g.sum(func(p *part) int { return len(p.entries) - p.next })
}

// Pending is how many entries have been delivered and are not settled.
func (g *Group) Pending() int { return g.sum(func(p *part) int { return len(p.pending) }) }

// Parked is how many entries are kept outside the stream.
func (g *Group) Parked() int { return g.sum(func(p *part) int { return len(p.parked) }) }

// Owed is how many entries are not settled: not delivered, delivered or parked.
func (g *Group) Owed() int {
	return g.sum(func(p *part) int { return len(p.pending) + len(p.parked) + len(p.entries) - p.next })
}

func (g *Group) sum(of func(*part) int) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, p := range g.parts {
		n += of(p)
	}
	return n
}

// Attempts is how many attempts are charged to an entry that is not settled, one that runs
// now included.
func (g *Group) Attempts(id string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.of(id)
	n := p.attempts[id]
	for _, ids := range p.runs {
		if slices.Contains(ids, id) {
			n++
		}
	}
	return n
}

// Settled is how often an entry was acknowledged: 0 or 1 unless it was delivered
// again after it.
func (g *Group) Settled(id string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.of(id).settled[id]
}

// Dead are the dead letters, by partition, oldest first.
func (g *Group) Dead() []streams.DeadLetter {
	g.mu.Lock()
	defer g.mu.Unlock()
	var dead []streams.DeadLetter
	for _, p := range g.parts {
		dead = append(dead, p.dead...)
	}
	return dead
}

// of is the partition of an entry.
func (g *Group) of(id string) *part {
	for _, p := range g.parts {
		if _, ok := p.place[id]; ok {
			return p
		}
	}
	panic("workertest: no entry " + id)
}
