package main_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/paybell/paybell/handlers/effects/effectstest"
	"github.com/paybell/paybell/streams/streamstest"
)

func TestMain(m *testing.M) { effectstest.Main(m) }

// orders is how many orders are paid while processes are killed.
const orders = 10_000

// TestG4KilledProcessesApplyEveryEventOnce pays 10,000 orders by signed callbacks,
// a tenth of them sent twice, while the gateway is killed with SIGKILL three times and
// the worker ten times, and then counts in PostgreSQL: every accepted callback has
// its effects, once each.
func TestG4KilledProcessesApplyEveryEventOnce(t *testing.T) {
	server := streamstest.Redis(t, "--appendonly", "yes", "--appendfsync", "everysec")
	db := effectstest.Postgres(t)
	s := newStack(t, server.Addr(), db.Postgres.File)
	s.run("migrate")
	gateway := s.start("gateway", s.gatewayURL)
	worker := s.start("worker", "")

	rows, err := sql.Open("pgx", readFile(t, db.Postgres.File))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()

	var accepted, resent atomic.Int64
	var senders sync.WaitGroup
	numbers := make(chan int)
	for range 24 {
		senders.Go(func() {
			for n := range numbers {
				times := 1
				if n%10 == 0 {
					times = 2
				}
				for range times {
					// A provider sends again until it hears success.
					for !s.post(t.Context(), n) {
						resent.Add(1)
						if t.Context().Err() != nil {
							return
						}
					}
				}
				accepted.Add(1)
			}
		})
	}
	go func() {
		defer close(numbers)
		for n := range orders {
			select {
			case numbers <- n:
			case <-t.Context().Done():
				return
			}
		}
	}()

	kills := 0
	for accepted.Load() < orders {
		waitUntil(t, time.Minute, "callbacks go on", func() bool {
			return accepted.Load() >= int64(min(orders, (kills+1)*orders/14))
		})
		if kills >= 13 {
			continue
		}
		if kills%4 == 3 {
			gateway.kill()
			gateway = s.start("gateway", s.gatewayURL)
		} else {
			worker.kill()
			worker = s.start("worker", "")
		}
		kills++
	}
	senders.Wait()

	count := func(query string) (n int64) {
		if err := rows.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		return n
	}
	for _, c := range []struct{ what, query string }{
		{"orders paid", `SELECT count(*) FROM orders WHERE status = 'paid' AND captured_minor = 8800`},
		{"events in the history", `SELECT count(*) FROM order_history`},
		{"history entries that moved an order", `SELECT count(*) FROM order_history WHERE outcome = 'applied'`},
		{"events in the event log", `SELECT count(*) FROM event_log`},
		{"entries in the points ledger", `SELECT count(*) FROM points_ledger`},
		{"points / 88", `SELECT coalesce(sum(delta), 0)::bigint / 88 FROM points_ledger`},
	} {
		waitUntil(t, 90*time.Second, fmt.Sprintf("%s: %d of %d", c.what, count(c.query), orders), func() bool { return count(c.query) >= orders })
		if n := count(c.query); n != orders {
			t.Errorf("%s: %d, want %d", c.what, n, orders)
		}
	}
	t.Logf("%d callbacks accepted, %d sent again, %d kills", accepted.Load(), resent.Load(), kills)
}

// stack is the two processes and what they share.
type stack struct {
	t              *testing.T
	binary, config string
	account        string
	gatewayURL     string
	secret         string
	client         *http.Client
}

func newStack(t *testing.T, redis, dsnFile string) *stack {
	t.Helper()
	dir := t.TempDir()
	s := &stack{
		t: t, binary: filepath.Join(dir, "paybell"), config: filepath.Join(dir, "paybell.yaml"), account: "stripe-main",
		secret: "whsec_" + hex.EncodeToString(sha256.New().Sum(nil)),
		client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	}
	t.Cleanup(s.client.CloseIdleConnections)
	build := exec.CommandContext(t.Context(), "go", "build", "-o", s.binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	public := freeAddress(t)
	s.gatewayURL = "http://" + public
	t.Setenv("STRIPE_TEST_SECRET", s.secret)
	text := fmt.Sprintf(`
data_dir: %q
log: {level: error}
gateway: {address: %q}
streams: {lease_ttl: 2s, redis: {address: %q}}
database: {postgres: {file: %q}}
groups: {points: {award: {rules: {CNY: {points: 1, per: "1.00"}}}}}
accounts:
  stripe-main:
    provider: stripe
    options: {secrets: [{env: STRIPE_TEST_SECRET}]}
`, dir, public, redis, dsnFile)
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *stack) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(s.t.Context(), s.binary, append(args, "--config", s.config)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (s *stack) run(args ...string) {
	s.t.Helper()
	if out, err := s.command(args...).CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// process is one running paybell.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
}

// start runs a command until it is killed; with a URL it waits until that is ready.
func (s *stack) start(name, url string) *process {
	s.t.Helper()
	p := s.startAt(name, freeAddress(s.t))
	if url != "" {
		waitUntil(s.t, 20*time.Second, name+" is ready", func() bool {
			req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, url+"/readyz", nil)
			if err != nil {
				s.t.Fatal(err)
			}
			resp, err := s.client.Do(req)
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		})
	}
	return p
}

// startAt runs a command with its operator's door at an address, until it is killed.
func (s *stack) startAt(name, admin string, flags ...string) *process {
	s.t.Helper()
	cmd := s.command(append([]string{name, "--set", "admin.address=" + admin}, flags...)...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	p := &process{s.t, cmd}
	s.t.Cleanup(p.kill)
	return p
}

func (p *process) kill() {
	if p.cmd.ProcessState != nil {
		return
	}
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Errorf("kill: %v", err)
	}
	_ = p.cmd.Wait() // it was killed: its status says so
}

// post sends the n-th callback once and reports whether it was accepted.
func (s *stack) post(ctx context.Context, n int) bool { return s.postLarge(ctx, n, 0) }

// postLarge is post with a body that is longer by padding.
func (s *stack) postLarge(ctx context.Context, n, padding int) bool {
	body := fmt.Appendf(nil, `{"id":"evt_%06d","object":"event","type":"payment_intent.succeeded","created":%d,"livemode":false,
"data":{"object":{"id":"pi_%06d","object":"payment_intent","amount":8800,"amount_received":8800,"currency":"cny","status":"succeeded",
"metadata":{"order_id":"K%06d"}}},"padding":"%s"}`, n, 1_700_000_000+n, n, n, strings.Repeat("x", padding))
	at := fmt.Sprint(time.Now().Unix())
	mac := hmac.New(sha256.New, []byte(s.secret))
	mac.Write([]byte(at + "."))
	mac.Write(body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.gatewayURL+"/callbacks/"+s.account, bytes.NewReader(body))
	if err != nil {
		s.t.Error(err)
		return false
	}
	req.Header.Set("Stripe-Signature", "t="+at+",v1="+hex.EncodeToString(mac.Sum(nil)))
	resp, err := s.client.Do(req)
	if err != nil {
		pause(ctx) // the gateway is being killed
		return false
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return false
	}
	switch {
	case resp.StatusCode == http.StatusOK:
		return true
	case resp.StatusCode < 500:
		s.t.Errorf("callback %d: status %d: our failures must ask for a resend", n, resp.StatusCode)
		return true
	default:
		pause(ctx)
		return false
	}
}

// pause spaces resends out a little.
func pause(ctx context.Context) {
	select {
	case <-time.After(time.Duration(20+rand.IntN(50)) * time.Millisecond):
	case <-ctx.Done():
	}
}

func waitUntil(t *testing.T, limit time.Duration, what string, done func() bool) {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
