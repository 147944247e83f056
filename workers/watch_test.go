package workers_test

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paybell/paybell/workers"
	"github.com/paybell/paybell/workers/workertest"
)

// store is an effect store that can be set back, as a database is by a restored backup.
type store struct {
	mu        sync.Mutex
	positions map[int]int64
	known     map[int]int64
	has       map[string]bool
	// saved is the backup.
	saved struct {
		positions map[int]int64
		has       map[string]bool
	}
}

func newStore() *store {
	return &store{positions: map[int]int64{}, known: map[int]int64{}, has: map[string]bool{}}
}

func (s *store) backup() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saved.positions, s.saved.has = maps.Clone(s.positions), maps.Clone(s.has)
}

func (s *store) restore() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.positions, s.has = maps.Clone(s.saved.positions), maps.Clone(s.saved.has)
}

func (s *store) effects() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.has)
}

func (s *store) HandleBatch(_ context.Context, ds []workers.Delivery) []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]error, len(ds))
	counted := map[int]bool{}
	for i := range ds {
		p := ds[i].Partition
		if !counted[p] {
			if known := s.known[p]; s.positions[p]+1 <= known {
				out[i] = &workers.BehindError{Position: s.positions[p], Settled: known}
				continue
			}
			counted[p] = true
			s.positions[p]++
			if _, begun := s.known[p]; begun {
				s.known[p] = s.positions[p]
			}
		}
		s.has[ds[i].Event.ID] = true
	}
	return out
}

func (s *store) Begin(partition int, position int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if delete(s.known, partition); position >= 0 {
		s.known[partition] = position
	}
}

func (s *store) Position(partition int) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[partition]
}

func (s *store) Standings(context.Context) (map[int]workers.Standing, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[int]workers.Standing{}
	for p, position := range s.positions {
		out[p] = workers.Standing{Position: position}
	}
	return out, nil
}

// A store that went back in time gets again what it lacks: when the next event comes,
// when none comes, and when nobody ran while it happened.
func TestG4StoreThatWentBackInTimeGetsAgainWhatItLacks(t *testing.T) {
	for name, after := range map[string]func(t *testing.T, g *workertest.Group, s *store, stop func()) (events int){
		"noticed by the next commit": func(_ *testing.T, g *workertest.Group, s *store, _ func()) int {
			s.restore()
			g.Append(records(1, "A", "B", "C", "D", "E", "F", "G", "H", "I", "J")...)
			return 10
		},
		"noticed although nothing happens": func(_ *testing.T, _ *workertest.Group, s *store, _ func()) int {
			s.restore()
			return 0
		},
		"while nobody ran": func(_ *testing.T, _ *workertest.Group, s *store, stop func()) int {
			stop()
			s.restore()
			return 0
		},
		"twice": func(t *testing.T, _ *workertest.Group, s *store, _ func()) int {
			s.restore()
			until(t, "it has all again", func() bool { return s.effects() == 30 })
			s.restore()
			return 0
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := workertest.NewGroup("g", 4, ttl, time.Now)
				s := newStore()
				run := func(consumer string) *pool { return start(t, g.Consumer(consumer), s, workers.DefaultOptions()) }
				p := run("one")
				has := func(n int) func() bool { return func() bool { return s.effects() == n && g.Owed() == 0 } }
				append15 := func(name string) {
					for i := range 15 {
						g.Append(records(1, fmt.Sprint(name, i))...)
					}
				}
				append15("first")
				until(t, "half is done", has(15))
				s.backup()
				append15("second")
				until(t, "all is done", has(30))
				stopped := false
				more := after(t, g, s, func() { p.stop(); stopped = true })
				if stopped {
					p = run("two")
				}
				until(t, "it has again what it lacked", has(30+more))
				if n := p.metric("rewinds_total"); n < 1 {
					t.Errorf("%v times set back", n)
				}
				// What is settled from now on is so for good.
				again := p.metric("rewinds_total")
				pass(3 * ttl)
				if n := p.metric("rewinds_total"); n != again {
					t.Errorf("set back %v times more", n-again)
				}
			})
		})
	}
}
