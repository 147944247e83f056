package app

import "testing"

func TestPrefetchIsAShareOfTheMemoryUnlessConfigured(t *testing.T) {
	for name, tc := range map[string]struct{ configured, memory, want int64 }{
		"small":      {0, 250 << 20, 50 << 20},
		"large":      {0, 64 << 30, mostPrefetch},
		"configured": {8 << 20, 250 << 20, 8 << 20},
	} {
		if got := prefetchBytes(tc.configured, tc.memory); got != tc.want {
			t.Errorf("%s: %d bytes, want %d", name, got, tc.want)
		}
	}
}
