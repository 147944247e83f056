package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/paybell/paybell/loadtest/faults/judge"
	"github.com/paybell/paybell/loadtest/faults/traffic"
)

const (
	// roundTime is how long faults go on before the groups are given the time to catch
	// up, which is measured.
	roundTime = 50 * time.Second
	// catchUp bounds that time.
	catchUp = 3 * time.Minute
	// settleWithin bounds how long the last callbacks may go on being refused.
	settleWithin = 2 * time.Minute
	// outage is for how long a server is away at the end of a round.
	outage = 3 * time.Second
	// again is how many old callbacks come once more after Redis lost its memory.
	again = 500
)

// course is one run from its first callback to the judgement.
type course struct {
	*stack
	deck  func() []fault
	chaos *chaos
	told  *os.File
	// flush brings all that was told to the file. Nothing may be sent meanwhile.
	flush func() error
}

func (c *course) run(ctx context.Context) (*result, error) {
	ctx, cancel := context.WithCancel(ctx)
	var all errgroup.Group
	defer func() {
		cancel()
		_ = all.Wait() // what failed has been told
		if c.sender != nil {
			c.sender.Wait()
		}
	}()
	var err error
	if c.told, err = os.OpenFile(filepath.Join(c.dir, "told.jsonl"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600); err != nil {
		return nil, err
	}
	defer c.told.Close()
	c.chaos = &chaos{st: c.stack, all: c.deck, rand: rand.New(rand.NewPCG(c.o.seed, 2))} //nolint:gosec // a seed repeats a run
	lines := bufio.NewWriter(c.told)
	c.flush = lines.Flush
	if c.sender, err = traffic.New(traffic.Options{
		Seed: c.o.seed, Rate: c.o.rate, Targets: c.gateways(),
		StripeSecret: c.stripeSecret, StandardSecret: c.standardSecret, Told: lines,
	}); err != nil {
		return nil, err
	}
	c.spareAll(true)
	failed := make(chan error, len(c.slots)+1)
	for _, s := range c.slots {
		all.Go(func() error {
			if err := s.keep(ctx); err != nil {
				failed <- err
				cancel()
			}
			return nil
		})
	}
	if err := c.awaitReady(ctx); err != nil {
		return nil, cause(err, failed)
	}
	tap := judge.NewTap(c.redisAddr(), prefix)
	all.Go(func() error { return tap.Run(ctx) })
	all.Go(func() error {
		c.watch(ctx)
		return nil
	})

	r, err := c.course(ctx, &all, tap)
	return r, cause(err, failed)
}

// cause prefers the error of a process to what came of it.
func cause(err error, failed <-chan error) error {
	select {
	case first := <-failed:
		return errors.Join(first, err)
	default:
		return err
	}
}

func (c *course) spareAll(on bool) {
	for _, s := range c.slots {
		s.spare(on)
	}
}

func (c *course) course(ctx context.Context, all *errgroup.Group, tap *judge.Tap) (*result, error) {
	began := time.Now()
	stop, sent := make(chan struct{}), make(chan error, 1)
	all.Go(func() error {
		sent <- c.sender.Run(ctx, stop)
		return nil
	})
	for round := 1; ; round++ {
		left := c.o.duration - time.Since(began)
		if left <= 0 && (time.Since(began) > c.o.duration*3/2 || c.enough()) {
			break
		}
		if left <= 0 {
			left = roundTime
		}
		if c.o.variant == "" && left >= roundTime && round%2 == 1 {
			if err := c.chaos.begin(ctx); err != nil {
				return nil, err
			}
		}
		c.spareAll(c.o.calm)
		if err := c.chaos.run(ctx, time.Now().Add(min(roundTime, left))); err != nil {
			return nil, err
		}
		c.spareAll(true)
		behind, err := c.recover(ctx, round)
		if err != nil {
			return nil, err
		}
		kills, least := c.tally.total()
		c.o.say("round %d: %d callbacks sent, %d accepted, %d kills, %d at the rarest point, caught up after %.1f s",
			round, c.sender.Sent(), c.sender.Accepted(), kills, least, behind.Seconds())
	}
	if c.o.variant == "" {
		if err := c.replayDead(ctx); err != nil {
			return nil, err
		}
	}
	close(stop)
	if err := <-sent; err != nil && ctx.Err() == nil {
		return nil, err
	}
	loaded := time.Now()
	if err := errors.Join(c.awaitReady(ctx), c.settle(ctx)); err != nil {
		return nil, err
	}
	if _, err := c.caughtUp(ctx, true); err != nil {
		return nil, err
	}
	c.sample()
	verdict, err := c.judge(ctx, tap, false)
	if err != nil {
		return nil, err
	}
	if c.o.variant == "" {
		if err := c.memoryLost(ctx, tap); err != nil {
			return nil, err
		}
		again, err := c.judge(ctx, tap, true)
		if err != nil {
			return nil, err
		}
		verdict.Add(&again)
		c.sample()
	}
	return &result{course: c, verdict: verdict, lasted: loaded.Sub(began)}, nil
}

// enough reports whether the run has come to what it has to.
func (c *course) enough() bool {
	return c.missing(int(c.sender.Sent()), int(c.sender.Accepted())) == nil
}

// recover takes Redis or PostgreSQL away, in turn, and returns how long it took from
// its answering again until all had caught up. A variant has no more faults than its own.
func (c *course) recover(ctx context.Context, round int) (time.Duration, error) {
	if c.o.variant == "" {
		away := c.chaos.postgresAway
		if round%2 == 1 {
			away = c.chaos.redisAway
		}
		if err := away(ctx, true, outage); err != nil {
			return 0, err
		}
	}
	took, err := c.caughtUp(ctx, false)
	c.tally.caughtUp(took)
	return took, err
}

// settle waits until all that was begun has been accepted.
func (c *course) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	return c.sender.Settle(ctx)
}

// memoryLost empties Redis at a moment when all is settled, and rings old callbacks
// again: their marks are gone, so they come to the groups once more.
func (c *course) memoryLost(ctx context.Context, tap *judge.Tap) error {
	tap.Flushed()
	if err := c.direct.FlushAll(ctx).Err(); err != nil {
		return err
	}
	c.tally.fault("FLUSHALL")
	ringing, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	if err := c.sender.Replay(ringing, again); err != nil {
		return err
	}
	_, err := c.caughtUp(ctx, true)
	return err
}

// judge asks the judge, from the first line that was told.
func (c *course) judge(ctx context.Context, tap *judge.Tap, afterFlush bool) (judge.Verdict, error) {
	if err := c.flush(); err != nil {
		return judge.Verdict{}, err
	}
	if _, err := c.told.Seek(0, io.SeekStart); err != nil {
		return judge.Verdict{}, err
	}
	return judge.Judge(ctx, judge.Options{
		Told: bufio.NewReader(c.told), SQL: c.db, Redis: c.direct, Prefix: prefix, Tap: tap,
		Admitted: c.chaos.admitted, Destroyed: c.chaos.destroyed, Poisoned: traffic.Poisoned, FirstOnly: traffic.FirstOnly, Forged: traffic.Forgery, AfterFlush: afterFlush,
	})
}
