package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/loadtest/bench/callbacks"
	"github.com/paybell/paybell/loadtest/bench/send"
	"github.com/paybell/paybell/loadtest/server"
)

// stalled is how long a drain may make no progress.
const stalled = 30 * time.Second

// backlog is how many entries a drain finds: some seconds' work for most.
func (b *bench) backlog() int {
	if b.short {
		return 4000
	}
	return 100_000
}

// fill has a gateway append n callbacks, and returns what that took.
func (s *stack) fill(ctx context.Context, account string, n int) (sent, used, error) {
	list, err := s.b.list(account, n)
	if err != nil {
		return nil, used{}, err
	}
	p, err := s.startDoor(ctx, "gateway")
	if err != nil {
		return nil, used{}, err
	}
	before, err := read(s.roots)
	if err != nil {
		return nil, used{}, err
	}
	res, err := send.Run(ctx, send.Plan{Port: s.public, Conns: connections, List: list.Head(n), For: 10 * time.Minute, Again: true})
	if err != nil {
		return nil, used{}, err
	}
	after, err := read(s.roots)
	if err != nil {
		return nil, used{}, err
	}
	s.end(p)
	all := outcomes(res)
	if all.accepted() != n {
		return nil, used{}, fmt.Errorf("%d of %d callbacks were accepted", all.accepted(), n)
	}
	return all, after.since(before), nil
}

// drained measures from the moment a process starts until nothing is owed.
func (s *stack) drained(ctx context.Context, as string, start func() (*server.Process, error), owed func() (int64, error)) (values, used, error) {
	total, err := owed()
	if err != nil {
		return nil, used{}, err
	}
	before, err := read(s.roots)
	if err != nil {
		return nil, used{}, err
	}
	began := time.Now()
	p, err := start()
	if err != nil {
		return nil, used{}, err
	}
	left, moved := total, began
	for kill := s.b.kill; left > 0; {
		select {
		case <-ctx.Done():
			return nil, used{}, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
		n, err := owed()
		if err != nil {
			return nil, used{}, err
		}
		now := time.Now()
		if n != left {
			moved = now
		}
		left = n
		if kill && left < total/2 {
			kill = false
			s.kill(p)
			if p, err = start(); err != nil {
				return nil, used{}, err
			}
		}
		if now.Sub(moved) > stalled {
			return nil, used{}, fmt.Errorf("no progress for %s with %d of %d owed", stalled, left, total)
		}
		select {
		case <-p.Done():
			return nil, used{}, fmt.Errorf("the process ended with %d of %d owed", left, total)
		default:
		}
	}
	after, err := read(s.roots)
	if err != nil {
		return nil, used{}, err
	}
	u := after.since(before)
	v := values{
		foreign: u.foreign, valueRedis: per100k(u.by[inRedis], int(total)), valueRSS: float64(p.HighWater()) / (1 << 20),
	}
	if !s.b.kill { // the one that was killed took its count with it
		v[valueServer] = per100k(u.by[as], int(total))
	}
	if _, ok := s.roots[inDatabase]; ok {
		v[valueDatabase] = per100k(u.by[inDatabase], int(total))
	}
	v[valueRate] = float64(total) / moved.Sub(began).Seconds()
	return v, u, nil
}

// drainLimit is a limit program that drains one stream of callbacks as they came; with
// a database it upserts them.
func (b *bench) drainLimit(name, database string) target {
	return target{name, func(ctx context.Context) (values, error) {
		n := b.backlog()
		list, err := b.list(callbacks.Stripe, n)
		if err != nil {
			return nil, err
		}
		return b.with(ctx, stack{fsync: "everysec", database: database}, func(st *stack) (values, error) {
			if err := st.preload(ctx, list.Head(n)); err != nil {
				return nil, err
			}
			args := []string{"drain", "-redis", "127.0.0.1:" + strconv.Itoa(st.redisPort)}
			if database != "" {
				args[0] = "upsert"
				args = append(args, "-source", st.source(), "-driver", map[string]string{"postgres": "pgx", "sqlite": "sqlite"}[database])
			}
			if database == "sqlite" {
				args[len(args)-3] += "?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
			}
			kill := b.kill
			b.kill = false // a limit promises nothing
			v, _, err := st.drained(ctx, inServer,
				func() (*server.Process, error) { return st.start(ctx, inServer, "", b.limits, args...) },
				func() (int64, error) { return st.owed(ctx, []string{"bench"}, []string{"limit"}) })
			b.kill = kill
			if err != nil || database == "" {
				return v, err
			}
			var rows int
			if err := st.db.QueryRowContext(ctx, `SELECT count(*) FROM upserted`).Scan(&rows); err != nil {
				return v, err
			}
			if rows != n {
				return v, fmt.Errorf("%d rows of %d", rows, n)
			}
			return v, nil
		})
	}}
}

// preload adds the bodies of a list to the stream bench.
func (s *stack) preload(ctx context.Context, list *send.List) error {
	const page = 500
	for from := 0; from < list.Len(); from += page {
		_, err := s.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i := from; i < min(from+page, list.Len()); i++ {
				p.XAdd(ctx, &redis.XAddArgs{Stream: "bench", Values: []any{"id", i, "body", list.Body(i)}})
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return s.redis.XGroupCreate(ctx, "bench", "limit", "0").Err()
}

// noopTarget is this tree's worker library with a handler that does nothing.
func (b *bench) noopTarget() target {
	return target{paybellNoop, func(ctx context.Context) (values, error) {
		return b.with(ctx, stack{paybell: b.paybell, fsync: "everysec"}, func(st *stack) (values, error) {
			if _, _, err := st.fill(ctx, callbacks.Stripe, b.backlog()); err != nil {
				return nil, err
			}
			keys, err := st.partitionKeys(ctx, "events")
			if err != nil {
				return nil, err
			}
			v, _, err := st.drained(ctx, inWorker,
				func() (*server.Process, error) {
					return st.start(ctx, inWorker, "", b.noop, "-redis", "127.0.0.1:"+strconv.Itoa(st.redisPort),
						"-partitions", strconv.Itoa(st.partitions), "-lease-ttl", st.leaseTTL.String())
				},
				func() (int64, error) { return st.owed(ctx, keys, []string{"noop"}) })
			if err != nil {
				return v, err
			}
			dead, err := st.partitionKeys(ctx, "dead:*")
			if len(dead) > 0 {
				err = errors.Join(err, fmt.Errorf("dead letters in %v", dead))
			}
			return v, err
		})
	}}
}

// workers are a target of each binary that drains a backlog by some groups.
func (b *bench) workers(name, database string, groups ...string) []target {
	return b.both(name, func(ctx context.Context, paybell string) (values, error) {
		return b.with(ctx, stack{paybell: paybell, fsync: "everysec", database: database}, func(st *stack) (values, error) {
			all, _, err := st.fill(ctx, callbacks.Stripe, b.backlog())
			if err != nil {
				return nil, err
			}
			v, _, err := st.drainBy(ctx, all, groups)
			return v, err
		})
	})
}

// drainBy has a paybell worker drain what is there, and compares SQL with what was sent.
func (s *stack) drainBy(ctx context.Context, all sent, groups []string) (values, used, error) {
	keys, err := s.partitionKeys(ctx, "events")
	if err != nil {
		return nil, used{}, err
	}
	v, u, err := s.drained(ctx, inWorker,
		func() (*server.Process, error) { return s.startWorker(ctx, groups...) },
		func() (int64, error) { return s.owed(ctx, keys, groups) })
	if err != nil {
		return v, u, err
	}
	return v, u, s.settledAll(ctx, all, groups, v)
}
