package app

import (
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/paybell/paybell/cmd/internal/limits"
)

const (
	// heapRoom is how much may be allocated between two collections, however little is
	// alive. A gateway keeps a few MiB alive: the collector's own rule, once again as
	// much as is alive, has it collect dozens of times a second.
	heapRoom = 32 << 20
	// heapShare is the part of the memory limit that the room may take.
	heapShare = 8
	// memoryShare is the part of the process's memory that the Go heap is held to. The
	// rest is for what is not Go's: the program itself, the kernel's buffers.
	memoryShare = 0.8
)

// TuneMemory bounds the memory of the process by what limits.Memory says, where somebody
// has set a limit, and has the collector run by what was allocated instead of by what is
// alive. GOMEMLIMIT and GOGC in the environment are left as they are.
func TuneMemory(configured int64, log *slog.Logger) {
	bound, err := limits.Memory(configured)
	if err != nil {
		log.Warn("memory limit of the container unknown", "err", err)
	}
	tuneMemory(bound, log)
}

func tuneMemory(bound limits.Bound, log *slog.Logger) (stop func()) {
	container := func() (uint64, error) {
		if !bound.Set() {
			return 0, memlimit.ErrNoLimit
		}
		return uint64(bound.Bytes), nil //nolint:gosec // never negative
	}
	limit, err := memlimit.Set(memlimit.WithProvider(container), memlimit.WithRatio(memoryShare))
	if err != nil {
		log.Warn("memory limit not set", "err", err)
	}
	room := int64(heapRoom)
	words := "none"
	if limit < math.MaxInt64 {
		room = min(room, limit/heapShare)
		words = mebibytes(limit)
	}
	if set, ok := os.LookupEnv("GOGC"); ok {
		log.Info("memory bounds", "of", bound.String(), "limit", words, "collects", "as GOGC="+set+" says")
		return func() {}
	}
	log.Info("memory bounds", "of", bound.String(), "limit", words,
		"collects", fmt.Sprintf("after %s were allocated, or as much as is in use where that is more", mebibytes(room)))
	return newCollector(uint64(room)).start()
}

func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }

// collector keeps GOGC where the next collection comes after room bytes.
type collector struct {
	room    uint64
	percent int
	inUse   []metrics.Sample
	stopped chan struct{}
}

// What the collector's percentage is of (go.dev/doc/gc-guide, "GOGC").
const (
	liveHeap    = "/gc/heap/live:bytes"
	liveStacks  = "/gc/scan/stack:bytes"
	liveGlobals = "/gc/scan/globals:bytes"
)

const (
	// leastPercent is Go's own: with more alive than the room it is Go that decides.
	leastPercent = 100
	// smallestHeap times the percentage is where Go collects at the earliest.
	smallestHeap = 4 << 20
)

func newCollector(room uint64) *collector {
	return &collector{
		room: room, stopped: make(chan struct{}),
		inUse: []metrics.Sample{{Name: liveHeap}, {Name: liveStacks}, {Name: liveGlobals}},
	}
}

func (c *collector) start() (stop func()) {
	before := debug.SetGCPercent(c.adjust(smallestHeap))
	c.watch()
	return func() {
		close(c.stopped)
		debug.SetGCPercent(before)
	}
}

// collected is garbage at once: the runtime tells of each collection by taking it away.
type collected struct{ _ [16]byte }

// watch adjusts the percentage after each collection.
func (c *collector) watch() {
	runtime.AddCleanup(new(collected), func(c *collector) {
		select {
		case <-c.stopped:
			return
		default:
		}
		metrics.Read(c.inUse)
		var inUse uint64
		for _, s := range c.inUse {
			inUse += s.Value.Uint64()
		}
		before := c.percent
		if now := c.adjust(inUse); now != before {
			debug.SetGCPercent(now)
		}
		c.watch()
	}, c)
}

// adjust returns the percentage for what is in use. Setting one stops the world for a
// moment, so small differences are let be.
func (c *collector) adjust(inUse uint64) int {
	want := int(c.room * 100 / max(inUse, smallestHeap)) //nolint:gosec // at most a thousand
	want = max(want, leastPercent)
	if differ := want - c.percent; differ > c.percent/8 || differ < -c.percent/8 || want == leastPercent {
		c.percent = want
	}
	return c.percent
}
