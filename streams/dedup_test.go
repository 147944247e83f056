package streams_test

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/streams/streamstest"
)

// A gateway that marks first and appends then answers "duplicate" to the resend of
// what it failed to append, and the order is lost.
func TestDedupMarkSurvivesNoLostAppend(t *testing.T) {
	for _, c := range []struct {
		name        string
		spoil, mend func(t *testing.T, b *streamstest.Bench, stream string)
	}{
		{
			"the server is full",
			func(t *testing.T, b *streamstest.Bench, _ string) { full(t, b, true) },
			func(t *testing.T, b *streamstest.Bench, _ string) { full(t, b, false) },
		},
		{
			"the stream is something else",
			func(t *testing.T, b *streamstest.Bench, stream string) {
				if err := b.Write.Set(t.Context(), stream, "x", 0).Err(); err != nil {
					t.Fatal(err)
				}
			},
			func(t *testing.T, b *streamstest.Bench, stream string) {
				if err := b.Write.Del(t.Context(), stream).Err(); err != nil {
					t.Fatal(err)
				}
			},
		},
		{
			"the server became a replica",
			func(t *testing.T, b *streamstest.Bench, _ string) {
				if err := b.Write.Do(t.Context(), "REPLICAOF", "127.0.0.1", "1").Err(); err != nil {
					t.Fatal(err)
				}
			},
			func(t *testing.T, b *streamstest.Bench, _ string) {
				if err := b.Write.Do(t.Context(), "REPLICAOF", "NO", "ONE").Err(); err != nil {
					t.Fatal(err)
				}
			},
		},
		{
			"too few replicas",
			func(t *testing.T, b *streamstest.Bench, _ string) {
				if err := b.Write.ConfigSet(t.Context(), "min-replicas-to-write", "1").Err(); err != nil {
					t.Fatal(err)
				}
			},
			func(t *testing.T, b *streamstest.Bench, _ string) {
				if err := b.Write.ConfigSet(t.Context(), "min-replicas-to-write", "0").Err(); err != nil {
					t.Fatal(err)
				}
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := streamstest.New(t, streamstest.Redis(t).Addr())
			r := streamstest.Record("A1", 1)
			stream := b.Layout.Events(b.Layout.Partition(r.Event.OrderingKey()))
			c.spoil(t, b, stream)
			if _, err := b.Writer.Append(t.Context(), time.Hour, []event.Record{r}); !errors.Is(err, streams.ErrUnavailable) {
				t.Fatalf("err = %v", err)
			}
			if keys := b.Write.Keys(t.Context(), "*:seen:*").Val(); len(keys) != 0 {
				t.Fatalf("marked: %v", keys)
			}
			c.mend(t, b, stream)
			if got := b.Append(r); got[0] != event.New || len(b.Entries()) != 1 {
				t.Fatalf("the resend: %v, %d entries", got, len(b.Entries()))
			}
		})
	}
}

// A key that somebody has overwritten must keep the entry out, and the rest as it was,
// or every resend is another entry, or another count.
func TestMarkThatCannotBeSetAddsNoEntry(t *testing.T) {
	r := streamstest.Record("A1", 1)
	for name, spoilt := range map[string]func(l streams.Layout, partition int) []string{
		"seen":   func(l streams.Layout, partition int) []string { return l.Seen(partition, time.Hour) },
		"ledger": func(l streams.Layout, partition int) []string { return []string{l.Ledger(partition)} },
		"events": func(l streams.Layout, partition int) []string { return []string{l.Events(partition)} },
	} {
		for engine, addr := range map[string]string{"redis": streamstest.Redis(t).Addr(), "miniredis": streamstest.Miniredis(t).Addr()} {
			t.Run(name+"/"+engine, func(t *testing.T) {
				b := streamstest.New(t, addr)
				partition := b.Layout.Partition(r.Event.OrderingKey())
				keys := spoilt(b.Layout, partition)
				for _, key := range keys {
					if err := b.Write.Set(t.Context(), key, "x", 0).Err(); err != nil {
						t.Fatal(err)
					}
				}
				for range 2 {
					if _, err := b.Writer.Append(t.Context(), time.Hour, []event.Record{r}); !errors.Is(err, streams.ErrUnavailable) {
						t.Fatalf("err = %v", err)
					}
				}
				if err := b.Write.Del(t.Context(), keys...).Err(); err != nil {
					t.Fatal(err)
				}
				if n := len(b.Entries()); n != 0 {
					t.Fatalf("%d entries", n)
				}
				if got := b.Append(r, r); !slices.Equal(got, []event.Appended{event.New, event.Duplicate}) {
					t.Fatalf("the key mended: %v", got)
				}
				if n := b.Write.HGet(t.Context(), b.Layout.Ledger(partition), "appended").Val(); n != "1" || len(b.Entries()) != 1 {
					t.Fatalf("%s counted, %d entries", n, len(b.Entries()))
				}
			})
		}
	}
}

var (
	usedMemory = regexp.MustCompile(`used_memory:(\d+)`)
	usedCPU    = regexp.MustCompile(`used_cpu_(?:user|sys):([0-9.]+)`)
)

// BenchmarkDedup appends events to a redis-server with its default settings and
// reports what the marks of them cost: the memory that is free once they are gone.
// PAYBELL_DEDUP_EVENTS is how many events there are; make bench-dedup asks for a million.
func BenchmarkDedup(b *testing.B) {
	events := 50_000
	if text := os.Getenv("PAYBELL_DEDUP_EVENTS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			b.Fatal(err)
		}
		events = n
	}
	for b.Loop() {
		dedup(b, events)
	}
}

func dedup(b *testing.B, events int) {
	s := streamstest.New(b, streamstest.Redis(b).Addr(), func(o *streams.Options) { o.Partitions = 16 })
	const callers = 256
	start := time.Now()
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := c; i < events; i += callers {
				r := streamstest.Record(fmt.Sprintf("order-%d", i), 0)
				if _, err := s.Writer.Append(b.Context(), 7*24*time.Hour, []event.Record{r}); err != nil {
					b.Error(err)
					return
				}
				// The entries themselves are not what is measured.
				if c == 0 && i/callers%64 == 0 {
					forget(b, s, "*:events")
				}
			}
		})
	}
	wg.Wait()
	took, cpu := time.Since(start), info(b, s, "cpu", usedCPU)
	forget(b, s, "*:events")
	full := info(b, s, "memory", usedMemory)
	keys := forget(b, s, "*:seen:*")
	bytes := (full - info(b, s, "memory", usedMemory)) / float64(events)
	if bytes > 48 {
		b.Errorf("%.1f bytes an event, 48 are allowed", bytes)
	}
	b.ReportMetric(bytes, "bytes/event")
	b.ReportMetric(float64(keys), "keys")
	b.ReportMetric(float64(events)/took.Seconds(), "events/s")
	b.ReportMetric(cpu*1e6/float64(events), "redis-us/event")
	b.ReportMetric(0, "ns/op")
}

func forget(b *testing.B, s *streamstest.Bench, pattern string) int {
	b.Helper()
	keys, err := s.Write.Keys(b.Context(), pattern).Result()
	if err != nil {
		b.Fatal(err)
	}
	for _, key := range keys {
		if err := s.Write.Del(b.Context(), key).Err(); err != nil {
			b.Fatal(err)
		}
	}
	return len(keys)
}

// info is a figure of the server's INFO.
func info(b *testing.B, s *streamstest.Bench, section string, figure *regexp.Regexp) float64 {
	b.Helper()
	text, err := s.Write.Info(b.Context(), section).Result()
	if err != nil {
		b.Fatal(err)
	}
	var sum float64
	for _, m := range figure.FindAllStringSubmatch(text, -1) {
		n, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += n
	}
	if sum == 0 {
		b.Fatalf("INFO %s does not tell %v", section, figure)
	}
	return sum
}
