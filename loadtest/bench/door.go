package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/paybell/paybell/loadtest/bench/send"
	"github.com/paybell/paybell/loadtest/server"
)

// connections is how many the generator has where a measure does not say.
const connections = 128

// door is how callbacks are sent to a server.
type door struct {
	account string
	// fsync is appendfsync of the Redis that keeps them; "" for none.
	fsync string
	// rate is how many are due a second; 0 is a closed loop.
	rate int
	// paybell is the binary; "" is a limit program.
	paybell string
}

// limit is a target that is a limit program.
func (b *bench) limit(name string, d door) target {
	return target{name, func(ctx context.Context) (values, error) { return b.callbacks(ctx, d) }}
}

// doors are a target of each binary.
func (b *bench) doors(name string, d door) []target {
	return b.both(name, func(ctx context.Context, paybell string) (values, error) {
		d.paybell = paybell
		return b.callbacks(ctx, d)
	})
}

// most is how many callbacks a server can take in a measurement: faster ones end it
// sooner.
func (b *bench) most(account string) int {
	a := 45_000
	if account != "stripe-bench" {
		a = 20_000 // what a core signs in a run is dear
	}
	return int(float64(a) * (b.duration + b.warm()).Seconds())
}

// warm is how long a server is warmed up.
func (b *bench) warm() time.Duration { return b.duration / 4 }

// callbacks sends to one server and counts what it stored.
func (b *bench) callbacks(ctx context.Context, d door) (values, error) {
	n := b.most(d.account)
	if d.rate > 0 {
		n = int(float64(d.rate) * (b.duration + b.warm() + time.Second).Seconds())
	}
	list, err := b.list(d.account, n)
	if err != nil {
		return nil, err
	}
	return b.with(ctx, stack{paybell: d.paybell, fsync: d.fsync}, func(st *stack) (values, error) {
		start := func() (*server.Process, error) { return st.startLimit(ctx, d) }
		if d.paybell != "" {
			start = func() (*server.Process, error) { return st.startDoor(ctx, "gateway") }
		}
		p, err := start()
		if err != nil {
			return nil, err
		}
		if err := st.refuses(ctx, list); err != nil {
			return nil, err
		}
		plan := send.Plan{Port: st.public, Conns: connections, List: list, For: b.warm(), Rate: d.rate, Wrap: d.paybell == ""}
		warm, err := send.Run(ctx, plan)
		if err != nil {
			return nil, err
		}
		plan.First, plan.For = warm.Next, b.duration
		res, v, err := st.sendMeasured(ctx, plan, d.paybell != "", p, start)
		if err != nil {
			return v, err
		}
		all := outcomes(warm, res)
		if d.paybell == "" {
			return v, st.keptPlain(ctx, all, d.fsync != "")
		}
		return v, st.kept(ctx, all, v)
	})
}

// startLimit starts the limit program that serves callbacks.
func (s *stack) startLimit(ctx context.Context, d door) (*server.Process, error) {
	address := "127.0.0.1:" + strconv.Itoa(s.public)
	provider, _, _ := cut(d.account)
	args := []string{"serve", "-address", address, "-provider", provider}
	if d.fsync != "" {
		args = append(args, "-redis", "127.0.0.1:"+strconv.Itoa(s.redisPort))
	}
	return s.start(ctx, inServer, "http://"+address+"/readyz", s.b.limits, args...)
}

// refuses is an error when the server takes a callback that was altered after it was
// signed.
func (s *stack) refuses(ctx context.Context, list *send.List) error {
	altered, err := list.Altered(0)
	if err != nil {
		return err
	}
	res, err := send.Run(ctx, send.Plan{Port: s.public, Conns: 1, List: altered, For: time.Second})
	if err != nil {
		return err
	}
	if res.Accepted > 0 || res.Refused != 1 {
		return fmt.Errorf("an altered callback was let in: accepted %d, refused %d", res.Accepted, res.Refused)
	}
	return nil
}

// sendMeasured sends by the plan and measures; with kill the server is killed half-way
// and started again.
func (s *stack) sendMeasured(ctx context.Context, plan send.Plan, killable bool, p *server.Process, start func() (*server.Process, error)) (*send.Result, values, error) {
	killing := s.b.kill && killable
	plan.Again = killing
	before, err := read(s.roots)
	if err != nil {
		return nil, nil, err
	}
	var again error
	var killed sync.WaitGroup
	if killing {
		killed.Go(func() {
			select {
			case <-time.After(plan.For / 2):
			case <-ctx.Done():
				return
			}
			s.kill(p)
			_, again = start()
		})
	}
	res, err := send.Run(ctx, plan)
	killed.Wait()
	after, readErr := read(s.roots)
	if err := errors.Join(err, again, readErr); err != nil {
		return nil, nil, err
	}
	u := after.since(before)
	v := values{foreign: u.foreign}
	if !killing { // the one that was killed took its count with it
		v[valueServer] = per100k(u.by[inServer], res.Accepted)
	}
	v[valueP50] = float64(percentile(res.Waits, 0.50)) / 1000
	v[valueP99] = float64(percentile(res.Waits, 0.99)) / 1000
	v[valueRate] = float64(res.Accepted) / res.Took.Seconds()
	if _, ok := s.roots[inRedis]; ok {
		v[valueRedis] = per100k(u.by[inRedis], res.Accepted)
	}
	if !killing && res.Refused+res.Broken > 0 {
		return res, v, fmt.Errorf("%d refused (the last with %d), %d without a reply", res.Refused, res.LastStatus, res.Broken)
	}
	return res, v, nil
}

// sent is what is known of the callbacks of a measurement: of callback n whether it got
// a success reply.
type sent []bool

// outcomes joins runs that follow one another in the list.
func outcomes(runs ...*send.Result) sent {
	var out sent
	for _, r := range runs {
		if r.Replied == nil { // it wrapped: how many is all there is
			out = append(out, make(sent, r.Accepted)...)
			for i := range r.Accepted {
				out[len(out)-1-i] = true
			}
		}
		for _, at := range r.Replied {
			out = append(out, at != 0)
		}
	}
	return out
}

func (s sent) accepted() (n int) {
	for _, ok := range s {
		if ok {
			n++
		}
	}
	return n
}

// keptPlain checks that the limit program stored what it said it did.
func (s *stack) keptPlain(ctx context.Context, all sent, stores bool) error {
	if !stores {
		return nil
	}
	n, err := s.redis.XLen(ctx, "bench").Result()
	if err == nil && int(n) != all.accepted() {
		err = fmt.Errorf("%d acknowledged, %d stored", all.accepted(), n)
	}
	return err
}

// kept checks that paybell stored each callback that it acknowledged, and none twice.
// After a kill its journal may hold some for a moment, and a worker is asked for each
// of them by its order.
func (s *stack) kept(ctx context.Context, all sent, v values) error {
	var stored int
	err := s.until(ctx, 15*time.Second, func() (done bool, err error) {
		stored, err = s.appended(ctx)
		return stored >= all.accepted(), err
	})
	lost, twice := max(0, all.accepted()-stored), max(0, stored-len(all))
	if s.b.kill {
		v[valueLost], v[valueTwice] = float64(lost), float64(twice)
	}
	if err != nil || lost+twice > 0 {
		return errors.Join(err, fmt.Errorf("%d acknowledged of %d sent, %d stored", all.accepted(), len(all), stored))
	}
	if !s.b.kill {
		return nil
	}
	s.database = "sqlite"
	if err := s.makeDatabase(ctx); err != nil {
		return err
	}
	if _, err := s.startWorker(ctx, allGroups...); err != nil {
		return err
	}
	return s.settledAll(ctx, all, allGroups, v)
}
