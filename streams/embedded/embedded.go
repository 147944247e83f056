// Package embedded is the engine for one process alone: miniredis on a loopback port,
// with a clock that runs.
package embedded

import (
	"fmt"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

// Start runs an engine on address, where redis-cli and any subscriber can look at it.
// The caller closes it; what it holds is gone then. It has no password.
func Start(address string) (*miniredis.Miniredis, error) {
	m := miniredis.NewMiniRedis()
	if err := m.StartAddr(address); err != nil {
		return nil, fmt.Errorf("start the embedded engine: %w", err)
	}
	keepTime(m)
	return m, nil
}

// keepTime makes the engine stamp and expire by one clock, which every command sets
// first. By itself it expires nothing; told how much time has passed, it would age
// what was made a moment ago by all of it, however long the process had stood still.
func keepTime(m *miniredis.Miniredis) {
	m.ClockTTL(true)
	// Once a millisecond is as finely as Redis tells time, and each costs a look at
	// every key. Whoever asks the time sets it before the next one asks: set back by a
	// moment, the engine would age its keys by that moment twice.
	var (
		mu      sync.Mutex
		last    time.Time
		clients sync.Map
	)
	m.Server().SetPreHook(func(p *server.Peer, _ string, _ ...string) bool {
		// A script's commands come by here too, with the engine locked. They come from
		// peers that have a context from the start; a client's gets one by its first.
		if p.Ctx == nil {
			if _, known := clients.LoadOrStore(p, nil); !known {
				p.OnDisconnect(func() { clients.Delete(p) })
			}
		} else if _, known := clients.Load(p); !known {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); now.UnixMilli() != last.UnixMilli() {
			m.SetTime(now)
			last = now
		}
		return false
	})
}
