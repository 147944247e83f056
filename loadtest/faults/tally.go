package main

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// tally counts what was done to the processes.
type tally struct {
	mu sync.Mutex
	// kills by kind of process and place: a named point, "random", "power loss" or
	// "poison".
	kills map[kill]int
	// idle are kills with no callback in flight, which prove less and are not in kills.
	idle int
	// faults are those that were done, impossible those that there was no way to do.
	faults, impossible map[string]int
	// replayed are the dead letters that were replayed, full the callbacks that a
	// journal refused because its quota was used up.
	replayed, full int
	// behind is the longest time that the groups took to catch up.
	behind time.Duration
	memory map[string]int64
}

type kill struct{ kind, place string }

func newTally(points map[string][]string) *tally {
	t := &tally{kills: map[kill]int{}, faults: map[string]int{}, impossible: map[string]int{}, memory: map[string]int64{}}
	for kind, names := range points {
		for _, p := range names {
			t.kills[kill{kind, p}] = 0
		}
	}
	return t
}

func (t *tally) killed(kind, place string, inFlight bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !inFlight {
		t.idle++
		return
	}
	t.kills[kill{kind, place}]++
}

func (t *tally) fault(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.faults[name]++
}

func (t *tally) notPossible(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.impossible[name]++
}

func (t *tally) again(letters int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.replayed += letters
}

func (t *tally) journalFull(refused int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.full += refused
}

func (t *tally) caughtUp(after time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.behind = max(t.behind, after)
}

func (t *tally) resident(kind string, bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.memory[kind] = max(t.memory[kind], bytes)
}

// rarest is the point of a kind with the fewest kills; ties are drawn.
func (t *tally) rarest(points []string, kind string, r *rand.Rand) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	points = slices.Clone(points)
	r.Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
	return slices.MinFunc(points, func(a, b string) int { return t.kills[kill{kind, a}] - t.kills[kill{kind, b}] })
}

// total is how many kills there were, least how many at the point with the fewest.
func (t *tally) total() (total, least int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	least = 1 << 30
	for k, n := range t.kills {
		total += n
		if k.place != atRandom && k.place != powerLoss && k.place != byPoison {
			least = min(least, n)
		}
	}
	return total, least
}

// of is how many processes of a kind were killed.
func (t *tally) of(kind string) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, times := range t.kills {
		if k.kind == kind {
			n += times
		}
	}
	return n
}

func (t *tally) places() []kill {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.SortedFunc(maps.Keys(t.kills), func(a, b kill) int {
		if a.kind != b.kind {
			return compare(a.kind, b.kind)
		}
		return compare(a.place, b.place)
	})
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	default:
		return 0
	}
}
