package proxy_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/loadtest/faults/proxy"
	"github.com/paybell/paybell/loadtest/server"
)

// behind starts a redis-server and a proxy in front of it, and returns a client of
// each.
func behind(t *testing.T) (p *proxy.Proxy, through, direct *redis.Client) {
	t.Helper()
	port, err := server.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.Redis(t.Context(), t.TempDir(), "../../../deploy/redis.conf", port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	client := func(addr string) *redis.Client {
		c := redis.NewClient(&redis.Options{
			Addr: addr, MaxRetries: -1, ReadTimeout: 300 * time.Millisecond, DialTimeout: 300 * time.Millisecond, DialerRetries: 1,
		})
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	direct = client(addr)
	if err := s.Ready(t.Context(), func(ctx context.Context) error { return direct.Ping(ctx).Err() }); err != nil {
		t.Fatal(err)
	}
	if p, err = proxy.New(t.Context(), addr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p, client(p.Addr()), direct
}

func TestModesDoWhatTheySay(t *testing.T) {
	timedOut := func(err error) bool {
		var n net.Error
		return errors.As(err, &n) && n.Timeout()
	}
	cut := func(err error) bool { return err != nil && !timedOut(err) }
	cases := map[proxy.Mode]struct {
		fails    func(error) bool
		executed int64
	}{
		proxy.Pass:      {func(err error) bool { return err == nil }, 1},
		proxy.Delay:     {func(err error) bool { return err == nil }, 1},
		proxy.LostReply: {cut, 1},
		proxy.Refuse:    {cut, 0},
		proxy.BlackHole: {timedOut, 0},
		proxy.HalfOpen:  {timedOut, 0},
		proxy.Loading:   {func(err error) bool { return redis.IsLoadingError(err) || cut(err) }, 0},
	}
	p, through, direct := behind(t)
	for mode, want := range cases {
		t.Run(string(mode), func(t *testing.T) {
			ctx := t.Context()
			p.Set(proxy.Pass)
			if err := errors.Join(direct.Del(ctx, "n").Err(), again(ctx, through)); err != nil {
				t.Fatal(err)
			}
			p.Set(mode)
			if err := through.Incr(ctx, "n").Err(); !want.fails(err) {
				t.Errorf("%v", err)
			}
			p.Set(proxy.Pass)
			if n, _ := direct.Get(ctx, "n").Int64(); n != want.executed {
				t.Errorf("executed %d times, want %d", n, want.executed)
			}
			if err := again(ctx, through); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// TestLostCommit: the reply to a COMMIT is lost, and none before.
func TestLostCommit(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // answers every request with itself
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c) }()
		}
	}()
	p, err := proxy.New(t.Context(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.Set(proxy.LostCommit)
	c, err := (&net.Dialer{Timeout: time.Second}).DialContext(t.Context(), "tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, tag := range []string{"BEGIN\x00", "COMMIT\x00"} {
		if _, err := io.WriteString(c, tag); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(tag))
		if _, err := io.ReadFull(c, got); (err == nil) != (tag == "BEGIN\x00") {
			t.Errorf("the reply %q came with %v", tag, err)
		}
	}
}

// again asks until a connection is found that was not cut.
func again(ctx context.Context, c *redis.Client) (err error) {
	for range 20 {
		if err = c.Ping(ctx).Err(); err == nil {
			return nil
		}
	}
	return err
}
