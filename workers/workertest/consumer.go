package workertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// fenced runs one call for the owner of a partition.
func (c *Consumer) fenced(call Call, l streams.Lease, effect func(p *part) error) error {
	call.Partition = l.Partition
	return c.do(call, func() error {
		p := c.g.parts[l.Partition]
		if p.owner != c.name || p.lease != l || !p.until.After(c.g.now()) {
			return streams.ErrLeaseLost
		}
		return effect(p)
	})
}

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
func (c *Consumer) Acquire(_ context.Context, partition int) (l streams.Lease, ok bool, err error) {
	err = c.do(Call{Op: "Acquire", Partition: partition}, func() error {
		p, now := c.g.parts[partition], c.g.now()
		held := p.until.After(now)
		if held && p.owner != c.name {
			return nil
		}
		if !held {
			c.g.epoch++
			p.owner, p.lease = c.name, streams.Lease{Partition: partition, Epoch: c.g.epoch}
		}
		p.until = now.Add(c.g.ttl)
		l, ok = p.lease, true
		return nil
	})
	return l, ok && err == nil, err
}

// Release implements workers.Log.
func (c *Consumer) Release(_ context.Context, l streams.Lease) error {
	return c.fenced(Call{Op: "Release"}, l, func(p *part) error {
		p.until = time.Time{}
		return nil
	})
}

// Surpass implements workers.Log.
func (c *Consumer) Surpass(_ int, epoch int64) {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	c.g.epoch = max(c.g.epoch, epoch)
}

// Adopt implements workers.Log.
func (c *Consumer) Adopt(_ context.Context, l streams.Lease) error {
	return c.fenced(Call{Op: "Adopt"}, l, func(p *part) error {
		for id := range p.pending {
			p.pending[id] = c.name
		}
		return nil
	})
}

// Backlog implements workers.Log.
func (c *Consumer) Backlog(_ context.Context, l streams.Lease, after string, limit int) (es []streams.Entry, err error) {
	err = c.fenced(Call{Op: "Backlog"}, l, func(p *part) error {
		if c.g.missing {
			return errNoGroup
		}
		from := 0
		if after != "" {
			from = p.place[after] + 1
		}
		for _, e := range p.entries[from:p.next] {
			if len(es) < limit && p.pending[e.ID] == c.name {
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

// Take implements workers.Log.
func (c *Consumer) Take(_ context.Context, l streams.Lease, limit int) (es []streams.Entry, err error) {
	err = c.fenced(Call{Op: "Take"}, l, func(p *part) error {
		c.g.missing = false
		for ; p.next < len(p.entries) && len(es) < limit; p.next++ {
			if e := p.entries[p.next]; !e.Gone {
				p.pending[e.ID] = c.name
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

// Wait implements workers.Log.
func (c *Consumer) Wait(ctx context.Context, partition int, _ string) error {
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

// Charge implements workers.Log.
func (c *Consumer) Charge(_ context.Context, l streams.Lease, ids []string) (counts []int, err error) {
	err = c.fenced(Call{Op: "Charge", IDs: slices.Clone(ids)}, l, func(p *part) error {
		counts = make([]int, len(ids))
		for i, id := range ids {
			p.attempts[id]++
			counts[i] = p.attempts[id]
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return counts, nil
}

// Settle implements workers.Log.
func (c *Consumer) Settle(_ context.Context, l streams.Lease, s streams.Settlement) error {
	return c.fenced(Call{Op: "Settle", Settlement: s}, l, func(p *part) error {
		for _, id := range slices.Concat(s.Done, s.Gone) {
			p.ack(id)
		}
		for _, d := range s.Dead {
			if p.owes(d.EntryID) {
				d.ID = fmt.Sprintf("%d-%d", l.Partition, len(p.dead)+1)
				d.Consumer = c.name
				p.dead = append(p.dead, d)
			}
			p.ack(d.EntryID)
		}
		for _, id := range s.Uncharge {
			if p.attempts[id]--; p.attempts[id] <= 0 {
				delete(p.attempts, id)
			}
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
