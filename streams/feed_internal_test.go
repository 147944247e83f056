package streams

import (
	"context"
	"runtime"
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
