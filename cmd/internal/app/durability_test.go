package app_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/paybell/paybell/cmd/internal/app"
	"github.com/paybell/paybell/configs"
	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/streamstest"
)

// besideRedis configures a process on a Redis server, changed by set.
func besideRedis(t *testing.T, address string, set ...string) *configs.Config {
	t.Helper()
	cfg, err := configs.Load(configs.Input{Set: append([]string{
		"data_dir=" + filepath.Join(t.TempDir(), "data"), "gateway.address=127.0.0.1:0", "admin.address=127.0.0.1:0",
		"gateway.append_timeout=900ms", "gateway.drain_delay=0s", "journal.mode=refuse",
	}, set...)})
	if err != nil {
		t.Fatal(err)
	}
	if err := app.AddSandbox(cfg, true); err != nil {
		t.Fatal(err)
	}
	cfg.Streams.Redis.Address = address
	return cfg
}

// TestServerThatCannotKeepThePromiseIsRefused: a process does not start on a Redis that
// confirms less than its configuration promises, unless that names what is lacking and
// can do without it.
func TestServerThatCannotKeepThePromiseIsRefused(t *testing.T) {
	everysec, always := streamstest.AOF("everysec"), streamstest.AOF("always")
	for name, c := range map[string]struct {
		server     []string
		durability string
		// accept is what lets the process start all the same; "" where nothing does.
		accept string
	}{
		"fsync without a file":        {nil, streams.DurabilityFsync, ""},
		"fsync every second":          {everysec, streams.DurabilityFsync, ""},
		"fsync not while it rewrites": {append(always, "--no-appendfsync-on-rewrite", "yes"), streams.DurabilityFsync, ""},
		"fsync that cannot be seen":   {append(always, "--user", "default", "on", "nopass", "~*", "&*", "+@all", "-config"), streams.DurabilityFsync, streams.AcceptUnverified},
		"fsync, but evicting":         {append(always, "--maxmemory-policy", "allkeys-lru"), streams.DurabilityFsync, streams.AcceptEviction},
		"without a file":              {nil, streams.DurabilityRedis, streams.AcceptNoAOF},
		"at the system's pleasure":    {streamstest.AOF("no"), streams.DurabilityRedis, streams.AcceptAppendfsyncNo},
	} {
		t.Run(name, func(t *testing.T) {
			server := streamstest.Redis(t, c.server...)
			build := func(set ...string) (*app.App, error) {
				cfg := besideRedis(t, server.Addr(), append(set, "streams.durability="+c.durability)...)
				return app.New(t.Context(), cfg, app.Role{Gateway: true}, slog.New(slog.DiscardHandler), "test")
			}
			_, err := build()
			var config *app.ConfigError
			if !errors.As(err, &config) || !errors.Is(err, streams.ErrDurability) {
				t.Fatalf("new = %v, want a configuration error that says what the server lacks", err)
			}
			if c.accept == "" {
				return
			}
			a, err := build("streams.accept=[" + c.accept + "]")
			if err != nil {
				t.Fatalf("new with %s accepted: %v", c.accept, err)
			}
			stopped, stop := context.WithCancel(t.Context())
			stop()
			if err := a.Run(stopped); err != nil {
				t.Errorf("run: %v", err)
			}
		})
	}
}

// TestServerOfAnotherKindIsRefused: a node of a cluster and a Sentinel answer, and take
// nothing. Whatever a configuration accepts, no process starts on one.
func TestServerOfAnotherKindIsRefused(t *testing.T) {
	node := streamstest.Redis(t, append(streamstest.AOF("always"), streamstest.ClusterNode(t)...)...)
	for name, c := range map[string]struct{ address, words string }{
		"cluster":  {node.Addr(), "node of a Redis Cluster"},
		"sentinel": {streamstest.Sentinel(t).Addr(), "Redis Sentinel"},
	} {
		for _, role := range []app.Role{{Gateway: true}, {Workers: true}} {
			for _, set := range [][]string{nil, {"streams.accept=[no-aof,eviction,appendfsync-no,unverified]"}} {
				t.Run(fmt.Sprint(name, role, len(set) > 0), func(t *testing.T) {
					cfg := besideRedis(t, c.address, set...)
					cfg.Journal.Mode = gateway.JournalFallback // which would confirm without it
					_, err := app.New(t.Context(), cfg, role, slog.New(slog.DiscardHandler), "test")
					var config *app.ConfigError
					if !errors.As(err, &config) || !strings.Contains(err.Error(), c.words) || !strings.Contains(err.Error(), "streams.redis.address") {
						t.Errorf("new = %v, want a configuration error that says %q and what to do", err, c.words)
					}
				})
			}
		}
	}
}

// TestWrongSettingOfRedisIsNoOutage: waiting does not help, so no process starts, not even
// with a journal that could keep callbacks meanwhile.
func TestWrongSettingOfRedisIsNoOutage(t *testing.T) {
	locked := streamstest.Redis(t, "--requirepass", "right").Addr()
	plain := streamstest.Redis(t, streamstest.AOF("always")...).Addr()
	for name, c := range map[string]struct {
		address, words string
		change         func(*streams.RedisOptions)
	}{
		"no password": {locked, "streams.redis.password", func(*streams.RedisOptions) {}},
		"database":    {plain, "streams.redis.db", func(o *streams.RedisOptions) { o.DB = 99 }},
		"TLS":         {plain, "streams.redis.tls.enabled", func(o *streams.RedisOptions) { o.TLS.Enabled = true }},
	} {
		for _, role := range []app.Role{{Gateway: true}, {Workers: true}} {
			t.Run(fmt.Sprint(name, role), func(t *testing.T) {
				cfg := besideRedis(t, c.address)
				c.change(&cfg.Streams.Redis)
				cfg.Journal.Mode = gateway.JournalFallback
				_, err := app.New(t.Context(), cfg, role, slog.New(slog.DiscardHandler), "test")
				var config *app.ConfigError
				if !errors.As(err, &config) || !strings.Contains(err.Error(), c.words) {
					t.Errorf("new = %v, want a configuration error that says %q", err, c.words)
				}
			})
		}
	}
}

// TestReadyzSaysWhatTheServerLacks: a server that came back without its append-only file is
// not away, and /readyz says what is to be put right, with a journal and without one.
func TestReadyzSaysWhatTheServerLacks(t *testing.T) {
	const lack = "redis does not keep what is promised: a restart of it forgets: set appendonly yes"
	for mode, want := range map[string]string{
		gateway.JournalRefuse:   "not ready: " + lack,
		gateway.JournalFallback: "ready: journal (" + lack,
	} {
		t.Run(mode, func(t *testing.T) {
			server := streamstest.Redis(t, streamstest.AOF("everysec")...)
			r := door(t, server.Addr(), mode)
			streamstest.Eventually(t, "the door is ready", func() bool {
				code, _ := r.ready()
				return code == http.StatusOK
			})
			server.RestartWith("--appendonly", "no")
			streamstest.Eventually(t, "/readyz says what is broken", func() bool {
				_, body := r.ready()
				return strings.HasPrefix(body, want) && !strings.Contains(body, server.Port())
			})
		})
	}
}
