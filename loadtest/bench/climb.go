package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/paybell/paybell/loadtest/bench/callbacks"
	"github.com/paybell/paybell/loadtest/bench/send"
	"github.com/paybell/paybell/loadtest/server"
)

// rungs are the rates that S8 climbs.
var rungs = []int{250, 500, 1000, 1500, 2000, 2500, 3000, 4000, 5000, 6000, 8000, 10_000}

// settledWithin is what S8 allows between a reply and the last group's effect.
const settledWithin = 250 * time.Millisecond

// live is a gateway and a worker of all groups with PostgreSQL, and what was sent to them.
type live struct {
	*stack
	list         *send.List
	door, worker *server.Process
	all          sent
}

// goLive starts them with a list of n callbacks.
func (s *stack) goLive(ctx context.Context, n int) (l *live, err error) {
	l = &live{stack: s}
	if l.list, err = s.b.list(callbacks.Stripe, n); err != nil {
		return nil, err
	}
	if l.door, err = s.startDoor(ctx, "gateway"); err != nil {
		return nil, err
	}
	l.worker, err = s.startWorker(ctx, allGroups...)
	return l, err
}

// at sends at a rate.
func (l *live) at(ctx context.Context, rate int, d time.Duration) (*send.Result, error) {
	res, err := send.Run(ctx, send.Plan{
		Port: l.public, Conns: connections, List: l.list, First: len(l.all), For: d, Rate: rate, Again: l.b.kill,
	})
	if err == nil {
		l.all = append(l.all, outcomes(res)...)
	}
	return res, err
}

// caughtUp waits until the groups owe nothing.
func (l *live) caughtUp(ctx context.Context) error {
	keys, err := l.partitionKeys(ctx, "events")
	if err != nil {
		return err
	}
	var owed int64
	err = l.until(ctx, time.Minute, func() (bool, error) {
		var err error
		owed, err = l.owed(ctx, keys, allGroups)
		return owed == 0, err
	})
	if err == nil && owed > 0 {
		err = fmt.Errorf("%d deliveries are owed a minute after the last reply", owed)
	}
	return err
}

// climb sends at one rate after another until the groups no longer keep up. A rate that
// fails is tried once more before that is believed.
func (b *bench) climb(ctx context.Context, paybell string) (values, error) {
	each := max(b.duration, 6*time.Second)
	rates := rungs
	if b.short || b.kill {
		rates, each = rungs[:1], 3*time.Second
	}
	return b.with(ctx, stack{paybell: paybell, fsync: "everysec", database: "postgres"}, func(st *stack) (values, error) {
		n := 0
		for _, rate := range rates {
			n += 2 * rate * int((each + time.Second + time.Second).Seconds())
		}
		l, err := st.goLive(ctx, n)
		if err != nil {
			return nil, err
		}
		best := values{valueHighest: 0}
		for _, rate := range rates {
			var got values
			for try := range 2 {
				if got, err = l.rung(ctx, rate, each); err != nil {
					return best, err
				}
				fmt.Fprintf(os.Stderr, "  %d/s, try %d: reply p99 %.1f ms, settled p50 %.1f, p99 %.1f ms, %.2f cores, foreign %.2f\n",
					rate, try+1, got[valueP99], got[valueSettledP50], got[valueSettledP99], got[valueCores], got[foreign])
				if got[valueHighest] > 0 {
					break
				}
			}
			best[foreign] = max(best[foreign], got[foreign])
			if got[valueHighest] == 0 {
				break
			}
			got[foreign] = best[foreign]
			best = got
		}
		return best, st.settledAll(ctx, l.all, allGroups, best)
	})
}

// rung sends at a rate. Its valueHighest is the rate, or 0 when the groups did not keep up.
func (l *live) rung(ctx context.Context, rate int, d time.Duration) (values, error) {
	if _, err := l.at(ctx, rate, time.Second); err != nil {
		return nil, err
	}
	if l.b.kill {
		time.AfterFunc(d/2, func() { l.kill(l.worker) })
	}
	before, err := read(l.roots)
	if err != nil {
		return nil, err
	}
	first := len(l.all)
	res, err := l.at(ctx, rate, d)
	if err != nil {
		return nil, err
	}
	after, err := read(l.roots)
	if err != nil {
		return nil, err
	}
	if l.b.kill {
		<-l.worker.Done()
		if l.worker, err = l.startWorker(ctx, allGroups...); err != nil {
			return nil, err
		}
	}
	if err := l.caughtUp(ctx); err != nil {
		return nil, err
	}
	u := after.since(before)
	v := values{foreign: u.foreign, valueHighest: float64(rate)}
	for _, cpu := range u.by {
		v[valueCores] += cpu / u.seconds
	}
	v[valueP50] = float64(percentile(res.Waits, 0.50)) / 1000
	v[valueP99] = float64(percentile(res.Waits, 0.99)) / 1000
	waits, err := l.settledAfter(ctx, first, res)
	if err != nil {
		return nil, err
	}
	v[valueSettledP50] = float64(percentile(waits, 0.50)) / 1000
	v[valueSettledP99] = float64(percentile(waits, 0.99)) / 1000
	due := int(float64(rate) * d.Seconds())
	if v[valueSettledP99] > float64(settledWithin.Milliseconds()) || res.Accepted < due*99/100 || res.Took > d+settledWithin {
		v[valueHighest] = 0
	}
	return v, nil
}

// settledAfter is for every callback of a run the time from its reply to the commit of
// the last group's effect, in microseconds. PostgreSQL noted when it committed, by the
// clock that the generator has, too.
func (l *live) settledAfter(ctx context.Context, first int, res *send.Result) ([]int64, error) {
	rows, err := l.db.QueryContext(ctx, `SELECT l.order_ref, (extract(epoch FROM max(pg_xact_commit_timestamp(e.xmin))) * 1000000)::bigint
FROM event_log l JOIN effects e ON e.event_id = l.event_id WHERE l.order_ref >= $1
GROUP BY l.order_ref HAVING count(*) = $2`, l.b.keys.Order(first), len(allGroups))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	waits := make([]int64, 0, res.Accepted)
	for rows.Next() {
		var order string
		var at int64
		if err := rows.Scan(&order, &at); err != nil {
			return nil, err
		}
		n, ok := l.b.keys.Number(order)
		if i := n - first; ok && i >= 0 && i < len(res.Replied) && res.Replied[i] != 0 {
			waits = append(waits, max(0, at-res.Replied[i]))
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if len(waits) != res.Accepted {
		return nil, fmt.Errorf("%d of %d callbacks have the effects of all groups", len(waits), res.Accepted)
	}
	return waits, nil
}

// lowRate is where S11 has events come one by one.
const lowRate = 200

// lowAndFull compares the CPU that an event costs all processes together at a low rate
// with the same while the backlog is appended and drained at full speed.
func (b *bench) lowAndFull(ctx context.Context, paybell string) (values, error) {
	d := max(b.duration*2, 4*time.Second)
	v, err := b.with(ctx, stack{paybell: paybell, fsync: "everysec", database: "postgres"}, func(st *stack) (values, error) {
		l, err := st.goLive(ctx, int(float64(lowRate)*(d+3*time.Second).Seconds()))
		if err != nil {
			return nil, err
		}
		if _, err := l.at(ctx, lowRate, 2*time.Second); err != nil {
			return nil, err
		}
		before, err := read(st.roots)
		if err != nil {
			return nil, err
		}
		res, err := l.at(ctx, lowRate, d)
		if err != nil {
			return nil, err
		}
		after, err := read(st.roots)
		if err != nil {
			return nil, err
		}
		u := after.since(before)
		v := values{foreign: u.foreign, valueLow: u.milliseconds(res.Accepted)}
		return v, st.settledAll(ctx, l.all, allGroups, v)
	})
	if err != nil {
		return v, err
	}
	return b.with(ctx, stack{paybell: paybell, fsync: "everysec", database: "postgres"}, func(st *stack) (values, error) {
		n := b.backlog()
		all, filling, err := st.fill(ctx, callbacks.Stripe, n)
		if err != nil {
			return v, err
		}
		_, draining, err := st.drainBy(ctx, all, allGroups)
		v[valueDrain] = draining.milliseconds(n)
		v[valueFull] = v[valueDrain] + filling.milliseconds(n)
		v[valueTimes], v[valueTimesDrain] = v[valueLow]/v[valueFull], v[valueLow]/v[valueDrain]
		v[foreign] = max(v[foreign], filling.foreign, draining.foreign)
		return v, err
	})
}

// milliseconds is the CPU of all processes for one of n.
func (u used) milliseconds(n int) float64 {
	sum := 0.0
	for _, cpu := range u.by {
		sum += cpu
	}
	return sum * 1000 / float64(max(n, 1))
}
