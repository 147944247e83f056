package main

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/paybell/paybell/loadtest/bench/callbacks"
	"github.com/paybell/paybell/loadtest/bench/send"
)

// memory is S9: what an event and a remembered id take in Redis, and what the processes
// take themselves.
func (b *bench) memory(ctx context.Context, paybell string) (values, error) {
	v := values{}
	for _, p := range []struct{ account, value string }{
		{callbacks.Stripe, valueStripe}, {callbacks.Alipay, valueAlipay}, {callbacks.WeChat, valueWeChat},
	} {
		_, err := b.with(ctx, stack{paybell: paybell, fsync: "everysec"}, func(st *stack) (values, error) {
			return v, st.weigh(ctx, p.account, p.value, v)
		})
		if err != nil {
			return v, fmt.Errorf("%s: %w", p.account, err)
		}
	}
	for conns, value := range map[int]string{1: valueDoor1, 64: valueDoor64, 1024: valueDoor1024} {
		_, err := b.with(ctx, stack{paybell: paybell, fsync: "everysec"}, func(st *stack) (values, error) {
			list, err := b.list(callbacks.Stripe, b.most(callbacks.Stripe))
			if err != nil {
				return nil, err
			}
			p, err := st.startDoor(ctx, "gateway")
			if err != nil {
				return nil, err
			}
			res, err := send.Run(ctx, send.Plan{Port: st.public, Conns: conns, List: list, For: b.duration})
			if err != nil {
				return nil, err
			}
			v[value] = float64(p.HighWater()) / (1 << 20)
			return nil, st.kept(ctx, outcomes(res), v)
		})
		if err != nil {
			return v, fmt.Errorf("%d connections: %w", conns, err)
		}
	}
	for partitions, value := range map[int]string{1: valueWorker1, 16: valueWorker16, 64: valueWorker64} {
		_, err := b.with(ctx, stack{paybell: paybell, fsync: "everysec", database: "postgres", partitions: partitions}, func(st *stack) (values, error) {
			all, _, err := st.fill(ctx, callbacks.Stripe, b.backlog()/2)
			if err != nil {
				return nil, err
			}
			got, _, err := st.drainBy(ctx, all, allGroups)
			v[value] = got[valueRSS]
			return nil, err
		})
		if err != nil {
			return v, fmt.Errorf("%d partitions: %w", partitions, err)
		}
	}
	return v, nil
}

// weigh fills Redis and asks it what the streams and the dedup marks take.
func (s *stack) weigh(ctx context.Context, account, value string, v values) error {
	n := s.b.backlog() / 5
	if _, _, err := s.fill(ctx, account, n); err != nil {
		return err
	}
	list, err := s.b.list(account, n)
	if err != nil {
		return err
	}
	bodies := 0
	for i := range n {
		bodies += len(list.Body(i))
	}
	stored, err := s.usage(ctx, "events")
	if err != nil {
		return err
	}
	v[value] = float64(stored) / float64(bodies)
	if account == callbacks.Stripe {
		v[valueStored] = float64(stored) / float64(n)
		marks, err := s.usage(ctx, "seen:*")
		v[valueID] = float64(marks) / float64(n)
		return err
	}
	return nil
}

// usage adds up what Redis takes for the partitions' keys that end so, looking at all of
// each.
func (s *stack) usage(ctx context.Context, ending string) (n int64, err error) {
	keys, err := s.partitionKeys(ctx, ending)
	if err != nil {
		return 0, err
	}
	for _, key := range keys {
		one, err := s.redis.MemoryUsage(ctx, key, 0).Result()
		if err != nil {
			return 0, err
		}
		n += one
	}
	return n, nil
}

// embedded is S10: what paybell accepts and settles without Redis, in one process.
func (b *bench) embedded(ctx context.Context, paybell string) (values, error) {
	list, err := b.list(callbacks.Stripe, b.most(callbacks.Stripe))
	if err != nil {
		return nil, err
	}
	return b.with(ctx, stack{paybell: paybell}, func(st *stack) (values, error) {
		p, err := st.startDoor(ctx, "serve")
		if err != nil {
			return nil, err
		}
		st.database = "sqlite"
		if st.db, err = sql.Open("sqlite", st.source()+"?mode=ro&_pragma=busy_timeout(5000)"); err != nil {
			return nil, err
		}
		if err := st.refuses(ctx, list); err != nil {
			return nil, err
		}
		before, err := read(st.roots)
		if err != nil {
			return nil, err
		}
		began := time.Now()
		if b.kill {
			time.AfterFunc(b.duration/2, func() { st.kill(p) })
		}
		res, err := st.sendEmbedded(ctx, list)
		if err != nil {
			return nil, err
		}
		all := outcomes(res)
		effects := int64(0)
		err = st.until(ctx, 2*time.Minute, func() (bool, error) {
			effects, err = st.effects(ctx)
			return effects >= int64(all.accepted()*len(allGroups)), err
		})
		if err != nil {
			return nil, err
		}
		took := time.Since(began).Seconds()
		after, err := read(st.roots)
		if err != nil {
			return nil, err
		}
		u := after.since(before)
		v := values{
			foreign: u.foreign, valueRate: float64(all.accepted()) / took, valueAccepted: float64(res.Accepted) / res.Took.Seconds(),
			valueServer: per100k(u.by[inServer], res.Accepted), valueP50: float64(percentile(res.Waits, 0.5)) / 1000,
			valueP99: float64(percentile(res.Waits, 0.99)) / 1000,
		}
		if effects != int64(all.accepted()*len(allGroups)) && !b.kill {
			return v, fmt.Errorf("%d effects of %d callbacks", effects, all.accepted())
		}
		return v, st.compare(ctx, all, allGroups, v)
	})
}

// sendEmbedded sends in a closed loop; with kill the process is started again when it
// was killed.
func (s *stack) sendEmbedded(ctx context.Context, list *send.List) (*send.Result, error) {
	again := make(chan error, 1)
	if s.b.kill {
		killed := s.processes[len(s.processes)-1]
		go func() {
			select {
			case <-killed.Done():
				_, err := s.startDoor(ctx, "serve")
				again <- err
			case <-ctx.Done():
				again <- ctx.Err()
			}
		}()
	} else {
		again <- nil
	}
	res, err := send.Run(ctx, send.Plan{Port: s.public, Conns: 64, List: list, For: s.b.duration, Again: s.b.kill})
	if err != nil {
		return nil, err
	}
	return res, <-again
}
