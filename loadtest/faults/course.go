package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
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
	sending, stopSending := context.WithCancel(ctx)
	defer stopSending()
	sent := make(chan error, 1)
	all.Go(func() error {
		sent <- c.sender.Run(sending)
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
		c.spareAll(false)
		if err := c.chaos.run(ctx, time.Now().Add(min(roundTime, left))); err != nil {
			return nil, err
		}
		c.spareAll(true)
		behind, err := c.caughtUp(ctx, false)
		if err != nil {
			return nil, err
		}
		kills, least := c.tally.total()
		fmt.Fprintf(os.Stderr, "faults: round %d: %d callbacks sent, %d accepted, %d kills, %d at the rarest point, caught up after %.1f s\n",
			round, c.sender.Sent(), c.sender.Accepted(), kills, least, behind.Seconds())
	}
	stopSending()
	if err := <-sent; err != nil && ctx.Err() == nil {
		return nil, err
	}
	loaded := time.Now()
	if err := errors.Join(c.awaitReady(ctx), c.sender.Settle(ctx)); err != nil {
		return nil, err
	}
	if _, err := c.caughtUp(ctx, true); err != nil {
		return nil, err
	}
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
	}
	return &result{course: c, verdict: verdict, lasted: loaded.Sub(began)}, nil
}

// enough reports whether every named point has seen its kills.
func (c *course) enough() bool {
	_, least := c.tally.total()
	return least >= c.o.least
}

// memoryLost empties Redis at a moment when all is settled, and rings old callbacks
// again: their marks are gone, so they come to the groups once more.
func (c *course) memoryLost(ctx context.Context, tap *judge.Tap) error {
	tap.Flushed()
	if err := c.direct.FlushAll(ctx).Err(); err != nil {
		return err
	}
	c.tally.fault("FLUSHALL")
	if err := c.sender.Replay(ctx, again); err != nil {
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
		Destroyed: c.chaos.destroyed, Poisoned: traffic.Poisoned, Forged: traffic.Forgery, AfterFlush: afterFlush,
	})
}
