package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/loadtest/server"
)

// stack is everything a run starts.
type stack struct {
	plan
	dir, secret                                  string
	redisPort, sqlPort, public, gateway, working int
	processes                                    []*server.Process
	pids                                         [2]int
	redis                                        *redis.Client
	db                                           *sql.DB
	sent                                         atomic.Int64
}

const config = `
data_dir: %[1]s/data
log: {level: warn}
gateway: {address: "127.0.0.1:%[2]d"}
admin: {address: "127.0.0.1:%[3]d"}
streams:
  redis: {address: "127.0.0.1:%[4]d"}
  trim_every: 1s
  # What is kept on purpose would hide what should not be.
  keep: {age: 1s}
database: {postgres: {env: PAYBELL_SOAK_DSN}}
accounts:
  stripe-soak:
    provider: stripe
    namespace: shop
    options:
      secrets: [{env: PAYBELL_SOAK_STRIPE}]
      order_ref: [/data/object/metadata/order_id]
      customer_ref: /data/object/metadata/customer_id
groups:
  points:
    worker: {attempts: 20, park_after: 1s, backoff: {max: 1s}}
    award:
      rules: {USD: {points: 1, per: "1.00"}}
`

// poison makes the points of some orders fail: for good, or until the second that
// stands at the end of the order's reference.
const poison = `
CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.order_key LIKE '%-bad' OR NEW.order_key LIKE '%-until-%'
    AND now() < to_timestamp(split_part(NEW.order_key, '-until-', 2)::bigint) THEN
    RAISE EXCEPTION 'poisoned';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER poison BEFORE INSERT ON points_ledger FOR EACH ROW EXECUTE FUNCTION poison()`

func (s *stack) start(ctx context.Context) error {
	for _, port := range []*int{&s.redisPort, &s.sqlPort, &s.public, &s.gateway, &s.working} {
		p, err := server.FreePort()
		if err != nil {
			return err
		}
		*port = p
	}
	s.secret = "whsec_" + rand.Text()
	conf, err := filepath.Abs("../deploy/redis.conf")
	if err != nil {
		return err
	}
	s.redis = redis.NewClient(&redis.Options{Addr: fmt.Sprintf("127.0.0.1:%d", s.redisPort)})
	p, err := server.Redis(ctx, s.dir, conf, s.redisPort)
	if err := s.ready(ctx, p, err, func(ctx context.Context) error { return s.redis.Ping(ctx).Err() }); err != nil {
		return err
	}
	if s.db, err = sql.Open("pgx", server.DSN(s.sqlPort)); err != nil {
		return err
	}
	p, err = server.Postgres(ctx, s.dir, s.sqlPort)
	if err := s.ready(ctx, p, err, s.db.PingContext); err != nil {
		return err
	}
	text := fmt.Sprintf(config, s.dir, s.public, s.gateway, s.redisPort)
	if err := os.WriteFile(filepath.Join(s.dir, "paybell.yaml"), []byte(text), 0o600); err != nil {
		return err
	}
	if out, err := s.command(ctx, "migrate").CombinedOutput(); err != nil {
		return fmt.Errorf("paybell migrate: %w\n%s", err, out)
	}
	if _, err := s.db.ExecContext(ctx, poison); err != nil {
		return err
	}
	for i, role := range []string{"gateway", "worker"} {
		port := []int{s.gateway, s.working}[i]
		p, err := server.Start(s.dir, role, s.command(context.WithoutCancel(ctx), role, "--set", fmt.Sprintf("admin.address=127.0.0.1:%d", port)))
		err = s.ready(ctx, p, err, func(ctx context.Context) error {
			_, err := goroutines(ctx, port)
			return err
		})
		if err != nil {
			return err
		}
		s.pids[i] = p.PID()
	}
	return nil
}

func (s *stack) ready(ctx context.Context, p *server.Process, err error, try func(context.Context) error) error {
	if err != nil {
		return err
	}
	s.processes = append(s.processes, p)
	return p.Ready(ctx, try)
}

func (s *stack) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.paybell, append([]string{"--config", filepath.Join(s.dir, "paybell.yaml")}, args...)...) //nolint:gosec // the operator names the binary
	cmd.Env = append(os.Environ(), "PAYBELL_SOAK_STRIPE="+s.secret, "PAYBELL_SOAK_DSN="+server.DSN(s.sqlPort))
	return cmd
}

// stop stops everything, last started first, and shows the logs of a run that failed.
func (s *stack) stop(failed bool) {
	if s.redis != nil {
		_ = s.redis.Close() // nothing more is read from it
	}
	if s.db != nil {
		_ = s.db.Close() // the same
	}
	for _, p := range slices.Backward(s.processes) {
		p.Stop()
		if failed {
			p.Tail(os.Stderr)
		}
	}
}

// send posts every event at the rate, and each until it is accepted.
func (s *stack) send(ctx context.Context) error {
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	tick := time.NewTicker(time.Second / time.Duration(s.rate))
	defer tick.Stop()
	var all sync.WaitGroup
	var mu sync.Mutex
	var failed error
	room := make(chan struct{}, 64)
	for n := range s.events {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			if err := s.post(ctx, client, n); err != nil {
				mu.Lock()
				failed = errors.Join(failed, err)
				mu.Unlock()
			}
			s.sent.Add(1)
		})
		mu.Lock()
		err := failed
		mu.Unlock()
		if err != nil {
			break
		}
	}
	all.Wait()
	return failed
}

// post sends one callback, signed as Stripe signs.
func (s *stack) post(ctx context.Context, client *http.Client, n int) error {
	now := time.Now()
	order := fmt.Sprintf("soak-%d", n)
	switch n % every {
	case forGood:
		order += "-bad"
	case forAWhile:
		order += fmt.Sprintf("-until-%d", now.Add(ailing).Unix())
	}
	body := fmt.Sprintf(`{"id":"evt_%[1]d","object":"event","api_version":"2025-06-30.basil","created":%[2]d,"livemode":false,`+
		`"type":"payment_intent.succeeded","data":{"object":{"id":"pi_%[1]d","object":"payment_intent","amount":150,"amount_received":150,`+
		`"currency":"usd","status":"succeeded","livemode":false,"created":%[2]d,"metadata":{"order_id":"%[3]s","customer_id":"customer-%[4]d"}}}}`,
		n, now.Unix(), order, n%1000)
	mac := hmac.New(sha256.New, []byte(s.secret))
	fmt.Fprintf(mac, "%d.%s", now.Unix(), body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/callbacks/stripe-soak", s.public), strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Stripe-Signature", fmt.Sprintf("t=%d,v1=%s", now.Unix(), hex.EncodeToString(mac.Sum(nil))))
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("callback %d: %s", n, resp.Status)
	}
	return nil
}
