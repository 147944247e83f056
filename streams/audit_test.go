package streams_test

import (
	"context"
	_ "embed"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/streamstest"
)

// accounts reads the accounts of the group points and of the subscriber shipping.
func accounts(t *testing.T, b *streamstest.Bench) map[string]streams.Account {
	t.Helper()
	l := streams.NewLedger(b.Write, b.Layout, []string{"points"}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	l.Subscribers([]string{"shipping"})
	a, err := l.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// lags are what the stats show as unread, by group.
func lags(t *testing.T, b *streamstest.Bench) map[string]int64 {
	t.Helper()
	report, err := streams.NewStats(b.Write, b.Layout).Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int64{}
	for i := range report.Groups {
		if report.Groups[i].LagMin {
			t.Fatalf("%s was not counted", report.Groups[i].Group)
		}
		out[report.Groups[i].Group] = report.Groups[i].Lag
	}
	return out
}

// TestUnreadIsTrueAfterARestart: Redis loses what XREADGROUP has read, and its own lag is
// wrong. What stats and ledger show is not, for groups of ours, subscribers and groups that
// nobody declared, few entries behind or many.
func TestUnreadIsTrueAfterARestart(t *testing.T) {
	args := append(streamstest.AOF("always"), "--enable-debug-command", "yes")
	for name, restart := range map[string]func(*testing.T, *streamstest.Server, *streamstest.Bench){
		"killed": func(_ *testing.T, s *streamstest.Server, _ *streamstest.Bench) { s.Restart() },
		"reloaded": func(t *testing.T, _ *streamstest.Server, b *streamstest.Bench) {
			if err := b.Write.Do(t.Context(), "DEBUG", "RELOAD").Err(); err != nil {
				t.Fatal(err)
			}
		},
		"loaded from its file": func(t *testing.T, _ *streamstest.Server, b *streamstest.Bench) {
			if err := b.Write.Do(t.Context(), "DEBUG", "LOADAOF").Err(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := streamstest.Redis(t, args...)
			b := streamstest.New(t, server.Addr(), func(o *streams.Options) { o.Partitions = 1 })
			trim := b.Trimmer([]string{"points"}, []string{"shipping"})
			b.Trim(trim)
			b.AppendTo(0, 1000)
			b.Ack("shipping", b.Subscriber("shipping", 900)...)
			b.Subscriber("undeclared", 100)
			l := b.Lease(b.Group("points", "w1"), 0)
			es := b.Take(l, 200)
			b.Settle(l, streams.Settlement{Done: []string{es[0].ID, es[1].ID}})
			for range 2 {
				streamstest.Eventually(t, "the server is back", func() bool { return b.Write.Ping(t.Context()).Err() == nil })
				got, own := lags(t, b), accounts(t, b)
				if got["points"] != 800 || got["shipping"] != 100 || got["undeclared"] != 900 {
					t.Fatalf("lags %v", got)
				}
				points := own["points"]
				if points.Unread != 800 || own["shipping"].Unread != 100 || points.Difference() != 0 {
					t.Fatalf("accounts %+v", own)
				}
				restart(t, server, b)
			}
		})
	}
}

// TestRestartIsNoLossOfASubscriber: what Redis forgets of a subscriber's reads is taken for
// no loss, also when what it had read goes only later.
func TestRestartIsNoLossOfASubscriber(t *testing.T) {
	server := streamstest.Redis(t, streamstest.AOF("always")...)
	b := streamstest.New(t, server.Addr(), func(o *streams.Options) { o.Partitions = 1 })
	keep := b.Trimmer([]string{"points"}, []string{"shipping"}, func(o *streams.TrimOptions) { o.Keep = streams.KeepOptions{Age: time.Hour, Bytes: 1 << 30} })
	b.Trim(keep)
	b.AppendTo(0, 300)
	l := b.Lease(b.Group("points", "w1"), 0)
	var done []string
	for _, e := range b.Take(l, 300) {
		done = append(done, e.ID)
	}
	b.Settle(l, streams.Settlement{Done: done})
	b.Ack("shipping", b.Subscriber("shipping", 100)...)
	// The file, written anew, has what was read up to here, and no more.
	if err := b.Write.BgRewriteAOF(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	streamstest.Eventually(t, "the file is rewritten", func() bool {
		info := b.Write.Info(t.Context(), "persistence").Val()
		return strings.Contains(info, "aof_rewrite_in_progress:0") && strings.Contains(info, "aof_rewrite_scheduled:0")
	})
	b.Ack("shipping", b.Subscriber("shipping", 150)...)
	b.Trim(keep)
	server.Restart()
	streamstest.Eventually(t, "the server is back", func() bool { return b.Write.Ping(t.Context()).Err() == nil })
	b.Trim(keep)
	// Now what both had read goes.
	if err := b.Write.XTrimMinID(t.Context(), b.Layout.Events(0), b.Entries()[250].ID).Err(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := b.Trim(keep); len(got.Lost) != 0 {
			t.Fatalf("told as lost: %v", got.Lost)
		}
	}
	// And what goes then is one.
	if err := b.Write.XTrimMinID(t.Context(), b.Layout.Events(0), b.Entries()[5].ID).Err(); err != nil {
		t.Fatal(err)
	}
	b.Trim(keep)
	if a := accounts(t, b); a["shipping"].Alarm.Lost != 5 || a["points"].Alarm.Lost != 0 {
		t.Fatalf("%+v", a)
	}
}

// TestAlarmSurvivesARestart: it lies in Redis, not in a process.
func TestAlarmSurvivesARestart(t *testing.T) {
	server := streamstest.Redis(t, streamstest.AOF("always")...)
	b := streamstest.New(t, server.Addr(), func(o *streams.Options) { o.Partitions = 1 })
	b.Trim(b.Trimmer([]string{"points"}, nil))
	b.AppendTo(0, 5)
	for _, do := range []func() error{
		func() error { return b.Write.XDel(t.Context(), b.Layout.Events(0), b.Entries()[2].ID).Err() },
		func() error { return b.Write.HIncrBy(t.Context(), b.Layout.Counts(0, "points"), "settled", 1).Err() },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		b.Trim(b.Trimmer([]string{"points"}, nil))
	}
	server.Restart()
	streamstest.Eventually(t, "the server is back", func() bool { return b.Write.Ping(t.Context()).Err() == nil })
	b.Trim(b.Trimmer([]string{"points"}, nil))
	if a := accounts(t, b)["points"]; a.Alarm != (streams.Alarm{Lost: 1, Again: 1}) || a.Difference() != 0 {
		t.Fatalf("%+v", a)
	}
}

// oldTrim is how the last release trims.
//
//go:embed testdata/trim-9a7ea0d.lua
var oldTrim string

// trimAsLastRelease makes a pass over partition 0 as the last release does, for the group
// points and the subscriber shipping.
func trimAsLastRelease(t *testing.T, b *streamstest.Bench) {
	t.Helper()
	l := b.Layout
	err := b.Write.Eval(t.Context(), oldTrim, []string{
		l.Events(0), l.Trim(0), l.Ledger(0), l.Counts(0, "points"), l.Parked(0, "points"), l.Dead(0, "points"), l.Parcels(0, "points"),
	}, time.Hour.Milliseconds(), 1<<30, 0, 200, 1, "points", "shipping").Err()
	if err != nil {
		t.Fatal(err)
	}
}

// TestLastReleasesTrimmerBesideThisOne: both work on one ledger. Whichever comes first,
// nothing unsettled goes, nothing is found twice, and what either finds rings.
func TestLastReleasesTrimmerBesideThisOne(t *testing.T) {
	b := streamstest.New(t, streamstest.Redis(t).Addr(), func(o *streams.Options) { o.Partitions = 1 })
	trim := b.Trimmer([]string{"points"}, []string{"shipping"}, func(o *streams.TrimOptions) { o.GhostIdle = 0 })
	passes := []func(){func() { b.Trim(trim) }, func() { trimAsLastRelease(t, b) }}
	for _, pass := range passes {
		pass()
	}
	l := b.Lease(b.Group("points", "w1"), 0)
	var want streams.Alarm
	var settled, lost int64
	for round := range 8 {
		for i := range passes {
			passes[(round+i)%2]()
		}
		b.AppendTo(0, 6)
		es := b.Take(l, 3)
		done := []string{es[0].ID, es[1].ID}
		b.Settle(l, streams.Settlement{Done: done})
		settled += 2
		theirs := b.Subscriber("shipping", 6)
		b.Ack("shipping", theirs...)
		// By hand: one that is unread goes, one counts as settled that was not there.
		if err := b.Write.XDel(t.Context(), b.Layout.Events(0), theirs[5]).Err(); err != nil {
			t.Fatal(err)
		}
		want.Lost++
		lost++
		passes[round%2]()
		if round%3 == 0 {
			if err := b.Write.HIncrBy(t.Context(), b.Layout.Counts(0, "points"), "settled", 1).Err(); err != nil {
				t.Fatal(err)
			}
			settled++
			want.Again++
		}
		for i := range passes {
			passes[(round+i)%2]()
		}
		b.Settle(l, streams.Settlement{Done: []string{es[2].ID}})
		settled++
		for es := b.Take(l, 10); len(es) > 0; es = b.Take(l, 10) {
			var rest []string
			for _, e := range es {
				rest = append(rest, e.ID)
			}
			b.Settle(l, streams.Settlement{Done: rest})
			settled += int64(len(rest))
		}
		a := accounts(t, b)["points"]
		if a.Alarm != want || a.Difference() != 0 || a.Settled != settled || a.Lost != lost || a.Appended != int64(6*(round+1)) {
			t.Fatalf("round %d: %+v, want the alarm %+v, %d settled and %d lost", round, a, want, settled, lost)
		}
	}
	if a := accounts(t, b)["shipping"]; a.Alarm != (streams.Alarm{}) {
		t.Fatalf("%+v", a)
	}
}

// errKilled ends a trimmer as a kill does: nothing that it would send comes any more.
var errKilled = errors.New("killed")

// dying lets so many commands through, and no more.
type dying struct{ left atomic.Int64 }

// DialHook implements redis.Hook.
func (d *dying) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (d *dying) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if d.left.Add(-1) < 0 {
			cmd.SetErr(errKilled)
			return errKilled
		}
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook implements redis.Hook.
func (d *dying) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// TestTrimmerKilledAtAnyStepLosesNothing: after each command that a pass sends it is killed,
// and another one finishes. What is not settled stays, and the accounts add up.
func TestTrimmerKilledAtAnyStepLosesNothing(t *testing.T) {
	server := streamstest.Redis(t)
	for step := int64(0); ; step++ {
		b := streamstest.New(t, server.Addr(), func(o *streams.Options) { o.Partitions = 3 })
		b.Write.FlushAll(t.Context())
		g := b.Group("points", "w1")
		owed := map[string]bool{}
		for i := range 3 {
			b.AppendTo(i, 6)
			l := b.Lease(g, i)
			es := b.Take(l, 5)
			b.Settle(l, streams.Settlement{Done: []string{es[0].ID, es[1].ID, es[3].ID}})
			owed[es[2].ID], owed[es[4].ID] = true, true
		}
		client, err := streams.NewWriteClient(b.Options)
		if err != nil {
			t.Fatal(err)
		}
		mortal := &dying{}
		mortal.left.Store(step)
		client.AddHook(mortal)
		o := b.Options.Trim()
		o.Keep.Age = 0
		first, err := streams.NewTrimmer(client, b.Layout, []string{"points"}, []string{"shipping"}, o, discard(), prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		_, err = first.Trim(t.Context())
		killed := err != nil
		_ = client.Close() // it is dead
		second := b.Trimmer([]string{"points"}, []string{"shipping"})
		b.Trim(second)
		there := map[string]bool{}
		for _, e := range b.Entries() {
			there[e.ID] = true
		}
		for id := range owed {
			if !there[id] {
				t.Fatalf("killed after %d commands: %s is owed and gone", step, id)
			}
		}
		if got := lags(t, b); got["points"] != 3 || got["shipping"] < 3 {
			t.Fatalf("killed after %d commands: unread %v", step, got)
		}
		for name, a := range accounts(t, b) {
			if a.Difference() != 0 || a.Alarm != (streams.Alarm{}) || a.Created != 3 && name == "points" {
				t.Fatalf("killed after %d commands: %s %+v", step, name, a)
			}
		}
		if !killed {
			if step < 7 { // two scripts for each partition, and one question
				t.Fatalf("a pass takes %d commands?", step)
			}
			return
		}
	}
}

// trimming runs a trimmer until stop is called, and says whether it does the work.
func trimming(t *testing.T, b *streamstest.Bench, rdb streams.Client) (does func() bool, stop func()) {
	t.Helper()
	o := b.Options.Trim()
	o.Every, o.Keep.Age = 20*time.Millisecond, 0
	reg := prometheus.NewRegistry()
	trim, err := streams.NewTrimmer(rdb, b.Layout, []string{"points"}, nil, o, discard(), reg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- trim.Run(ctx) }()
	var stopped atomic.Bool
	stop = func() {
		if stopped.Swap(true) {
			return
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return func() bool { return gauge(t, reg, "paybell_streams_trim_holder") == 1 }, stop
}

func gauge(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// TestOneTrims: of two trimmers one does the work; the other takes over when it stops, when
// it is killed, and when somebody has spoilt the lease, and trims all the same.
func TestOneTrims(t *testing.T) {
	b := streamstest.New(t, streamstest.Redis(t).Addr(), func(o *streams.Options) { o.Partitions = 1 })
	l := b.Lease(b.Group("points", "w1"), 0)
	trims := func(what string) {
		t.Helper()
		for i := range 4 {
			r := streamstest.Record("order-"+what, i)
			r.Raw = make([]byte, 5000) // more than a node of the stream
			b.Append(r)
		}
		es := b.Take(l, 10)
		var done []string
		for _, e := range es {
			done = append(done, e.ID)
		}
		b.Settle(l, streams.Settlement{Done: done})
		streamstest.Eventually(t, what+": what is settled goes", func() bool { return len(b.Entries()) == 0 })
	}
	own := func() streams.Client {
		client, err := streams.NewWriteClient(b.Options)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() }) // nothing uses it any more
		return client
	}
	first, stopFirst := trimming(t, b, b.Write)
	streamstest.Eventually(t, "the first one trims", first)
	mortal, victim := &dying{}, own()
	mortal.left.Store(1 << 40)
	victim.AddHook(mortal)
	second, stopSecond := trimming(t, b, victim)
	trims("two")
	if !first() || second() {
		t.Fatalf("first trims %v, second trims %v", first(), second())
	}
	stopFirst()
	streamstest.Eventually(t, "the second one takes over", second)
	trims("stopped")

	mortal.left.Store(0)
	if left := b.Write.PTTL(t.Context(), b.Layout.Trimmer()).Val(); left <= 0 || left > 6*time.Second {
		t.Fatalf("the lease lives for %v", left)
	}
	third, _ := trimming(t, b, own())
	if err := b.Write.PExpire(t.Context(), b.Layout.Trimmer(), time.Millisecond).Err(); err != nil { // as time does
		t.Fatal(err)
	}
	streamstest.Eventually(t, "the third one takes over from the dead", third)
	trims("killed")
	stopSecond()
	trims("a dead one that stops")

	if err := b.Write.Del(t.Context(), b.Layout.Trimmer()).Err(); err != nil {
		t.Fatal(err)
	}
	if err := b.Write.HSet(t.Context(), b.Layout.Trimmer(), "owner", "x").Err(); err != nil {
		t.Fatal(err)
	}
	trims("spoilt")
	// Nobody holds it, and it never ends.
	if err := b.Write.Set(t.Context(), b.Layout.Trimmer(), "me", 0).Err(); err != nil {
		t.Fatal(err)
	}
	streamstest.Eventually(t, "it ends all the same", func() bool { return b.Write.PTTL(t.Context(), b.Layout.Trimmer()).Val() > 0 })
}

// TestTwoTrimmersAtOnceDoNoHarm: passes that are made at the same time, whoever has the
// lease, take nothing that is owed and count nothing twice.
func TestTwoTrimmersAtOnceDoNoHarm(t *testing.T) {
	b := streamstest.New(t, streamstest.Redis(t).Addr())
	g := b.Group("points", "w1")
	stop := make(chan struct{})
	passes := make(chan error, 2)
	for range 2 {
		trim := b.Trimmer([]string{"points"}, nil)
		go func() {
			for {
				select {
				case <-stop:
					passes <- nil
					return
				default:
				}
				if _, err := trim.Trim(t.Context()); err != nil {
					passes <- err
					return
				}
			}
		}()
	}
	leases := []*streams.Lease{b.Lease(g, 0), b.Lease(g, 1)}
	for range 20 {
		for i, l := range leases {
			want := b.AppendTo(i, 10)
			es := b.Take(l, 100)
			if len(es) != len(want) {
				t.Fatalf("took %d of %d", len(es), len(want))
			}
			var done []string
			for _, e := range es {
				done = append(done, e.ID)
			}
			b.Settle(l, streams.Settlement{Done: done})
		}
	}
	close(stop)
	for range 2 {
		if err := <-passes; err != nil {
			t.Fatal(err)
		}
	}
	if a := accounts(t, b)["points"]; a.Settled != 400 || a.Difference() != 0 || a.Alarm != (streams.Alarm{}) {
		t.Fatalf("%+v", a)
	}
}

// TestOnePartitionKeepsAGroupFromNoOther: where somebody has put something else in the place
// of a partition, the group is created in the others, and there when it is mended.
func TestOnePartitionKeepsAGroupFromNoOther(t *testing.T) {
	b := streamstest.New(t, streamstest.Redis(t).Addr(), func(o *streams.Options) { o.Partitions = 4 })
	if err := b.Write.Set(t.Context(), b.Layout.Events(1), "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	feed := streams.NewFeed(b.Read, b.Layout, b.Options.Block)
	t.Cleanup(func() { _ = b.Read.Close(); feed.Close() }) // the reads end first
	g, err := streams.NewGroup(b.Write, feed, b.Layout, "points", "w1", b.Options.Group(), discard(), b.Reg)
	if err != nil {
		t.Fatal(err)
	}
	there := func() (n int) {
		for i := range 4 {
			n += len(b.Write.XInfoGroups(t.Context(), b.Layout.Events(i)).Val())
		}
		return n
	}
	if err := g.Ensure(t.Context()); err == nil || there() != 3 {
		t.Fatalf("created in %d partitions of 3, %v", there(), err)
	}
	if err := streams.DeclareGroup(t.Context(), b.Write, b.Layout, "shipping"); err == nil || there() != 6 {
		t.Fatalf("two groups in %d partitions of 6, %v", there(), err)
	}
	if n := b.Metric("paybell_streams_group_create_failures_total", "points"); n != 1 {
		t.Fatalf("%v failures counted", n)
	}
	trim := b.Trimmer([]string{"points"}, []string{"audit"})
	if _, err := trim.Trim(t.Context()); err == nil || there() != 9 {
		t.Fatalf("three groups in %d partitions of 9, %v", there(), err)
	}
	if err := b.Write.Del(t.Context(), b.Layout.Events(1)).Err(); err != nil {
		t.Fatal(err)
	}
	if err := g.Ensure(t.Context()); err != nil || there() != 10 {
		t.Fatalf("%d, %v", there(), err)
	}
}

// TestEmptiedStreamIsTold: nothing is left to compare a subscriber's place with, and who
// reads what comes next at once closes the gap.
func TestEmptiedStreamIsTold(t *testing.T) {
	b := streamstest.New(t, streamstest.Redis(t).Addr(), func(o *streams.Options) { o.Partitions = 1 })
	trim := b.Trimmer([]string{"points"}, []string{"shipping"})
	b.Trim(trim)
	b.AppendTo(0, 10)
	b.Ack("shipping", b.Subscriber("shipping", 6)...)
	l := b.Lease(b.Group("points", "w1"), 0)
	done := make([]string, 0, 10)
	for _, e := range b.Take(l, 10) {
		done = append(done, e.ID)
	}
	b.Settle(l, streams.Settlement{Done: done})
	b.Trim(trim)
	pending := b.Subscriber("shipping", 1) // and 3 unread
	if err := b.Write.XTrimMaxLen(t.Context(), b.Layout.Events(0), 0).Err(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		b.Trim(trim)
		if a := accounts(t, b)["shipping"]; a.Alarm.Lost != 3 {
			t.Fatalf("%d of 3 unread events are told: %+v", a.Alarm.Lost, a)
		}
	}
	b.Ack("shipping", pending...)
	b.AppendTo(0, 2)
	b.Ack("shipping", b.Subscriber("shipping", 2)...)
	b.Trim(trim)
	if a := accounts(t, b); a["shipping"].Alarm.Lost != 3 || a["points"].Alarm != (streams.Alarm{}) {
		t.Errorf("after more events: %+v", a)
	}
}
