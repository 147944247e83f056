package workers

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/paybell/paybell/streams"
)

// consumer is this process's membership in one group: it announces itself, holds
// its fair share of the partitions by leases, and renews them. One goroutine owns it.
type consumer struct {
	*group
	// owned are the partitions that are running here, also those which have lost
	// their lease or are asked to quit: none is started again before it has ended.
	owned map[int]*partition
	ended chan *partition
	// findings come from the comparison of the effect store with Redis, recovered are
	// partitions for which one has been acted on; recovering are those where it is.
	findings   chan found
	recovered  chan int
	recovering map[int]bool
	redis      trouble
	// ensured: the group exists, as far as known.
	ensured bool
}

func newConsumer(g *group) *consumer {
	return &consumer{
		group: g, owned: make(map[int]*partition), ended: make(chan *partition, g.log.Partitions()),
		findings: make(chan found), recovered: make(chan int), recovering: make(map[int]bool),
		redis: trouble{outage: &g.redisAway, initial: 100 * time.Millisecond, max: g.log.LeaseTTL() / 6},
	}
}

// run returns when ctx has ended and every partition after it.
func (c *consumer) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	if c.watch != nil {
		c.listeners.Go(func() { c.watchStore(ctx) })
	}
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case f := <-c.findings:
			c.heed(ctx, f)
		case partition := <-c.recovered:
			delete(c.recovering, partition)
		case p := <-c.ended:
			c.forget(ctx, p)
		case <-timer.C:
			timer.Reset(c.pace(c.tick(ctx)))
		}
	}
	c.stop(context.WithoutCancel(ctx))
}

// pace is the time until the next tick: a third of a lease's life, so that two
// renewals may fail before it ends, and sooner while calls fail.
func (c *consumer) pace(err error) time.Duration {
	if err != nil {
		return c.redis.failed(err)
	}
	c.redis.ended()
	third := c.log.LeaseTTL() / 3
	return third - rand.N(third/10+1) //nolint:gosec // A guessable pace harms nobody.
}

// tick renews what is owned, and brings it to this member's fair share.
func (c *consumer) tick(ctx context.Context) error {
	begun := c.now()
	call, cancel := c.call(ctx)
	defer cancel()
	if err := c.renew(call); err != nil {
		return err
	}
	if !c.ensured {
		// It tells what it could not create, and is tried again with the next tick: one
		// partition does not stop the others.
		c.ensured = c.log.Ensure(call) == nil
	}
	members, err := c.log.Heartbeat(call)
	if err != nil {
		return err
	}
	all := c.log.Partitions()
	share := (all + max(1, members) - 1) / max(1, members)
	active := 0
	for _, p := range c.owned {
		if p.quitting {
			continue
		}
		if active++; active > share {
			c.quit(p)
		}
	}
	for _, partition := range rand.Perm(all) { //nolint:gosec // A guessable order harms nobody.
		if active >= share || ctx.Err() != nil {
			break
		}
		if c.owned[partition] != nil {
			continue
		}
		asked := c.now()
		if asked.Sub(begun) > c.log.LeaseTTL()/6 {
			break // what is held has to be renewed first
		}
		l, ok, err := c.log.Acquire(call, partition)
		switch {
		case err != nil:
			return err
		case ok:
			active++
			c.start(ctx, l, asked)
		}
	}
	return nil
}

// call bounds the calls of one tick. It does not end with ctx: a lease that was
// given should be known to have been given.
func (c *consumer) call(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), c.log.LeaseTTL())
}

// start runs a partition until its lease ends or it is asked to quit. It does not
// end with ctx, but when it is asked to.
func (c *consumer) start(ctx context.Context, l Lease, asked time.Time) {
	t := newTenure(context.WithoutCancel(ctx), l, c.log.LeaseTTL(), asked, c.now)
	p := newPartition(c.group, t)
	if c.watch != nil {
		c.watch.Store.Begin(l.Partition(), -1)
	}
	c.owned[l.Partition()] = p
	c.metrics.partitions.Inc()
	c.logger.Debug("partition acquired", "group", c.name, "partition", l.Partition(), "epoch", l.Epoch())
	go func() {
		p.run()
		c.ended <- p
	}()
}

// renew renews every lease that is held, side by side: one slow answer must not cost
// the others theirs. Partitions that are quitting need their lease until they ended.
func (c *consumer) renew(ctx context.Context) error {
	var calls sync.WaitGroup
	failures := make(chan error, len(c.owned))
	for _, p := range c.owned {
		if p.tenure.ctx.Err() != nil {
			continue
		}
		calls.Go(func() {
			asked := c.now()
			switch err := p.tenure.lease.Renew(ctx); {
			case errors.Is(err, streams.ErrLeaseLost):
				p.tenure.lose()
			case err != nil:
				failures <- err
			default:
				p.tenure.renewed(asked, c.now())
			}
		})
	}
	calls.Wait()
	select {
	case err := <-failures:
		return err
	default:
		return nil
	}
}

func (c *consumer) quit(p *partition) {
	if !p.quitting {
		p.quitting = true
		close(p.quit)
	}
}

// forget ends what is known of a partition that has ended, and releases its lease
// for the next owner.
func (c *consumer) forget(ctx context.Context, p *partition) {
	delete(c.owned, p.tenure.lease.Partition())
	c.metrics.partitions.Dec()
	if p.tenure.lost() {
		c.metrics.leaseLosses.Inc()
		c.logger.Warn("lease lost", "group", c.name, "partition", p.tenure.lease.Partition(), "epoch", p.tenure.lease.Epoch())
		return
	}
	p.tenure.end()
	call, cancel := c.call(ctx)
	defer cancel()
	// A lease that cannot be released runs out by itself.
	if err := p.tenure.lease.Release(call); err != nil {
		c.logger.Debug("lease not released", "group", c.name, "partition", p.tenure.lease.Partition(), "err", err)
	}
}

// stop lets what runs finish, and returns when everything has ended. The others
// learn at once that this member leaves, so that they take what it releases.
func (c *consumer) stop(ctx context.Context) {
	call, cancel := c.call(ctx)
	if err := c.log.Leave(call); err != nil {
		// Its announcement runs out by itself.
		c.logger.Debug("membership not taken back", "group", c.name, "err", err)
	}
	cancel()
	for _, p := range c.owned {
		c.quit(p)
	}
	grace := time.NewTimer(c.options.Grace)
	defer grace.Stop()
	renewal := time.NewTimer(0)
	defer renewal.Stop()
	for len(c.owned) > 0 {
		select {
		case p := <-c.ended:
			c.forget(ctx, p)
		case <-grace.C:
			c.logger.Warn("grace is over, ending the attempts that still run", "group", c.name, "partitions", len(c.owned))
			for _, p := range c.owned {
				p.abort(ErrStopping)
			}
		case <-renewal.C:
			call, cancel := c.call(ctx)
			renewal.Reset(c.pace(c.renew(call)))
			cancel()
		}
	}
	c.redis.ended()
	c.listeners.Wait()
}
