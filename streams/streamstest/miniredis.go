package streamstest

import (
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/paybell/paybell/streams/embedded"
)

// Miniredis starts the embedded engine on a free loopback port and stops it when
// the test ends.
func Miniredis(tb testing.TB) *miniredis.Miniredis {
	tb.Helper()
	m, err := embedded.Start("127.0.0.1:0")
	if err != nil {
		tb.Fatalf("streamstest: %v", err)
	}
	tb.Cleanup(m.Close)
	return m
}
