package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/redis/go-redis/v9"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/paybell/paybell/loadtest/bench/callbacks"
	"github.com/paybell/paybell/loadtest/server"
)

// The names of the processes whose CPU is counted.
const (
	inServer   = "server"
	inWorker   = "worker"
	inRedis    = "redis"
	inDatabase = "database"
)

// stack is the processes of one measurement, all of them fresh but PostgreSQL, of
// which it has a database of its own.
type stack struct {
	b   *bench
	dir string
	// paybell is the binary that is measured.
	paybell string
	// fsync is appendfsync.
	fsync string
	// database is sqlite, postgres or "" for none.
	database   string
	partitions int
	// leaseTTL is shorter where a worker is killed.
	leaseTTL time.Duration

	redisPort, public, admin int
	redis                    *redis.Client
	db                       *sql.DB
	roots                    map[string]int
	processes                []*server.Process
	name                     string
}

var config = template.Must(template.New("paybell.yaml").Parse(`
data_dir: {{.dir}}/data
log: {level: warn}
# No balancer has to notice that the door closes.
gateway: {address: "127.0.0.1:{{.public}}", drain_delay: 0s}
admin: {address: "127.0.0.1:{{.admin}}"}
{{- if .redis}}
streams:
  redis: {address: "127.0.0.1:{{.redis}}"}
  durability: {{if eq .fsync "always"}}fsync{{else}}redis{{end}}
  partitions: {{.partitions}}
  lease_ttl: {{.lease}}
{{- else}}
embedded: {address: "127.0.0.1:{{.embedded}}"}
{{- end}}
database:
{{- if eq .database "postgres"}}
  postgres: {env: BENCH_DSN}
{{- else}}
  sqlite: {{.dir}}/paybell.db
{{- end}}
accounts:
  stripe-bench:
    provider: stripe
    namespace: shop
    options:
      secrets: [{env: BENCH_STRIPE}]
      tolerance: 1h
      order_ref: [/data/object/metadata/order_id]
      customer_ref: /data/object/metadata/customer_id
  alipay-bench:
    provider: alipay
    namespace: shop
    options:
      app_id: "{{.appID}}"
      seller_id: "{{.sellerID}}"
      public_keys: ["file:{{.dir}}/public.pem"]
      customer_ref: passback_params
  wechat-bench:
    provider: wechatpay
    namespace: shop
    options:
      mchid: "{{.mchID}}"
      appid: {{.weChatApp}}
      public_keys: [{id: {{.keyID}}, key: "file:{{.dir}}/public.pem"}]
      apiv3_keys: [{env: BENCH_APIV3}]
      tolerance: 1h
      customer_ref: /attach
groups:
  points:
    award:
      rules: {USD: {points: 1, per: "1.00"}, CNY: {points: 1, per: "1.00"}}
`))

// newStack makes the directory, the configuration and the database, and starts Redis
// unless appendfsync is "". The caller stops it.
func (b *bench) newStack(ctx context.Context, s stack) (_ *stack, err error) {
	st := &s
	st.b, st.roots = b, map[string]int{}
	if st.partitions == 0 {
		st.partitions = 16
	}
	st.leaseTTL = 10 * time.Second
	if b.kill {
		st.leaseTTL = 2 * time.Second
	}
	b.stacks++
	st.name = fmt.Sprintf("bench%d", b.stacks)
	st.dir = filepath.Join(b.dir, st.name)
	if err := os.Mkdir(st.dir, 0o711); err != nil { //nolint:gosec // PostgreSQL's user walks through
		return nil, err
	}
	defer func() {
		if err != nil {
			st.stop()
		}
	}()
	embedded := 0
	for _, port := range []*int{&st.redisPort, &st.public, &st.admin, &embedded} {
		if *port, err = server.FreePort(); err != nil {
			return nil, err
		}
	}
	values := map[string]any{
		"dir": st.dir, "public": st.public, "admin": st.admin, "fsync": st.fsync, "redis": st.redisPort, "embedded": embedded,
		"partitions": st.partitions, "lease": st.leaseTTL, "database": st.database,
		"appID": callbacks.AppID, "sellerID": callbacks.SellerID, "mchID": callbacks.MchID, "weChatApp": callbacks.WeChatApp, "keyID": callbacks.KeyID,
	}
	if st.fsync == "" {
		values["redis"] = 0
	}
	var text strings.Builder
	if err := config.Execute(&text, values); err != nil {
		return nil, err
	}
	err = errors.Join(os.WriteFile(filepath.Join(st.dir, "paybell.yaml"), []byte(text.String()), 0o600),
		os.WriteFile(filepath.Join(st.dir, "public.pem"), []byte(b.keys.Public), 0o600))
	if err != nil {
		return nil, err
	}
	if st.fsync != "" {
		if err := st.startRedis(ctx); err != nil {
			return nil, err
		}
	}
	return st, st.makeDatabase(ctx)
}

func (s *stack) startRedis(ctx context.Context) error {
	p, err := server.Redis(ctx, s.dir, s.b.redisConf, s.redisPort, "--appendfsync", s.fsync)
	if err != nil {
		return err
	}
	s.processes = append(s.processes, p)
	s.roots[inRedis] = p.PID()
	s.redis = redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + strconv.Itoa(s.redisPort)})
	return p.Ready(ctx, func(ctx context.Context) error { return s.redis.Ping(ctx).Err() })
}

// makeDatabase makes the database and its tables.
func (s *stack) makeDatabase(ctx context.Context) (err error) {
	switch s.database {
	case "postgres":
		pid, err := s.b.needPostgres(ctx)
		if err != nil {
			return err
		}
		s.roots[inDatabase] = pid
		// A checkpoint now is none in the measurement.
		for _, text := range []string{"CREATE DATABASE " + s.name, "CHECKPOINT"} {
			if _, err := s.b.admin.ExecContext(ctx, text); err != nil {
				return err
			}
		}
		if s.db, err = sql.Open("pgx", s.source()); err != nil {
			return err
		}
	case "sqlite":
		if s.db, err = sql.Open("sqlite", s.source()+"?mode=ro&_pragma=busy_timeout(5000)"); err != nil {
			return err
		}
	default:
		return nil
	}
	if s.paybell == "" {
		return nil
	}
	if out, err := s.command(ctx, s.paybell, "--config", s.configPath(), "migrate").CombinedOutput(); err != nil {
		return fmt.Errorf("paybell migrate: %w\n%s", err, out)
	}
	return nil
}

// source is the database as a driver opens it.
func (s *stack) source() string {
	if s.database == "sqlite" {
		return "file:" + filepath.Join(s.dir, "paybell.db")
	}
	return strings.Replace(server.DSN(s.b.sqlPort), "/postgres?", "/"+s.name+"?", 1)
}

func (s *stack) configPath() string { return filepath.Join(s.dir, "paybell.yaml") }

func (s *stack) command(ctx context.Context, path string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.WithoutCancel(ctx), path, args...) //nolint:gosec // the operator names the binaries
	k := s.b.keys
	cmd.Env = append(os.Environ(), "BENCH_STRIPE="+k.StripeSecret, "BENCH_APIV3="+k.APIv3, "BENCH_PUBLIC_KEY="+k.Public)
	if s.database == "postgres" {
		cmd.Env = append(cmd.Env, "BENCH_DSN="+s.source())
	}
	return cmd
}

// start starts a process under a name, and waits until the URL answers 200, if there
// is one.
func (s *stack) start(ctx context.Context, as, url, path string, args ...string) (*server.Process, error) {
	p, err := server.Start(s.dir, as, s.command(ctx, path, args...))
	if err != nil {
		return nil, err
	}
	s.processes = append(s.processes, p)
	s.roots[as] = p.PID()
	if url == "" {
		return p, nil
	}
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

// startDoor starts paybell in a role that takes callbacks.
func (s *stack) startDoor(ctx context.Context, role string) (*server.Process, error) {
	return s.start(ctx, inServer, fmt.Sprintf("http://127.0.0.1:%d/readyz", s.public), s.paybell, "--config", s.configPath(), role)
}

// startWorker starts a paybell worker that runs the groups named.
func (s *stack) startWorker(ctx context.Context, groups ...string) (*server.Process, error) {
	port, err := server.FreePort()
	if err != nil {
		return nil, err
	}
	args := []string{"--config", s.configPath(), "worker", "--set", fmt.Sprintf("admin.address=127.0.0.1:%d", port)}
	for _, g := range allGroups {
		if !slices.Contains(groups, g) {
			args = append(args, "--set", "groups."+g+".enabled=false")
		}
	}
	return s.start(ctx, inWorker, "", s.paybell, args...)
}

// end stops one process, and what is counted of it.
func (s *stack) end(p *server.Process) {
	p.Stop()
	s.processes = slices.DeleteFunc(s.processes, func(q *server.Process) bool { return p == q })
	for name, pid := range s.roots {
		if pid == p.PID() {
			delete(s.roots, name)
		}
	}
}

// stop stops everything, last started first, and removes what it left.
func (s *stack) stop() {
	if s.redis != nil {
		_ = s.redis.Close() // nothing more is read from it
	}
	if s.db != nil {
		_ = s.db.Close() // the same
	}
	for _, p := range slices.Backward(s.processes) {
		// What was stored is not looked at any more, and Redis would write it out.
		if p.PID() == s.roots[inRedis] {
			p.Kill()
			continue
		}
		p.Stop()
	}
	if s.database == "postgres" {
		_, _ = s.b.admin.Exec("DROP DATABASE IF EXISTS " + s.name + " WITH (FORCE)") //nolint:noctx // the server is stopped soon anyway
	}
	_ = os.RemoveAll(s.dir) // the run's own directory goes, too
}

// tail shows the ends of the logs.
func (s *stack) tail() {
	for _, p := range s.processes {
		p.Tail(os.Stderr)
	}
}

// with makes a stack, measures on it and stops it; the logs of one that failed are
// shown first.
func (b *bench) with(ctx context.Context, s stack, do func(*stack) (values, error)) (values, error) {
	st, err := b.newStack(ctx, s)
	if err != nil {
		return nil, err
	}
	defer st.stop()
	v, err := do(st)
	if err != nil && ctx.Err() == nil {
		st.tail()
	}
	return v, err
}
