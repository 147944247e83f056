package judge_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver
	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/loadtest/faults/judge"
	"github.com/paybell/paybell/loadtest/faults/traffic"
	"github.com/paybell/paybell/loadtest/server"
)

// servers are shared by the tests of this package, each of which has a database and
// a number of Redis's of its own.
var (
	dsn       func(database string) string
	redisAddr string
	worlds    atomic.Int32
)

func TestMain(m *testing.M) {
	if err := withServers(m); err != nil {
		panic(err)
	}
}

func withServers(m *testing.M) error {
	dir, err := os.MkdirTemp("", "judge-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx := context.Background()
	sqlPort, err := server.FreePort()
	if err != nil {
		return err
	}
	pg, err := server.Postgres(ctx, dir, sqlPort, "-c", "fsync=off")
	if err != nil {
		return err
	}
	defer pg.Kill()
	dsn = func(database string) string {
		return strings.Replace(server.DSN(sqlPort), "/postgres?", "/"+database+"?", 1)
	}
	redisPort, err := server.FreePort()
	if err != nil {
		return err
	}
	rs, err := server.Redis(ctx, dir, "../../../deploy/redis.conf", redisPort)
	if err != nil {
		return err
	}
	defer rs.Kill()
	redisAddr = net.JoinHostPort("127.0.0.1", strconv.Itoa(redisPort))
	rdb := redis.NewClient(&redis.Options{Addr: redisAddr})
	defer rdb.Close()
	db, err := sql.Open("pgx", dsn("postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	if err := pg.Ready(ctx, db.PingContext); err != nil {
		return err
	}
	if err := rs.Ready(ctx, func(ctx context.Context) error { return rdb.Ping(ctx).Err() }); err != nil {
		return err
	}
	m.Run() // its code is what the process ends with
	return nil
}

// world is what a run leaves behind, made by hand: SQL, Redis and what was told.
type world struct {
	t       *testing.T
	db      *sql.DB
	rdb     *redis.Client
	prefix  string
	told    []traffic.Told
	options judge.Options
	entries int
}

// newWorld returns a world in which nothing has happened.
func newWorld(t *testing.T) *world {
	t.Helper()
	name := fmt.Sprintf("world%d", worlds.Add(1))
	admin, err := sql.Open("pgx", dsn("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	w := &world{t: t, prefix: name, rdb: redis.NewClient(&redis.Options{Addr: redisAddr})}
	t.Cleanup(func() { _ = w.rdb.Close() })
	if _, err := admin.ExecContext(t.Context(), `CREATE DATABASE `+name); err != nil {
		t.Fatal(err)
	}
	if w.db, err = sql.Open("pgx", dsn(name)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.db.Close() })
	// The tables are those that paybell makes: the part of each migration above Down.
	files, err := filepath.Glob("../../../handlers/effects/migrations/postgres/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("no migrations: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		up, _, _ := strings.Cut(string(text), "-- +goose Down")
		w.sql(up)
	}
	w.redis("XGROUP", "CREATE", w.key("events"), judge.Group, "0", "MKSTREAM")
	for _, group := range groups {
		w.redis("XGROUP", "CREATE", w.key("events"), group, "0")
	}
	return w
}

var groups = []string{"orderstatus", "points", "eventlog"}

func (w *world) key(name string) string { return w.prefix + ":{0}:" + name }

func (w *world) sql(query string, args ...any) {
	w.t.Helper()
	if _, err := w.db.ExecContext(w.t.Context(), query, args...); err != nil {
		w.t.Fatalf("%v in %s", err, query)
	}
}

func (w *world) redis(args ...any) string {
	w.t.Helper()
	v, err := w.rdb.Do(w.t.Context(), args...).Result()
	if err != nil {
		w.t.Fatalf("%v: %v", args, err)
	}
	s, _ := v.(string)
	return s
}

// id is what paybell calls the event of a provider's id: docs/event.md, "Identity", worded
// once more than in the judge.
func id(msg string) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{"standardwebhooks", "standard", msg}, "\x1f")))
	return "evt_" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:26]
}

// tell notes that a fact was sent and accepted.
func (w *world) tell(order string, seq int, typ string, dollars int) string {
	msg := fmt.Sprintf("msg_%s_%d", order, seq)
	w.told = append(w.told, traffic.Told{
		Kind: "event", Provider: "standardwebhooks", Account: "standard", ID: msg, Order: order, Customer: order + "-c",
		Seq: seq, Type: typ, Dollars: dollars, Pinned: true, Status: 200, OK: true,
	})
	return id(msg)
}

// appendEntry puts an event into the stream, and counts it.
func (w *world) appendEntry(event, order, typ string) string {
	w.entries++
	w.redis("HINCRBY", w.key("ledger"), "appended", 1)
	return w.redis("XADD", w.key("events"), fmt.Sprintf("%d-0", w.entries), "schema", "payment-event/1", "id", event, "type", typ, "order", order)
}

// settle lets a group be done with everything in the stream.
func (w *world) settle(group string) {
	for {
		read, err := w.rdb.XReadGroup(w.t.Context(), &redis.XReadGroupArgs{Group: group, Consumer: "c", Streams: []string{w.key("events"), ">"}, Block: -1}).Result()
		if err == redis.Nil { //nolint:errorlint // go-redis returns it as it is
			return
		}
		if err != nil {
			w.t.Fatal(err)
		}
		for _, m := range read[0].Messages {
			w.redis("XACK", w.key("events"), group, m.ID)
			w.redis("HINCRBY", w.key("counts:"+group), "settled", 1)
		}
	}
}

// effect lets a group apply an event.
func (w *world) effect(group, event string) {
	w.sql(`INSERT INTO effects VALUES ($1, $2, 'f', now())`, group, event)
}

func (w *world) log(event, order, typ, entry string) {
	w.effect("eventlog", event)
	w.sql(`INSERT INTO event_log (grp, event_id, facts, type, account, namespace, provider, order_ref, part, entry_id, event, callback_id, sha256, callback_part, received_at, appended_at)
		VALUES ('eventlog', $1, 'f', $2, 'standard', 'shop', 'standardwebhooks', $3, 0, $4, '{}', 'cb', '', 0, now(), now())`, event, typ, order, entry)
}

func (w *world) history(event, order, typ, entry string) {
	w.effect("orderstatus", event)
	w.sql(`INSERT INTO order_history (event_id, namespace, order_key, account, type, outcome, received_at, recorded_at, part, entry_id)
		VALUES ($1, 'shop', $2, 'standard', $3, 'applied', now(), now(), 0, $4)`, event, "order/"+order, typ, entry)
}

func (w *world) order(order, status string, captured, refunded int) {
	w.sql(`INSERT INTO orders (namespace, order_key, order_ref, status, captured_minor, refunded_minor, conflicts, shared_reference, state, created_at, updated_at)
		VALUES ('shop', $1, $2, $3, $4, $5, '', false, '', now(), now())`, "order/"+order, order, status, captured*100, refunded*100)
}

func (w *world) points(event, order string, delta, target int) {
	w.sql(`INSERT INTO points_ledger (namespace, order_key, customer_ref, delta, target, event_id, recorded_at)
		VALUES ('shop', $1, $2, $3, $4, $5, now())`, "order/"+order, order+"-c", delta, target, event)
	w.sql(`INSERT INTO points_balances VALUES ('shop', $1, $2, now())
		ON CONFLICT (namespace, customer_ref) DO UPDATE SET balance = points_balances.balance + $2`, order+"-c", delta)
}

// judge lets the tap read to the end and asks for the verdict.
func (w *world) judge() judge.Verdict {
	w.t.Helper()
	for _, group := range groups {
		w.settle(group)
	}
	tap := judge.NewTap(redisAddr, w.prefix)
	ctx, stop := context.WithTimeout(w.t.Context(), 20*time.Second)
	done := make(chan error, 1)
	go func() { done <- tap.Run(ctx) }()
	w.await(ctx)
	stop()
	if err := <-done; err != nil {
		w.t.Fatal(err)
	}
	var told strings.Builder
	lines := json.NewEncoder(&told)
	for _, line := range w.told {
		if err := lines.Encode(line); err != nil {
			w.t.Fatal(err)
		}
	}
	o := w.options
	o.Told, o.SQL, o.Redis, o.Prefix, o.Tap = strings.NewReader(told.String()), w.db, w.rdb, w.prefix, tap
	o.Poisoned, o.FirstOnly, o.Forged = traffic.Poisoned, traffic.FirstOnly, traffic.Forgery
	v, err := judge.Judge(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

// await returns when the tap has read everything.
func (w *world) await(ctx context.Context) {
	w.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		infos, err := w.rdb.XInfoGroups(ctx, w.key("events")).Result()
		if err != nil {
			w.t.Fatal(err)
		}
		for _, g := range infos {
			if g.Name == judge.Group && g.Pending == 0 && g.LastDeliveredID == fmt.Sprintf("%d-0", w.entries) {
				return
			}
		}
		select {
		case <-ctx.Done():
			w.t.Fatalf("the tap did not read everything: %+v", infos)
		case <-tick.C:
		}
	}
}

// kept is a world in which an order was authorized and paid, one was paid and partly
// refunded, and one was poisoned, and in which every promise was kept.
func kept(t *testing.T) (w *world, events []string) {
	t.Helper()
	w = newWorld(t)
	step := func(order string, seq int, typ string, dollars int) (event, entry string) {
		event = w.tell(order, seq, typ, dollars)
		entry = w.appendEntry(event, order, typ)
		w.log(event, order, typ, entry)
		w.history(event, order, typ, entry)
		if !strings.Contains(order, traffic.Poisoned) {
			w.effect("points", event)
		}
		events = append(events, event)
		return event, entry
	}
	step("a", 0, "payment.authorized", 0)
	paid, _ := step("a", 1, "payment.succeeded", 30)
	w.points(paid, "a", 30, 30)
	w.order("a", "paid", 30, 0)
	paid, _ = step("b", 0, "payment.succeeded", 50)
	w.points(paid, "b", 50, 50)
	back, _ := step("b", 1, "refund.succeeded", 20)
	w.points(back, "b", -20, 30)
	w.order("b", "partially_refunded", 50, 20)
	poison := "c-" + traffic.Poisoned
	event, entry := step(poison, 0, "payment.succeeded", 5)
	w.order(poison, "paid", 5, 0)
	w.settle("points")
	w.redis("HINCRBY", w.key("counts:points"), "settled", -1)
	w.redis("XADD", w.key("dead:points"), "*", "id", event, "src_id", entry)
	return w, events
}

func TestKeptPromisesAreFound(t *testing.T) {
	w, _ := kept(t)
	if v := w.judge(); !v.OK() || v.Sent != 5 || v.Accepted != 5 || v.Events != 5 || v.DeadExpected != 1 || v.DeadFound != 1 {
		t.Errorf("%+v, want a verdict that finds nothing", v)
	}
}

// only fails unless a verdict has something in the list of a name, and in no other.
func only(t *testing.T, v judge.Verdict, name, text string) {
	t.Helper()
	for of, list := range map[string][]string{
		"lost": v.Lost, "twice": v.Twice, "out of order": v.OutOfOrder, "forged": v.ForgedAccepted, "other": v.Other, "ledger": v.Ledger,
	} {
		if (of == name) != (len(list) > 0) {
			t.Errorf("%s: %q, want something in %s alone", of, list, name)
		}
		if of == name && !strings.Contains(strings.Join(list, "\n"), text) {
			t.Errorf("%s: %q, want %q", of, list, text)
		}
	}
	if v.OK() {
		t.Error("the verdict is that every promise was kept")
	}
	if (v.LedgerDifference != 0) != (name == "ledger") {
		t.Errorf("the ledger differs by %d", v.LedgerDifference)
	}
}

func TestLostEventIsFound(t *testing.T) {
	w, _ := kept(t)
	w.tell("gone", 0, "payment.succeeded", 10)
	only(t, w.judge(), "lost", "no entry of "+id("msg_gone_0"))
}

func TestEffectThatWasNeverMadeIsLost(t *testing.T) {
	for _, group := range groups {
		t.Run(group, func(t *testing.T) {
			w, events := kept(t)
			w.sql(`DELETE FROM effects WHERE grp = $1 AND event_id = $2`, group, events[0])
			only(t, w.judge(), "lost", group+" has no effect of "+events[0])
		})
	}
}

func TestRowThatIsNotThereIsLost(t *testing.T) {
	for name, query := range map[string]string{
		"the event log has no": `DELETE FROM event_log WHERE event_id = $1`,
		"there is no order a":  `DELETE FROM orders WHERE order_ref = 'a' AND $1 <> ''`,
		"a-c has 0 points":     `WITH l AS (DELETE FROM points_ledger WHERE event_id = $1) DELETE FROM points_balances WHERE customer_ref = 'a-c'`,
		"order a is pending":   `UPDATE orders SET status = 'pending', captured_minor = NULL WHERE order_ref = 'a' AND $1 <> ''`,
	} {
		t.Run(name, func(t *testing.T) {
			w, events := kept(t)
			w.sql(query, events[1])
			only(t, w.judge(), "lost", name)
		})
	}
}

func TestEventInTheStreamTwiceIsFound(t *testing.T) {
	w, events := kept(t)
	w.appendEntry(events[0], "a", "payment.authorized")
	only(t, w.judge(), "twice", events[0]+" has the entries")
}

func TestEventAppliedTwiceIsFound(t *testing.T) {
	for name, do := range map[string]func(w *world, events []string){
		"the points ledger has": func(w *world, events []string) { w.points(events[1], "a", 30, 60) },
		"order a is paid with 6000 captured": func(w *world, _ []string) {
			w.sql(`UPDATE orders SET captured_minor = 6000 WHERE order_ref = 'a'`)
		},
		"customer a-c has 31 points": func(w *world, _ []string) {
			w.sql(`UPDATE points_balances SET balance = 31 WHERE customer_ref = 'a-c'`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, events := kept(t)
			do(w, events)
			only(t, w.judge(), "twice", name)
		})
	}
}

func TestEventsAppliedOutOfOrderAreFound(t *testing.T) {
	for _, table := range []string{"order_history", "event_log", "points_ledger"} {
		t.Run(table, func(t *testing.T) {
			w, events := kept(t)
			// Swaps the events of order b, so that the refund was applied first.
			w.sql(`UPDATE `+table+` SET event_id = CASE event_id WHEN $1 THEN 'x' ELSE $1 END WHERE event_id IN ($1, $2)`, events[2], events[3])
			w.sql(`UPDATE `+table+` SET event_id = $1 WHERE event_id = 'x'`, events[3])
			only(t, w.judge(), "out of order", table)
		})
	}
}

// TestEventDeletedByHandMayComeLater: it was lost to a group, and rang again when Redis
// had lost its memory.
func TestEventDeletedByHandMayComeLater(t *testing.T) {
	w, events := kept(t)
	w.sql(`DELETE FROM order_history WHERE event_id = $1`, events[0])
	w.sql(`DELETE FROM effects WHERE grp = 'orderstatus' AND event_id = $1`, events[0])
	w.history(events[0], "a", "payment.authorized", "9999999999999-0")
	w.options.Destroyed = events[:1]
	if v := w.judge(); len(v.OutOfOrder) != 1 {
		t.Errorf("out of order before Redis lost its memory: %v, want one", v.OutOfOrder)
	}
	w.options.AfterFlush = true
	if v := w.judge(); len(v.OutOfOrder) != 0 {
		t.Errorf("out of order afterwards: %v", v.OutOfOrder)
	}
}

func TestPinnedOrderAppendedTheOtherWayRoundIsFound(t *testing.T) {
	w := newWorld(t)
	first, second := w.tell("p", 0, "payment.authorized", 0), w.tell("p", 1, "payment.succeeded", 7)
	for _, e := range []struct{ event, typ string }{{second, "payment.succeeded"}, {first, "payment.authorized"}} {
		entry := w.appendEntry(e.event, "p", e.typ)
		w.log(e.event, "p", e.typ, entry)
		w.history(e.event, "p", e.typ, entry)
		w.effect("points", e.event)
	}
	w.points(second, "p", 7, 7)
	w.order("p", "paid", 7, 0)
	only(t, w.judge(), "out of order", "appended the other way round")
}

func TestForgeryIsFoundWhereverItIs(t *testing.T) {
	order := "a-" + traffic.Forgery
	for name, do := range map[string]func(w *world){
		"replied success": func(w *world) {
			w.told = append(w.told, traffic.Told{Kind: "forgery", ID: "x", Order: order, Status: 200, OK: true})
		},
		"is in the stream": func(w *world) { w.appendEntry("evt_x", order, "payment.succeeded") },
		"is in SQL":        func(w *world) { w.order(order, "paid", 1000, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			w, _ := kept(t)
			do(w)
			only(t, w.judge(), "forged", name)
		})
	}
}

func TestConflictIsKeptOnce(t *testing.T) {
	conflict := func(w *world, event, entry string) {
		w.log(event, "a", "conflict", entry)
		w.sql(`UPDATE event_log SET conflict_of = $1 WHERE event_id = $2`, id("msg_a_1"), event)
	}
	for name, tc := range map[string]struct {
		kept []string
		in   string
	}{
		"has no conflict of":  {nil, "lost"},
		"":                    {[]string{"evt_one"}, ""},
		"has 2 conflicts of ": {[]string{"evt_one", "evt_two"}, "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			w, _ := kept(t)
			again := w.told[1]
			again.Kind, again.Dollars = "conflict", 31
			w.told = append(w.told, again)
			for _, event := range tc.kept {
				w.entries++
				w.redis("HINCRBY", w.key("ledger"), "appended", 1)
				entry := w.redis("XADD", w.key("events"), fmt.Sprintf("%d-0", w.entries), "id", event, "type", "conflict",
					"order", "a", "event", fmt.Sprintf(`{"conflict_of":%q}`, id("msg_a_1")))
				conflict(w, event, entry)
			}
			v := w.judge()
			if tc.in == "" && v.OK() {
				return
			}
			only(t, v, tc.in, name)
		})
	}
}

func TestWhatNobodySentIsFound(t *testing.T) {
	w, _ := kept(t)
	entry := w.appendEntry("evt_stray", "z", "payment.succeeded")
	w.log("evt_stray", "z", "payment.succeeded", entry)
	only(t, w.judge(), "other", "evt_stray is in the stream")
}

func TestDeadLettersAreCompared(t *testing.T) {
	for name, do := range map[string]func(w *world, events []string){
		"0 dead letters, want 1": func(w *world, _ []string) {
			w.redis("DEL", w.key("dead:points"))
			w.redis("HINCRBY", w.key("counts:points"), "settled", 1)
		},
		"that nobody expected": func(w *world, events []string) {
			w.redis("XADD", w.key("dead:points"), "*", "id", events[0])
			w.redis("HINCRBY", w.key("counts:points"), "settled", -1)
		},
		"is a dead letter twice": func(w *world, events []string) {
			w.redis("XADD", w.key("dead:points"), "*", "id", events[4])
			w.redis("HINCRBY", w.key("counts:points"), "settled", -1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, events := kept(t)
			do(w, events)
			only(t, w.judge(), "other", name)
		})
	}
}

// firstOnly is a world in which the first event of an order was poisoned, and the
// second was paid.
func firstOnly(t *testing.T) (w *world, paid string) {
	t.Helper()
	w = newWorld(t)
	order := "p-" + traffic.Poisoned + "-" + traffic.FirstOnly
	for seq, typ := range []string{"payment.pending", "payment.succeeded"} {
		event := w.tell(order, seq, typ, 40*seq)
		entry := w.appendEntry(event, order, typ)
		w.log(event, order, typ, entry)
		w.history(event, order, typ, entry)
		if seq == 0 {
			w.settle("points")
			w.redis("HINCRBY", w.key("counts:points"), "settled", -1)
			w.redis("XADD", w.key("dead:points"), "*", "id", event, "src_id", entry)
			continue
		}
		paid = event
		w.effect("points", paid)
		w.points(paid, order, 40, 40)
	}
	w.order(order, "paid", 40, 0)
	return w, paid
}

func TestWhatFollowsPoisonIsOwed(t *testing.T) {
	w, _ := firstOnly(t)
	if v := w.judge(); !v.OK() || v.DeadExpected != 1 || v.DeadFound != 1 {
		t.Errorf("%+v, want a verdict that finds nothing", v)
	}
	t.Run("and missed", func(t *testing.T) {
		w, paid := firstOnly(t)
		w.sql(`DELETE FROM effects WHERE grp = 'points' AND event_id = $1`, paid)
		only(t, w.judge(), "lost", "points has no effect of "+paid)
	})
}

func TestReplyThatMakesAProviderGiveUpIsFound(t *testing.T) {
	for status, name := range map[int]string{0: "", 503: "", 400: "was 400", 302: "was 302"} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			w, _ := kept(t)
			refused := w.told[0]
			refused.Status, refused.OK = status, false
			w.told = append(w.told, refused)
			v := w.judge()
			if name != "" {
				only(t, v, "other", name)
			} else if !v.OK() {
				t.Errorf("%+v, want a verdict that finds nothing", v)
			}
			if (v.ComeAgain == 1) != (status == 503) {
				t.Errorf("%d replies asked for the callback again", v.ComeAgain)
			}
		})
	}
}

func TestLedgerThatDoesNotAddUpIsFound(t *testing.T) {
	for name, do := range map[string]func(w *world){
		"points was owed 5 at": func(w *world) { w.redis("HINCRBY", w.key("counts:points"), "settled", -1) },
		"entries were counted that the tap did not see": func(w *world) {
			w.redis("HINCRBY", w.key("ledger"), "appended", 1)
			for _, group := range groups {
				w.redis("HINCRBY", w.key("counts:"+group), "settled", 1)
			}
		},
		"1 deliveries are counted as lost": func(w *world) {
			w.settle("eventlog")
			w.redis("HINCRBY", w.key("counts:eventlog"), "settled", -1)
			w.redis("HINCRBY", w.key("counts:eventlog"), "lost", 1)
		},
		"points had 3 at": func(w *world) {
			for _, field := range []string{"again", "base", "settled"} {
				w.redis("HINCRBY", w.key("counts:points"), field, 3)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, _ := kept(t)
			do(w)
			only(t, w.judge(), "ledger", name)
		})
	}
}

func TestEventDeletedByHandMustBeCountedAsLost(t *testing.T) {
	destroyed := func(t *testing.T, lost int) judge.Verdict {
		w, events := kept(t)
		w.options.Destroyed = events[:1]
		w.sql(`DELETE FROM effects WHERE grp = 'points' AND event_id = $1`, events[0])
		w.settle("points")
		w.redis("HINCRBY", w.key("counts:points"), "settled", -lost)
		w.redis("HINCRBY", w.key("counts:points"), "lost", lost)
		return w.judge()
	}
	if v := destroyed(t, 1); !v.OK() {
		t.Errorf("%+v, want a verdict that finds nothing: the loss was told", v)
	}
	t.Run("in silence", func(t *testing.T) {
		only(t, destroyed(t, 0), "ledger", "only 0 counted as lost")
	})
}

func TestProcessThatWasNotRefusedIsFound(t *testing.T) {
	w, _ := kept(t)
	w.options.Admitted = []string{"streams.partitions=32: signal: killed"}
	only(t, w.judge(), "other", "streams.partitions=32")
}
