package streams

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/streams/event"
)

// sweepTTLs is after how many lease times an entry that is pending for somebody
// else is taken over: the owner of a partition is its only reader, so that
// somebody is an operator or a mistake.
const sweepTTLs = 3

// Take reads at most max new entries; none is no error. Where somebody else had entries
// delivered since the last Take, it takes those over and returns them first, so that the
// order holds. Once in a while it also looks for entries that are pending for a consumer
// other than this one, and does the same.
func (g *Group) Take(ctx context.Context, l Lease, max int) ([]Entry, error) {
	if max < 1 {
		return nil, nil
	}
	var out []Entry
	err := g.ensured(ctx, l.Partition, func() (err error) {
		if out, err = g.sweep(ctx, l, max); err != nil || len(out) > 0 {
			return err
		}
		for behind := true; behind; {
			if out, err = g.catchUp(ctx, l, max); err != nil || len(out) > 0 {
				return err
			}
			if out, behind, err = g.takeNew(ctx, l, max); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

// takeNew reads new entries. Where somebody else had some delivered since the last time,
// it takes those over instead and reports that this owner is behind.
func (g *Group) takeNew(ctx context.Context, l Lease, max int) (_ []Entry, behind bool, _ error) {
	p := &g.parts[l.Partition]
	p.mu.Lock()
	read := p.read
	p.mu.Unlock()
	reply, err := g.fenced(ctx, takeScript, l, []string{g.layout.Events(l.Partition), g.layout.Counts(l.Partition, g.name)},
		g.name, g.consumer, p.count(max, g.o.TakeBytes), read)
	if err != nil {
		return nil, false, err
	}
	last, _ := at(reply, 1).(string) // the script answers text
	if at(reply, 3) != nil {
		return nil, true, g.overtaken(ctx, l, last)
	}
	list, _ := at(reply, 0).([]any) // no list is an empty one
	out := make([]Entry, 0, len(list))
	bytes := 0
	for _, v := range list {
		pair, ok := v.([]any)
		if !ok || len(pair) != 2 {
			return nil, false, fmt.Errorf("streams: take: answer of an unknown form")
		}
		e, n := g.entry(l.Partition, pair[0], pair[1], nil)
		bytes += n
		out = append(out, e)
	}
	p.learn(last, bytes, len(out))
	p.mu.Lock()
	p.read = last
	p.mu.Unlock()
	p.heard(number(at(reply, 2)))
	g.m.taken.Add(float64(len(out)))
	return out, false, nil
}

// overtaken takes over what others had delivered behind this owner's back, up to last.
func (g *Group) overtaken(ctx context.Context, l Lease, last string) error {
	n, _, err := g.adoptAll(ctx, l)
	if n > 0 {
		g.log.Warn("somebody else reads in this group: its entries are taken over", "partition", l.Partition, "entries", n)
	}
	if err != nil {
		return err
	}
	p := &g.parts[l.Partition]
	p.mu.Lock()
	p.upTo = last
	p.mu.Unlock()
	return nil
}

// catchUp reads what others had delivered in the meantime, and is ours now.
func (g *Group) catchUp(ctx context.Context, l Lease, max int) ([]Entry, error) {
	p := &g.parts[l.Partition]
	p.mu.Lock()
	from, upTo := p.read, p.upTo
	p.mu.Unlock()
	if upTo == "" {
		return nil, nil
	}
	out, err := g.backlog(ctx, l, nextID(from), p.count(max, g.o.TakeBytes))
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(out) > 0 {
		p.read = out[len(out)-1].ID
	} else {
		p.read, p.upTo = upTo, ""
	}
	return out, nil
}

// sweep adopts entries that have been pending for another consumer for long and
// returns them. What it adopted and could not return it returns the next time.
func (g *Group) sweep(ctx context.Context, l Lease, max int) ([]Entry, error) {
	p := &g.parts[l.Partition]
	if p.due(g.o.Now(), sweepTTLs*g.o.LeaseTTL) {
		if err := g.sweepForeign(ctx, l); err != nil {
			return nil, err
		}
	}
	ids := p.takeFound(max)
	var out []Entry
	for _, id := range ids {
		es, err := g.backlog(ctx, l, id, 1)
		if err != nil {
			p.addFound(ids)
			return nil, err
		}
		if len(es) == 1 && es[0].ID == id {
			out = append(out, es[0])
		}
	}
	return out, nil
}

func (g *Group) sweepForeign(ctx context.Context, l Lease) error {
	p := &g.parts[l.Partition]
	idle := (sweepTTLs * g.o.LeaseTTL).Milliseconds()
	for start := "-"; start != ""; {
		page, err := g.adoptPage(ctx, l, start, adoptPage, idle)
		p.addFound(page.moved)
		if err != nil {
			return err
		}
		start = page.next
	}
	reply, err := g.fenced(ctx, janitorScript, l, []string{g.layout.Events(l.Partition)},
		g.name, g.consumer, g.o.ConsumerIdle.Milliseconds())
	if err != nil {
		return err
	}
	if gone := texts(reply); len(gone) > 0 {
		g.log.Info("idle consumers left the group", "partition", l.Partition, "consumers", gone)
	}
	return nil
}

// Backlog reads this consumer's own pending entries after the entry id "after"
// ("" from the first), oldest first.
func (g *Group) Backlog(ctx context.Context, l Lease, after string, max int) ([]Entry, error) {
	if max < 1 {
		return nil, nil
	}
	var out []Entry
	err := g.ensured(ctx, l.Partition, func() (err error) {
		p := &g.parts[l.Partition]
		out, err = g.backlog(ctx, l, nextID(after), p.count(max, g.o.TakeBytes))
		return err
	})
	return out, err
}

func (g *Group) backlog(ctx context.Context, l Lease, start string, count int) ([]Entry, error) {
	reply, err := g.fenced(ctx, backlogScript, l,
		[]string{g.layout.Events(l.Partition), g.layout.Attempts(l.Partition, g.name)},
		g.name, g.consumer, start, min(count, maxIDs))
	if err != nil {
		return nil, err
	}
	out := make([]Entry, 0, len(reply))
	bytes := 0
	for _, v := range reply {
		row, ok := v.([]any)
		if !ok || len(row) != 3 {
			return nil, fmt.Errorf("streams: backlog: answer of an unknown form")
		}
		e, n := g.entry(l.Partition, row[0], row[2], row[1])
		bytes += n
		out = append(out, e)
	}
	last := ""
	if len(out) > 0 {
		last = out[len(out)-1].ID
	}
	g.parts[l.Partition].learn(last, bytes, len(out))
	return out, nil
}

// entry makes an Entry of an answer's parts and says how many bytes it holds.
func (g *Group) entry(partition int, id, fields, attempts any) (Entry, int) {
	e := Entry{Partition: partition}
	e.ID, _ = id.(string) // an id is always text
	if text, ok := attempts.(string); ok {
		e.Attempts, _ = strconv.Atoi(text) // only HINCRBY writes it
	}
	list, ok := fields.([]any)
	if !ok {
		e.Gone = true
		g.m.gone.Inc()
		return e, 0
	}
	e.Record, e.Err = event.ParseRecordValues(list)
	if e.Err != nil {
		e.Record = event.Record{}
		g.m.unreadable.Inc()
	}
	return e, size(list)
}

// blockedRead is an XREAD that runs; err may be read when done is closed.
type blockedRead struct {
	done chan struct{}
	err  error
}

// Wait returns when the partition may have entries after the entry id "after",
// after the Block time, or at once when ctx ends. It moves nothing: it is a plain
// XREAD on the read client.
//
// go-redis does not interrupt a read when a context ends, so the read runs
// beside Wait, at most one a partition. One that was left behind ends with the
// Block time or with the read client, wakes whoever waits by then, and Close
// waits for it.
//
// The embedded engine wakes every blocked reader for every command, and each then
// walks its whole stream: with three groups that made an append cost ten times as
// much. There Wait pauses instead, the longer the less there was to take.
func (g *Group) Wait(ctx context.Context, partition int, after string) error {
	if g.write.plain.Load() {
		return g.pause(ctx, partition)
	}
	p := &g.parts[partition]
	p.mu.Lock()
	r := p.wait
	if r == nil {
		r = &blockedRead{done: make(chan struct{})}
		p.wait = r
		// Old entries lie before the last one delivered; they are no news.
		from := laterID(after, p.last)
		g.reads.Go(func() {
			r.err = g.blockedRead(context.WithoutCancel(ctx), partition, from)
			p.mu.Lock()
			p.wait = nil
			p.mu.Unlock()
			close(r.done)
		})
	}
	p.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Pauses of an engine that is not waited inside of.
const (
	pauseLeast = 10 * time.Millisecond
	pauseMost  = 250 * time.Millisecond
)

func (g *Group) pause(ctx context.Context, partition int) error {
	p := &g.parts[partition]
	p.mu.Lock()
	p.pause = min(max(pauseLeast, 2*p.pause), pauseMost)
	t := time.NewTimer(p.pause)
	p.mu.Unlock()
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *Group) blockedRead(ctx context.Context, partition int, from string) error {
	if from == "" {
		from = "0"
	}
	err := g.read.XRead(ctx, &redis.XReadArgs{
		Streams: []string{g.layout.Events(partition)}, ID: from, Count: 1, Block: g.o.Block,
	}).Err()
	if err == nil || errors.Is(err, redis.Nil) {
		return nil
	}
	return unavailable("streams: wait for entries", err)
}

// count lowers max so that about that many bytes come.
func (p *part) count(max, bytes int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if bytes > 0 && p.entryBytes > 0 {
		if n := bytes / p.entryBytes; n < max {
			max = n
		}
	}
	if max < 1 {
		return 1
	}
	return max
}

// learn remembers the last id and how large entries are.
func (p *part) learn(last string, bytes, entries int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = laterID(p.last, last)
	if entries > 0 {
		p.pause = 0
		// Growth counts at once, because it is what the bound is for; shrinking slowly.
		size := bytes / entries
		p.entryBytes = max(size, (3*p.entryBytes+size)/4)
	}
}

// heard notes how many dead letters were replayed so far.
func (p *part) heard(replays int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.replays = replays
}

// due reports whether it is time to sweep and sets the next time. The first time
// comes after one interval: a new owner has adopted everything.
func (p *part) due(now time.Time, every time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := p.sweepAt.IsZero()
	if !first && now.Before(p.sweepAt) {
		return false
	}
	p.sweepAt = now.Add(every)
	return !first
}

func (p *part) addFound(ids []string) {
	if len(ids) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.found = append(p.found, ids...)
}

func (p *part) takeFound(max int) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(max, len(p.found))
	ids := p.found[:n:n]
	p.found = p.found[n:]
	return ids
}
