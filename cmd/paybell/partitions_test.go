package main_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paybell/paybell/streams/streamstest"
)

// resized is a deployment whose number of partitions is changed under traffic.
type resized struct {
	*rolled
	admin           string
	gateway, worker *process
	accepted        atomic.Int64
	resent          atomic.Int64
}

// newResized starts a gateway and a worker with so many partitions.
func newResized(t *testing.T, partitions int) (*resized, *streamstest.Server) {
	t.Helper()
	server := streamstest.Redis(t, streamstest.AOF("always")...)
	r := &resized{rolled: newRolled(t, server)}
	r.roll(partitions)
	return r, server
}

// roll restarts the gateway, and then the worker, with another number.
func (r *resized) roll(partitions int) {
	r.t.Helper()
	number := fmt.Sprintf("streams.partitions=%d", partitions)
	if r.gateway != nil {
		r.gateway.kill()
	}
	r.gateway = r.startAt("gateway", freeAddress(r.t), "--set", number)
	if r.worker != nil {
		r.worker.kill()
	}
	r.admin = freeAddress(r.t)
	r.worker = r.startAt("worker", r.admin, "--set", number)
}

// traffic posts callbacks, a third of them again and again later, until stop is called.
func (r *resized) traffic() (stop func()) {
	ctx, cancel := context.WithCancel(r.t.Context())
	var wg sync.WaitGroup
	var sent atomic.Int64
	sent.Store(int64(r.posted))
	for range 3 {
		wg.Go(func() {
			for ctx.Err() == nil {
				n := int(sent.Add(1))
				for !r.post(r.t.Context(), n) {
					if r.t.Context().Err() != nil {
						return
					}
				}
				r.accepted.Add(1)
				if n%3 == 0 {
					if r.post(ctx, 1+rand.IntN(n)) { // one that was accepted, or another process is about to send
						r.resent.Add(1)
					}
				}
				pause(ctx)
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
		r.posted = int(sent.Load())
	}
}

// until waits until so many callbacks were accepted.
func (r *resized) until(more int64) {
	r.t.Helper()
	goal := r.accepted.Load() + more
	waitUntil(r.t, time.Minute, fmt.Sprintf("%d more callbacks are accepted", more), func() bool { return r.accepted.Load() >= goal })
}

// change runs the command; it is killed after the line that begins so, "" for never.
func (r *resized) change(partitions int, killAfter string) (out string, err error) {
	r.t.Helper()
	cmd := r.command("partitions", "change", fmt.Sprint(partitions), "--timeout", "60s")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	var b strings.Builder
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		b.WriteString(lines.Text() + "\n")
		if killAfter != "" && strings.HasPrefix(lines.Text(), killAfter) {
			_ = cmd.Process.Kill() // it may have ended
			break
		}
	}
	_, _ = io.Copy(&b, stdout) // until it has ended
	err = cmd.Wait()
	return b.String() + stderr.String(), err
}

// number is what the deployment says.
func (r *resized) number() int {
	n, err := r.rdb.HGet(r.t.Context(), "paybell:deployment", "partitions").Int()
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// once fails the test if an event is in the streams twice, as a subscriber would get it,
// or if a change was taken for a database that went back in time.
func (r *resized) once() {
	r.t.Helper()
	n := int(0)
	ids := map[string]int{}
	for _, key := range r.rdb.Keys(r.t.Context(), "*:events").Val() {
		for _, m := range r.rdb.XRange(r.t.Context(), key, "-", "+").Val() {
			id, _ := m.Values["id"].(string)
			ids[id]++
			n++
		}
	}
	for _, key := range r.rdb.Keys(r.t.Context(), "*:counts:*").Val() {
		if r.rdb.HExists(r.t.Context(), key, "rewound").Val() {
			r.t.Errorf("%s: a change was taken for a database that went back", key)
		}
	}
	if n != len(ids) || len(ids) != r.posted {
		r.t.Errorf("%d entries of %d events in the streams, of %d callbacks", n, len(ids), r.posted)
	}
}

func (r *resized) get(url string) string {
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body) // what came of it
	return string(body)
}

// TestPartitionsChangeUnderTraffic rolls a deployment from 4 partitions to 8 and back to 4
// while callbacks come, a third of them again: none is lost, none is on a stream twice, and
// the ledger adds up.
func TestPartitionsChangeUnderTraffic(t *testing.T) {
	r, _ := newResized(t, 4)
	stop := r.traffic()
	r.until(40)
	for _, n := range []int{8, 4} {
		out, err := r.change(n, "")
		if err != nil || !strings.Contains(out, "changed: there are") {
			t.Fatalf("change to %d: %v\n%s", n, err, out)
		}
		r.until(30)
		words := fmt.Sprintf("the deployment has %d partitions now", n)
		waitUntil(t, 20*time.Second, "/readyz says that a restart is due: "+words, func() bool {
			ready := r.get(r.gatewayURL + "/readyz")
			return strings.HasPrefix(ready, "ready: journal: ") && strings.Contains(ready, words)
		})
		waitUntil(t, 20*time.Second, "the worker says so, too", func() bool {
			status, _ := r.command("status", "--admin", "http://"+r.admin).CombinedOutput()
			return strings.Contains(string(status), words) && strings.Contains(r.get("http://"+r.admin+"/metrics"), `paybell_partitions_changing{state="restart"} 1`)
		})
		r.roll(n)
		r.until(40)
		t.Logf("%d partitions: %d callbacks accepted so far, %d of them again", n, r.accepted.Load(), r.resent.Load())
	}
	stop()
	r.complete("after both changes")
	r.balanced(r.admin)
	r.once()
	out, err := r.command("partitions", "show").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "partitions  4, changed 2 times") || !strings.Contains(string(out), "former      [8]") {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%d callbacks, %d of them again: 0 lost, 0 twice, difference 0", r.posted, r.resent.Load())
}

// TestPartitionsChangeKilledAtEachStep kills the command after each of its steps and at
// random moments, runs two at once, and restarts Redis while one waits. In the end either
// number holds wholly, and the command, run again, finishes or goes back.
func TestPartitionsChangeKilledAtEachStep(t *testing.T) {
	r, server := newResized(t, 4)
	stop := r.traffic()
	r.until(20)
	kills := 0
	for _, step := range []string{"closed", "changed", "told"} {
		before := r.number()
		to := 12 - before // 4 and 8
		out, _ := r.change(to, step)
		kills++
		t.Logf("killed after %q: %d partitions, was to become %d:\n%s", step, r.number(), to, out)
		if step == "changed" || step == "told" {
			if r.number() != to {
				t.Fatalf("it said that there are %d partitions, and there are %d", to, r.number())
			}
		}
		r.until(5)
		waitUntil(t, 60*time.Second, "the command finishes what it began", func() bool {
			out, err := r.change(to, "")
			if err != nil && !strings.Contains(out, "is being changed") {
				t.Fatalf("%v\n%s", err, out)
			}
			return err == nil && r.number() == to
		})
		r.roll(to)
		r.until(10)
	}
	for range 2 {
		before := r.number()
		to := 12 - before
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(700))*time.Millisecond)
		cmd := r.command("partitions", "change", fmt.Sprint(to))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-ctx.Done()
		cancel()
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // likewise
		kills++
		// Back, or where it was done, on.
		waitUntil(t, 60*time.Second, "the command goes back", func() bool {
			_, err := r.change(before, "")
			return err == nil && r.number() == before
		})
		r.roll(before)
		r.until(10)
	}

	// Two at once, to different numbers: one does it, the other says so.
	to := 12 - r.number()
	r.worker.kill() // so that both have to wait
	first := make(chan error, 1)
	go func() {
		_, err := r.change(to, "")
		first <- err
	}()
	waitUntil(t, 20*time.Second, "the first one has begun", func() bool {
		return r.rdb.HExists(t.Context(), "paybell:deployment", "change").Val()
	})
	if out, err := r.change(16, ""); err == nil || !strings.Contains(out, "is being changed") {
		t.Errorf("two at once: %v\n%s", err, out)
	}
	// Redis is restarted meanwhile.
	server.Kill()
	server.Restart()
	r.admin = freeAddress(t)
	r.worker = r.startAt("worker", r.admin, "--set", fmt.Sprintf("streams.partitions=%d", 12-to))
	if err := <-first; err != nil {
		t.Errorf("the first one, with Redis restarted: %v", err)
	}
	r.roll(to)
	r.until(20)
	stop()
	r.complete("after all kills")
	r.balanced(r.admin)
	r.once()
	t.Logf("%d callbacks, %d of them again, %d kills of the command, %s changes: 0 lost, 0 twice, difference 0", r.posted, r.resent.Load(), kills,
		r.rdb.HGet(t.Context(), "paybell:deployment", "generation").Val())
}

// TestJournalOfTheOldNumberIsDrainedByTheNew: callbacks that a gateway kept during a change
// are appended by the new number, once, also where the reply of an append was lost.
func TestJournalOfTheOldNumberIsDrainedByTheNew(t *testing.T) {
	r, _ := newResized(t, 4)
	r.more(20)
	r.complete("with the old number")
	if out, err := r.change(8, ""); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r.more(20)
	for n := range 20 { // what is in the streams goes into the journal, too
		waitUntil(t, 20*time.Second, "a callback is accepted again", func() bool { return r.post(t.Context(), n+1) })
	}
	r.refused("set streams.partitions to 8", "gateway", "--set", "streams.partitions=4", "--set", "gateway.address="+freeAddress(t), "--set", "journal.dir="+t.TempDir())
	r.roll(0) // as the record says
	r.more(5)
	r.complete("with the new number")
	r.balanced(r.admin)
	r.once()
}

// TestDatabaseRestoredToBeforeAChange: what the old partitions keep is delivered on the way
// back to their number.
func TestDatabaseRestoredToBeforeAChange(t *testing.T) {
	r, _ := newResized(t, 4)
	dump := filepath.Join(t.TempDir(), "backup.sql")
	r.more(20)
	r.complete("before the backup")
	r.psql("pg_dump", "--clean", "--if-exists", "--file", dump)
	r.more(20)
	r.complete("after the backup")
	if out, err := r.change(8, ""); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r.roll(8)
	r.more(20)
	r.complete("with 8 partitions")
	r.psql("psql", "--quiet", "--single-transaction", "--set", "ON_ERROR_STOP=1", "--file", dump)
	const paid = `SELECT count(*) FROM orders WHERE status = 'paid'`
	waitUntil(t, 60*time.Second, "what was appended since the change is made again", func() bool { return r.count(paid) == 40 })
	if out, err := r.change(4, ""); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r.roll(4)
	r.complete("on the way back")
	r.more(5)
	r.complete("and on")
	r.balanced(r.admin)
}

// TestReplayOfSettledReachesBackBeforeAChange: events of partitions that there are no more
// are delivered to the partitions that their orders are in now.
func TestReplayOfSettledReachesBackBeforeAChange(t *testing.T) {
	r, _ := newResized(t, 8)
	r.more(20)
	r.complete("with 8 partitions")
	if out, err := r.change(4, ""); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r.roll(4)
	r.more(10)
	r.complete("with 4 partitions")
	if _, err := r.db.ExecContext(t.Context(), `
		DELETE FROM points_ledger; DELETE FROM points_balances; DELETE FROM points_orders; DELETE FROM points_order_refs;
		DELETE FROM effects WHERE grp = 'points'`); err != nil {
		t.Fatal(err)
	}
	out, err := r.command("replay", "points", "--settled", "--since", "1h", "--rate", "0", "--yes", "--set", "streams.partitions=4").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "20 from the event log") {
		t.Fatalf("%v\n%s", err, out)
	}
	r.complete("delivered again")
	r.balanced(r.admin)
}
