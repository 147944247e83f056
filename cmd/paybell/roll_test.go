//go:build roll

package main_test

import (
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paybell/paybell/handlers/effects/effectstest"
	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/streamstest"
)

// TestLastReleaseRunsBesideThisOne rolls a deployment forward and back under traffic:
// gateways and workers of the release that PAYBELL_LAST_RELEASE names and of this tree
// share one Redis and one database, each is killed with SIGKILL in its turn, and in the
// end the old one is alone again with what the new one wrote. Every accepted callback,
// a tenth of them sent twice, has its effects once.
func TestLastReleaseRunsBesideThisOne(t *testing.T) {
	release := os.Getenv("PAYBELL_LAST_RELEASE")
	if release == "" {
		t.Fatal("PAYBELL_LAST_RELEASE names no binary; make roll builds one")
	}
	db := effectstest.Postgres(t).Postgres.File
	server := streamstest.Redis(t, streamstest.AOF("everysec")...)
	older, newer := newStack(t, server.Addr(), db), newStack(t, server.Addr(), db)
	older.binary = release
	newer.secret = older.secret
	rows, err := sql.Open("pgx", readFile(t, db))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()

	// instance tells the workers apart: both are on this host.
	worker := func(s *stack, name string) *process {
		return s.startAt("worker", freeAddress(t), "--set", "instance="+name)
	}
	var sent atomic.Int64
	var accepted atomic.Int64
	// traffic posts callbacks by the gateways in turn until stop is closed.
	traffic := func(stop <-chan struct{}, by ...*stack) *sync.WaitGroup {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(20 * time.Millisecond):
					}
					n := int(sent.Add(1))
					for again := range 1 + max(0, 1-n%10) {
						for try := 0; !by[(n+again+try)%len(by)].post(t.Context(), n); try++ {
							if t.Context().Err() != nil {
								return
							}
						}
					}
					accepted.Add(1)
				}
			})
		}
		return &wg
	}
	until := func(more int64) {
		goal := accepted.Load() + more
		waitUntil(t, time.Minute, fmt.Sprintf("%d more callbacks are accepted", more), func() bool { return accepted.Load() >= goal })
	}
	settled := func(phase string) {
		t.Helper()
		for what, query := range map[string]string{
			"orders paid":      `SELECT count(*) FROM orders WHERE status = 'paid' AND captured_minor = 8800`,
			"rows of history":  `SELECT count(*) FROM order_history`,
			"rows of evidence": `SELECT count(*) FROM event_log`,
			"rows of points":   `SELECT count(*) FROM points_ledger`,
			"points / 88":      `SELECT coalesce(sum(delta), 0)::bigint / 88 FROM points_ledger`,
		} {
			count := func() (n int64) {
				if err := rows.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
					t.Fatalf("%s: %v", query, err)
				}
				return n
			}
			waitUntil(t, time.Minute, fmt.Sprintf("%s: %s: %d of %d", phase, what, count(), accepted.Load()), func() bool { return count() >= accepted.Load() })
			if n := count(); n != accepted.Load() {
				t.Errorf("%s: %s: %d, want %d", phase, what, n, accepted.Load())
			}
		}
	}

	bench := streamstest.New(t, server.Addr(), func(o *streams.Options) { o.Partitions = 16 })
	ledger := streams.NewLedger(bench.Write, bench.Layout, []string{"orderstatus", "points", "eventlog"}, slog.New(slog.DiscardHandler), bench.Reg)
	// addsUp: both trim, and neither finds anything lost, or there twice.
	addsUp := func(phase string) {
		t.Helper()
		accounts, err := ledger.Read(t.Context())
		if err != nil || len(accounts) != 3 {
			t.Fatalf("%s: %v, %v", phase, accounts, err)
		}
		for name, a := range accounts {
			if a.Alarm != (streams.Alarm{}) || a.Difference() != 0 {
				t.Errorf("%s: %s: %+v", phase, name, a)
			}
		}
	}

	older.run("migrate")
	oldGateway, oldWorker := older.start("gateway", older.gatewayURL), worker(older, "old")
	stop := make(chan struct{})
	senders := traffic(stop, older)
	until(100)
	close(stop)
	senders.Wait()

	newer.run("migrate")
	newGateway, newWorker := newer.start("gateway", newer.gatewayURL), worker(newer, "new")
	stop = make(chan struct{})
	senders = traffic(stop, older, newer)
	kills := 0
	for range 3 {
		for _, kill := range []func(){
			func() { oldWorker.kill(); oldWorker = worker(older, "old") },
			func() { newWorker.kill(); newWorker = worker(newer, "new") },
			func() { oldGateway.kill(); oldGateway = older.start("gateway", older.gatewayURL) },
			func() { newGateway.kill(); newGateway = newer.start("gateway", newer.gatewayURL) },
		} {
			until(40)
			kill()
			kills++
		}
	}
	until(100)
	close(stop)
	senders.Wait()
	settled("side by side")
	addsUp("side by side")

	// Forward: what the old one has left is the new one's.
	oldWorker.kill()
	oldGateway.kill()
	stop = make(chan struct{})
	senders = traffic(stop, newer)
	until(200)
	// Back: and the other way, in the middle of the traffic.
	oldWorker = worker(older, "old")
	until(50)
	newWorker.kill()
	until(100)
	close(stop)
	senders.Wait()
	newGateway.kill()
	settled("rolled back")
	addsUp("rolled back")
	t.Logf("%d callbacks accepted, %d kills beside each other, 4 while rolling", accepted.Load(), kills)
}
