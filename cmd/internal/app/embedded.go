package app

import (
	"fmt"

	"github.com/alicebob/miniredis/v2"

	"github.com/paybell/paybell/streams/embedded"
)

// startEmbedded runs the embedded engine, which has no password: Preflight has seen to
// it that it is not reached from elsewhere.
func startEmbedded(address string) (*miniredis.Miniredis, error) {
	m, err := embedded.Start(address)
	if err != nil {
		return nil, fmt.Errorf("embedded.address: %s: %w: set another port", address, err)
	}
	return m, nil
}
