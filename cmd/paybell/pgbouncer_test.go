package main_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/handlers/effects/effectstest"
	"github.com/paybell/paybell/streams/streamstest"
)

// TestG4PgBouncerBetween runs two workers on a PgBouncer in transaction mode with two
// connections. One is started again in the middle, and so is PgBouncer; the door takes
// callbacks all the while, every event has its effects once, and no dead letter is made.
func TestG4PgBouncerBetween(t *testing.T) {
	postgres := effectstest.StartPostgres(t)
	t.Cleanup(postgres.Stop)
	pooler := effectstest.StartPgBouncer(t, postgres)
	server := streamstest.Redis(t, streamstest.AOF("everysec")...)
	s := newStack(t, server.Addr(), pooler.Options(t).Postgres.File)
	s.run("migrate")
	s.run("migrate") // and once more: the lock of the first one is gone
	s.start("serve", s.gatewayURL)
	worker := func() *process { return s.startAt("worker", freeAddress(t), "--set", "instance=second") }
	second := worker()

	const orders = 2000
	var next, accepted atomic.Int64
	var senders sync.WaitGroup
	for range 4 {
		senders.Go(func() {
			for n := next.Add(1); n <= orders; n = next.Add(1) {
				for !s.post(t.Context(), int(n)) {
					if t.Context().Err() != nil {
						return
					}
				}
				accepted.Add(1)
			}
		})
	}
	until := func(n int64) {
		t.Helper()
		waitUntil(t, time.Minute, fmt.Sprintf("%d callbacks are accepted", n), func() bool { return accepted.Load() >= n })
	}
	until(orders / 4)
	second.kill()
	second = worker()
	until(orders / 2)
	pooler.Kill()
	until(orders * 5 / 8) // the door does not need a database
	second.kill()
	worker() // nor does the start of a worker
	pooler.Start(t)
	senders.Wait()

	direct := pooler.Direct(t)
	defer direct.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // the server is stopped anyway
	for what, query := range map[string]string{
		"orders paid":      `SELECT count(*) FROM orders WHERE status = 'paid' AND captured_minor = 8800`,
		"rows of history":  `SELECT count(*) FROM order_history`,
		"rows of evidence": `SELECT count(*) FROM event_log`,
		"rows of points":   `SELECT count(*) FROM points_ledger`,
		"points / 88":      `SELECT coalesce(sum(delta), 0)::bigint / 88 FROM points_ledger`,
	} {
		count := func() (n int64) {
			if err := direct.QueryRow(t.Context(), query).Scan(&n); err != nil {
				t.Fatalf("%s: %v", query, err)
			}
			return n
		}
		waitUntil(t, 2*time.Minute, fmt.Sprintf("%s: %d", what, orders), func() bool { return count() >= orders })
		if n := count(); n != orders {
			t.Errorf("%s: %d, want %d", what, n, orders)
		}
	}
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	keys, err := rdb.Keys(t.Context(), "*:dead:*").Result()
	if err != nil || len(keys) != 0 {
		t.Errorf("dead letters: %s (%v), want none", strings.Join(keys, ", "), err)
	}
}
