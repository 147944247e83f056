package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/paybell/paybell/cmd/internal/app"
	"github.com/paybell/paybell/configs"
	"github.com/paybell/paybell/gateway/admin"
	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/streams/streamstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// client is closed with every process, so that no connection outlives its test.
var client = &http.Client{Timeout: 10 * time.Second}

// running is a process under test.
type running struct {
	t   *testing.T
	app *app.App
	cfg *configs.Config
	out *bytes.Buffer
}

// start runs the embedded default on free ports, changed by set.
func start(t *testing.T, set ...string) *running {
	t.Helper()
	dir := t.TempDir()
	cfg, err := configs.Load(configs.Input{Set: append([]string{
		"data_dir=" + filepath.Join(dir, "data"), "gateway.address=127.0.0.1:0", "admin.address=127.0.0.1:0",
		"embedded.address=127.0.0.1:0", "streams.lease_ttl=2s", "streams.trim_every=1m",
	}, set...)})
	if err != nil {
		t.Fatal(err)
	}
	if err := app.AddSandbox(cfg, true); err != nil {
		t.Fatal(err)
	}
	return run(t, cfg)
}

// run runs gateway and workers of a configuration.
func run(t *testing.T, cfg *configs.Config) *running {
	t.Helper()
	var err error
	r := &running{t: t, cfg: cfg, out: &bytes.Buffer{}}
	log := slog.New(slog.NewTextHandler(r.out, nil))
	if r.app, err = app.New(t.Context(), cfg, app.Role{Gateway: true, Workers: true}, log, "test"); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- r.app.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
		client.CloseIdleConnections()
		if t.Failed() {
			t.Logf("log:\n%s", r.out)
		}
	})
	return r
}

func (r *running) signer(account string) provider.Signer {
	r.t.Helper()
	s, err := app.Signer(r.cfg, account, time.Now)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// send posts a sample and returns the status and body of the reply.
func (r *running) send(account string, s provider.Sample) (int, string) {
	r.t.Helper()
	cb, err := r.signer(account).Sign(s)
	if err != nil {
		r.t.Fatalf("sign: %v", err)
	}
	url := fmt.Sprintf("http://%s/callbacks/%s", r.app.Addr(), account)
	req, err := http.NewRequestWithContext(r.t.Context(), cb.Method, url, bytes.NewReader(cb.Body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header = cb.Header
	return do(r.t, req)
}

func do(t *testing.T, req *http.Request) (int, string) {
	t.Helper()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// status asks the operator's door.
func (r *running) status() admin.Status {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "http://"+r.app.AdminAddr().String()+"/api/v1/status", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	code, body := do(r.t, req)
	var s admin.Status
	if err := json.Unmarshal([]byte(body), &s); code != http.StatusOK || err != nil {
		r.t.Fatalf("status: %d %v %s", code, err, body)
	}
	return s
}

func (r *running) order(ref string) *admin.Order {
	for _, o := range r.status().Orders {
		if o.Ref == ref {
			return &o
		}
	}
	return nil
}

func sample(t *testing.T, order, amount, currency string) provider.Sample {
	t.Helper()
	m, err := event.ParseDecimal(amount, currency)
	if err != nil {
		t.Fatal(err)
	}
	return provider.Sample{OrderRef: order, CustomerRef: "C1", Amount: m, At: time.Now()}
}

// TestSandboxOrderBecomesPaid: the embedded default does the whole job for every
// provider, and a redelivery and a forgery change nothing.
func TestSandboxOrderBecomesPaid(t *testing.T) {
	r := start(t)
	for i, c := range []struct{ account, currency string }{
		{"alipay-sandbox", "CNY"}, {"wechatpay-sandbox", "CNY"}, {"stripe-sandbox", "USD"}, {"standardwebhooks-sandbox", "USD"},
	} {
		t.Run(c.account, func(t *testing.T) {
			s := sample(t, fmt.Sprintf("A%d", i), "88.00", c.currency)
			code, body := r.send(c.account, s)
			if code/100 != 2 {
				t.Fatalf("reply %d %q", code, body)
			}
			streamstest.Eventually(t, "the order is paid and its points are there", func() bool {
				o := r.order(s.OrderRef)
				return o != nil && o.Status == "paid" && o.Captured.Minor == 8800 && o.Points != nil && *o.Points == 88
			})
			before := r.status().Streams.Entries
			if again, same := r.send(c.account, s); again != code || same != body {
				t.Errorf("redelivery got %d %q, the first %d %q", again, same, code, body)
			}
			s.Tamper = provider.TamperBody
			if code, _ := r.send(c.account, s); code/100 != 4 {
				t.Errorf("forgery got %d, want 4xx", code)
			}
			if after := r.status().Streams.Entries; after != before {
				t.Errorf("%d entries after a redelivery and a forgery, %d before", after, before)
			}
		})
	}
}

// TestG6RefundBeforePayment ends at the same balance as the other way round.
func TestG6RefundBeforePayment(t *testing.T) {
	r := start(t)
	refund := sample(t, "R1", "88.00", "CNY")
	refund.Type = event.RefundSucceeded
	for _, s := range []provider.Sample{refund, sample(t, "R1", "88.00", "CNY")} {
		if code, body := r.send("wechatpay-sandbox", s); code/100 != 2 {
			t.Fatalf("reply %d %q", code, body)
		}
	}
	streamstest.Eventually(t, "the order is refunded and worth nothing", func() bool {
		o := r.order("R1")
		return o != nil && o.Status == "refunded" && (o.Points == nil || *o.Points == 0)
	})
}

// TestRealServersRunTheSameProcess runs the process on a redis-server.
func TestRealServersRunTheSameProcess(t *testing.T) {
	server := streamstest.Redis(t, streamstest.AOF("everysec")...)
	data := filepath.Join(t.TempDir(), "elsewhere")
	cfg, err := configs.Load(configs.Input{Set: []string{"data_dir=" + data, "gateway.drain_delay=0s"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := app.AddSandbox(cfg, true); err != nil {
		t.Fatal(err)
	}
	_, err = app.New(t.Context(), cfg, app.Role{Workers: true}, slog.New(slog.DiscardHandler), "test")
	if err == nil || !strings.Contains(err.Error(), "streams.redis.address") {
		t.Fatalf("a worker without a Redis: %v, want an error that names streams.redis.address", err)
	}
	cfg.Streams.Redis.Address = server.Addr()
	cfg.Gateway.Address, cfg.Admin.Address = "127.0.0.1:0", "127.0.0.1:0"
	a, err := app.New(t.Context(), cfg, app.Role{Gateway: true, Workers: true}, slog.New(slog.DiscardHandler), "test")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	r := &running{t: t, app: a, cfg: cfg}
	if code, body := r.send("alipay-sandbox", sample(t, "B1", "1.00", "CNY")); code != http.StatusOK || body != "success" {
		t.Errorf("reply %d %q", code, body)
	}
	streamstest.Eventually(t, "the order is paid", func() bool {
		o := r.order("B1")
		return o != nil && o.Status == "paid"
	})
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	if clients, err := rdb.ClientList(t.Context()).Result(); err != nil || !strings.Contains(clients, "name=paybell-lease ") {
		t.Errorf("no connection is there for leases alone: %v\n%s", err, clients)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	client.CloseIdleConnections()
}

func TestSharedKeysAreRefused(t *testing.T) {
	t.Setenv("SHARED", "whsec_"+strings.Repeat("x", 32))
	cfg, err := configs.Load(configs.Input{Set: []string{
		"accounts.a={provider: stripe, options: {secrets: [{env: SHARED}]}}",
		"accounts.b={provider: stripe, options: {secrets: [{env: SHARED}]}}",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.Accounts(cfg, time.Now); err == nil || !strings.Contains(err.Error(), "accounts.b.options: shares a verification key with account a") {
		t.Fatalf("accounts: %v, want a problem that names both", err)
	}
}
