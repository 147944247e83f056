package streams

import (
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
