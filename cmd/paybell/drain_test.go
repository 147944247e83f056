package main_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/streams/streamstest"
)

// TestRollingReplacementRefusesNoCallback: behind a balancer that knows nothing but
// /readyz, with traffic that never pauses, a gateway is told to stop (SIGTERM) while
// another is ready, and then that one while a third is. Every callback gets its success
// reply at the first try, and every one is in the streams.
func TestRollingReplacementRefusesNoCallback(t *testing.T) {
	server := streamstest.Redis(t, streamstest.AOF("always")...)
	s := newStack(t, server.Addr(), "unused")
	b := newBalancer(t)
	s.gatewayURL = "http://" + b.l.Addr().String()
	run := func() *process {
		t.Helper()
		address := freeAddress(t)
		p := s.startAt("gateway", freeAddress(t),
			"--set", "gateway.address="+address, "--set", "gateway.drain_delay=1500ms", "--set", "data_dir="+filepath.Join(t.TempDir(), "data"))
		b.add(address)
		waitUntil(t, 20*time.Second, "the balancer knows that the gateway is ready", func() bool { return b.knows(address) })
		return p
	}
	old := run()

	var next, accepted, refused atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var senders sync.WaitGroup
	for range 8 {
		senders.Go(func() {
			for ctx.Err() == nil {
				if s.post(t.Context(), int(next.Add(1))) {
					accepted.Add(1)
				} else {
					refused.Add(1)
				}
			}
		})
	}
	goesOn := func() {
		t.Helper()
		before := accepted.Load()
		waitUntil(t, 20*time.Second, "callbacks go on", func() bool { return accepted.Load() > before+200 })
	}
	for range 2 {
		goesOn()
		replacement := run()
		goesOn()
		if err := old.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := old.cmd.Wait(); err != nil {
			t.Errorf("the gateway that was told to stop: %v", err)
		}
		old = replacement
	}
	goesOn()
	stop()
	senders.Wait()
	if refused.Load() > 0 {
		t.Errorf("%d callbacks were refused, %d accepted", refused.Load(), accepted.Load())
	}
	if n := entries(t, server.Addr()); n != accepted.Load() {
		t.Errorf("%d entries of %d accepted callbacks", n, accepted.Load())
	}
	t.Logf("%d callbacks, %d refused", accepted.Load(), refused.Load())
}

// entries counts what is in all the streams of a server.
func entries(t *testing.T, address string) (n int64) {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: address})
	defer rdb.Close()
	keys, err := rdb.Keys(t.Context(), "*:events").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		n += rdb.XLen(t.Context(), key).Val()
	}
	return n
}

// balancer hands each connection to a gateway that was ready when it last asked, in
// turns. It knows no HTTP beyond that.
type balancer struct {
	l      net.Listener
	client *http.Client

	mu    sync.Mutex
	known map[string]bool // whether it was ready
	turn  int
}

func newBalancer(t *testing.T) *balancer {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{l: l, client: &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}, known: map[string]bool{}}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	wg.Go(func() { b.ask(ctx) })
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			wg.Go(func() { b.hand(ctx, conn) })
		}
	})
	t.Cleanup(func() {
		stop()
		_ = l.Close() // the loop ends with it
		wg.Wait()
	})
	return b
}

func (b *balancer) add(address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.known[address] = false
}

func (b *balancer) knows(address string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.known[address]
}

// ready asks a gateway.
func (b *balancer) ready(ctx context.Context, address string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// ask goes round the gateways until ctx ends.
func (b *balancer) ask(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		b.mu.Lock()
		var all []string
		for address := range b.known {
			all = append(all, address)
		}
		b.mu.Unlock()
		for _, address := range all {
			ok := b.ready(ctx, address)
			b.mu.Lock()
			b.known[address] = ok
			b.mu.Unlock()
		}
	}
}

func (b *balancer) choose() (string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var ready []string
	for address, ok := range b.known {
		if ok {
			ready = append(ready, address)
		}
	}
	if len(ready) == 0 {
		return "", false
	}
	b.turn++
	return ready[b.turn%len(ready)], true
}

func (b *balancer) hand(ctx context.Context, client net.Conn) {
	defer client.Close()
	address, ok := b.choose()
	if !ok {
		return
	}
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return
	}
	defer server.Close()
	end := context.AfterFunc(ctx, func() { _ = server.Close() }) // the copying ends with it
	defer end()
	go func() {
		_, _ = io.Copy(server, client) // ends when either side closes
		_ = server.Close()             // and so does the other direction
	}()
	_, _ = io.Copy(client, server) // ends when either side closes
}
