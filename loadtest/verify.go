package main

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"
)

func (s *stack) openDatabase(ctx context.Context) (*sql.DB, error) {
	driver, source := "pgx", s.dsn()
	if s.database == "sqlite" {
		driver, source = "sqlite", "file:"+filepath.Join(s.dir, "paybell.db")+"?mode=ro&_pragma=busy_timeout(5000)"
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		return nil, err
	}
	return db, db.PingContext(ctx)
}

// waitSettled returns when every group made its effect for every event on the
// streams and owes nothing, or an error when there was no progress for too long.
// It kills the worker on the way as often as was asked for.
func (s *stack) waitSettled(ctx context.Context, db *sql.DB, want expected) (time.Time, error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	kills, last, progressed := 0, -1, time.Now()
	for {
		at := time.Now()
		appended, owed, err := s.streams(ctx)
		if err != nil {
			return at, err
		}
		done, err := settled(ctx, db)
		if err != nil {
			return at, err
		}
		if done >= appended*len(groups) && appended >= len(want.certain) && owed == 0 {
			return at, nil
		}
		if done != last {
			last, progressed = done, at
		}
		if at.Sub(progressed) > s.settle {
			return at, fmt.Errorf("no progress for %s: %d effects of %d, %d deliveries owed", s.settle, done, appended*len(groups), owed)
		}
		// Kills are spread over the work that is left to do.
		if kills < s.kills && done >= appended*len(groups)*(kills+1)/(s.kills+1) {
			kills++
			s.worker.Kill()
			if err := s.startWorkers(ctx); err != nil {
				return at, err
			}
		}
		select {
		case <-ctx.Done():
			return at, ctx.Err()
		case <-tick.C:
		}
	}
}

// settled is how many effects all groups have made.
func settled(ctx context.Context, db *sql.DB) (n int, err error) {
	return n, db.QueryRowContext(ctx, `SELECT count(*) FROM effects`).Scan(&n)
}

// streams counts the entries that were ever added to the partitions, and what the
// groups still owe: pending, or not yet delivered, of which one in each partition is looked
// at. A dead letter is an error.
func (s *stack) streams(ctx context.Context) (appended, owed int, err error) {
	keys, err := s.keys(ctx, "paybell:{*}:events")
	if err != nil {
		return 0, 0, err
	}
	for _, key := range keys {
		info, err := s.redis.XInfoStream(ctx, key).Result()
		if err != nil {
			return 0, 0, err
		}
		appended += int(info.EntriesAdded)
		infos, err := s.redis.XInfoGroups(ctx, key).Result()
		if err != nil {
			return 0, 0, err
		}
		for _, g := range infos {
			owed += int(g.Pending)
			// Redis's own lag is wrong after a restart.
			unread, err := s.redis.XRangeN(ctx, key, "("+g.LastDeliveredID, "+", 1).Result()
			if err != nil {
				return 0, 0, err
			}
			owed += len(unread)
		}
	}
	dead, err := s.keys(ctx, "paybell:{*}:dead:*")
	if err != nil {
		return 0, 0, err
	}
	for _, key := range dead {
		n, err := s.redis.XLen(ctx, key).Result()
		if err != nil {
			return 0, 0, err
		}
		if n > 0 {
			return 0, 0, fmt.Errorf("%d dead letters in %s", n, key)
		}
	}
	return appended, owed, nil
}

func (s *stack) keys(ctx context.Context, pattern string) ([]string, error) {
	var out []string
	scan := s.redis.Scan(ctx, 0, strings.NewReplacer("{", "[{]", "}", "[}]").Replace(pattern), 1000).Iterator()
	for scan.Next(ctx) {
		out = append(out, scan.Val())
	}
	return out, scan.Err()
}

// seen is what the tables say of one order.
type seen struct {
	orders, ledger, events int
	status, currency       string
	captured, points       int64
	customer               string
}

// verify compares every order with what its callbacks said, and lists every
// difference.
func (s *stack) verify(ctx context.Context, db *sql.DB, want expected) ([]string, error) {
	all := map[int]*seen{}
	var differences []string
	differ := func(format string, args ...any) { differences = append(differences, fmt.Sprintf(format, args...)) }
	of := func(orderRef string) *seen {
		n, ok := want.number(orderRef)
		if !ok {
			differ("order %q was never sent", orderRef)
		} else if all[n] == nil {
			all[n] = &seen{}
		}
		if !ok {
			return &seen{}
		}
		return all[n]
	}

	err := query(ctx, db, `SELECT order_key, coalesce(order_ref, ''), status, coalesce(currency, ''), coalesce(captured_minor, 0), conflicts FROM orders`,
		func(rows *sql.Rows) error {
			var key, ref, status, currency, conflicts string
			var captured int64
			if err := rows.Scan(&key, &ref, &status, &currency, &captured, &conflicts); err != nil {
				return err
			}
			o := of(ref)
			o.orders++
			o.status, o.currency, o.captured = status, currency, captured
			if strings.Trim(conflicts, "[]") != "" {
				differ("order %s has conflicts %s", ref, conflicts)
			}
			return nil
		})
	if err != nil {
		return nil, err
	}
	err = query(ctx, db, `SELECT order_key, coalesce(customer_ref, ''), delta FROM points_ledger`, func(rows *sql.Rows) error {
		var key, customer string
		var delta int64
		if err := rows.Scan(&key, &customer, &delta); err != nil {
			return err
		}
		o := of(strings.TrimPrefix(key, "order/"))
		o.ledger++
		o.points, o.customer = o.points+delta, customer
		return nil
	})
	if err != nil {
		return nil, err
	}
	logged := 0
	err = query(ctx, db, `SELECT coalesce(order_ref, ''), type FROM event_log`, func(rows *sql.Rows) error {
		var ref, typ string
		if err := rows.Scan(&ref, &typ); err != nil {
			return err
		}
		logged++
		if typ != "payment.succeeded" {
			differ("event of order %s is %s", ref, typ)
		}
		of(ref).events++
		return nil
	})
	if err != nil {
		return nil, err
	}

	balances := map[string]int64{}
	for _, n := range slices.Sorted(maps.Keys(all)) {
		o := all[n]
		if !want.certain[n] && !want.open[n] {
			differ("order %d was never sent", n)
			continue
		}
		balances[want.customer(n)] += points(n)
		if (*o != seen{orders: 1, ledger: 1, events: 1, status: "paid", currency: want.currency(n), captured: cents(n), points: points(n), customer: want.customer(n)}) {
			differ("order %d: %+v", n, *o)
		}
	}
	for _, n := range slices.Sorted(maps.Keys(want.certain)) {
		if all[n] == nil {
			differ("order %d was accepted and has no effect", n)
		}
	}
	err = query(ctx, db, `SELECT customer_ref, balance FROM points_balances`, func(rows *sql.Rows) error {
		var customer string
		var balance int64
		if err := rows.Scan(&customer, &balance); err != nil {
			return err
		}
		if balances[customer] != balance {
			differ("balance of %s is %d, not %d", customer, balance, balances[customer])
		}
		delete(balances, customer)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for customer, balance := range balances {
		if balance != 0 {
			differ("%s has no balance, not %d", customer, balance)
		}
	}
	err = s.verifyCounts(ctx, db, len(all), logged, differ)
	return differences, err
}

// verifyCounts compares the totals: one entry, one row of evidence and one effect
// for each group and order, and no conflict anywhere.
func (s *stack) verifyCounts(ctx context.Context, db *sql.DB, orders, logged int, differ func(string, ...any)) error {
	appended, _, err := s.streams(ctx)
	if err != nil {
		return err
	}
	if appended != orders || logged != orders {
		differ("%d orders, %d entries on the streams, %d rows in the event log", orders, appended, logged)
	}
	effects := map[string]int{}
	err = query(ctx, db, `SELECT grp, count(*) FROM effects GROUP BY grp`, func(rows *sql.Rows) error {
		var group string
		var n int
		if err := rows.Scan(&group, &n); err != nil {
			return err
		}
		effects[group] = n
		return nil
	})
	if err != nil {
		return err
	}
	for _, group := range groups {
		if effects[group] != orders {
			differ("group %s made %d effects for %d orders", group, effects[group], orders)
		}
	}
	var conflicts int
	if err := db.QueryRowContext(ctx, `SELECT count(*) FROM effect_conflicts`).Scan(&conflicts); err != nil {
		return err
	}
	if conflicts > 0 {
		differ("%d conflicts", conflicts)
	}
	return nil
}

func query(ctx context.Context, db *sql.DB, text string, each func(*sql.Rows) error) error {
	rows, err := db.QueryContext(ctx, text)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
