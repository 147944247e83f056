package streams_test

import (
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/streams/streamstest"
)

// full makes the server behave as if its memory limit were reached.
func full(t *testing.T, b *streamstest.Bench, full bool) {
	t.Helper()
	limit := "0"
	if full {
		limit = "1"
	}
	if err := b.Write.ConfigSet(t.Context(), "maxmemory", limit).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestG1FullServerKeepsNothingAndSaysSo(t *testing.T) {
	b := streamstest.New(t, streamstest.Redis(t).Addr())
	full(t, b, true)
	records := streamstest.Records("A1", 3)
	out, err := b.Writer.Append(t.Context(), time.Hour, records)
	if !errors.Is(err, streams.ErrUnavailable) || !redis.IsOOMError(err) || out != nil {
		t.Fatalf("%v, %v", out, err)
	}
	if keys := b.Write.Keys(t.Context(), "*").Val(); len(keys) != 0 {
		t.Fatalf("left behind: %v", keys)
	}
	full(t, b, false)
	if got := b.Append(records...); !slices.Equal(got, []event.Appended{event.New, event.New, event.New}) {
		t.Fatalf("once there is room: %v", got)
	}
}

func TestFullServerIsWorkedOff(t *testing.T) {
	b := streamstest.New(t, streamstest.Redis(t).Addr())
	b.AppendTo(0, 5)
	g := b.Group("points", "w1")
	full(t, b, true)
	// A worker that begins now ensures its group first.
	if err := g.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Heartbeat(t.Context()); err != nil {
		t.Fatal(err)
	}
	l := b.Lease(g, 0)
	if err := l.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	es := b.Take(l, 10)
	var ids []string
	for _, e := range es {
		ids = append(ids, e.ID)
	}
	if err := l.Charge(t.Context(), []streams.Run{{Name: "1", IDs: ids}}); err != nil {
		t.Fatal(err)
	}
	b.Settle(l, streams.Settlement{
		Done: ids[1:4], Ended: []string{"1"}, Counts: []streams.Count{{EntryID: ids[4], Attempts: 1}}, Dead: []streams.DeadLetter{{EntryID: ids[0], Reason: "rejected"}},
	})
	if p := b.Pending("points", 0); !slices.Equal(p, ids[4:]) {
		t.Fatalf("pending %v", p)
	}
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestG1ReplicaKeepsNothingAndSaysSo(t *testing.T) {
	master := streamstest.Redis(t)
	replica := streamstest.Redis(t, "--replicaof", "127.0.0.1", master.Port())
	b := streamstest.New(t, replica.Addr())
	_, err := b.Writer.Append(t.Context(), time.Hour, streamstest.Records("A1", 3))
	if !errors.Is(err, streams.ErrUnavailable) || !redis.IsReadOnlyError(err) {
		t.Fatalf("err = %v", err)
	}
	g, err := streams.NewGroup(b.Write, streams.NewFeed(b.Read, b.Layout, time.Second), b.Layout, "points", "w1", b.Options.Group(), discard(), b.Reg)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := g.Acquire(t.Context(), 0); ok || !errors.Is(err, streams.ErrUnavailable) {
		t.Fatalf("a lease on a replica: %v, %v", ok, err)
	}
}

// What was confirmed under appendfsync always is there after the server was
// killed in the middle of it, mark and entry; what was not confirmed is appended
// by the resend.
func TestG1ConfirmedSurvivesTheServersDeath(t *testing.T) {
	server := streamstest.Redis(t, streamstest.AOF("always")...)
	b := streamstest.New(t, server.Addr(), func(o *streams.Options) { o.Writer.Connections = 4 })
	const callers, each = 8, 60
	var (
		wg        sync.WaitGroup
		mu        sync.Mutex
		confirmed []event.Record
		failed    []event.Record
		killed    = make(chan struct{})
	)
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				if i == each/2 {
					<-killed // half of it runs into the dead server
				}
				r := streamstest.Record("order-"+strconv.Itoa(c), i)
				_, err := b.Writer.Append(t.Context(), time.Hour, []event.Record{r})
				mu.Lock()
				switch {
				case err == nil:
					confirmed = append(confirmed, r)
				case errors.Is(err, streams.ErrUnavailable):
					failed = append(failed, r)
				default:
					t.Errorf("append: %v", err)
				}
				n := len(confirmed)
				mu.Unlock()
				if err == nil && n == callers*each/4 {
					server.Kill()
					close(killed)
				}
			}
		})
	}
	wg.Wait()
	if len(failed) == 0 || len(confirmed) < callers*each/4 {
		t.Fatalf("%d confirmed, %d failed: the kill came too late or too early", len(confirmed), len(failed))
	}
	server.Restart()
	// After many failed dials go-redis dials again once a second only.
	streamstest.Eventually(t, "the client is back", func() bool { return b.Write.Ping(t.Context()).Err() == nil })
	for _, r := range confirmed {
		if got := b.Append(r); got[0] != event.Duplicate {
			t.Fatalf("a confirmed event was lost: %v", got)
		}
	}
	for _, r := range failed {
		b.Append(r)
	}
	if n := len(b.Entries()); n != callers*each {
		t.Fatalf("%d entries of %d events", n, callers*each)
	}
}

func TestIdleConsumersLeave(t *testing.T) {
	b := streamstest.New(t, streamstest.Redis(t).Addr(), func(o *streams.Options) { o.LeaseTTL = 300 * time.Millisecond })
	b.AppendTo(0, 1)
	now := time.Now()
	o := b.Options.Group()
	o.ConsumerIdle, o.Now = 50*time.Millisecond, func() time.Time { return now }
	for _, name := range []string{"idle", "busy"} {
		err := b.Write.XGroupCreateMkStream(t.Context(), b.Layout.Events(0), "points", "0").Err()
		if err != nil && !redis.HasErrorPrefix(err, "BUSYGROUP") {
			t.Fatal(err)
		}
		if err := b.Write.XGroupCreateConsumer(t.Context(), b.Layout.Events(0), "points", name).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Write.XReadGroup(t.Context(), &redis.XReadGroupArgs{
		Group: "points", Consumer: "busy", Streams: []string{b.Layout.Events(0), ">"}, Block: -1,
	}).Err(); err != nil {
		t.Fatal(err)
	}
	g := b.GroupWith("points", "w1", o)
	l := b.Lease(g, 0)
	b.Take(l, 1)
	names := func() []string {
		cs, err := b.Write.XInfoConsumers(t.Context(), b.Layout.Events(0), "points").Result()
		if err != nil {
			t.Fatal(err)
		}
		out := make([]string, len(cs))
		for i, c := range cs {
			out[i] = c.Name
		}
		return out
	}
	if got := names(); !slices.Contains(got, "idle") {
		t.Fatalf("consumers %v before the time", got)
	}
	sawBusyOwing := true
	streamstest.Eventually(t, "the idle consumer is dropped", func() bool {
		l = b.Lease(g, 0)
		now = now.Add(time.Second)
		taken := b.Take(l, 1)
		// Until its entry is taken over, the one that owes something stays.
		sawBusyOwing = sawBusyOwing && (len(taken) > 0 || slices.Contains(names(), "busy") || len(b.Pending("points", 0)) == 1)
		return !slices.Contains(names(), "idle")
	})
	if !sawBusyOwing || len(b.Pending("points", 0)) != 1 {
		t.Fatalf("the entry of a consumer that owed it is gone: pending %v", b.Pending("points", 0))
	}
}
