package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/loadtest/bench/callbacks"
	"github.com/paybell/paybell/loadtest/server"
)

// cut splits an account's name into its provider and the rest.
func cut(account string) (before, after string, found bool) { return strings.Cut(account, "-") }

// until asks again and again, and gives up without an error after so long.
func (s *stack) until(ctx context.Context, most time.Duration, done func() (bool, error)) error {
	end := time.Now().Add(most)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := done()
		if err != nil || ok || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// kill ends a process by SIGKILL.
func (s *stack) kill(p *server.Process) {
	p.Signal(syscall.SIGKILL)
	<-p.Done()
}

// partitionKeys are the partitions' keys that end so.
func (s *stack) partitionKeys(ctx context.Context, ending string) ([]string, error) {
	return s.redis.Keys(ctx, "paybell:[{]*[}]:"+ending).Result()
}

// appended is how many entries were ever added to the partitions.
func (s *stack) appended(ctx context.Context) (n int, err error) {
	keys, err := s.partitionKeys(ctx, "events")
	if err != nil {
		return 0, err
	}
	for _, key := range keys {
		info, err := s.redis.XInfoStream(ctx, key).Result()
		if err != nil {
			return 0, err
		}
		n += int(info.EntriesAdded)
	}
	return n, nil
}

// owed is how many deliveries of those streams the groups have not settled. It takes Redis's
// own lag, which costs nothing and is wrong after a restart only: no server is restarted here.
func (s *stack) owed(ctx context.Context, keys, groups []string) (n int64, err error) {
	var infos []*redis.XInfoGroupsCmd
	var streams []*redis.XInfoStreamCmd
	_, err = s.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, key := range keys {
			infos = append(infos, p.XInfoGroups(ctx, key))
			streams = append(streams, p.XInfoStream(ctx, key))
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for i := range infos {
		added := streams[i].Val().EntriesAdded
		for _, name := range groups {
			at := slices.IndexFunc(infos[i].Val(), func(g redis.XInfoGroup) bool { return g.Name == name })
			if at < 0 {
				n += added // it has not begun
				continue
			}
			g := infos[i].Val()[at]
			lag := g.Lag
			if lag < 0 { // Redis cannot tell: entries between were deleted
				lag = max(0, added-g.EntriesRead)
			}
			n += g.Pending + lag
		}
	}
	return n, nil
}

// settledAll waits until the groups owe nothing and made an effect of everything, and
// compares SQL with what was sent.
func (s *stack) settledAll(ctx context.Context, all sent, groups []string, v values) error {
	keys, err := s.partitionKeys(ctx, "events")
	if err != nil {
		return err
	}
	stored, err := s.appended(ctx)
	if err != nil {
		return err
	}
	var owed, effects int64
	err = s.until(ctx, time.Minute, func() (bool, error) {
		if owed, err = s.owed(ctx, keys, groups); err != nil || owed > 0 {
			return false, err
		}
		effects, err = s.effects(ctx)
		return effects >= int64(stored*len(groups)), err
	})
	if err != nil {
		return err
	}
	if want := int64(stored * len(groups)); owed > 0 || effects != want {
		return fmt.Errorf("%d deliveries owed, %d effects of %d", owed, effects, want)
	}
	return s.compare(ctx, all, groups, v)
}

// effects is how many the groups have made.
func (s *stack) effects(ctx context.Context) (n int64, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT count(*) FROM effects`).Scan(&n)
	if err != nil && strings.Contains(err.Error(), "no such table") {
		return 0, nil // a worker makes it
	}
	return n, err
}

// what each group leaves of an order: its reference and how much, once.
var effectOf = map[string]struct {
	query  string
	amount func(n int) int
}{
	"orderstatus": {`SELECT order_ref, coalesce(captured_minor, 0) FROM orders WHERE status = 'paid'`, callbacks.Cents},
	"points":      {`SELECT order_key, delta FROM points_ledger`, callbacks.Points},
	"eventlog":    {`SELECT order_ref, 1 FROM event_log WHERE type = 'payment.succeeded'`, func(int) int { return 1 }},
}

// compare counts orders that were acknowledged and have no effect, and effects that are
// there twice, of the wrong amount, or of orders that were never sent.
func (s *stack) compare(ctx context.Context, all sent, groups []string, v values) error {
	var errs []error
	lost, twice := 0, 0
	for _, group := range groups {
		seen := make([]int, len(all))
		strange := 0
		err := each(ctx, s.db, effectOf[group].query, func(ref string, amount int) {
			n, ok := s.b.keys.Number(strings.TrimPrefix(ref, "order/"))
			if !ok || n >= len(all) || amount != effectOf[group].amount(n) {
				strange++
				return
			}
			seen[n]++
		})
		if err != nil {
			return err
		}
		l, t := 0, strange
		for n, times := range seen {
			if all[n] && times == 0 {
				l++
			}
			t += max(0, times-1)
		}
		if l+t > 0 {
			errs = append(errs, fmt.Errorf("%s: %d lost, %d twice or wrong", group, l, t))
		}
		lost, twice = lost+l, twice+t
	}
	var conflicts int
	errs = append(errs, s.db.QueryRowContext(ctx, `SELECT count(*) FROM effect_conflicts`).Scan(&conflicts))
	if conflicts > 0 {
		errs = append(errs, fmt.Errorf("%d conflicts", conflicts))
	}
	if s.b.kill && v != nil {
		v[valueLost] += float64(lost)
		v[valueTwice] += float64(twice)
	}
	return errors.Join(errs...)
}

func each(ctx context.Context, db *sql.DB, query string, do func(ref string, amount int)) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var ref string
		var amount int
		if err := rows.Scan(&ref, &amount); err != nil {
			return err
		}
		do(ref, amount)
	}
	return rows.Err()
}
