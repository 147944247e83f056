package workers_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paybell/paybell/workers"
	"github.com/paybell/paybell/workers/workertest"
)

// killable are the processes of a test that can be killed: nothing that a killed
// one does reaches the group any more.
type killable struct {
	mu   sync.Mutex
	dead map[string]bool
}

func newKillable(g *workertest.Group) *killable {
	k := &killable{dead: make(map[string]bool)}
	g.Fault(func(c workertest.Call) error {
		if k.killed(c.Consumer) {
			return errors.New("the process is dead")
		}
		return nil
	})
	return k
}

func (k *killable) kill(consumer string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dead[consumer] = true
}

func (k *killable) killed(consumer string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.dead[consumer]
}

// crash is what a handler does whose process ends under it.
func (k *killable) crash(ctx context.Context, consumer string, ds []workers.Delivery) []error {
	k.kill(consumer)
	<-ctx.Done()
	return make([]error, len(ds))
}

// generations runs one process after another, each until it is killed or all is
// settled, and returns how many it took.
func generations(t *testing.T, g *workertest.Group, k *killable, handler func(consumer string) any, o workers.Options) int {
	t.Helper()
	for n := 1; n <= 50; n++ {
		name := fmt.Sprint("process", n)
		p := start(t, g.Consumer(name), handler(name), o)
		until(t, name+" is killed or done", func() bool { return k.killed(name) || g.Owed() == 0 })
		p.stop()
		if g.Owed() == 0 {
			return n
		}
	}
	t.Fatal("50 processes were killed")
	return 0
}

func TestKillerInABatchIsFoundAndItsNeighboursAreNotCharged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 1, ttl, time.Now)
		k, a := newKillable(g), newApplied()
		var orders []string
		for i := range 256 {
			orders = append(orders, fmt.Sprint("order", i))
		}
		g.Append(records(1, orders...)...)
		var mu sync.Mutex
		worst := make(map[string]int)
		companies := make(map[int]int) // company of the killer → how often
		n := generations(t, g, k, func(consumer string) any {
			return batch(func(ctx context.Context, ds []workers.Delivery) []error {
				mu.Lock()
				kills := false
				for _, d := range ds {
					worst[d.Event.ID] = max(worst[d.Event.ID], d.Attempt)
					kills = kills || d.Event.ID == "order100-1"
				}
				if kills {
					companies[len(ds)-1]++
				}
				mu.Unlock()
				if kills {
					return k.crash(ctx, consumer, ds)
				}
				for _, d := range ds {
					a.apply(d)
				}
				return make([]error, len(ds))
			})
		}, options(func(o *workers.Options) { o.Attempts = 4 }))
		dead := g.Dead()
		if len(dead) != 1 {
			t.Fatalf("%d dead letters, want the killer's", len(dead))
		}
		equal(t, "dead letter", []any{dead[0].Record.Event.ID, dead[0].Reason, dead[0].Attempts}, []any{"order100-1", "crash", 4})
		equal(t, "processes", n, 5)
		equal(t, "company of the killer", companies, map[int]int{255: 1, 0: 3})
		equal(t, "applied", len(a.ids()), 255)
		for id, attempt := range worst {
			// One for the crash of the whole batch, one alone.
			if id != "order100-1" && attempt > 2 {
				t.Errorf("%s was charged %d attempts", id, attempt)
			}
		}
	})
}

func TestSuspectsNearTheirEndAreNotCondemnedWithTheKiller(t *testing.T) {
	for kind, limit := range map[string]int{"Handler": 1, "BatchHandler": 256} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := workertest.NewGroup("g", 8, ttl, time.Now)
				k, a := newKillable(g), newApplied()
				var orders []string
				for i := range 30 {
					orders = append(orders, fmt.Sprint("order", i))
				}
				g.Append(records(1, append(orders, "killer")...)...)
				n := generations(t, g, k, func(consumer string) any {
					run := func(ctx context.Context, ds []workers.Delivery) []error {
						kills := false
						for _, d := range ds {
							kills = kills || d.Event.ID == "killer-1"
						}
						// The innocent take longer than the killer, also where its round begins a
						// second after theirs, so that all of them run whenever it kills.
						select {
						case <-time.After(map[bool]time.Duration{true: time.Second, false: 3 * time.Second}[kills]):
						case <-ctx.Done():
							return []error{ctx.Err()}
						}
						if kills {
							return k.crash(ctx, consumer, ds)
						}
						if k.killed(consumer) {
							<-ctx.Done()
							return make([]error, len(ds))
						}
						for _, d := range ds {
							a.apply(d)
						}
						return make([]error, len(ds))
					}
					if limit > 1 {
						return batch(run)
					}
					return workers.HandlerFunc(func(ctx context.Context, d workers.Delivery) error {
						return run(ctx, []workers.Delivery{d})[0]
					})
				}, options(func(o *workers.Options) { o.Attempts = 6 }))
				var condemned []string
				for _, d := range g.Dead() {
					condemned = append(condemned, d.Record.Event.ID+" "+d.Reason)
				}
				equal(t, "dead letters", condemned, []string{"killer-1 crash"})
				equal(t, "applied", len(a.ids()), 30)
				if n < 7 {
					t.Errorf("%d processes, want one for each attempt of the killer and one more", n)
				}
			})
		})
	}
}
