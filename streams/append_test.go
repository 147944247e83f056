package streams_test

import (
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/streams/streamstest"
)

// oldAppend is the append script of the release before, one call a record.
//
//go:embed testdata/append-9a7ea0d.lua
var oldAppend string

// appendAsBefore appends a record as the release before does.
func appendAsBefore(t *testing.T, b *streamstest.Bench, window time.Duration, r event.Record) event.Appended {
	t.Helper()
	p := b.Layout.Partition(r.Event.OrderingKey())
	keys := slices.Concat([]string{b.Layout.Events(p)}, b.Layout.Seen(p, window), []string{b.Layout.Ledger(p)})
	sum := sha256.Sum256([]byte(r.Event.ID))
	mark := binary.BigEndian.AppendUint64(slices.Clone(sum[:12]), uint64(r.Event.Facts()))
	fields, err := r.Fields()
	if err != nil {
		t.Fatal(err)
	}
	args := append([]any{mark, max(1, (window.Milliseconds()+1)/2), window.Milliseconds()}, fields...)
	n, err := b.Write.Eval(t.Context(), oldAppend, keys, args...).Int()
	if err != nil {
		t.Fatal(err)
	}
	return event.Appended(n) //nolint:gosec // 1 to 3
}

// While a deployment rolls, gateways of the release before append beside ours, on the
// same marks, and each finds what the other has appended.
func TestG3MarksAreSharedWithTheReleaseBefore(t *testing.T) {
	for engine, addr := range map[string]string{"redis": streamstest.Redis(t).Addr(), "miniredis": streamstest.Miniredis(t).Addr()} {
		t.Run(engine, func(t *testing.T) {
			b := streamstest.New(t, addr, func(o *streams.Options) { o.Partitions = 1 })
			// By turns, so that each splits rows that the other has filled; in batches of all
			// sizes, so that some split several rows at once.
			records := make([]event.Record, 700)
			for i := range records {
				records[i] = streamstest.Record("order-"+strconv.Itoa(i), 1)
			}
			size := 1
			for rest := records; len(rest) > 0; size = size%37 + 1 {
				ours := rest[:min(size, len(rest))]
				for i, got := range b.Append(ours...) {
					if got != event.New {
						t.Fatalf("record %d of %d: %v", i, size, got)
					}
				}
				rest = rest[len(ours):]
				theirs := rest[:min(size/2, len(rest))]
				for _, r := range theirs {
					if got := appendAsBefore(t, b, time.Hour, r); got != event.New {
						t.Fatalf("appended as before: %v", got)
					}
				}
				rest = rest[len(theirs):]
			}
			for i, r := range records {
				if got := appendAsBefore(t, b, time.Hour, r); got != event.Duplicate {
					t.Fatalf("record %d as before: %v", i, got)
				}
				p := *r.Event.Payment
				p.Method = "card" // no fact
				p.ProviderRef += "-other"
				r.Event.Payment = &p
				if got := appendAsBefore(t, b, time.Hour, r); got != event.Conflicting {
					t.Fatalf("other facts of record %d as before: %v", i, got)
				}
			}
			for i, got := range b.Append(records...) {
				if got != event.Duplicate {
					t.Fatalf("record %d: %v", i, got)
				}
			}
			if n := b.Write.HGet(t.Context(), b.Layout.Ledger(0), "appended").Val(); n != "700" || len(b.Entries()) != 700 {
				t.Fatalf("%s counted, %d entries", n, len(b.Entries()))
			}
		})
	}
}

// The server takes one more entry of the partition and refuses those behind it: only
// what was added is marked and counted.
func TestMarksAndCountFollowWhatWasAdded(t *testing.T) {
	b := streamstest.New(t, streamstest.Redis(t).Addr(), func(o *streams.Options) { o.Partitions = 1 })
	const last = "18446744073709551615"
	fill := &redis.XAddArgs{Stream: b.Layout.Events(0), ID: last + "-18446744073709551614", Values: []string{"a", "b"}}
	if err := b.Write.XAdd(t.Context(), fill).Err(); err != nil {
		t.Fatal(err)
	}
	records := []event.Record{streamstest.Record("A1", 1), streamstest.Record("B1", 1), streamstest.Record("C1", 1)}
	got, errs := b.Flush(records[0], records[1], records[0], records[2], records[1])
	if want := []event.Appended{event.New, 0, event.Duplicate, 0, 0}; !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i, err := range errs {
		if (err != nil) != (got[i] == 0) || err != nil && !errors.Is(err, streams.ErrUnavailable) {
			t.Errorf("record %d: %v", i, err)
		}
	}
	if n := b.Write.HGet(t.Context(), b.Layout.Ledger(0), "appended").Val(); n != "1" {
		t.Errorf("%s counted", n)
	}
	if err := b.Write.Del(t.Context(), b.Layout.Events(0)).Err(); err != nil {
		t.Fatal(err)
	}
	if got := b.Append(records...); !slices.Equal(got, []event.Appended{event.Duplicate, event.New, event.New}) {
		t.Errorf("the stream mended: %v", got)
	}
}

// A server of a cluster takes no call with the keys of several partitions.
func TestClusterGetsACallAPartition(t *testing.T) {
	b := streamstest.New(t, streamstest.Redis(t, "--cluster-enabled", "yes").Addr(), func(o *streams.Options) { o.Partitions = 8 })
	if err := b.Write.Do(t.Context(), "CLUSTER", "ADDSLOTSRANGE", 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	streamstest.Eventually(t, "the cluster is up", func() bool {
		return strings.Contains(b.Write.Do(t.Context(), "CLUSTER", "INFO").String(), "cluster_state:ok")
	})
	records := streamstest.Records("A1", 40)
	for _, want := range []event.Appended{event.New, event.Duplicate} {
		if got := b.Append(records...); slices.ContainsFunc(got, func(a event.Appended) bool { return a != want }) {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
	if n := len(b.Entries()); n != len(records) {
		t.Fatalf("%d entries", n)
	}
}

var commandCalls = regexp.MustCompile(`cmdstat_(\w+):calls=(\d+)`)

// commands counts the commands that the server runs while do appends.
func commands(t *testing.T, b *streamstest.Bench, do func()) map[string]int {
	t.Helper()
	if err := b.Write.ConfigResetStat(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	do()
	text, err := b.Write.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]int)
	for _, m := range commandCalls.FindAllStringSubmatch(text, -1) {
		out[m[1]], _ = strconv.Atoi(m[2]) // digits
	}
	delete(out, "info")
	delete(out, "config|resetstat")
	return out
}

// What 1,000 callbacks cost the server, one by one and in full flushes. It bounds what
// is not timed: a script call a record, or a command a record beside XADD, fails it.
func TestAppendCommandsStayFew(t *testing.T) {
	b := streamstest.New(t, streamstest.Redis(t).Addr(), func(o *streams.Options) { o.Partitions = 16 })
	b.Append(streamstest.Records("warm", 64)...)
	const callbacks = 1000
	for _, c := range []struct {
		name            string
		flush           int
		scripts, others int // at most
	}{
		// TIME, HMGET twice, HGET twice, HINCRBY, HSET, and what a split of a row needs.
		{"one by one", 1, callbacks, 7*callbacks + 100},
		{"full flushes", 250, callbacks / 250, callbacks / 250 * (1 + 16*7)},
	} {
		t.Run(c.name, func(t *testing.T) {
			ran := commands(t, b, func() {
				for i := range callbacks / c.flush {
					b.Append(streamstest.Records(c.name+strconv.Itoa(i), c.flush)...)
				}
			})
			others := 0
			for name, n := range ran {
				if name != "evalsha" && name != "xadd" {
					others += n
				}
			}
			if ran["xadd"] != callbacks || ran["evalsha"] > c.scripts || others > c.others {
				t.Errorf("%v: at most %d EVALSHA and %d others beside %d XADD", ran, c.scripts, c.others, callbacks)
			}
		})
	}
}

// An append of one record, with the lane that sends it: 13 when this was written, 54
// while each record was a command of its own.
func TestAppendAllocatesLittle(t *testing.T) {
	b := streamstest.New(t, streamstest.Redis(t).Addr())
	const runs, most = 500, 18
	records := make([]event.Record, runs+1)
	for i := range records {
		records[i] = streamstest.Record("order-"+strconv.Itoa(i), 1)
	}
	next := 0
	n := testing.AllocsPerRun(runs, func() {
		b.Append(records[next])
		next++
	})
	if n > most {
		t.Errorf("%.0f allocations, at most %d", n, most)
	}
}
