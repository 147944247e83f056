package app

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// tick is how often the embedded engine's clock is moved on: it stands still by
// itself, and leases and dedup marks expire by it.
const tick = 100 * time.Millisecond

// startEmbedded runs miniredis behind a loopback port, where redis-cli and any
// subscriber can look at it. What it holds is gone when the process ends.
func startEmbedded(address string) (*miniredis.Miniredis, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("embedded.address: %w", err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, &ConfigError{fmt.Errorf("embedded.address: %s is not a loopback address: the embedded engine has no password", address)}
	}
	m := miniredis.NewMiniRedis()
	if err := m.StartAddr(address); err != nil {
		return nil, fmt.Errorf("start the embedded engine on %s (set embedded.address to another port): %w", address, err)
	}
	return m, nil
}

// runClock moves the engine's clock on until ctx ends.
func runClock(ctx context.Context, m *miniredis.Miniredis) error {
	t := time.NewTicker(tick)
	defer t.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-t.C:
			m.FastForward(now.Sub(last))
			last = now
		}
	}
}
