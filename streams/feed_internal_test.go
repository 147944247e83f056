package streams

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// Where what was seen is not there any more, waiting for it to be followed must not
// return again and again.
func TestFeedWaitsBehindWhatThereIs(t *testing.T) {
	server := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	layout, err := NewLayout("p", 1)
	if err != nil {
		t.Fatal(err)
	}
	f := NewFeed(rdb, layout, time.Second)
	f.parts[0].tail = "9-0"
	if es, err := f.after(t.Context(), 0, "5-0", 10, 0); len(es) != 0 || err != nil {
		t.Fatalf("%v, %v", es, err)
	}
	if tail := f.parts[0].tail; tail != "5-0" {
		t.Fatalf("it waits for what follows %s", tail)
	}
}

// lateAnswer holds back the answer of the first XRANGE until it is released, and tells
// after which entry each XREAD goes on.
type lateAnswer struct {
	held, released chan struct{}
	once           sync.Once
	reads          chan string
}

func (h *lateAnswer) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h *lateAnswer) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *lateAnswer) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "xread" {
			h.reads <- cmd.Args()[len(cmd.Args())-1].(string)
		}
		err := next(ctx, cmd)
		if cmd.Name() == "xrange" {
			h.once.Do(func() {
				close(h.held)
				<-h.released
			})
		}
		return err
	}
}

// A group asks for what follows an entry, and there is nothing yet. Before it looks at
// the answer, entries come and are read by those that wait. No group may miss one.
func TestFeedMissesNoEntryThatCameMeanwhile(t *testing.T) {
	for name, meanwhile := range map[string]func(f *Feed){
		"an answer that came late": func(*Feed) {},
		"forgotten":                func(f *Feed) { f.forget(0) },
	} {
		t.Run(name, func(t *testing.T) {
			server := miniredis.RunT(t)
			rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
			layout, err := NewLayout("p", 1)
			if err != nil {
				t.Fatal(err)
			}
			f := NewFeed(rdb, layout, 10*time.Second)
			t.Cleanup(f.Close)
			t.Cleanup(func() { _ = rdb.Close() }) // ends what still waits
			add := func(id string) {
				if _, err := server.XAdd(layout.Events(0), id, []string{"id", id}); err != nil {
					t.Fatal(err)
				}
			}
			late := &lateAnswer{held: make(chan struct{}), released: make(chan struct{}), reads: make(chan string, 100)}
			readsAfter := func(id string) {
				for after := range late.reads {
					if after == id {
						return
					}
				}
			}
			add("5-0")
			rdb.AddHook(late)
			asked := make(chan error, 1)
			go func() {
				_, err := f.after(t.Context(), 0, "5-0", 10, 0)
				asked <- err
			}()
			<-late.held
			waited := make(chan error, 1)
			go func() { waited <- f.wait(t.Context(), 0, "5-0", false) }()
			readsAfter("5-0")
			add("6-0")
			if err := <-waited; err != nil {
				t.Fatal(err)
			}
			readsAfter("6-0")
			meanwhile(f)
			close(late.released)
			if err := <-asked; err != nil {
				t.Fatal(err)
			}
			add("7-0")
			// What that wait has found is known when the next one begins, or none does.
			for f.waits(0) && len(late.reads) == 0 {
				runtime.Gosched()
			}
			for group := range 6 {
				es, err := f.after(t.Context(), 0, "5-0", 10, 0)
				if err != nil || len(es) == 0 || es[0].id != "6-0" {
					t.Fatalf("group %d gets %v after 5-0, %v; 6-0 is the next one", group, es, err)
				}
			}
		})
	}
}

func (f *Feed) waits(partition int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.parts[partition].covered
}

func TestCutBytesGivesOneAtLeast(t *testing.T) {
	es := []fed{{bytes: 40}, {bytes: 40}, {bytes: 40}}
	for _, c := range []struct{ limit, bytes, want int }{
		{3, 0, 3}, {2, 0, 2}, {3, 10, 1}, {3, 80, 2}, {3, 119, 2}, {3, 120, 3}, {1, 500, 1},
	} {
		if got := len(cutBytes(es, c.limit, c.bytes)); got != c.want {
			t.Errorf("limit %d, %d bytes: %d, want %d", c.limit, c.bytes, got, c.want)
		}
	}
}

// TestFeedHoldsWhatItMay reads entries of several groups at several places, each larger than
// a partition's part: what is kept stays within it, and what is not kept is read again.
func TestFeedHoldsWhatItMay(t *testing.T) {
	server := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	layout, err := NewLayout("p", 1)
	if err != nil {
		t.Fatal(err)
	}
	f := NewFeed(rdb, layout, time.Second)
	f.Bound(3 << 20)
	const n, size = 60, 100 << 10
	body := strings.Repeat("x", size)
	for i := range n {
		if _, err := server.XAdd(layout.Events(0), fmt.Sprintf("%d-0", i+1), []string{"raw", body}); err != nil {
			t.Fatal(err)
		}
	}
	kept := func() (bytes int) {
		for _, s := range f.parts[0].stretches {
			sum := 0
			for i := range s.entries {
				sum += s.entries[i].bytes
			}
			if sum != s.bytes || len(s.entries) == 0 {
				t.Fatalf("a stretch of %d bytes in %d entries counts %d", sum, len(s.entries), s.bytes)
			}
			bytes += sum
		}
		return bytes
	}
	after := [3]int{0, 7, 30} // where each group is
	for done := 0; done < len(after); {
		done = 0
		for g := range after {
			es, err := f.after(t.Context(), 0, fmt.Sprintf("%d-0", after[g]), 1000, 5*size)
			if err != nil {
				t.Fatal(err)
			}
			if len(es) == 0 {
				done++
			}
			for i := range es {
				if want := fmt.Sprintf("%d-0", after[g]+1); es[i].id != want {
					t.Fatalf("group %d gets %s, want %s", g, es[i].id, want)
				}
				after[g]++
			}
			if len(es) > 5 {
				t.Fatalf("%d entries of %d bytes at once", len(es), size)
			}
			if bytes := kept(); bytes > f.bounds.kept {
				t.Fatalf("%d bytes kept, of %d", bytes, f.bounds.kept)
			}
		}
	}
	if after != [3]int{n, n, n} {
		t.Fatalf("groups came to %v, of %d", after, n)
	}
}

// TestReadIsAsSmallAsTheLargestEntryWants: how large the next entries are nobody knows, so
// a read asks for as many as may be on their way if all were as large as the largest one.
func TestReadIsAsSmallAsTheLargestEntryWants(t *testing.T) {
	layout, err := NewLayout("p", 4)
	if err != nil {
		t.Fatal(err)
	}
	f := NewFeed(nil, layout, time.Second)
	f.Bound(12 << 20) // 4 MiB are kept, 4 may be on their way, 4 may come of a wait
	ask := func() int {
		n, done, err := f.await(t.Context(), 1000)
		if err != nil {
			t.Fatal(err)
		}
		// Nothing else may be on its way now.
		if f.answers.TryAcquire(int64(max(0, f.bounds.answers-n*f.largest)) + 1) {
			t.Error("more may be on its way than the bound says")
		}
		done()
		return n
	}
	if n, page := ask(), f.page(); n != 16 || page != 4 {
		t.Fatalf("%d entries at once, %d of each partition after a wait", n, page)
	}
	f.learn(0, []fed{{bytes: 1 << 20}})
	if n, page := ask(), f.page(); n != 4 || page != 1 {
		t.Fatalf("after a large one: %d and %d", n, page)
	}
	f.learn(0, []fed{{bytes: 64 << 20}})
	if n, page := ask(), f.page(); n != 1 || page != 1 {
		t.Fatalf("after one larger than the bound: %d and %d", n, page)
	}
}
