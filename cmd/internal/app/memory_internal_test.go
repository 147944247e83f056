package app

import (
	"bytes"
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/cmd/internal/limits"
)

// restoreMemory puts the process's settings back when the test ends.
func restoreMemory(t *testing.T) {
	t.Helper()
	limit := debug.SetMemoryLimit(-1)
	percent := debug.SetGCPercent(100)
	t.Cleanup(func() {
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(percent)
	})
}

func tune(t *testing.T, bound limits.Bound) string {
	t.Helper()
	var log bytes.Buffer
	stop := tuneMemory(bound, slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(stop)
	return log.String()
}

func TestMemoryIsBoundByTheContainer(t *testing.T) {
	restoreMemory(t)
	log := tune(t, limits.Bound{Bytes: 256 << 20, From: limits.FromContainer})
	if got, want := debug.SetMemoryLimit(-1), int64(256<<20)*8/10; got != want {
		t.Errorf("limit %d, want %d", got, want)
	}
	for _, want := range []string{`of="256 MiB (container)"`, `limit="204 MiB"`, "after 25 MiB were allocated"} {
		if !strings.Contains(log, want) {
			t.Errorf("log %q does not say %q", log, want)
		}
	}
}

func TestMemoryWithoutALimit(t *testing.T) {
	restoreMemory(t)
	log := tune(t, limits.Bound{Bytes: 8 << 30, From: limits.FromMachine})
	if got := debug.SetMemoryLimit(-1); got != math.MaxInt64 {
		t.Errorf("limit %d", got)
	}
	if !strings.Contains(log, "limit=none") || !strings.Contains(log, "after 32 MiB") || strings.Contains(log, "WARN") {
		t.Errorf("log %q", log)
	}
}

func TestMemorySetByTheOperatorStays(t *testing.T) {
	restoreMemory(t)
	t.Setenv("GOGC", "70")
	t.Setenv("GOMEMLIMIT", "123MiB")
	debug.SetGCPercent(70)
	debug.SetMemoryLimit(123 << 20)
	log := tune(t, limits.Bound{Bytes: 256 << 20, From: limits.FromContainer})
	if limit, percent := debug.SetMemoryLimit(-1), debug.SetGCPercent(70); limit != 123<<20 || percent != 70 {
		t.Errorf("limit %d, percent %d", limit, percent)
	}
	if !strings.Contains(log, "GOGC=70") || !strings.Contains(log, "123 MiB") {
		t.Errorf("log %q", log)
	}
}

func TestCollectorKeepsTheRoom(t *testing.T) {
	c := newCollector(32 << 20)
	for _, s := range []struct {
		inUse uint64
		want  int
	}{
		{0, 800},
		{4 << 20, 800},
		{4<<20 + 1<<18, 800}, // near enough
		{8 << 20, 400},
		{32 << 20, 100},
		{1 << 30, 100}, // more is alive than the room: Go's own rule
		{16 << 20, 200},
	} {
		if got := c.adjust(s.inUse); got != s.want {
			t.Errorf("%d MiB in use: %d %%, want %d", s.inUse>>20, got, s.want)
		}
	}
}

// TestCollectorFollowsWhatIsAlive holds memory until a collection has lowered the
// percentage to what leaves the room.
func TestCollectorFollowsWhatIsAlive(t *testing.T) {
	restoreMemory(t)
	tune(t, limits.Bound{Bytes: 8 << 30, From: limits.FromMachine})
	held := make([]byte, 64<<20)
	percent := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	for deadline := time.Now().Add(10 * time.Second); ; {
		runtime.GC() // the cleanups of what it took away run beside us
		if metrics.Read(percent); percent[0].Value.Uint64() == leastPercent {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("still %d %%", percent[0].Value.Uint64())
		}
	}
	runtime.KeepAlive(held)
}
