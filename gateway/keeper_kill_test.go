package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/gateway/journal"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/streams/streamstest"
)

var errKilled = errors.New("the process is dead")

// killer ends a keeper at the n-th time that a step is passed: nothing is done any
// more, and what lies on the disk at that moment is all that the next process finds.
type killer struct {
	step string
	from string // the journal's directory
	to   string // where the next process finds it

	mu   sync.Mutex
	n    int
	dead bool
}

// pass does one thing, unless the process is dead, and dies when it is at its step.
func (k *killer) pass(t *testing.T, step string, do func() error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.dead {
		return errKilled
	}
	if err := do(); err != nil {
		return err
	}
	if step != k.step {
		return nil
	}
	if k.n--; k.n > 0 {
		return nil
	}
	k.dead = true
	if err := os.CopyFS(k.to, os.DirFS(k.from)); err != nil {
		t.Errorf("copy the journal: %v", err)
	}
	return errKilled
}

func (k *killer) alive() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.dead
}

type killedFile struct {
	journal.File
	t *testing.T
	k *killer
}

func (f killedFile) Write(p []byte) (n int, err error) {
	err = f.k.pass(f.t, "written", func() (err error) { n, err = f.File.Write(p); return err })
	return n, err
}

func (f killedFile) Sync() error { return f.k.pass(f.t, "synced", f.File.Sync) }

// killedStream is a stream whose process dies; away says whether it takes anything.
type killedStream struct {
	*gate
	t *testing.T
	k *killer
}

func (s killedStream) Append(ctx context.Context, window time.Duration, records []event.Record) (out []event.Appended, err error) {
	err = s.k.pass(s.t, "in the stream", func() (err error) { out, err = s.gate.Append(ctx, window, records); return err })
	return out, err
}

// TestKillBetweenAnyTwoStepsOfTheJournalLosesNothing kills a gateway's keeper after a
// write, after a sync, after a reply and after a page of the drain has reached the
// stream, many times each; the next process has the same directory. What was replied
// to is in the stream, once, each order's in its order, behind what was resent too.
func TestKillBetweenAnyTwoStepsOfTheJournalLosesNothing(t *testing.T) {
	const orders, events = 4, 12
	for _, step := range []string{"written", "synced", "told", "in the stream"} {
		t.Run(step, func(t *testing.T) {
			for n := 1; n <= 12; n++ {
				o := journalOptions(t, gateway.JournalFallback)
				k := &killer{step: step, n: n, from: o.Dir, to: filepath.Join(t.TempDir(), "journal")}
				g := newGate()
				keeper := openKeeper(t, o, killedStream{g, t, k}, func(d *gateway.KeeperDeps) {
					create := d.Disk.Create
					d.Disk.Create = func(path string) (journal.File, error) {
						f, err := create(path)
						return killedFile{f, t, k}, err
					}
				})
				var next [orders]int // what each order's sender has heard success of
				for i := 0; i < orders*events && k.alive(); i++ {
					g.shut.Store(i%16 < 10)
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					_, err := keeper.Append(ctx, week, []event.Record{streamstest.Record(fmt.Sprint("O", i%orders), next[i%orders])})
					cancel()
					if err == nil {
						next[i%orders]++
						_ = k.pass(t, "told", func() error { return nil }) // it says that it is dead
					}
				}
				g.shut.Store(false) // what is left to do is the drain's
				streamstest.Eventually(t, fmt.Sprintf("the step is passed %d times", n), func() bool { return !k.alive() })
				keeper.stop()

				o.Dir = k.to
				g.shut.Store(false)
				again := openKeeper(t, o, g, nil)
				for i := range next { // the resend of what had no reply, and more
					for next[i] < events+3 {
						pay(t, again, fmt.Sprint("O", i), next[i])
						next[i]++
					}
				}
				again.drained(t)
				again.stop()
				stood := map[string]int{}
				for _, id := range g.ids() {
					order, number, _ := strings.Cut(id, "-")
					if fmt.Sprint(stood[order]) != number {
						t.Fatalf("killed at %d: order %s has event %s where %d belongs", n, order, number, stood[order])
					}
					stood[order]++
				}
				for i, want := range next {
					if got := stood[fmt.Sprint("O", i)]; got != want {
						t.Fatalf("killed at %d: order %d has %d events of %d", n, i, got, want)
					}
				}
			}
		})
	}
}
