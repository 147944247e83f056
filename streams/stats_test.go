package streams_test

import (
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/streamstest"
)

// TestKeyOfAWrongTypeHidesNothingElse: somebody has overwritten a key of one group in
// one partition. That is told, and everything else too.
func TestKeyOfAWrongTypeHidesNothingElse(t *testing.T) {
	b := streamstest.New(t, streamstest.Redis(t).Addr())
	b.AppendTo(0, 3)
	g := b.Group("points", "w1")
	b.Group("eventlog", "w1")
	l := b.Lease(g, 0)
	es := b.Take(l, 2)
	if _, err := l.Park(t.Context(), []streams.Parking{{EntryID: es[0].ID, Wait: time.Hour}}); err != nil {
		t.Fatal(err)
	}
	if err := b.Write.Set(t.Context(), b.Layout.Dead(0, "points"), "oops", 0).Err(); err != nil {
		t.Fatal(err)
	}
	report, err := streams.NewStats(b.Write, b.Layout).Read(t.Context())
	if err != nil || len(report.Groups) != 2 {
		t.Fatalf("%+v, %v", report, err)
	}
	points := report.Groups[1]
	if points.Pending != 1 || points.Parked != 1 || points.Lag != 1 || len(points.Problems) != 1 || !strings.Contains(points.Problems[0], b.Layout.Dead(0, "points")) {
		t.Errorf("%+v", points)
	}
	if other := report.Groups[0]; other.Lag != 3 || len(other.Problems) != 0 {
		t.Errorf("%+v", other)
	}
}

// TestOverwrittenKeysAreAllNamed: several keys of a group, its members and a whole stream
// are each named, and every other group and partition is shown.
func TestOverwrittenKeysAreAllNamed(t *testing.T) {
	t.Run("redis", func(t *testing.T) { overwrittenKeys(t, streamstest.Redis(t).Addr(), true) })
	// The embedded engine answers XLEN twice where there is no stream.
	t.Run("miniredis", func(t *testing.T) { overwrittenKeys(t, streamstest.Miniredis(t).Addr(), false) })
}

func overwrittenKeys(t *testing.T, addr string, asStream bool) {
	t.Helper()
	b := streamstest.New(t, addr, func(o *streams.Options) { o.Partitions = 3 })
	for i := range 3 {
		b.AppendTo(i, 2)
	}
	b.Group("eventlog", "w1")
	b.Lease(b.Group("points", "w1"), 0)
	broken, entries := []string{b.Layout.Attempts(0, "points"), b.Layout.Parked(0, "points"), b.Layout.Members("points")}, int64(6)
	if asStream {
		broken, entries = append(broken, b.Layout.Dead(0, "points"), b.Layout.Events(2)), 4
	}
	for _, key := range broken {
		if err := b.Write.Set(t.Context(), key, "x", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	report, err := streams.NewStats(b.Write, b.Layout).Read(t.Context())
	if err != nil || len(report.Groups) != 2 || report.Entries != entries {
		t.Fatalf("%+v, %v", report, err)
	}
	eventlog, points := report.Groups[0], report.Groups[1]
	if eventlog.Lag != entries || len(eventlog.Problems) != 0 {
		t.Errorf("%+v", eventlog)
	}
	told := strings.Join(points.Problems, "\n") + report.Partitions[2].Problem
	for _, key := range broken {
		if !strings.Contains(told, key+" is a key of another type") {
			t.Errorf("%s is not named in %q", key, told)
		}
	}
	if points.Lag != entries || points.Partitions[0].Owner == "" || points.Partitions[1].Problem != "" || report.Partitions[1].Problem != "" {
		t.Errorf("%+v", points)
	}
}
