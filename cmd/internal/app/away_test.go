package app_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/cmd/internal/app"
	"github.com/paybell/paybell/configs"
	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/streams/streamstest"
)

// gone is a real Redis server that stops taking callbacks, and takes them again.
type gone struct {
	server *streamstest.Server
	proxy  *streamstest.Proxy
	rdb    *redis.Client // to the server itself
}

func (g gone) set(t *testing.T, pairs ...string) {
	t.Helper()
	set := []any{"config", "set"}
	for _, p := range pairs {
		set = append(set, p)
	}
	if err := g.rdb.Do(t.Context(), set...).Err(); err != nil {
		t.Fatalf("%v: %v", set, err)
	}
}

// TestWhatRedisDoesNotTakeIsNeitherLostNorTwiceNorOutOfOrder runs a gateway on a real
// server that fails in every way it can. With the journal callbacks get their success
// reply all the same, without one they are asked to come again; /readyz says which;
// and in the end every event is in the streams once, an order's in the order in which
// they were replied to.
func TestWhatRedisDoesNotTakeIsNeitherLostNorTwiceNorOutOfOrder(t *testing.T) {
	faults := map[string]struct {
		fail, mend func(t *testing.T, g gone)
		// short is a fault that ends by itself: it shows neither in replies nor in /readyz.
		short bool
		args  []string
	}{
		"OOM": {
			fail: func(t *testing.T, g gone) { g.set(t, "maxmemory", "1") },
			mend: func(t *testing.T, g gone) { g.set(t, "maxmemory", "0") },
		},
		"READONLY": {
			fail: func(t *testing.T, g gone) {
				g.set(t, "replica-serve-stale-data", "yes")
				if err := g.rdb.ReplicaOf(t.Context(), "127.0.0.1", "1").Err(); err != nil {
					t.Fatal(err)
				}
			},
			mend: func(t *testing.T, g gone) {
				if err := g.rdb.ReplicaOf(t.Context(), "NO", "ONE").Err(); err != nil {
					t.Fatal(err)
				}
			},
		},
		"MISCONF": {
			args: []string{"--dbfilename", "occupied"},
			fail: func(t *testing.T, g gone) {
				dir := g.rdb.ConfigGet(t.Context(), "dir").Val()["dir"]
				if err := os.Mkdir(filepath.Join(dir, "occupied"), 0o700); err != nil {
					t.Fatal(err)
				}
				g.set(t, "stop-writes-on-bgsave-error", "yes", "save", "3600 1")
				if err := g.rdb.BgSave(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				streamstest.Eventually(t, "the save has failed", func() bool {
					return strings.Contains(g.rdb.Info(t.Context(), "persistence").Val(), "rdb_last_bgsave_status:err")
				})
			},
			mend: func(t *testing.T, g gone) { g.set(t, "stop-writes-on-bgsave-error", "no") },
		},
		"LOADING": {
			args: []string{"--key-load-delay", "4000", "--loading-process-events-interval-bytes", "1024"},
			fail: func(t *testing.T, g gone) {
				for i := range 1000 {
					if err := g.rdb.Set(t.Context(), fmt.Sprint("ballast", i), strings.Repeat(fmt.Sprint(i*i*i*i), 20), 0).Err(); err != nil {
						t.Fatal(err)
					}
				}
				if err := g.rdb.BgRewriteAOF(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				streamstest.Eventually(t, "the file is rewritten", func() bool {
					info := g.rdb.Info(t.Context(), "persistence").Val()
					return strings.Contains(info, "aof_rewrite_in_progress:0") && strings.Contains(info, "aof_rewrite_scheduled:0")
				})
				g.server.Restart()
				if err := g.rdb.Set(t.Context(), "x", "", 0).Err(); err == nil || !strings.HasPrefix(err.Error(), "LOADING") {
					t.Fatalf("the server is not loading: %v", err)
				}
			},
			mend: func(t *testing.T, g gone) {
				streamstest.Eventually(t, "all is loaded", func() bool { return g.rdb.Ping(t.Context()).Err() == nil })
			},
		},
		"refused": {
			fail: func(_ *testing.T, g gone) { g.server.Kill() },
			mend: func(_ *testing.T, g gone) { g.server.Restart() },
		},
		"black hole": {
			fail: func(_ *testing.T, g gone) { g.proxy.BlackHole() },
			mend: func(_ *testing.T, g gone) { g.proxy.Heal() },
		},
		"half-open": {
			fail: func(_ *testing.T, g gone) { g.proxy.HalfOpen() },
			mend: func(_ *testing.T, g gone) { g.proxy.Heal() },
		},
		"replies lost after execution": {
			fail:  func(_ *testing.T, g gone) { g.proxy.LoseAnswers(5) },
			mend:  func(_ *testing.T, g gone) { g.proxy.LoseAnswers(0) },
			short: true,
		},
	}
	for name, f := range faults {
		for _, mode := range []string{gateway.JournalFallback, gateway.JournalRefuse} {
			t.Run(name+"/"+mode, func(t *testing.T) {
				g := gone{server: streamstest.Redis(t, append(streamstest.AOF("always"), f.args...)...)}
				g.proxy = streamstest.NewProxy(t, g.server.Addr())
				g.rdb = redis.NewClient(&redis.Options{Addr: g.server.Addr(), MaxRetries: -1})
				t.Cleanup(func() { _ = g.rdb.Close() }) // nothing is owed to it
				r := door(t, g.proxy.Addr(), mode)

				const orders = 3
				var next [orders]int
				// tell sends the next event of every order once and reports how many
				// were accepted; one that was not is the next one again.
				tell := func() (accepted int) {
					for o := range next {
						s := sample(t, fmt.Sprint("O", o), "88.00", "USD")
						s.EventID = fmt.Sprintf("evt_%d_%03d", o, next[o])
						s.ProviderRef = fmt.Sprint("pi_", o)
						switch code, body := r.send("stripe-sandbox", s); {
						case code == http.StatusOK:
							accepted++
							next[o]++
						case code < 500:
							t.Fatalf("reply %d %q: our failure must ask for a resend", code, body)
						}
					}
					return accepted
				}
				for range 3 {
					if n := tell(); n != orders {
						t.Fatalf("%d of %d accepted before anything failed", n, orders)
					}
				}
				f.fail(t, g)
				for range 2 {
					switch n := tell(); {
					case mode == gateway.JournalFallback && n != orders:
						t.Fatalf("%d of %d accepted with a journal", n, orders)
					case mode == gateway.JournalRefuse && n != 0 && !f.short:
						t.Fatalf("%d accepted that nothing keeps", n)
					}
				}
				if !f.short {
					want := "not ready: "
					if mode == gateway.JournalFallback {
						want = "ready: journal\n"
					}
					streamstest.Eventually(t, "/readyz says what keeps callbacks", func() bool {
						_, body := r.ready()
						return strings.HasPrefix(body, want)
					})
				}
				f.mend(t, g)
				for range 6 { // while the journal drains, and behind it
					tell()
				}
				want := "ready: stream\n"
				if mode == gateway.JournalRefuse {
					want = "ready\n"
				}
				streamstest.Eventually(t, "/readyz says that the stream keeps callbacks", func() bool {
					_, body := r.ready()
					return body == want
				})
				if n := tell(); n != orders {
					t.Fatalf("%d of %d accepted after everything was mended", n, orders)
				}

				total := 0
				for _, n := range next {
					total += n
				}
				var got []string
				streamstest.Eventually(t, fmt.Sprintf("%d events are in the streams", total), func() bool {
					got = inStreams(t, g.rdb, r.cfg)
					return len(got) >= total
				})
				if len(got) != total {
					t.Fatalf("%d entries of %d events: %v", len(got), total, got)
				}
				for o := range next {
					var order []string
					for _, id := range got {
						if strings.HasPrefix(id, fmt.Sprintf("evt_%d_", o)) {
							order = append(order, id)
						}
					}
					if !slices.IsSorted(order) || len(order) != next[o] {
						t.Errorf("order %d stands as %v, %d were accepted one after another", o, order, next[o])
					}
				}
			})
		}
	}
}

// door runs a gateway alone on a Redis server.
func door(t *testing.T, address, mode string) *running {
	t.Helper()
	cfg, err := configs.Load(configs.Input{Set: []string{
		"data_dir=" + filepath.Join(t.TempDir(), "data"), "gateway.address=127.0.0.1:0", "admin.address=127.0.0.1:0",
		"gateway.append_timeout=900ms", "gateway.drain_delay=0s",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := app.AddSandbox(cfg, true); err != nil {
		t.Fatal(err)
	}
	cfg.Streams.Redis.Address, cfg.Journal.Mode = address, mode
	a, err := app.New(t.Context(), cfg, app.Role{Gateway: true}, slog.New(slog.DiscardHandler), "test")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
		client.CloseIdleConnections()
	})
	return &running{t: t, app: a, cfg: cfg}
}

// ready asks the public door whether a callback can be kept.
func (r *running) ready() (int, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "http://"+r.app.Addr().String()+"/readyz", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return do(r.t, req)
}

// inStreams are the provider's event IDs of all entries, each partition's in its order.
func inStreams(t *testing.T, rdb *redis.Client, cfg *configs.Config) []string {
	t.Helper()
	keys, err := rdb.Keys(t.Context(), cfg.Streams.Prefix+":*:events").Result()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, key := range keys {
		entries, err := rdb.XRange(t.Context(), key, "-", "+").Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			fields := make(map[string]string, len(e.Values))
			for k, v := range e.Values {
				fields[k], _ = v.(string) // they are all text
			}
			record, err := event.ParseRecord(fields)
			if err != nil {
				t.Fatalf("entry %s: %v", e.ID, err)
			}
			out = append(out, record.Event.ProviderEvent.ID)
		}
	}
	return out
}
