package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/gateway/journal"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/streams/streamstest"
)

const week = 7 * 24 * time.Hour

var errAway = errors.New("the stream is away")

// kept is a keeper with what it was built from.
type kept struct {
	*gateway.Keeper
	door // for its registry and log; it has no gateway
	stop func()
}

func journalOptions(tb testing.TB, mode string) gateway.JournalOptions {
	tb.Helper()
	o := gateway.DefaultJournalOptions()
	o.Mode, o.Dir = mode, filepath.Join(tb.TempDir(), "journal")
	return o
}

// openKeeper opens a keeper on the memory stream; change may change what it is given.
// It runs until the test ends or stop is called.
func openKeeper(tb testing.TB, o gateway.JournalOptions, stream gateway.Appender, change func(*gateway.KeeperDeps)) kept {
	tb.Helper()
	k := kept{door: door{registry: prometheus.NewRegistry(), log: &lines{}}}
	d := gateway.KeeperDeps{
		Logger: slog.New(slog.NewTextHandler(k.log, nil)), Registerer: k.registry, Now: time.Now,
		Stream: stream, Partitions: 4, Partition: partitionOf,
		Permanent: func(err error) bool { return errors.Is(err, event.ErrRecord) || errors.Is(err, errNever) },
		Owed:      func(context.Context) (gateway.Owed, error) { return gateway.Owed{}, nil },
		Disk:      journal.OS(),
	}
	if change != nil {
		change(&d)
	}
	var err error
	if k.Keeper, err = gateway.OpenKeeper(o, d); err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	k.stop = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-done, k.Close()); err != nil {
			tb.Errorf("run: %v", err)
		}
	})
	tb.Cleanup(k.stop)
	return k
}

var errNever = errors.New("the stream can never take this")

// gate is a stream that is away while it is shut.
type gate struct {
	memoryAppender
	shut atomic.Bool
}

func newGate() *gate {
	g := &gate{}
	g.before = func(context.Context) error {
		if g.shut.Load() {
			return errAway
		}
		return nil
	}
	return g
}

// pay appends the n-th event of an order and says what became of it.
func pay(tb testing.TB, k gateway.Appender, order string, n int) event.Appended {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 10*time.Second)
	defer cancel()
	out, err := k.Append(ctx, week, []event.Record{streamstest.Record(order, n)})
	if err != nil || len(out) != 1 {
		tb.Fatalf("append %s/%d: %v, %v", order, n, out, err)
	}
	return out[0]
}

// ids are the provider's event IDs in the stream, in order.
func (g *gate) ids() []string {
	var out []string
	for _, r := range g.kept() {
		out = append(out, strings.TrimPrefix(r.Event.ProviderEvent.ID, "evt-"))
	}
	return out
}

func (k kept) gauge(tb testing.TB, name string) float64 {
	tb.Helper()
	families, err := k.registry.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	tb.Fatalf("no metric %s", name)
	return 0
}

func (k kept) drained(tb testing.TB) {
	tb.Helper()
	streamstest.Eventually(tb, "the journal is empty", func() bool { return k.gauge(tb, "paybell_journal_events") == 0 })
}

// TestStreamAwayGoesToTheJournalAndComesBackInOrder: what comes while the stream is
// away, and right behind it, is in the stream once and in order.
func TestStreamAwayGoesToTheJournalAndComesBackInOrder(t *testing.T) {
	g := newGate()
	k := openKeeper(t, journalOptions(t, gateway.JournalFallback), g, nil)
	if got := pay(t, k, "A", 0); got != event.New {
		t.Fatalf("with the stream there: %v", got)
	}
	if k.Keeps() != "stream" {
		t.Errorf("keeps %q", k.Keeps())
	}
	g.shut.Store(true)
	for n := 1; n < 9; n++ {
		if got := pay(t, k, "A", n); got != event.Journaled {
			t.Fatalf("with the stream away: %v", got)
		}
	}
	if k.Keeps() != "journal" {
		t.Errorf("keeps %q", k.Keeps())
	}
	g.shut.Store(false)
	pay(t, k, "A", 9)
	k.drained(t)
	if got := pay(t, k, "A", 9); got != event.Duplicate {
		t.Fatalf("after the journal was emptied: %v, want Duplicate from the stream", got)
	}
	want := []string{"A-0", "A-1", "A-2", "A-3", "A-4", "A-5", "A-6", "A-7", "A-8", "A-9"}
	if got := g.ids(); !slices.Equal(got, want) {
		t.Fatalf("stream holds %v", got)
	}
	if n := k.gauge(t, "paybell_journal_drained_events_total"); n < 8 {
		t.Errorf("%v counted as drained", n)
	}
}

// TestOrderHoldsAcrossEverySwitch: orders whose events come one after another, each
// when the last was replied to, while the stream goes and comes at random.
func TestOrderHoldsAcrossEverySwitch(t *testing.T) {
	const orders, events = 24, 60
	g := &gate{}
	var settled atomic.Bool
	g.before = func(context.Context) error {
		if !settled.Load() && rand.IntN(8) == 0 {
			g.shut.Store(!g.shut.Load())
		}
		if g.shut.Load() {
			return errAway
		}
		return nil
	}
	k := openKeeper(t, journalOptions(t, gateway.JournalFallback), g, nil)
	var journaled, direct atomic.Int64
	var wg sync.WaitGroup
	for o := range orders {
		wg.Go(func() {
			for n := range events {
				if pay(t, k, fmt.Sprint("O", o), n) == event.Journaled {
					journaled.Add(1)
				} else {
					direct.Add(1)
				}
			}
		})
	}
	wg.Wait()
	settled.Store(true)
	g.shut.Store(false)
	k.drained(t)
	next := map[string]int{}
	for _, id := range g.ids() {
		order, number, _ := strings.Cut(id, "-")
		if fmt.Sprint(next[order]) != number {
			t.Fatalf("order %s: event %s in the stream, want %d", order, number, next[order])
		}
		next[order]++
	}
	if len(g.ids()) != orders*events {
		t.Fatalf("%d events in the stream, want %d", len(g.ids()), orders*events)
	}
	if journaled.Load() == 0 || direct.Load() == 0 {
		t.Fatalf("%d journaled, %d direct: nothing was switched", journaled.Load(), direct.Load())
	}
}

// TestBlackHoleHoldsUpNobodyForLong: a stream that swallows appends costs those who
// are already waiting two thirds of their time, and nobody who comes later any.
func TestBlackHoleHoldsUpNobodyForLong(t *testing.T) {
	g := &gate{}
	g.shut.Store(true)
	var swallowed atomic.Int64
	g.before = func(ctx context.Context) error {
		if g.shut.Load() {
			swallowed.Add(1)
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	k := openKeeper(t, journalOptions(t, gateway.JournalFallback), g, nil)
	const limit = 1500 * time.Millisecond
	append1 := func(order string) time.Duration {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		start := time.Now()
		if out, err := k.Append(ctx, week, []event.Record{streamstest.Record(order, 0)}); err != nil || out[0] != event.Journaled {
			t.Errorf("%s: %v, %v", order, out, err)
		}
		return time.Since(start)
	}
	if took := append1("first"); took < limit/2 {
		t.Errorf("the first waited %s: the stream was not given its time", took)
	}
	if n := swallowed.Load(); n < 1 {
		t.Fatalf("%d swallowed", n)
	}
	for i := range 20 { // of every partition
		if took := append1(fmt.Sprint("later", i)); took > limit/2 {
			t.Errorf("%d waited %s", i, took)
		}
	}
	g.shut.Store(false)
}

// TestBlackHoleStopsTheQueueBeforeTheFirstGivesUp: half a second without a sign of
// life is enough for those who come then.
func TestBlackHoleStopsTheQueueBeforeTheFirstGivesUp(t *testing.T) {
	g := &gate{}
	g.before = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	var skew atomic.Int64
	k := openKeeper(t, journalOptions(t, gateway.JournalFallback), g, func(d *gateway.KeeperDeps) {
		d.Now = func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }
	})
	entered := make(chan struct{})
	hang := g.before
	g.before = func(ctx context.Context) error {
		select {
		case <-entered:
		default:
			close(entered)
		}
		return hang(ctx)
	}
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := k.Append(ctx, week, []event.Record{streamstest.Record("first", 0)})
		first <- err
	}()
	<-entered
	skew.Store(int64(time.Second))
	if got := pay(t, k, "second", 0); got != event.Journaled {
		t.Fatalf("the second: %v", got)
	}
	cancel()
	<-first
}

// TestOverloadIsShedNotJournaled: a stream that works and has too much of it is no
// reason to write to the disk.
func TestOverloadIsShedNotJournaled(t *testing.T) {
	g := &gate{}
	g.before = func(context.Context) error { return full{true} }
	k := openKeeper(t, journalOptions(t, gateway.JournalFallback), g, nil)
	_, err := k.Append(t.Context(), week, []event.Record{streamstest.Record("A", 0)})
	if !errors.As(err, &full{}) || k.gauge(t, "paybell_journal_events") != 0 {
		t.Fatalf("%v, want the stream's own error and nothing journaled", err)
	}
}

// TestUnwritableRecordIsNotJournaled: the door has to know that it is the record.
func TestUnwritableRecordIsNotJournaled(t *testing.T) {
	for name, before := range map[string]func(context.Context) error{
		"stream there": nil,
		"stream away":  func(context.Context) error { return errAway },
	} {
		t.Run(name, func(t *testing.T) {
			g := &gate{}
			g.before = before
			k := openKeeper(t, journalOptions(t, gateway.JournalFallback), g, nil)
			r := streamstest.Record("A", 0)
			r.Event.Payment.Amount.Minor++ // contradicts itself
			if _, err := k.Append(t.Context(), week, []event.Record{r}); !errors.Is(err, event.ErrRecord) {
				t.Fatalf("%v, want ErrRecord", err)
			}
			if k.gauge(t, "paybell_journal_events") != 0 {
				t.Fatal("it is in the journal")
			}
		})
	}
}

// TestRestartKeepsTheBacklogInFront: the next process sends new events behind what it
// found, and a page that was brought in part before a kill is not there twice.
func TestRestartKeepsTheBacklogInFront(t *testing.T) {
	g := newGate()
	g.shut.Store(true)
	o := journalOptions(t, gateway.JournalFallback)
	k := openKeeper(t, o, g, nil)
	for n := range 3 {
		pay(t, k, "A", n)
	}
	k.stop()
	// The kill came when the first was in the stream and not yet released.
	if _, err := g.Append(t.Context(), week, nil); !errors.Is(err, errAway) {
		t.Fatal(err)
	}
	g.shut.Store(false)
	if _, err := g.Append(t.Context(), week, []event.Record{streamstest.Record("A", 0)}); err != nil {
		t.Fatal(err)
	}
	g.shut.Store(true)
	k = openKeeper(t, o, g, nil)
	if got := pay(t, k, "A", 3); got != event.Journaled {
		t.Fatalf("%v, want behind the backlog", got)
	}
	g.shut.Store(false)
	k.drained(t)
	if got := g.ids(); !slices.Equal(got, []string{"A-0", "A-1", "A-2", "A-3"}) {
		t.Fatalf("stream holds %v", got)
	}
}

// slowDisk holds every sync until it is told what becomes of it, or that all is well.
type slowDisk struct {
	journal.File
	gate chan error
}

func (f slowDisk) Sync() error {
	if err := <-f.gate; err != nil {
		return err
	}
	return f.File.Sync()
}

func slow(gate chan error) func(*gateway.KeeperDeps) {
	return func(d *gateway.KeeperDeps) {
		create := d.Disk.Create
		d.Disk.Create = func(path string) (journal.File, error) {
			f, err := create(path)
			return slowDisk{f, gate}, err
		}
	}
}

// TestCallerThatGivesUpIsCountedExactly: its event is on its way to the disk, is
// brought to the stream, and nothing stays behind that would journal for ever.
func TestCallerThatGivesUpIsCountedExactly(t *testing.T) {
	for name, fate := range map[string]error{"kept": nil, "refused": syscall.EIO} {
		t.Run(name, func(t *testing.T) {
			g := newGate()
			g.shut.Store(true)
			syncs := make(chan error, 1)
			k := openKeeper(t, journalOptions(t, gateway.JournalFallback), g, slow(syncs))
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			if _, err := k.Append(ctx, week, []event.Record{streamstest.Record("A", 0)}); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("%v, want DeadlineExceeded", err)
			}
			g.shut.Store(false)
			syncs <- fate
			close(syncs)
			streamstest.Eventually(t, "the stream is used again", func() bool {
				out, err := k.Append(t.Context(), week, []event.Record{streamstest.Record("A", 1)})
				return err == nil && out[0] != event.Journaled
			})
			want := map[string][]string{"kept": {"A-0", "A-1"}, "refused": {"A-1"}}[name]
			if got := g.ids(); !slices.Equal(got, want) {
				t.Fatalf("stream holds %v, want %v", got, want)
			}
		})
	}
}

// TestJournalThatCannotKeepIsARetryableReply: through the door, each in the words of
// the provider.
func TestJournalThatCannotKeepIsARetryableReply(t *testing.T) {
	cases := map[string]struct {
		options func(*gateway.JournalOptions)
		disk    func(*gateway.KeeperDeps)
		reason  string
	}{
		"full": {func(o *gateway.JournalOptions) { o.SegmentBytes, o.MaxBytes = 4<<10, 8<<10 }, nil, "overloaded"},
		"no room on the disk": {nil, func(d *gateway.KeeperDeps) {
			d.Disk.Create = func(string) (journal.File, error) { return nil, syscall.ENOSPC }
		}, "overloaded"},
		"the disk is read-only": {nil, func(d *gateway.KeeperDeps) {
			d.Disk.Create = func(string) (journal.File, error) { return nil, syscall.EROFS }
		}, "append_failed"},
		"sync fails": {nil, func(d *gateway.KeeperDeps) {
			create := d.Disk.Create
			d.Disk.Create = func(path string) (journal.File, error) {
				f, err := create(path)
				return brokenDisk{f}, err
			}
		}, "append_failed"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			g := newGate()
			g.shut.Store(true)
			o := journalOptions(t, gateway.JournalFallback)
			if tc.options != nil {
				tc.options(&o)
			}
			k := openKeeper(t, o, g, tc.disk)
			d := newDoorOn(t, k, nil)
			ok := 0
			for i := range 40 {
				w := httptest.NewRecorder()
				d.ServeHTTP(w, request(t, fmt.Sprintf("k%d payment.succeeded A%d\n", i, i)))
				if w.Code == 200 {
					ok++
					continue
				}
				if w.Code != 503 || w.Body.String() != "again" || w.Header().Get("Retry-After") == "" {
					t.Fatalf("got %d %q", w.Code, w.Body)
				}
			}
			if ok == 40 || d.count(t, "retry", tc.reason) != float64(40-ok) || d.count(t, "journaled") != float64(ok) {
				t.Fatalf("%d accepted; %v counted as %s, %v as journaled", ok, d.count(t, "retry", tc.reason), tc.reason, d.count(t, "journaled"))
			}
			if name != "full" && k.Ready() == nil {
				t.Error("the journal says it is ready")
			}
			g.shut.Store(false)
			k.drained(t)
			if len(g.ids()) != ok {
				t.Errorf("%d in the stream, %d accepted", len(g.ids()), ok)
			}
		})
	}
}

type brokenDisk struct{ journal.File }

func (brokenDisk) Sync() error { return syscall.EIO }

// TestOneRecordTheStreamCanNeverTakeHoldsUpNobody: it is set aside, loudly.
func TestOneRecordTheStreamCanNeverTakeHoldsUpNobody(t *testing.T) {
	g := newGate()
	g.shut.Store(true)
	o := journalOptions(t, gateway.JournalFallback)
	k := openKeeper(t, o, picky{g}, nil)
	for n := range 5 {
		pay(t, k, "A", n)
	}
	pay(t, k, "POISON", 0)
	pay(t, k, "B", 0)
	g.shut.Store(false)
	k.drained(t)
	if got := g.ids(); len(got) != 6 || slices.Contains(got, "POISON-0") {
		t.Fatalf("stream holds %v", got)
	}
	aside, err := filepath.Glob(filepath.Join(o.Dir, "quarantine", "*.payload"))
	if err != nil || len(aside) != 1 {
		t.Fatalf("set aside: %v, %v", aside, err)
	}
	if b, err := os.ReadFile(aside[0]); err != nil || !strings.Contains(string(b), "evt-POISON-0") {
		t.Errorf("what was set aside is not the record: %v", err)
	}
	if k.gauge(t, "paybell_journal_set_aside_events_total") != 1 || !strings.Contains(k.log.String(), "level=ERROR") {
		t.Errorf("it was not said loudly:\n%s", k.log)
	}
	if got := pay(t, k, "POISON", 0); got != event.New {
		t.Errorf("the partition still counts it: %v", got)
	}
}

// picky never takes records of the order POISON from the journal.
type picky struct{ *gate }

func (p picky) Append(ctx context.Context, window time.Duration, records []event.Record) ([]event.Appended, error) {
	if _, direct := ctx.Deadline(); direct && !p.shut.Load() && len(p.kept()) < 6 {
		for _, r := range records {
			if r.Event.OrderRef() == "POISON" {
				return nil, errNever
			}
		}
	}
	return p.gate.Append(ctx, window, records)
}

// TestDamagedRecordDoesNotJournalForEver: nobody can tell its partition any more, and
// the stream is used again once the journal is empty.
func TestDamagedRecordDoesNotJournalForEver(t *testing.T) {
	g := newGate()
	g.shut.Store(true)
	o := journalOptions(t, gateway.JournalFallback)
	k := openKeeper(t, o, g, nil)
	pay(t, k, "A", 0)
	pay(t, k, "B", 0)
	segs, err := filepath.Glob(filepath.Join(o.Dir, "*.journal"))
	if err != nil || len(segs) != 1 {
		t.Fatal(segs, err)
	}
	b, err := os.ReadFile(segs[0])
	if err != nil {
		t.Fatal(err)
	}
	b[strings.Index(string(b), "evt-B-0")] ^= 1
	if err := os.WriteFile(segs[0], b, 0o600); err != nil { //nolint:gosec // a path of the test
		t.Fatal(err)
	}
	g.shut.Store(false)
	k.drained(t)
	streamstest.Eventually(t, "the stream is used again", func() bool { return pay(t, k, "B", 1) != event.Journaled })
	if got := g.ids(); !slices.Contains(got, "A-0") || slices.Contains(got, "B-0") {
		t.Fatalf("stream holds %v", got)
	}
	if k.gauge(t, "paybell_journal_set_aside_events_total") != 1 {
		t.Error("the loss was not counted")
	}
}

// TestDrainEmptiesARetiredGatewaysJournal is what "paybell journal drain" does.
func TestDrainEmptiesARetiredGatewaysJournal(t *testing.T) {
	g := newGate()
	g.shut.Store(true)
	o := journalOptions(t, gateway.JournalFallback)
	k := openKeeper(t, o, g, nil)
	for n := range 700 {
		pay(t, k, fmt.Sprint("O", n%50), n/50)
	}
	if _, err := gateway.OpenKeeper(o, gateway.KeeperDeps{Logger: slog.New(slog.DiscardHandler), Now: time.Now, Disk: journal.OS()}); !errors.Is(err, journal.ErrLocked) {
		t.Fatalf("while it is held: %v, want ErrLocked", err)
	}
	k.stop()
	g.shut.Store(false)
	var pages []int
	again, err := gateway.OpenKeeper(o, gateway.KeeperDeps{
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), Now: time.Now, Disk: journal.OS(), Stream: g,
		Partitions: 1, Partition: func(string) int { return 0 }, Permanent: func(error) bool { return false },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Drain(t.Context(), func(n int) { pages = append(pages, n) }); err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if len(g.ids()) != 700 || !slices.Equal(pages, []int{512, 700}) {
		t.Fatalf("%d in the stream, progress %v", len(g.ids()), pages)
	}
}
