package main_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/handlers/effects/effectstest"
	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/streamstest"
)

// tally is what the commands answer.
type tally struct {
	Selected int            `json:"selected"`
	Outcomes map[string]int `json:"outcomes"`
}

// giveUp makes a dead letter of everything that a group has not read.
func giveUp(t *testing.T, b *streamstest.Bench, group string) {
	t.Helper()
	g := b.Group(group, "test")
	for p := range b.Layout.Partitions() {
		var l *streams.Lease
		waitUntil(t, 20*time.Second, "the lease of the killed worker has ended", func() bool {
			var ok bool
			var err error
			if l, ok, err = g.Acquire(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			return ok
		})
		var s streams.Settlement
		for _, e := range b.Take(l, 1000) {
			s.Dead = append(s.Dead, streams.DeadLetter{EntryID: e.ID, Attempts: 3, Reason: "attempts", Error: "the table was missing"})
		}
		b.Settle(l, s)
		if err := l.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReplayedDeadLettersAreAppliedOnce replays and drops by the commands, against a
// worker process, and counts effects.
func TestReplayedDeadLettersAreAppliedOnce(t *testing.T) {
	server := streamstest.Redis(t, streamstest.AOF("everysec")...)
	db := effectstest.Postgres(t)
	s := newStack(t, server.Addr(), db.Postgres.File)
	s.run("migrate")
	rows, err := sql.Open("pgx", readFile(t, db.Postgres.File))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	applied := func() (n int) {
		if err := rows.QueryRowContext(t.Context(), `SELECT count(*) FROM order_history`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	b := streamstest.New(t, server.Addr(), func(o *streams.Options) { o.Partitions = streams.DefaultOptions().Partitions })
	const n = 40
	for i := range n {
		b.Append(streamstest.Record(fmt.Sprint("order-", i), 1))
	}
	giveUp(t, b, "orderstatus")

	// A group that never reads keeps the stream from being trimmed.
	keep := []string{"--set", "streams.declared_groups=[billing]"}
	admin := freeAddress(t)
	ask := func(args ...string) (out tally) {
		t.Helper()
		cmd := s.command(append(args, "--admin", "http://"+admin, "--output", "json")...)
		body, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		if err := json.Unmarshal(body, &out); err != nil {
			t.Fatalf("%v: %v: %s", args, err, body)
		}
		return out
	}
	worker := s.startAt("worker", admin, keep...)
	waitUntil(t, 20*time.Second, "the worker answers", func() bool {
		return s.command("deadletters", "list", "orderstatus", "--admin", "http://"+admin).Run() == nil
	})
	if out, err := s.command("replay", "orderstatus", "--all", "--admin", "http://"+admin).CombinedOutput(); err == nil || !strings.Contains(string(out), "--yes") {
		t.Fatalf("nobody was asked: %v %s", err, out)
	}
	if got := ask("replay", "orderstatus", "--all", "--dry-run"); got.Selected != n || len(got.Outcomes) != 0 {
		t.Fatalf("dry run: %+v", got)
	}
	if got := ask("deadletters", "drop", "orderstatus", "--order", "order-7", "--because", "paid by hand", "--yes"); got.Outcomes["dropped"] != 1 {
		t.Fatalf("drop: %+v", got)
	}
	if got := ask("replay", "orderstatus", "--order", "order-8", "--yes"); got.Selected != 1 || got.Outcomes["replayed"] != 1 {
		t.Fatalf("one order: %+v", got)
	}
	begun := time.Now()
	if got := ask("deadletters", "replay", "orderstatus", "--reason", "attempts", "--yes", "--rate", "20"); got.Outcomes["replayed"] != n-2 {
		t.Fatalf("the rest: %+v", got)
	}
	if took := time.Since(begun); took < 1500*time.Millisecond {
		t.Errorf("38 at 20 a second took %v", took)
	}
	waitUntil(t, 30*time.Second, "the replays are applied", func() bool { return applied() == n-1 })

	// The same events are given up and replayed once more: they are known by now.
	worker.kill()
	for p := range b.Layout.Partitions() {
		b.Write.XGroupDestroy(t.Context(), b.Layout.Events(p), "orderstatus")
	}
	giveUp(t, b, "orderstatus")
	s.startAt("worker", admin, keep...)
	waitUntil(t, 20*time.Second, "the worker answers", func() bool {
		return s.command("deadletters", "list", "orderstatus", "--admin", "http://"+admin).Run() == nil
	})
	if got := ask("replay", "orderstatus", "--all", "--yes", "--rate", "0"); got.Outcomes["replayed"] != n {
		t.Fatalf("again: %+v", got)
	}
	waitUntil(t, 30*time.Second, "nothing is parked", func() bool {
		parked := int64(0)
		for p := range b.Layout.Partitions() {
			parked += b.Write.ZCard(t.Context(), b.Layout.Parked(p, "orderstatus")).Val()
		}
		return parked == 0
	})
	if got := applied(); got != n {
		t.Errorf("%d applied, want each of %d once, the dropped one by its replay", got, n)
	}
}
