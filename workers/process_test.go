package workers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/streams/streamstest"
	"github.com/paybell/paybell/workers"
)

// processEnv makes the test binary a worker process: "<redis address> <consumer>".
const processEnv = "PAYBELL_WORKERS_TEST_PROCESS"

// lease is what the processes of these tests go by.
func lease(o *streams.Options) { o.LeaseTTL, o.Partitions = time.Second, 1 }

// applyOnce makes an effect as a store does that keeps the dedup key and the highest
// epoch: KEYS effects, list, fence, list of what was refused. ARGV event, consumer,
// epoch. It answers whether the epoch is not too low.
const applyOnce = `
local fence = tonumber(redis.call('GET', KEYS[3]) or '0')
if tonumber(ARGV[3]) < fence then redis.call('RPUSH', KEYS[4], ARGV[1]) return 0 end
redis.call('SET', KEYS[3], ARGV[3])
if redis.call('SADD', KEYS[1], ARGV[1]) == 1 then redis.call('RPUSH', KEYS[2], ARGV[1] .. ' ' .. ARGV[2]) end
return 1`

// runProcess is a worker process. An event of the order "killer" kills it; one of the
// order "frozen" stops it, as a virtual machine that is moved would be, in the middle
// of a call.
func runProcess(address, consumer string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	o := streams.DefaultOptions()
	o.Redis.Address = address
	lease(&o)
	layout, err := streams.NewLayout(o.Prefix, o.Partitions)
	if err != nil {
		return err
	}
	write, err := streams.NewWriteClient(o)
	if err != nil {
		return err
	}
	read, err := streams.NewReadClient(o)
	if err != nil {
		return err
	}
	g, err := streams.NewGroup(write, streams.NewFeed(read, layout, o.Block), layout, "points", consumer, o.Group(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		return err
	}
	pool := workers.NewPool(slog.New(slog.DiscardHandler), nil, time.Now)
	handle := batch(func(ctx context.Context, ds []workers.Delivery) []error {
		outcomes := make([]error, len(ds))
		for i, d := range ds {
			switch d.Event.OrderRef() {
			case "killer":
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // nothing comes after it
			case "frozen":
				if write.SetNX(ctx, "frozen", consumer, 0).Val() {
					_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) // it goes on where the test lets it
					for write.Exists(context.WithoutCancel(ctx), "thawed").Val() == 0 {
						<-time.After(time.Millisecond)
					}
				}
			}
			// A stale owner's context has ended; it tries all the same.
			ok, err := write.Eval(context.WithoutCancel(ctx), applyOnce, []string{"effects", "applied", "fence", "refused"},
				d.Event.ID, consumer, d.Epoch).Int()
			if outcomes[i] = err; err == nil && ok == 0 {
				outcomes[i] = workers.Unavailable(fmt.Errorf("epoch %d is over", d.Epoch))
			}
		}
		return outcomes
	})
	if err := pool.AddBatch(workers.On(g), handle, options(func(o *workers.Options) { o.Attempts = 4 })); err != nil {
		return err
	}
	return pool.Run(ctx)
}

// process starts the test binary as a worker process.
func process(t *testing.T, address, consumer string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0]) //nolint:gosec // It is this very binary.
	spec, err := json.Marshal([]string{address, consumer})
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), processEnv+"="+string(spec))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // how it ended is the test's own matter
	})
	return cmd
}

// appliedBy are the effects, in their order: event ids and the consumers that made them.
func appliedBy(t *testing.T, b *streamstest.Bench) (events, consumers []string) {
	t.Helper()
	for _, line := range b.Write.LRange(t.Context(), "applied", 0, -1).Val() {
		id, consumer, _ := strings.Cut(line, " ")
		events, consumers = append(events, id), append(consumers, consumer)
	}
	return events, consumers
}

// TestPoisonThatKillsItsProcessIsOneDeadLetterOfABatchOf256 restarts a process for as
// long as one event of a full batch kills it.
func TestPoisonThatKillsItsProcessIsOneDeadLetterOfABatchOf256(t *testing.T) {
	address := streamstest.Redis(t).Addr()
	b := streamstest.New(t, address, lease)
	b.Group("points", "test")
	var recs []event.Record
	for i := range 256 {
		order := fmt.Sprint("order-", i)
		if i == 100 {
			order = "killer"
		}
		recs = append(recs, streamstest.Record(order, 0))
	}
	b.Append(recs...)
	letters := streams.NewDeadLetters(b.Write, b.Layout)
	kills := 0
	for done := false; !done; {
		ended := make(chan struct{})
		p := process(t, address, fmt.Sprint("process-", kills))
		go func() { _ = p.Wait(); close(ended) }() // killed, by itself or by us
		eventually(t, "the process is killed, or all is settled", func() bool {
			select {
			case <-ended:
				return true
			default:
			}
			events, _ := appliedBy(t, b)
			done = len(events) == 255 && owed(b, "points") == 0
			return done
		})
		_ = p.Process.Kill() // it may have ended
		<-ended
		if !done {
			kills++
		}
		if kills > 20 {
			t.Fatal("20 processes were killed")
		}
	}
	page, err := letters.List(t.Context(), "points", streams.DeadLetterQuery{})
	if err != nil || len(page.DeadLetters) != 1 {
		t.Fatalf("%d dead letters of one killer, %v", len(page.DeadLetters), err)
	}
	d := page.DeadLetters[0]
	equal(t, "dead letter", []any{d.Record.Event.OrderRef(), d.Reason, d.Attempts}, []any{"killer", "crash", 4})
	equal(t, "processes killed", kills, 4)
}

// TestOwnerFrozenForLongerThanItsLeaseDoesNothingAfterwards stops a process with
// SIGSTOP while its handler runs, lets another one take over, and lets it go on.
func TestOwnerFrozenForLongerThanItsLeaseDoesNothingAfterwards(t *testing.T) {
	address := streamstest.Redis(t).Addr()
	b := streamstest.New(t, address, lease)
	b.Group("points", "test")
	b.Append(streamstest.Record("frozen", 0))
	b.Append(streamstest.Record("frozen", 1))
	one := process(t, address, "one")
	eventually(t, "the first owner stands still", func() bool { return b.Write.Get(t.Context(), "frozen").Val() == "one" })
	two := process(t, address, "two")
	eventually(t, "the second owner has taken over", func() bool {
		events, _ := appliedBy(t, b)
		return len(events) == 2 && owed(b, "points") == 0
	})
	// What comes while the first one stands still, and what comes after, is not its.
	b.Append(streamstest.Record("frozen", 2))
	b.Write.Set(t.Context(), "thawed", "yes", 0)
	if err := one.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first owner tried, and was refused", func() bool {
		return b.Write.LLen(t.Context(), "refused").Val() > 0
	})
	b.Append(streamstest.Record("frozen", 3))
	eventually(t, "all is settled", func() bool {
		events, _ := appliedBy(t, b)
		return len(events) == 4 && owed(b, "points") == 0
	})
	events, consumers := appliedBy(t, b)
	var want []string
	for i := range 4 {
		want = append(want, streamstest.Record("frozen", i).Event.ID)
	}
	equal(t, "applied, in order", events, want)
	if slices.Contains(consumers, "one") {
		t.Errorf("the stale owner made effects: %v", consumers)
	}
	for _, p := range []*exec.Cmd{one, two} {
		if err := p.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
}
