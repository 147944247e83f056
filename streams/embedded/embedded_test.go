package embedded_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/streams/embedded"
)

// TestExpiresByTheClock: what was made after the process had stood still is not aged
// by that, and what is due is gone although nobody told the engine of the time.
func TestExpiresByTheClock(t *testing.T) {
	m, err := embedded.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
	defer func() { _ = rdb.Close() }()
	ctx := t.Context()

	const life = 300 * time.Millisecond
	if err := rdb.Set(ctx, "old", 1, life).Err(); err != nil {
		t.Fatal(err)
	}
	<-time.After(2 * life)
	made := time.Now()
	if err := rdb.Set(ctx, "new", 1, life).Err(); err != nil {
		t.Fatal(err)
	}
	if n := rdb.Exists(ctx, "old").Val(); n != 0 {
		t.Error("what was due is still there")
	}
	for tick := time.NewTicker(time.Millisecond); rdb.Exists(ctx, "new").Val() == 1; <-tick.C {
	}
	// Both ends are told in whole milliseconds.
	if lived := time.Since(made); lived < life-2*time.Millisecond {
		t.Errorf("lived for %v of %v", lived, life)
	}

	told, err := rdb.Time(ctx).Result()
	if off := time.Since(told); err != nil || off < -time.Second || off > time.Second {
		t.Errorf("the engine's time is %v off, %v", off, err)
	}
}
