package main_test

import (
	"database/sql"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "modernc.org/sqlite"
)

// TestEmbeddedDefaultSurvivesKills pays orders through "paybell serve" with nothing
// else installed while the process is killed with SIGKILL in the middle of the traffic,
// and then counts in SQLite: every accepted callback has its effects, once each. What
// is sent again after the kills is a duplicate, because the marks were rebuilt.
func TestEmbeddedDefaultSurvivesKills(t *testing.T) {
	const orders, kills = 1200, 8
	s, db := newEmbedded(t)
	serve := s.start("serve", s.gatewayURL)

	var accepted atomic.Int64
	var senders sync.WaitGroup
	numbers := make(chan int)
	for range 16 {
		senders.Go(func() {
			for n := range numbers {
				for !s.post(t.Context(), n) {
					if t.Context().Err() != nil {
						return
					}
				}
				accepted.Add(1)
			}
		})
	}
	go func() {
		defer close(numbers)
		for n := range orders {
			select {
			case numbers <- n:
			case <-t.Context().Done():
				return
			}
		}
	}()
	for k := range kills {
		waitUntil(t, time.Minute, "callbacks go on", func() bool { return accepted.Load() >= int64((k+1)*orders/(kills+2)) })
		serve.kill()
		serve = s.start("serve", s.gatewayURL)
	}
	senders.Wait()
	serve.kill() // with deliveries that no group has settled
	serve = s.start("serve", s.gatewayURL)

	rows, err := sql.Open("sqlite", "file:"+db+"?mode=ro&_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for _, c := range []struct{ what, query string }{
		{"orders paid", `SELECT count(*) FROM orders WHERE status = 'paid' AND captured_minor = 8800`},
		{"events in the history", `SELECT count(*) FROM order_history`},
		{"events in the event log", `SELECT count(*) FROM event_log`},
		{"points / 88", `SELECT coalesce(sum(delta), 0) / 88 FROM points_ledger`},
	} {
		count := func() (n int64) {
			if err := rows.QueryRowContext(t.Context(), c.query).Scan(&n); err != nil {
				t.Fatalf("%s: %v", c.query, err)
			}
			return n
		}
		waitUntil(t, time.Minute, fmt.Sprintf("%s: %d of %d", c.what, count(), orders), func() bool { return count() >= orders })
		if n := count(); n != orders {
			t.Errorf("%s: %d, want %d", c.what, n, orders)
		}
	}
	serve.kill()
}

// newEmbedded is a stack without a Redis server, and where its effects are.
func newEmbedded(t *testing.T) (s *stack, database string) {
	t.Helper()
	s = newStack(t, "unused:1", "unused")
	dir := t.TempDir()
	public := freeAddress(t)
	s.gatewayURL = "http://" + public
	s.client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	text := fmt.Sprintf(`
data_dir: %q
log: {level: warn}
gateway: {address: %q}
embedded: {address: %q}
groups: {points: {award: {rules: {CNY: {points: 1, per: "1.00"}}}}}
accounts:
  stripe-main:
    provider: stripe
    options: {secrets: [{env: STRIPE_TEST_SECRET}]}
`, dir, public, freeAddress(t))
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return s, filepath.Join(dir, "paybell.db")
}
