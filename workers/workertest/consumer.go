package workertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/workers"
)

// errNoGroup is what a call gets before Ensure.
var errNoGroup = errors.New("workertest: NOGROUP")

// Consumer is one process's view of a Group. It implements workers.Log.
type Consumer struct {
	g    *Group
	name string
}

var _ workers.Log = (*Consumer)(nil)

// Consumer returns a consumer of the group; its name has to be unique.
func (g *Group) Consumer(name string) *Consumer { return &Consumer{g: g, name: name} }

// do runs one call between its faults.
func (c *Consumer) do(call Call, effect func() error) error {
	c.g.mu.Lock()
	fault := c.g.fault
	c.g.mu.Unlock()
	call.Consumer = c.name
	if fault != nil {
		if err := fault(call); err != nil {
			return err
		}
	}
	c.g.mu.Lock()
	err := effect()
	c.g.mu.Unlock()
	if call.Done = true; err == nil && fault != nil {
		err = fault(call)
	}
	return err
}

// lease is a partition in the hands of a consumer.
type lease struct {
	c         *Consumer
	partition int
	epoch     int64
}

// fenced runs one call for the owner of a partition.
func (l *lease) fenced(call Call, effect func(p *part) error) error {
	call.Partition = l.partition
	return l.c.do(call, func() error {
		p := l.c.g.parts[l.partition]
		if p.owner != l.c.name || p.epoch != l.epoch || !p.until.After(l.c.g.now()) {
			return streams.ErrLeaseLost
		}
		return effect(p)
	})
}

// Partition implements workers.Lease.
func (l *lease) Partition() int { return l.partition }

// Epoch implements workers.Lease.
func (l *lease) Epoch() int64 { return l.epoch }

// Position implements workers.Lease.
func (l *lease) Position() int64 {
	l.c.g.mu.Lock()
	defer l.c.g.mu.Unlock()
	return l.c.g.parts[l.partition].position
}

// Newest implements workers.Lease. Entries of a Group in memory have no time.
func (l *lease) Newest() time.Time { return time.Time{} }

// Rewind implements workers.Lease.
func (l *lease) Rewind(_ context.Context, position int64) (entries int64, since time.Time, err error) {
	err = l.fenced(Call{Op: "Rewind"}, func(p *part) error {
		p.next, p.pending, p.parked, p.position = 0, make(map[string]string), make(map[string]parked), position
		entries = int64(len(p.entries))
		return nil
	})
	return entries, time.Time{}, err
}

// Appended implements workers.Log.
func (c *Consumer) Appended(context.Context, int) (time.Time, error) { return time.Time{}, nil }

// Advance implements workers.Log.
func (c *Consumer) Advance(context.Context, int, time.Time) error { return nil }

// Name implements workers.Log.
func (c *Consumer) Name() string { return c.g.name }

// Partitions implements workers.Log.
func (c *Consumer) Partitions() int { return len(c.g.parts) }

// LeaseTTL implements workers.Log.
func (c *Consumer) LeaseTTL() time.Duration { return c.g.ttl }

// Ensure implements workers.Log.
func (c *Consumer) Ensure(context.Context) error {
	return c.do(Call{Op: "Ensure", Partition: -1}, func() error {
		c.g.missing = false
		return nil
	})
}

// Heartbeat implements workers.Log.
func (c *Consumer) Heartbeat(context.Context) (members int, err error) {
	err = c.do(Call{Op: "Heartbeat", Partition: -1}, func() error {
		now := c.g.now()
		c.g.members[c.name] = now
		for name, seen := range c.g.members {
			if now.Sub(seen) > c.g.ttl {
				delete(c.g.members, name)
			}
		}
		members = len(c.g.members)
		return nil
	})
	return members, err
}

// Leave implements workers.Log.
func (c *Consumer) Leave(context.Context) error {
	return c.do(Call{Op: "Leave", Partition: -1}, func() error {
		delete(c.g.members, c.name)
		return nil
	})
}

// Acquire implements workers.Log.
func (c *Consumer) Acquire(_ context.Context, partition int) (l workers.Lease, ok bool, err error) {
	err = c.do(Call{Op: "Acquire", Partition: partition}, func() error {
		p, now := c.g.parts[partition], c.g.now()
		held := p.until.After(now)
		if held && p.owner != c.name {
			return nil
		}
		if !held {
			p.inherit(c.name)
			c.g.epoch++
			p.owner, p.epoch = c.name, c.g.epoch
		}
		p.until = now.Add(c.g.ttl)
		l, ok = &lease{c, partition, p.epoch}, true
		return nil
	})
	return l, ok && err == nil, err
}

// inherit charges what was running to what is still owed of it, unless its owner lives.
func (p *part) inherit(owner string) {
	for run, ids := range p.runs {
		if !strings.HasPrefix(run, owner+"/") {
			for _, id := range ids {
				if p.owes(id) {
					p.attempts[id]++
				}
			}
		}
	}
	clear(p.runs)
}

// Renew implements workers.Lease.
func (l *lease) Renew(context.Context) error {
	return l.fenced(Call{Op: "Renew"}, func(p *part) error {
		p.until = l.c.g.now().Add(l.c.g.ttl)
		return nil
	})
}

// Release implements workers.Lease.
func (l *lease) Release(context.Context) error {
	return l.fenced(Call{Op: "Release"}, func(p *part) error {
		p.until = time.Time{}
		return nil
	})
}

// Surpass implements workers.Lease.
func (l *lease) Surpass(epoch int64) {
	c := l.c
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	c.g.epoch = max(c.g.epoch, epoch)
}

// Adopt implements workers.Lease.
func (l *lease) Adopt(context.Context) error {
	return l.fenced(Call{Op: "Adopt"}, func(p *part) error {
		for id := range p.pending {
			p.pending[id] = l.c.name
		}
		return nil
	})
}

// bound returns what says whether one more entry fits into a read.
func bound(limit int, maxBytes int64) func(e *streams.Entry) bool {
	n, bytes := 0, int64(0)
	return func(e *streams.Entry) bool {
		bytes += int64(len(e.Record.Raw) + len(e.Record.Item))
		n++
		return n <= limit && (n == 1 || maxBytes == 0 || bytes <= maxBytes)
	}
}

// Backlog implements workers.Lease.
func (l *lease) Backlog(_ context.Context, after string, limit int, maxBytes int64) (es []streams.Entry, err error) {
	err = l.fenced(Call{Op: "Backlog"}, func(p *part) error {
		if l.c.g.missing {
			return errNoGroup
		}
		from := 0
		if after != "" {
			from = p.place[after] + 1
		}
		fits := bound(limit, maxBytes)
		for _, e := range p.entries[from:p.next] {
			if p.pending[e.ID] == l.c.name {
				if !fits(&e) {
					break
				}
				e.Attempts = p.attempts[e.ID]
				es = append(es, e)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return es, nil
}

// Take implements workers.Lease.
func (l *lease) Take(_ context.Context, limit int, maxBytes int64) (es []streams.Entry, err error) {
	err = l.fenced(Call{Op: "Take"}, func(p *part) error {
		l.c.g.missing = false
		fits := bound(limit, maxBytes)
		for ; p.next < len(p.entries); p.next++ {
			if e := p.entries[p.next]; !e.Gone {
				if !fits(&e) {
					break
				}
				p.pending[e.ID] = l.c.name
				es = append(es, e)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return es, nil
}

// Wait implements workers.Lease.
func (l *lease) Wait(ctx context.Context, _ string) error {
	c, partition := l.c, l.partition
	var news chan struct{}
	err := c.do(Call{Op: "Wait", Partition: partition}, func() error {
		if p := c.g.parts[partition]; p.next >= len(p.entries) {
			news = p.news
		}
		return nil
	})
	if err != nil || news == nil {
		return err
	}
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-news:
		return nil
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Charge implements workers.Lease.
func (l *lease) Charge(_ context.Context, runs []streams.Run) error {
	var ids []string
	for _, r := range runs {
		ids = append(ids, r.IDs...)
	}
	return l.fenced(Call{Op: "Charge", IDs: ids}, func(p *part) error {
		for _, r := range runs {
			p.runs[l.c.name+"/"+r.Name] = slices.Clone(r.IDs)
		}
		return nil
	})
}

// Settle implements workers.Lease.
func (l *lease) Settle(_ context.Context, s streams.Settlement) error {
	return l.fenced(Call{Op: "Settle", Settlement: s}, func(p *part) error {
		for _, id := range slices.Concat(s.Done, s.Gone) {
			p.ack(id)
		}
		for _, d := range s.Dead {
			if p.owes(d.EntryID) {
				d.ID = fmt.Sprintf("%d-%d", l.partition, len(p.dead)+1)
				d.Consumer = l.c.name
				p.dead = append(p.dead, d)
			}
			p.ack(d.EntryID)
		}
		for _, count := range s.Counts {
			if p.attempts[count.EntryID] = count.Attempts; count.Attempts == 0 {
				delete(p.attempts, count.EntryID)
			}
		}
		if s.Position > 0 {
			p.position = s.Position
		}
		for _, name := range s.Ended {
			delete(p.runs, l.c.name+"/"+name)
		}
		return nil
	})
}

// owes reports whether an entry was delivered, or is parked, and is not settled.
func (p *part) owes(id string) bool {
	_, pending := p.pending[id]
	_, parked := p.parked[id]
	return pending || parked
}

func (p *part) ack(id string) {
	delete(p.attempts, id)
	if p.owes(id) {
		p.settled[id]++
	}
	delete(p.pending, id)
	delete(p.parked, id)
}
