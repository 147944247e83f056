package streamstest

import (
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// Miniredis starts the embedded engine on a free loopback port and stops it when
// the test ends. Its expiries stand still by themselves, so a ticker moves them
// on with the wall clock.
func Miniredis(tb testing.TB) *miniredis.Miniredis {
	tb.Helper()
	m := miniredis.NewMiniRedis()
	if err := m.StartAddr("127.0.0.1:0"); err != nil {
		tb.Fatalf("streamstest: miniredis: %v", err)
	}
	const step = 20 * time.Millisecond
	tick := time.NewTicker(step)
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		last := time.Now()
		for {
			select {
			case now := <-tick.C:
				m.FastForward(now.Sub(last))
				last = now
			case <-stop:
				return
			}
		}
	}()
	tb.Cleanup(func() {
		tick.Stop()
		close(stop)
		<-ended
		m.Close()
	})
	return m
}
