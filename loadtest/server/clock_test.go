package server_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/loadtest/server"
)

// TestClock: the server goes by the clock it was started with, also where expiry is
// concerned.
func TestClock(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	clock, err := server.NewClock(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	port, err := server.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	p, err := server.RedisAt(ctx, clock, dir, "../../deploy/redis.conf", port)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + strconv.Itoa(port), MaxRetries: -1, DialerRetries: 1})
	defer func() { _ = rdb.Close() }()
	if err := p.Ready(ctx, func(ctx context.Context) error { return rdb.Ping(ctx).Err() }); err != nil {
		t.Fatal(err)
	}
	if err := rdb.Set(ctx, "lease", 1, time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []time.Duration{-time.Hour, 0, time.Hour} {
		if err := clock.Set(wrong); err != nil {
			t.Fatal(err)
		}
		now, err := rdb.Time(ctx).Result()
		if off := time.Until(now) - wrong; err != nil || off.Abs() > 5*time.Second {
			t.Errorf("set wrong by %v, the server's clock is %v beside that, %v", wrong, off, err)
		}
		if n := rdb.Exists(ctx, "lease").Val(); (n == 1) != (wrong <= 0) {
			t.Errorf("wrong by %v: %d leases", wrong, n)
		}
	}
}
