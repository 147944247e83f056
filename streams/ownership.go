package streams

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// Acquire takes or renews the lease of a partition; ok is false while another
// owner holds it. A renewed lease keeps its epoch; a new one has an epoch above
// every earlier one, also after Redis lost its memory.
func (g *Group) Acquire(ctx context.Context, partition int) (l Lease, ok bool, err error) {
	p := &g.parts[partition]
	p.mu.Lock()
	above := p.above
	p.mu.Unlock()
	reply, err := g.write.run(ctx, leaseScript,
		[]string{g.layout.Lease(partition, g.name), g.layout.Epoch(partition, g.name)},
		g.owner, g.o.LeaseTTL.Milliseconds(), above)
	if errors.Is(err, ErrLeaseLost) {
		return Lease{}, false, nil
	}
	if err != nil {
		return Lease{}, false, err
	}
	text, _ := at(reply, 0).(string) // what is no text is no number either
	epoch, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return Lease{}, false, fmt.Errorf("streams: lease of partition %d: epoch: %w", partition, err)
	}
	p.mu.Lock()
	if p.epoch != epoch {
		// What was known was known under another lease.
		p.epoch, p.found, p.last, p.read, p.upTo = epoch, nil, "", "", ""
		g.m.acquired.Inc()
	}
	p.mu.Unlock()
	return Lease{Partition: partition, Epoch: epoch}, true, nil
}

// Surpass makes the next lease of a partition that is not a renewal have an epoch above
// the given one, which somebody has seen: Redis, its clock set back and its memory lost,
// would begin below it.
func (g *Group) Surpass(partition int, epoch int64) {
	p := &g.parts[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	p.above = max(p.above, epoch)
}

// Release gives a lease back before it ends.
func (g *Group) Release(ctx context.Context, l Lease) error {
	_, err := g.fenced(ctx, releaseScript, l, nil)
	return err
}

// Adopt makes every pending entry of the partition this consumer's own, whoever
// it was delivered to. Pending entries that were deleted from the stream are
// lost to the group: they are counted, logged and dropped.
func (g *Group) Adopt(ctx context.Context, l Lease) error {
	return g.ensured(ctx, l.Partition, func() error {
		_, last, err := g.adoptAll(ctx, l)
		if err != nil {
			return err
		}
		p := &g.parts[l.Partition]
		p.mu.Lock()
		defer p.mu.Unlock()
		p.read, p.upTo = last, ""
		return nil
	})
}

// adoptAll adopts what is pending for others, and says how much that was and which entry
// was the last one delivered when it began.
func (g *Group) adoptAll(ctx context.Context, l Lease) (n int, last string, err error) {
	for start := "-"; start != ""; {
		page, err := g.adoptPage(ctx, l, start, adoptPage, 0)
		n += len(page.moved)
		if err != nil {
			return n, "", err
		}
		if start == "-" {
			last = page.last
		}
		start = page.next
	}
	return n, last, nil
}

// adoptPage is how many pending entries one call of the script looks at.
const adoptPage = 500

// adopted is what came of one page: the ids that were moved, where the next page begins,
// "" after the last, and, on the first, the last entry delivered to the group.
type adopted struct {
	moved      []string
	next, last string
}

// adoptPage adopts what one page of the pending list holds of other consumers.
func (g *Group) adoptPage(ctx context.Context, l Lease, start string, count int, idleMS int64) (adopted, error) {
	reply, err := g.fenced(ctx, adoptScript, l, []string{g.layout.Events(l.Partition), g.layout.Counts(l.Partition, g.name), g.layout.Attempts(l.Partition, g.name)},
		g.name, g.consumer, start, count, idleMS)
	if err != nil {
		return adopted{}, err
	}
	page, lost := adopted{moved: texts(at(reply, 0))}, texts(at(reply, 1))
	g.m.adopted.Add(float64(len(page.moved)))
	if len(lost) > 0 {
		g.m.lost.Add(float64(len(lost)))
		g.log.Error("pending entries were deleted from the stream before they were settled",
			"partition", l.Partition, "entry_ids", lost)
	}
	if last, _ := at(reply, 2).(string); last != "" { // no text means no further page
		page.next = nextID(last)
	}
	page.last, _ = at(reply, 3).(string) // only the first page tells
	return page, nil
}

// fenced runs a script under a lease. KEYS and ARGV begin as owned.lua has it.
func (g *Group) fenced(ctx context.Context, s *script, l Lease, keys []string, args ...any) ([]any, error) {
	reply, err := g.write.run(ctx, s,
		append([]string{g.layout.Lease(l.Partition, g.name)}, keys...),
		append([]any{g.owner, l.Epoch}, args...)...)
	if errors.Is(err, ErrLeaseLost) {
		g.m.leaseLost.Inc()
	}
	return reply, err
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
