package main_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/streams/streamstest"
)

// peak is the most memory that a process ever had in RAM, in bytes.
func (p *process) peak() (n int64) {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatalf("the process has ended: %v", err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		if _, err := fmt.Sscanf(lines.Text(), "VmHWM: %d kB", &n); err == nil {
			return n << 10
		}
	}
	p.t.Fatalf("no VmHWM in %q", b)
	return 0
}

// ordersIn are the orders that the streams have entries of.
func ordersIn(t *testing.T, address string) map[string]bool {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: address})
	defer rdb.Close()
	keys, err := rdb.Keys(t.Context(), "*:events").Result()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, key := range keys {
		for from := "-"; ; {
			page, err := rdb.XRangeN(t.Context(), key, from, "+", 20).Result()
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			for _, entry := range page {
				order, ok := entry.Values["order"].(string)
				if !ok {
					t.Fatalf("entry %s of %s has no order", entry.ID, key)
				}
				out[order] = true
			}
			from = "(" + page[len(page)-1].ID
		}
	}
	return out
}

// TestG9LargeBodiesStayWithinTheMemoryLimit sends 800 callbacks of 256 KiB at once, more
// than three quarters of all the memory that the gateway may use, and small ones
// meanwhile, some of them again when they were asked to come again. It lives, its peak
// stays below the limit, and all that was accepted is in the streams: with Redis and,
// where that is gone for a while, by the journal.
func TestG9LargeBodiesStayWithinTheMemoryLimit(t *testing.T) {
	const limit, large, small, tries = 256 << 20, 800, 200, 3
	for name, away := range map[string]bool{"redis": false, "journal": true} {
		t.Run(name, func(t *testing.T) {
			server := streamstest.Redis(t, streamstest.AOF("everysec")...)
			s := newStack(t, server.Addr(), "unused")
			t.Setenv("PAYBELL_MEMORY_LIMIT", fmt.Sprint(limit))
			gateway := s.start("gateway", s.gatewayURL)
			if away {
				server.Kill()
			}
			var mu sync.Mutex
			accepted := map[string]bool{}
			largeOnes := 0
			start := make(chan struct{})
			var senders sync.WaitGroup
			for n := range large + small {
				padding := 255 << 10
				if n >= large {
					padding = 0
				}
				senders.Go(func() {
					<-start
					for range tries {
						if s.postLarge(t.Context(), n, padding) { // which fails the test for a reply below 500
							mu.Lock()
							defer mu.Unlock()
							accepted[fmt.Sprintf("K%06d", n)] = true
							if padding > 0 {
								largeOnes++
							}
							return
						}
					}
				})
			}
			close(start)
			senders.Wait()
			peak := gateway.peak()
			t.Logf("accepted %d large ones and %d small ones, peak %d MiB", largeOnes, len(accepted)-largeOnes, peak>>20)
			if largeOnes == 0 || largeOnes == len(accepted) {
				t.Error("none of a kind was accepted")
			}
			if away {
				server.Restart()
			}
			looked := int64(-1)
			waitUntil(t, 2*time.Minute, "all that was accepted is in the streams", func() bool {
				n := entries(t, server.Addr())
				if n < int64(len(accepted)) || n == looked {
					return false
				}
				looked = n // the look reads all bodies
				in := ordersIn(t, server.Addr())
				for order := range accepted {
					if !in[order] {
						return false
					}
				}
				return true
			})
			if peak := gateway.peak(); peak >= limit {
				t.Errorf("peak of %d MiB, of %d", peak>>20, limit>>20)
			}
		})
	}
}

// TestConfigCheckSaysWhatIsLowered: an operator is told before the start.
func TestConfigCheckSaysWhatIsLowered(t *testing.T) {
	s := newStack(t, "127.0.0.1:1", "unused")
	out, err := s.command("config", "check", "--for", "gateway", "--set", "memory_limit=268435456").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if want := "warning: gateway.max_connections: 1024, not 4096"; !strings.Contains(string(out), want) {
		t.Errorf("%s\ndoes not say %q", out, want)
	}
}
