//go:build !race

// The race detector empties pools at random: `make gate` runs these without it.

package gateway_test

import (
	"testing"

	"github.com/paybell/paybell/gateway/provider"
)

// TestAllocationsOfACallback holds what a callback costs from its headers on to its
// reply, net/http and the appender left out. Time depends on the machine, this does not.
// Of those with RSA crypto/rsa alone makes eleven.
func TestAllocationsOfACallback(t *testing.T) {
	for _, c := range []struct {
		provider string
		tamper   provider.Tamper
		class    int
		most     float64
	}{
		{"stripe", provider.TamperNone, 2, 20},
		{"stripe", provider.TamperSignature, 4, 6},
		{"stripe", provider.TamperBody, 4, 6},
		{"standardwebhooks", provider.TamperNone, 2, 24},
		{"alipay", provider.TamperNone, 2, 32},
		{"alipay", provider.TamperSignature, 4, 29},
		{"wechatpay", provider.TamperNone, 2, 35},
		{"wechatpay", provider.TamperSignature, 4, 18},
	} {
		name := c.provider + "/accepted"
		if c.tamper != provider.TamperNone {
			name = c.provider + "/forged " + string(c.tamper)
		}
		t.Run(name, func(t *testing.T) {
			h, cb := signed(t, c.provider, c.tamper)
			send := repeat(t, h, cb)
			if status := send(); status/100 != c.class {
				t.Fatalf("status %d, want %dxx", status, c.class)
			}
			if got := testing.AllocsPerRun(200, func() { send() }); got > c.most {
				t.Errorf("%v allocations, at most %v", got, c.most)
			}
		})
	}
}

// TestForgeriesAllocateLess: whoever floods the door must not cost more than who pays.
func TestForgeriesAllocateLess(t *testing.T) {
	for _, name := range []string{"stripe", "standardwebhooks", "alipay", "wechatpay"} {
		measure := func(tamper provider.Tamper) float64 {
			h, cb := signed(t, name, tamper)
			send := repeat(t, h, cb)
			return testing.AllocsPerRun(200, func() { send() })
		}
		if accepted, forged := measure(provider.TamperNone), measure(provider.TamperSignature); forged >= accepted {
			t.Errorf("%s: %v allocations of a forgery, %v of a callback", name, forged, accepted)
		}
	}
}
