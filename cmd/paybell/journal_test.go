package main_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/streams/streamstest"
)

// TestRedisAwayIsJournaledAndDrained takes callbacks while Redis is gone, kills the
// gateway, and lets "paybell journal" bring them to the Redis that came back.
func TestRedisAwayIsJournaledAndDrained(t *testing.T) {
	server := streamstest.Redis(t, streamstest.AOF("always")...)
	s := newStack(t, server.Addr(), "unused")
	gateway := s.start("gateway", s.gatewayURL)
	server.Kill()
	const orders = 50
	for n := range orders {
		if !s.post(t.Context(), n) {
			t.Fatalf("callback %d was not accepted while redis is away", n)
		}
	}
	dir := filepath.Join(filepath.Dir(s.config), "journal")
	type report struct {
		Held   bool `json:"held"`
		Events int  `json:"events"`
	}
	status := func() (st report) {
		t.Helper()
		out, err := s.command("journal", "status", "-o", "json", "--dir", dir).Output()
		if err == nil {
			err = json.Unmarshal(out, &st)
		}
		if err != nil {
			t.Fatalf("journal status: %v\n%s", err, out)
		}
		return st
	}
	if st := status(); !st.Held || st.Events != orders {
		t.Fatalf("status %+v, want %d events, held", st, orders)
	}
	out, err := s.command("journal", "drain", "--dir", dir).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "held by another process") {
		t.Fatalf("drain of a held journal: %v\n%s", err, out)
	}
	gateway.kill()
	server.Restart()
	s.run("journal", "drain", "--dir", dir)
	if st := status(); st.Held || st.Events != 0 {
		t.Fatalf("status %+v after the drain", st)
	}
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	keys, err := rdb.Keys(t.Context(), "*:events").Result()
	if err != nil {
		t.Fatal(err)
	}
	var entries int64
	for _, key := range keys {
		entries += rdb.XLen(t.Context(), key).Val()
	}
	if entries != orders {
		t.Fatalf("%d entries, want %d", entries, orders)
	}
}
