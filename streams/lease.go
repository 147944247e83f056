package streams

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/paybell/paybell/streams/event"
)

// Lease is one partition of a group in the hands of one owner, until another gets it.
// Its calls are fenced: they do nothing and return ErrLeaseLost where this owner does
// not hold the partition any more. Renew and Wait may run beside the others, of which
// there is one at a time.
type Lease struct {
	group     *Group
	partition int
	epoch     int64
	key       string // the lease itself

	mu sync.Mutex
	// last is the last entry that was delivered as far as this owner knows, "" where it
	// does not. Where upTo is set, somebody else had entries delivered in between, up to
	// there, and this owner has caught up as far as last.
	last, upTo string
	// sweepAt is when to look for pending entries of other consumers; found are
	// such entries, adopted and not yet handed out.
	sweepAt time.Time
	found   []string
	// replays is how many dead letters were ever replayed into the partition.
	replays int64
	// newest is the last entry that was appended, position that of the effect store when
	// deliveries were settled last, as of the last Adopt.
	newest   string
	position int64
	// again: the group was given everything again, and has not come to the end of that as
	// of the last Adopt. Entries that are among its dead letters, buried, come once more.
	again  bool
	buried map[string]bool
}

// Acquire takes the lease of a partition; ok is false while another owner holds it.
// The epoch of a new lease is above every earlier one, also after Redis lost its
// memory. What an owner that is gone had begun to run is charged the attempt by it.
// A lease that this Group holds already is renewed and returned again.
func (g *Group) Acquire(ctx context.Context, partition int) (l *Lease, ok bool, err error) {
	p := &g.parts[partition]
	p.mu.Lock()
	above, held := p.above, p.held
	p.mu.Unlock()
	epoch, err := g.lease(ctx, partition, above, "")
	if errors.Is(err, ErrLeaseLost) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if held != nil && held.epoch == epoch {
		return held, true, nil
	}
	// What was read was read under another lease, and perhaps of another server.
	g.feed.forget(partition)
	g.m.acquired.Inc()
	l = &Lease{group: g, partition: partition, epoch: epoch, key: g.layout.Lease(partition, g.name)}
	p.mu.Lock()
	p.held = l
	p.mu.Unlock()
	return l, true, nil
}

// lease takes a lease, or renews the one of the given epoch.
func (g *Group) lease(ctx context.Context, partition int, above int64, renew string) (epoch int64, err error) {
	reply, err := g.leases.run(ctx, leaseScript, []string{
		g.layout.Lease(partition, g.name), g.layout.Epoch(partition, g.name), g.layout.Runs(partition, g.name),
		g.layout.Attempts(partition, g.name), g.layout.Events(partition), g.layout.Parcels(partition, g.name),
	}, g.owner, g.o.LeaseTTL.Milliseconds(), above, renew, g.name)
	if err != nil {
		return 0, err
	}
	text, _ := at(reply, 0).(string) // what is no text is no number either
	if epoch, err = strconv.ParseInt(text, 10, 64); err != nil {
		return 0, fmt.Errorf("streams: lease of partition %d: epoch: %w", partition, err)
	}
	return epoch, nil
}

// Partition is what the lease is for.
func (l *Lease) Partition() int { return l.partition }

// Epoch rises with every change of owner, also after Redis lost its memory.
func (l *Lease) Epoch() int64 { return l.epoch }

// Renew prolongs the lease. It returns ErrLeaseLost where it had ended.
func (l *Lease) Renew(ctx context.Context) error {
	_, err := l.group.lease(ctx, l.partition, 0, strconv.FormatInt(l.epoch, 10))
	return err
}

// Surpass makes the next lease of the partition have an epoch above the given one,
// which somebody has seen: Redis, its clock set back and its memory lost, would begin
// below it.
func (l *Lease) Surpass(epoch int64) {
	p := &l.group.parts[l.partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	p.above = max(p.above, epoch)
}

// Release gives the lease back before it ends.
func (l *Lease) Release(ctx context.Context) error {
	_, err := l.fencedBy(ctx, l.group.leases, releaseScript, nil)
	return err
}

// Replays is how many dead letters were replayed into the partition, as far as the last
// Take has heard; when it grows, the owner asks what is parked.
func (l *Lease) Replays() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.replays
}

// Adopt makes every pending entry of the partition this consumer's own, whoever
// it was delivered to. Pending entries that were deleted from the stream are
// lost to the group: they are counted, logged and dropped.
func (l *Lease) Adopt(ctx context.Context) error {
	return l.ensured(ctx, func() error {
		_, last, err := l.adoptAll(ctx)
		if err == nil {
			l.caughtUp(last)
		}
		return err
	})
}

// Position is that of the group's effect store when deliveries of the partition were
// settled last, as of the last Adopt: a store that is behind it has lost effects.
func (l *Lease) Position() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.position
}

// Newest is when the last entry was appended that this owner knows of, by Redis's clock;
// zero where none was. Where an effect is of a later one, Redis may have lost entries.
func (l *Lease) Newest() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return timeOf(laterID(l.newest, l.last))
}

// mark marks the entries that are among the group's dead letters.
func (l *Lease) mark(ctx context.Context, es []Entry) error {
	l.mu.Lock()
	again, known := l.again, l.buried
	l.mu.Unlock()
	if !again || len(es) == 0 {
		return nil
	}
	if known == nil {
		var err error
		if known, err = buried(ctx, l.group.write, l.group.layout.Dead(l.partition, l.group.name)); err != nil {
			return err
		}
		l.mu.Lock()
		l.buried = known
		l.mu.Unlock()
	}
	for i := range es {
		es[i].Buried = known[es[i].ID]
	}
	return nil
}

// buriedPage is how many dead letters one script looks at: each carries a whole callback.
const buriedPage = 50

// buried are the entry ids of dead letters.
func buried(ctx context.Context, run *runner, dead string) (map[string]bool, error) {
	out := map[string]bool{}
	for start := "-"; start != ""; {
		reply, err := run.run(ctx, buriedScript, []string{dead}, start, buriedPage)
		if err != nil {
			return nil, err
		}
		for _, id := range texts(at(reply, 0)) {
			out[id] = true
		}
		start = ""
		if last, _ := at(reply, 1).(string); last != "" { // no text means no further page
			start = nextID(last)
		}
	}
	return out, nil
}

// Rewind has everything that the stream still has delivered to the group again, also what
// was settled: its effect store went back to an earlier state, whose position is given.
// Nothing of the partition may be running. It returns how many entries these are, and
// when the first of them was appended.
func (l *Lease) Rewind(ctx context.Context, position int64) (entries int64, since time.Time, err error) {
	g, p := l.group, l.partition
	reply, err := l.fenced(ctx, rewindScript, []string{
		g.layout.Events(p), g.layout.Ledger(p), g.layout.Counts(p, g.name), g.layout.Parked(p, g.name), g.layout.Dead(p, g.name),
		g.layout.Attempts(p, g.name), g.layout.Parcels(p, g.name),
	}, g.name, position)
	if err != nil {
		return 0, time.Time{}, err
	}
	l.mu.Lock()
	l.found, l.last, l.upTo, l.position = nil, "", "", position
	l.again, l.buried = true, nil
	l.mu.Unlock()
	first, _ := at(reply, 1).(string) // an id is always text
	return number(at(reply, 0)), timeOf(first), nil
}

// caughtUp notes which entry was the last one delivered.
func (l *Lease) caughtUp(last string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last, l.upTo = last, ""
}

// adoptAll adopts what is pending for others, and says how much that was and which entry
// was the last one delivered when it began.
func (l *Lease) adoptAll(ctx context.Context) (n int, last string, err error) {
	for start := "-"; start != ""; {
		page, err := l.adoptPage(ctx, start, adoptPage, 0)
		n += len(page.moved)
		if err != nil {
			return n, "", err
		}
		if start == "-" {
			last = page.last
			l.mu.Lock()
			l.newest, l.position = page.newest, page.position
			l.buried = nil
			l.again = page.againTo != "" && laterID(page.last, page.againTo) != page.last
			l.mu.Unlock()
		}
		start = page.next
	}
	return n, last, nil
}

// adoptPage is how many pending entries one call of the script looks at.
const adoptPage = 500

// adopted is what came of one page: the ids that were moved, where the next page begins,
// "" after the last, and, on the first, the last entry delivered to the group, the last
// one that was appended, and the position of the effect store.
type adopted struct {
	moved                       []string
	next, last, newest, againTo string
	position                    int64
}

// adoptPage adopts what one page of the pending list holds of other consumers.
func (l *Lease) adoptPage(ctx context.Context, start string, count int, idleMS int64) (adopted, error) {
	g := l.group
	reply, err := l.fenced(ctx, adoptScript, []string{g.layout.Events(l.partition), g.layout.Counts(l.partition, g.name), g.layout.Attempts(l.partition, g.name)},
		g.name, g.consumer, start, count, idleMS)
	if err != nil {
		return adopted{}, err
	}
	page, lost := adopted{moved: texts(at(reply, 0))}, texts(at(reply, 1))
	g.m.adopted.Add(float64(len(page.moved)))
	if len(lost) > 0 {
		g.m.lost.Add(float64(len(lost)))
		g.log.Error("pending entries were deleted from the stream before they were settled",
			"partition", l.partition, "entry_ids", lost)
	}
	if last, _ := at(reply, 2).(string); last != "" { // no text means no further page
		page.next = nextID(last)
	}
	page.last, _ = at(reply, 3).(string) // only the first page tells, and what follows
	page.newest, _ = at(reply, 4).(string)
	page.position = number(at(reply, 5))
	page.againTo, _ = at(reply, 6).(string)
	return page, nil
}

// ensured calls do, and once more if the group was missing and could be created:
// Redis lost its memory, or somebody destroyed the group. Its entries come again
// from the first; the effects' dedup keys make that harmless.
func (l *Lease) ensured(ctx context.Context, do func() error) error {
	err := do()
	if !errors.Is(err, errNoGroup) {
		return err
	}
	g := l.group
	l.mu.Lock()
	l.found, l.last, l.upTo = nil, "", ""
	l.again, l.buried = true, nil
	l.mu.Unlock()
	g.feed.forget(l.partition)
	created, err := createGroup(ctx, g.write, g.layout, l.partition, g.name)
	if err != nil {
		return err
	}
	if created {
		g.m.recreated.Inc()
		g.log.Warn("group was missing and was created again at the start", "partition", l.partition)
	}
	if err := do(); err != nil {
		return unavailable("streams: read after creating the group", err)
	}
	return nil
}

// fenced runs a script under the lease. KEYS and ARGV begin as owned.lua has it.
func (l *Lease) fenced(ctx context.Context, s *script, keys []string, args ...any) ([]any, error) {
	return l.fencedBy(ctx, l.group.write, s, keys, args...)
}

func (l *Lease) fencedBy(ctx context.Context, run *runner, s *script, keys []string, args ...any) ([]any, error) {
	all := make([]string, 0, 1+len(keys))
	reply, err := run.run(ctx, s,
		append(append(all, l.key), keys...),
		append(append(make([]any, 0, 2+len(args)), l.group.owner, l.epoch), args...)...)
	if errors.Is(err, ErrLeaseLost) {
		l.group.m.leaseLost.Inc()
	}
	return reply, err
}

// entry makes an Entry of an answer's parts.
func (l *Lease) entry(id, fields, attempts any) Entry {
	e := Entry{Partition: l.partition}
	e.ID, _ = id.(string) // an id is always text
	if text, ok := attempts.(string); ok {
		e.Attempts, _ = strconv.Atoi(text) // only numbers are written there
	}
	list, ok := fields.([]any)
	if !ok {
		e.Gone = true
		l.group.m.gone.Inc()
		return e
	}
	e.Record, e.Err = event.ParseRecordValues(list)
	if e.Err != nil {
		e.Record = event.Record{}
		l.group.m.unreadable.Inc()
	}
	return e
}

// texts are the strings of an answer's list.
func texts(v any) []string {
	list, _ := v.([]any) // no list is an empty one
	out := make([]string, 0, len(list))
	for _, e := range list {
		if s, ok := e.(string); ok {
			out = append(out, s)
		}
	}
	return out
}
