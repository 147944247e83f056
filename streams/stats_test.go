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
	es := b.Take(g, l, 2)
	if _, err := g.Park(t.Context(), l, []streams.Parking{{EntryID: es[0].ID, Wait: time.Hour}}); err != nil {
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
