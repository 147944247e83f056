package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/gateway/journal"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/streams/streamstest"
)

var errWrongType = errors.New("WRONGTYPE of one partition's key")

// partly is a stream of which some partitions take nothing.
type partly struct {
	memoryAppender
	broken [4]atomic.Bool
}

func partitionOf(key string) int {
	h := fnv.New32a()
	h.Write([]byte(key))
	return int(h.Sum32() % 4)
}

// ofPartition is the n-th order whose events go to a partition.
func ofPartition(partition, n int) string {
	for i := 0; ; i++ {
		order := fmt.Sprint("O", i)
		if r := streamstest.Record(order, 0); partitionOf(r.Event.OrderingKey()) != partition {
			continue
		}
		if n--; n < 0 {
			return order
		}
	}
}

func (p *partly) Append(ctx context.Context, window time.Duration, records []event.Record) ([]event.Appended, error) {
	for i := range records {
		if p.broken[partitionOf(records[i].Event.OrderingKey())].Load() {
			// As in a pipeline: what stands before and behind it is taken.
			if i > 0 {
				_, _ = p.memoryAppender.Append(ctx, window, records[:i]) // the call failed all the same
			}
			return nil, errWrongType
		}
	}
	return p.memoryAppender.Append(ctx, window, records)
}

// events are those of an order in the stream, as they came.
func (p *partly) events(order string) []string {
	var out []string
	for _, r := range p.kept() {
		if r.Event.OrderRef() == order {
			out = append(out, strings.TrimPrefix(r.Event.ProviderEvent.ID, "evt-"+order+"-"))
		}
	}
	return out
}

func count(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprint(i)
	}
	return out
}

// TestOnePartitionThatTakesNothingHoldsUpNoOther: somebody has overwritten its key, say.
// Its callbacks wait in the journal; those of other partitions go to the stream, and so
// does what the journal holds of them, however much of the broken one's stands before.
func TestOnePartitionThatTakesNothingHoldsUpNoOther(t *testing.T) {
	p := &partly{}
	for i := range p.broken {
		p.broken[i].Store(true)
	}
	o := journalOptions(t, gateway.JournalFallback)
	k := openKeeper(t, o, p, nil)
	stuck, other := ofPartition(2, 0), ofPartition(1, 0)
	const many = 1300 // several pages
	for n := range many {
		pay(t, k, stuck, n)
		if n%100 == 0 {
			pay(t, k, other, n/100)
		}
	}
	for _, i := range []int{0, 1, 3} {
		p.broken[i].Store(false)
	}
	streamstest.Eventually(t, "the other partition's events are in the stream", func() bool { return slices.Equal(p.events(other), count(13)) })
	if got := pay(t, k, other, 13); got != event.New {
		t.Errorf("a callback of a sound partition: %v", got)
	}
	if got := pay(t, k, ofPartition(3, 0), 0); got != event.New {
		t.Errorf("a callback of another: %v", got)
	}
	if got := pay(t, k, stuck, many); got != event.Journaled {
		t.Errorf("a callback of the broken one: %v", got)
	}
	if got := p.events(stuck); len(got) != 0 {
		t.Fatalf("the broken partition took %d", len(got))
	}
	if n := k.gauge(t, "paybell_journal_stuck_partitions"); n != 1 {
		t.Errorf("%v partitions are shown as stuck", n)
	}
	streamstest.Eventually(t, "the log says which, and why", func() bool {
		return strings.Contains(k.log.String(), "partitions [2]") && strings.Contains(k.log.String(), errWrongType.Error())
	})
	p.broken[2].Store(false)
	k.drained(t)
	if got := p.events(stuck); !slices.Equal(got, count(many+1)) {
		t.Fatalf("%d of %d events, or not in their order", len(got), many+1)
	}
	if got := pay(t, k, stuck, many+1); got != event.New {
		t.Errorf("a callback of the mended one: %v", got)
	}
	if n := k.gauge(t, "paybell_journal_stuck_partitions"); n != 0 {
		t.Errorf("%v partitions are shown as stuck", n)
	}
}

// TestFullJournalRefusesOnlyWhoNeedsIt: what one partition owes has filled the journal;
// the stream takes all others, so nobody else's callback is refused.
func TestFullJournalRefusesOnlyWhoNeedsIt(t *testing.T) {
	p := &partly{}
	p.broken[2].Store(true)
	o := journalOptions(t, gateway.JournalFallback)
	o.MaxAge = time.Minute
	var passed atomic.Int64 // seconds
	k := openKeeper(t, o, p, func(d *gateway.KeeperDeps) {
		d.Now = func() time.Time { return time.Now().Add(time.Duration(passed.Load()) * time.Second) }
	})
	stuck, other := ofPartition(2, 0), ofPartition(1, 0)
	if got := pay(t, k, stuck, 0); got != event.Journaled {
		t.Fatalf("a callback of the broken partition: %v", got)
	}
	passed.Store(120)
	if _, err := k.Append(t.Context(), week, []event.Record{streamstest.Record(stuck, 1)}); err == nil {
		t.Fatal("the journal took a callback beyond its age")
	}
	for n := range 3 {
		if got := pay(t, k, other, n); got != event.New {
			t.Errorf("a callback of a sound partition: %v", got)
		}
	}
	if n := k.gauge(t, "paybell_journal_refused_callbacks_total"); n != 1 {
		t.Errorf("%v callbacks are counted as refused", n)
	}
	p.broken[2].Store(false)
	k.drained(t)
	if got := pay(t, k, stuck, 1); got != event.New {
		t.Errorf("once it is mended: %v", got)
	}
}

// TestPartitionsComeAndGoInAnyOrder breaks and mends partitions by chance under
// callbacks, and starts the keeper again in the middle: every event is in the stream,
// those of an order in their order, and nothing is counted as waiting at the end.
func TestPartitionsComeAndGoInAnyOrder(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 7))
			p := &partly{}
			o := journalOptions(t, gateway.JournalFallback)
			k := openKeeper(t, o, p, nil)
			orders := make([]string, 12)
			next := make([]int, len(orders))
			for i := range orders {
				orders[i] = ofPartition(i%4, i/4)
			}
			for range 40 {
				if r.IntN(2) == 0 {
					b := &p.broken[r.IntN(4)]
					b.Store(!b.Load())
				}
				for range r.IntN(120) {
					i := r.IntN(len(orders))
					pay(t, k, orders[i], next[i])
					next[i]++
				}
				if r.IntN(15) == 0 {
					k.stop()
					k = openKeeper(t, o, p, nil)
				}
			}
			for i := range p.broken {
				p.broken[i].Store(false)
			}
			k.drained(t)
			for i, order := range orders {
				if got := p.events(order); !slices.Equal(got, count(next[i])) {
					t.Errorf("order %s: %d of %d events, or not in their order", order, len(got), next[i])
				}
				if got := pay(t, k, order, next[i]); got != event.New {
					t.Errorf("order %s: %v, although nothing waits", order, got)
				}
			}
		})
	}
}

// retired opens a keeper on the journal of a gateway that does not come back.
func retired(t *testing.T, o gateway.JournalOptions, p *partly, now func() time.Time) *gateway.Keeper {
	t.Helper()
	k, err := gateway.OpenKeeper(o, gateway.KeeperDeps{
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), Disk: journal.OS(), Stream: p,
		Now: now, Partitions: 4, Partition: partitionOf, Permanent: func(error) bool { return false },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

// TestDrainSaysWhatItCannotBring: it ends, what others take is out, and the rest stays.
func TestDrainSaysWhatItCannotBring(t *testing.T) {
	p := &partly{}
	for i := range p.broken {
		p.broken[i].Store(true)
	}
	o := journalOptions(t, gateway.JournalFallback)
	k := openKeeper(t, o, p, nil)
	for n := range 30 {
		pay(t, k, ofPartition(0, n%3), n/3)
		pay(t, k, ofPartition(3, n%3), n/3)
	}
	k.stop()
	p.broken[3].Store(false)
	var passed atomic.Int64 // seconds
	again := retired(t, o, p, func() time.Time { return time.Unix(passed.Add(1), 0) })
	err := again.Drain(t.Context(), nil)
	if err == nil || !errors.Is(err, errWrongType) || !strings.Contains(err.Error(), "partitions [0]") {
		t.Fatalf("drain of what is not taken: %v", err)
	}
	if n := len(p.kept()); n != 30 {
		t.Errorf("%d of 30 events of the sound partition are out", n)
	}
	p.broken[0].Store(false)
	if err := again.Drain(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if n := len(p.kept()); n != 60 {
		t.Errorf("%d of 60 events are out", n)
	}
}

// TestDrainThatSetsEventsAsideSaysSo: who scraps the disk of a retired gateway must know
// that accepted events are on it that the stream does not have.
func TestDrainThatSetsEventsAsideSaysSo(t *testing.T) {
	p := &partly{}
	o := journalOptions(t, gateway.JournalFallback)
	j, _, err := journal.Open(o.Dir, journal.Options{MaxBytes: o.MaxBytes, SegmentBytes: o.SegmentBytes, Queue: o.Queue}, journal.Deps{
		Logger: slog.New(slog.DiscardHandler), Now: time.Now, Disk: journal.OS(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- j.Run(ctx) }()
	if _, err := j.Append(ctx, [][]byte{[]byte("written by a later version")}); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := errors.Join(<-ran, j.Close()); err != nil {
		t.Fatal(err)
	}
	k := retired(t, o, p, time.Now)
	out := -1
	if err := k.Drain(t.Context(), func(n int) { out = n }); !errors.Is(err, gateway.ErrSetAside) || out != 0 {
		t.Fatalf("drain: %d out, %v", out, err)
	}
}

// TestDamageBesideAStuckPartitionHoldsUpNoOther: the partition of a damaged record is
// used again although another's events pin the journal.
func TestDamageBesideAStuckPartitionHoldsUpNoOther(t *testing.T) {
	p := &partly{}
	for i := range p.broken {
		p.broken[i].Store(true)
	}
	o := journalOptions(t, gateway.JournalFallback)
	k := openKeeper(t, o, p, nil)
	stuck, other := ofPartition(2, 0), ofPartition(1, 0)
	pay(t, k, stuck, 0)
	pay(t, k, other, 0)
	segs, err := filepath.Glob(filepath.Join(o.Dir, "*.journal"))
	if err != nil || len(segs) != 1 {
		t.Fatal(segs, err)
	}
	b, err := os.ReadFile(segs[0])
	if err != nil {
		t.Fatal(err)
	}
	b[strings.Index(string(b), "evt-"+other+"-0")] ^= 1
	if err := os.WriteFile(segs[0], b, 0o600); err != nil { //nolint:gosec // a path of the test
		t.Fatal(err)
	}
	for _, i := range []int{0, 1, 3} {
		p.broken[i].Store(false)
	}
	n := 0
	streamstest.Eventually(t, "the stream is used again", func() bool { n++; return pay(t, k, other, n) == event.New })
	if got := pay(t, k, stuck, 1); got != event.Journaled {
		t.Errorf("the stuck one: %v", got)
	}
	p.broken[2].Store(false)
	k.drained(t)
	if got := p.events(stuck); !slices.Equal(got, count(2)) {
		t.Errorf("the stuck one's events: %v", got)
	}
	streamstest.Eventually(t, "the stuck one's partition is used again", func() bool { n++; return pay(t, k, stuck, n) == event.New })
}
