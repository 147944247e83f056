package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"database/sql"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"text/template"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/loadtest/server"
)

// stack is everything a run starts.
type stack struct {
	plan
	dir string
	// run begins every order and event id.
	run                                                   string
	redisPort, sqlPort, publicPort, adminPort, workerPort int
	stripeSecret, standardSecret                          string
	// rsaKey is the private key of Alipay and WeChat Pay (PKCS #8, base64).
	rsaKey, apiv3 string
	processes     []*server.Process
	worker        *server.Process
	redis         *redis.Client
}

var configTemplate = template.Must(template.New("paybell.yaml").Parse(`
data_dir: {{.dir}}/data
log: {level: warn}
gateway: {address: "127.0.0.1:{{.publicPort}}"}
admin: {address: "127.0.0.1:{{.adminPort}}"}
streams:
  redis: {address: "127.0.0.1:{{.redisPort}}"}
  durability: {{if eq .appendfsync "always"}}fsync{{else}}redis{{end}}
{{- if .kills}}
  # A killed owner's partitions are free again after this.
  lease_ttl: 2s
{{- end}}
database:
{{- if eq .database "postgres"}}
  postgres: {env: PAYBELL_LOAD_DSN}
{{- else}}
  sqlite: {{.dir}}/paybell.db
{{- end}}
accounts:
  stripe-load:
    provider: stripe
    namespace: shop
    options:
      secrets: [{env: PAYBELL_LOAD_STRIPE}]
      order_ref: [/data/object/metadata/order_id]
      customer_ref: /data/object/metadata/customer_id
  alipay-load:
    provider: alipay
    namespace: shop
    options:
      app_id: "2021000000000042"
      public_keys: ["file:{{.dir}}/public.pem"]
      customer_ref: passback_params
  wechat-load:
    provider: wechatpay
    namespace: shop
    options:
      mchid: "1900000042"
      public_keys: [{id: PUB_KEY_ID_0119000000422026, key: "file:{{.dir}}/public.pem"}]
      apiv3_keys: [{env: PAYBELL_LOAD_APIV3}]
      customer_ref: /attach
  standard-load:
    provider: standardwebhooks
    namespace: shop
    options:
      secrets: [{env: PAYBELL_LOAD_STANDARD}]
      mapping:
        - when: {pointer: /type, equals: order.paid}
          type: payment.succeeded
          occurred_at: /timestamp
          order_ref: /data/order
          provider_ref: /data/payment
          customer_ref: /data/customer
          amount: /data/amount
          amount_unit: minor
          currency: /data/currency
groups:
  points:
    award:
      rules: {USD: {points: 1, per: "1.00"}, CNY: {points: 1, per: "1.00"}}
`))

// start starts the servers, then paybell, and returns when it can keep a callback.
func (s *stack) start(ctx context.Context) error {
	for _, port := range []*int{&s.redisPort, &s.sqlPort, &s.publicPort, &s.adminPort, &s.workerPort} {
		p, err := server.FreePort()
		if err != nil {
			return err
		}
		*port = p
	}
	s.stripeSecret = "whsec_" + rand.Text()
	s.standardSecret = "whsec_" + base64.StdEncoding.EncodeToString([]byte(rand.Text() + rand.Text())[:32])
	if err := s.makeRSA(); err != nil {
		return err
	}
	s.run = "load" + strconv.FormatInt(time.Now().Unix(), 36)
	if err := s.startRedis(ctx); err != nil {
		return err
	}
	if s.database == "postgres" {
		if err := s.startPostgres(ctx); err != nil {
			return err
		}
	}
	if err := s.writeConfig(); err != nil {
		return err
	}
	if out, err := s.command(ctx, "migrate").CombinedOutput(); err != nil {
		return fmt.Errorf("paybell migrate: %w\n%s", err, out)
	}
	role := "serve"
	if s.drain {
		role = "gateway"
	}
	ready := fmt.Sprintf("http://127.0.0.1:%d/readyz", s.publicPort)
	_, err := s.startPaybell(ctx, ready, role)
	return err
}

// makeRSA makes the key that Alipay and WeChat Pay sign with, and WeChat Pay's APIv3 key.
func (s *stack) makeRSA() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	s.rsaKey, s.apiv3 = base64.StdEncoding.EncodeToString(private), (rand.Text() + rand.Text())[:32]
	return os.WriteFile(filepath.Join(s.dir, "public.pem"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o600)
}

func (s *stack) writeConfig() error {
	f, err := os.OpenFile(s.configPath(), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(configTemplate.Execute(f, map[string]any{
		"dir": s.dir, "database": s.database, "appendfsync": s.appendfsync, "kills": s.kills,
		"redisPort": s.redisPort, "publicPort": s.publicPort, "adminPort": s.adminPort,
	}), f.Close())
}

func (s *stack) configPath() string { return filepath.Join(s.dir, "paybell.yaml") }

// command is a paybell command with this run's configuration and secrets.
func (s *stack) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.paybell, append([]string{"--config", s.configPath()}, args...)...) //nolint:gosec // the operator names the binary
	cmd.Env = append(os.Environ(),
		"PAYBELL_LOAD_STRIPE="+s.stripeSecret, "PAYBELL_LOAD_STANDARD="+s.standardSecret,
		"PAYBELL_LOAD_APIV3="+s.apiv3, "PAYBELL_LOAD_DSN="+s.dsn())
	return cmd
}

// startPaybell starts a role and waits until the URL answers 200.
func (s *stack) startPaybell(ctx context.Context, url, role string, flags ...string) (*server.Process, error) {
	// Not bound to ctx: an interrupted run stops it like any other, gracefully.
	cmd := s.command(context.WithoutCancel(ctx), append([]string{role}, flags...)...)
	p, err := server.Start(s.dir, "paybell-"+role, cmd)
	if err != nil {
		return nil, err
	}
	s.processes = append(s.processes, p)
	client := &http.Client{Timeout: 5 * time.Second}
	return p, p.Ready(ctx, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
}

// startWorkers starts the worker process of a drain, again after a kill.
func (s *stack) startWorkers(ctx context.Context) (err error) {
	address := fmt.Sprintf("127.0.0.1:%d", s.workerPort)
	s.worker, err = s.startPaybell(ctx, "http://"+address+"/healthz", "worker", "--set", "admin.address="+address)
	return err
}

func (s *stack) startRedis(ctx context.Context) error {
	conf, err := filepath.Abs("../deploy/redis.conf")
	if err != nil {
		return err
	}
	p, err := server.Redis(ctx, s.dir, conf, s.redisPort, "--appendfsync", s.appendfsync)
	if err != nil {
		return err
	}
	s.processes = append(s.processes, p)
	s.redis = redis.NewClient(&redis.Options{Addr: fmt.Sprintf("127.0.0.1:%d", s.redisPort)})
	return p.Ready(ctx, func(ctx context.Context) error { return s.redis.Ping(ctx).Err() })
}

func (s *stack) startPostgres(ctx context.Context) error {
	p, err := server.Postgres(ctx, s.dir, s.sqlPort)
	if err != nil {
		return err
	}
	s.processes = append(s.processes, p)
	return p.Ready(ctx, func(ctx context.Context) error {
		db, err := sql.Open("pgx", s.dsn())
		if err != nil {
			return err
		}
		defer db.Close()
		return db.PingContext(ctx)
	})
}

func (s *stack) dsn() string { return server.DSN(s.sqlPort) }

// stop stops everything, last started first.
func (s *stack) stop() {
	if s.redis != nil {
		_ = s.redis.Close() // nothing more is read from it
	}
	for _, p := range slices.Backward(s.processes) {
		p.Stop()
	}
	s.worker = nil
}

// tail writes the ends of all logs, for a run that failed.
func (s *stack) tail(w io.Writer) {
	for _, p := range s.processes {
		p.Tail(w)
	}
}
