package main_test

import (
	"database/sql"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver
	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/handlers/effects/effectstest"
	"github.com/paybell/paybell/streams/streamstest"
)

// rolled is a gateway and a worker whose Redis or database is to go back in time.
type rolled struct {
	*stack
	dsn    string
	db     *sql.DB
	rdb    *redis.Client
	posted int
}

func newRolled(t *testing.T, server *streamstest.Server) *rolled {
	t.Helper()
	file := effectstest.Postgres(t).Postgres.File
	r := &rolled{stack: newStack(t, server.Addr(), file), dsn: strings.TrimSpace(readFile(t, file))}
	var err error
	if r.db, err = sql.Open("pgx", r.dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.db.Close() }) // nothing is read from it any more
	r.rdb = redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = r.rdb.Close() }) // likewise
	r.run("migrate")
	return r
}

// more sends n further callbacks, each until it is accepted.
func (r *rolled) more(n int) {
	r.t.Helper()
	for range n {
		r.posted++
		waitUntil(r.t, 20*time.Second, "a callback is accepted", func() bool { return r.post(r.t.Context(), r.posted) })
	}
}

func (r *rolled) count(query string) (n int) {
	// While the database is restored its tables are not there.
	if err := r.db.QueryRowContext(r.t.Context(), query).Scan(&n); err != nil {
		return -1
	}
	return n
}

// effects are what each group made of the callbacks.
var effectsOf = map[string]string{
	"orders":           `SELECT count(*) FROM orders WHERE status = 'paid' AND captured_minor = 8800`,
	"history":          `SELECT count(*) FROM order_history`,
	"event log":        `SELECT count(*) FROM event_log`,
	"points":           `SELECT coalesce(sum(delta), 0)::bigint / 88 FROM points_ledger`,
	"points, by entry": `SELECT count(*) FROM points_ledger`,
}

// complete waits until every callback has had its effects, once each.
func (r *rolled) complete(when string) {
	r.t.Helper()
	for what, query := range effectsOf {
		waitUntil(r.t, 60*time.Second, when+": "+what, func() bool { return r.count(query) >= r.posted })
		if n := r.count(query); n != r.posted {
			r.t.Errorf("%s: %s: %d of %d callbacks", when, what, n, r.posted)
		}
	}
}

// balanced fails the test if the ledger of a group does not add up, or says that
// something was lost.
func (r *rolled) balanced(admin string) {
	r.t.Helper()
	var status struct {
		Ledger map[string]struct{ Lost, Difference, Settled int64 } `json:"ledger"`
	}
	out, err := r.command("status", "--admin", "http://"+admin, "-o", "json").Output()
	if err == nil {
		err = json.Unmarshal(out, &status)
	}
	if err != nil || len(status.Ledger) == 0 {
		r.t.Fatalf("status: %v\n%s", err, out)
	}
	for group, a := range status.Ledger {
		if a.Lost != 0 || a.Difference != 0 || a.Settled < int64(r.posted) {
			r.t.Errorf("ledger of %s: %+v", group, a)
		}
	}
}

func (r *rolled) psql(args ...string) {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), args[0], append(args[1:], r.dsn)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// TestG4RestoredDatabaseGetsAgainWhatItLost restores a backup under a worker that goes
// on, and under one that stood still: the effects since are made again, and no other twice.
func TestG4RestoredDatabaseGetsAgainWhatItLost(t *testing.T) {
	r := newRolled(t, streamstest.Redis(t, streamstest.AOF("everysec")...))
	dump := filepath.Join(t.TempDir(), "backup.sql")
	r.start("gateway", r.gatewayURL)
	admin := freeAddress(t)
	worker := r.startAt("worker", admin)
	r.more(30)
	r.complete("before the backup")
	r.psql("pg_dump", "--clean", "--if-exists", "--file", dump)
	r.more(30)
	r.complete("before the restoration")

	r.psql("psql", "--quiet", "--single-transaction", "--set", "ON_ERROR_STOP=1", "--file", dump)
	r.more(5)
	r.complete("restored under a worker that goes on")

	r.psql("psql", "--quiet", "--single-transaction", "--set", "ON_ERROR_STOP=1", "--file", dump)
	r.complete("restored while nothing came")

	worker.kill()
	r.psql("psql", "--quiet", "--single-transaction", "--set", "ON_ERROR_STOP=1", "--file", dump)
	admin = freeAddress(t)
	r.startAt("worker", admin)
	r.complete("restored while no worker ran")
	r.balanced(admin)
}

// TestRedisOfAnOldFileGetsAgainWhatTheEventLogHas: a Redis that came back from an older
// append-only file lacks entries that were confirmed; subscribers who had not read them
// get them all the same.
func TestRedisOfAnOldFileGetsAgainWhatTheEventLogHas(t *testing.T) {
	server := streamstest.Redis(t, streamstest.AOF("always")...)
	r := newRolled(t, server)
	r.start("gateway", r.gatewayURL)
	r.start("worker", "")
	r.more(30)
	r.complete("before the copy")
	file, copied := filepath.Join(server.Dir(), "appendonlydir"), filepath.Join(t.TempDir(), "appendonlydir")
	server.Kill()
	if err := os.CopyFS(copied, os.DirFS(file)); err != nil {
		t.Fatal(err)
	}
	server.Restart()
	r.more(30)
	r.complete("before Redis went back")

	server.Kill()
	if err := os.RemoveAll(file); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(file, os.DirFS(copied)); err != nil {
		t.Fatal(err)
	}
	server.Restart()
	waitUntil(t, 60*time.Second, "the streams have all events again", func() bool { return r.streamed() == r.posted })
	r.more(5)
	r.complete("after Redis went back")
	// What is sent again is known.
	for n := range r.posted {
		waitUntil(t, 20*time.Second, "a callback is accepted again", func() bool { return r.post(t.Context(), n+1) })
	}
	if n := r.streamed(); n != r.posted {
		t.Errorf("%d events in the streams after all were sent again, want %d", n, r.posted)
	}
}

// TestG4GroupThatLostItsTablesGetsThemAgain: an operator has emptied what the group points
// wrote; settled events are delivered to it again, from the streams as far as they are kept
// and from the event log before that.
func TestG4GroupThatLostItsTablesGetsThemAgain(t *testing.T) {
	r := newRolled(t, streamstest.Redis(t, streamstest.AOF("everysec")...))
	r.start("gateway", r.gatewayURL)
	admin := freeAddress(t)
	worker := r.startAt("worker", admin)
	r.more(30)
	r.complete("at first")
	worker.kill()
	for _, key := range r.rdb.Keys(t.Context(), "*:events").Val() { // as trimming would, later
		if err := r.rdb.XTrimMaxLen(t.Context(), key, 1).Err(); err != nil {
			t.Fatal(err)
		}
	}
	admin = freeAddress(t)
	r.startAt("worker", admin)
	if _, err := r.db.ExecContext(t.Context(), `
		DELETE FROM points_ledger; DELETE FROM points_balances; DELETE FROM points_orders; DELETE FROM points_order_refs;
		DELETE FROM effects WHERE grp = 'points'`); err != nil {
		t.Fatal(err)
	}
	out, err := r.command("replay", "points", "--settled", "--since", "1h", "--rate", "0", "--yes").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "are delivered again") || strings.Contains(string(out), " 0 from the event log") {
		t.Fatalf("%v\n%s", err, out)
	}
	r.complete("delivered again")
	r.balanced(admin)
	for _, c := range []struct{ words, group string }{{"no such group", "nobody"}, {"letters, digits", "no/body"}} {
		if out, err := r.command("replay", c.group, "--settled", "--since", "1h", "--yes").CombinedOutput(); err == nil || !strings.Contains(string(out), c.words) {
			t.Errorf("%s: %v, want %q in\n%s", c.group, err, c.words, out)
		}
	}
}

// streamed counts the entries of all partitions.
func (r *rolled) streamed() (n int) {
	for _, key := range r.rdb.Keys(r.t.Context(), "*:events").Val() {
		n += int(r.rdb.XLen(r.t.Context(), key).Val())
	}
	return n
}
