package app

import (
	"fmt"
	"net"

	"github.com/alicebob/miniredis/v2"

	"github.com/paybell/paybell/streams/embedded"
)

// startEmbedded runs the embedded engine, which has no password and so must not be
// reached from elsewhere.
func startEmbedded(address string) (*miniredis.Miniredis, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("embedded.address: %w", err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, &ConfigError{fmt.Errorf("embedded.address: %s is not a loopback address: the embedded engine has no password", address)}
	}
	m, err := embedded.Start(address)
	if err != nil {
		return nil, fmt.Errorf("embedded.address: %s: %w: set another port", address, err)
	}
	return m, nil
}
