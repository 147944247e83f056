package main

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"text/template"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver
	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/loadtest/faults/proxy"
	"github.com/paybell/paybell/loadtest/faults/traffic"
	"github.com/paybell/paybell/loadtest/server"
)

// leaseTTL is how long a partition stays with an owner that was killed or frozen.
const leaseTTL = 2 * time.Second

const (
	// diskBytes is the size of the small disk under the first gateway's journal.
	diskBytes = 8 << 20
	// pooled is the worker that reaches PostgreSQL through a PgBouncer.
	pooled = "worker-3"
	// smallMemory is what one gateway and one worker may use.
	smallMemory = 128 << 20
	// quotaBytes is what the second gateway's journal may take.
	quotaBytes = 512 << 10
)

// stack is everything a run starts.
type stack struct {
	o     options
	dir   string
	tally *tally
	slots []*slot

	redisPort, sqlPort, poolPort int
	stripeSecret, standardSecret string
	// direct reaches Redis past the proxies.
	direct *redis.Client
	db     *sql.DB
	// clock is the one Redis goes by.
	clock *server.Clock
	// mounted is the small disk, where this user may mount one.
	mounted string

	mu              sync.Mutex
	redis, postgres *server.Process
	pooler          *server.Process
	sender          *traffic.Sender
}

var configTemplate = template.Must(template.New("paybell.yaml").Parse(`
data_dir: {{.Dir}}
instance: {{.Name}}
{{if .Memory}}memory_limit: {{.Memory}}
{{end -}}
log: {level: info}
gateway: {address: "127.0.0.1:{{.Public}}", drain_delay: 0s}
admin: {address: "127.0.0.1:{{.Admin}}"}
journal: {max_bytes: {{.JournalBytes}}, segment_bytes: 65536}
database: {postgres: {env: FAULTS_DSN}}
streams:
  redis: {address: "{{.Redis}}"}
  durability: fsync
  lease_ttl: {{.LeaseTTL}}
  trim_every: 500ms
  declared_groups: [judge]
{{.Accounts}}
`))

// start starts the servers and makes a place for every process.
func (st *stack) start(ctx context.Context) error {
	for _, port := range []*int{&st.redisPort, &st.sqlPort, &st.poolPort} {
		p, err := server.FreePort()
		if err != nil {
			return err
		}
		*port = p
	}
	r := rand.New(rand.NewPCG(st.o.seed, 1)) //nolint:gosec // a seed repeats a run
	key := make([]byte, 32)
	for i := range key {
		key[i] = byte(r.Uint32()) //nolint:gosec // cut on purpose
	}
	st.stripeSecret = "whsec_" + fmt.Sprintf("%x", key)
	st.standardSecret = "whsec_" + base64.StdEncoding.EncodeToString(key)
	var err error
	if st.clock, err = server.NewClock(ctx, st.dir); err != nil {
		return err
	}
	if err := st.startRedis(ctx); err != nil {
		return err
	}
	st.direct = redis.NewClient(&redis.Options{Addr: st.redisAddr(), MaxRetries: -1, DialerRetries: 1})
	if err := st.startPostgres(ctx); err != nil {
		return err
	}
	if err := st.startPooler(ctx); err != nil {
		return err
	}
	if st.db, err = sql.Open("pgx", server.DSN(st.sqlPort)); err != nil {
		return err
	}
	for i, name := range []string{"gateway-1", "gateway-2", "worker-1", "worker-2", "worker-3"} {
		kind, _, _ := strings.Cut(name, "-")
		if err := st.addSlot(ctx, name, kind, uint64(i)); err != nil {
			return err
		}
	}
	out, err := st.command(ctx, st.slots[0], "migrate").CombinedOutput()
	if err != nil {
		return fmt.Errorf("paybell migrate: %w\n%s", err, out)
	}
	points, err := listPoints(ctx, st.command(ctx, st.slots[0], "gateway"))
	if err != nil {
		return err
	}
	st.tally = newTally(points)
	for _, s := range st.slots {
		s.points = points[s.kind]
	}
	return nil
}

func (st *stack) addSlot(ctx context.Context, name, kind string, n uint64) error {
	s := &slot{st: st, name: name, kind: kind, rand: rand.New(rand.NewPCG(st.o.seed, 100+n))} //nolint:gosec // a seed repeats a run
	for _, port := range []*int{&s.public, &s.admin} {
		p, err := server.FreePort()
		if err != nil {
			return err
		}
		*port = p
	}
	var err error
	if s.proxy, err = proxy.New(ctx, st.redisAddr()); err != nil {
		return err
	}
	st.slots = append(st.slots, s) // from here on, stop closes what it has
	sqlPort := st.sqlPort
	if name == pooled {
		sqlPort = st.poolPort
	}
	if s.sql, err = proxy.New(ctx, fmt.Sprintf("127.0.0.1:%d", sqlPort)); err != nil {
		return err
	}
	for _, dir := range []string{s.dir(), s.synced()} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	// The first gateway has a small disk under its journal, the second a small quota.
	quota := 64 << 20
	switch name {
	case "gateway-1":
		st.mountDisk(filepath.Join(s.dir(), "journal"))
	case "gateway-2":
		quota = quotaBytes
	}
	memory := 0
	if s.small() {
		memory = smallMemory
	}
	f, err := os.OpenFile(st.configOf(s), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(configTemplate.Execute(f, map[string]any{
		"Dir": s.dir(), "Name": name, "Public": s.public, "Admin": s.admin, "Redis": s.proxy.Addr(),
		"JournalBytes": quota, "Memory": memory, "LeaseTTL": leaseTTL, "Accounts": traffic.Config,
	}), f.Close())
}

// mountDisk puts a small disk where a journal goes. Not everybody may: then the run
// goes on without, and its table says so.
func (st *stack) mountDisk(dir string) {
	if os.Mkdir(dir, 0o700) == nil && syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", diskBytes)) == nil {
		st.mounted = dir
	}
}

func (st *stack) configOf(s *slot) string  { return filepath.Join(st.dir, s.name+".yaml") }
func (st *stack) logOf(name string) string { return filepath.Join(st.dir, name+".log") }
func (st *stack) redisAddr() string        { return fmt.Sprintf("127.0.0.1:%d", st.redisPort) }

func (st *stack) inFlight() int {
	if st.sender == nil {
		return 0
	}
	return st.sender.InFlight()
}

// command is a paybell command with a slot's configuration and this run's secrets.
func (st *stack) command(ctx context.Context, s *slot, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, st.o.paybell, append([]string{"--config", st.configOf(s)}, args...)...) //nolint:gosec // the operator names the binary
	cmd.Env = append(os.Environ(), "FAULTS_DSN="+server.DSN(s.sql.Port()),
		"FAULTS_STRIPE="+st.stripeSecret, "FAULTS_STANDARD="+st.standardSecret)
	return cmd
}

// paybell starts a slot's process; it need not be ready when this returns.
func (st *stack) paybell(ctx context.Context, s *slot, env []string) (*server.Process, error) {
	cmd := st.command(context.WithoutCancel(ctx), s, s.kind)
	cmd.Env = append(cmd.Env, env...)
	return server.Start(st.dir, s.name, cmd)
}

func (st *stack) startRedis(ctx context.Context) error {
	conf, err := filepath.Abs(st.o.redisConf)
	if err != nil {
		return err
	}
	// A reply that the log has not got yet may be lost with the process under
	// everysec, when a sync is running: what is proven here is the stronger promise.
	p, err := server.RedisAt(ctx, st.clock, st.dir, conf, st.redisPort, "--appendfsync", "always",
		"--enable-protected-configs", "local", "--enable-debug-command", "local")
	if err != nil {
		return err
	}
	st.mu.Lock()
	st.redis = p
	st.mu.Unlock()
	c := redis.NewClient(&redis.Options{Addr: st.redisAddr(), MaxRetries: -1, DialerRetries: 1})
	defer c.Close()
	return p.Ready(ctx, func(ctx context.Context) error { return c.Ping(ctx).Err() })
}

func (st *stack) startPostgres(ctx context.Context) error {
	for try := 0; ; try++ {
		p, err := server.Postgres(ctx, st.dir, st.sqlPort, "-c", "shared_buffers=64MB", "-c", "max_connections=60")
		if err != nil {
			return err
		}
		st.mu.Lock()
		st.postgres = p
		st.mu.Unlock()
		err = p.Ready(ctx, func(ctx context.Context) error {
			db, err := sql.Open("pgx", server.DSN(st.sqlPort))
			if err != nil {
				return err
			}
			defer db.Close()
			return db.PingContext(ctx)
		})
		// What a killed one has left in shared memory may not be gone yet.
		if err == nil || try == 20 {
			return err
		}
		pause(ctx, 200*time.Millisecond)
	}
}

func (st *stack) startPooler(ctx context.Context) (err error) {
	st.pooler, err = server.PgBouncer(ctx, st.dir, st.poolPort, st.sqlPort)
	return err
}

func (st *stack) servers() (redis, postgres *server.Process) {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.redis, st.postgres
}

// gateways are the base addresses callbacks are sent to.
func (st *stack) gateways() []string {
	var out []string
	for _, s := range st.slots {
		if s.kind == "gateway" {
			out = append(out, fmt.Sprintf("http://127.0.0.1:%d", s.public))
		}
	}
	return out
}

// awaitReady returns when every process answers.
func (st *stack) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	client := &http.Client{Timeout: time.Second}
	for _, s := range st.slots {
		url := fmt.Sprintf("http://127.0.0.1:%d/healthz", s.admin)
		if s.kind == "gateway" {
			url = fmt.Sprintf("http://127.0.0.1:%d/readyz", s.public)
		}
		for {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				return err
			}
			resp, err := client.Do(req)
			if err == nil {
				_ = resp.Body.Close() // only the status was asked for
			}
			if err == nil && resp.StatusCode == http.StatusOK {
				break
			}
			if !pause(ctx, 100*time.Millisecond) {
				return fmt.Errorf("%s is not ready: %w", s.name, errors.Join(ctx.Err(), err))
			}
		}
	}
	return nil
}

// stop stops the servers and takes the small disk away. The slots have ended.
func (st *stack) stop() {
	if st.direct != nil {
		_ = st.direct.Close() // nothing more is read from it
	}
	if st.db != nil {
		_ = st.db.Close() // likewise
	}
	redis, postgres := st.servers()
	for _, p := range []*server.Process{redis, st.pooler, postgres} {
		if p != nil {
			p.Stop()
		}
	}
	for _, s := range st.slots {
		s.proxy.Close()
		if s.sql != nil {
			s.sql.Close()
		}
	}
	if st.mounted != "" {
		_ = syscall.Unmount(st.mounted, 0) // the directory then cannot be removed, which is told
	}
}

// sample notes how much memory the servers have.
func (st *stack) sample() {
	redis, postgres := st.servers()
	st.tally.resident("redis", redis.HighWater())
	st.tally.resident("postgres with its children", postgres.Resident())
}

// watch samples until ctx ends.
func (st *stack) watch(ctx context.Context) {
	for pause(ctx, time.Second) {
		st.sample()
	}
}

// tail writes the ends of the logs of what was run, at once.
func (st *stack) tail(w io.Writer) {
	var all strings.Builder
	for _, s := range st.slots {
		text, err := os.ReadFile(st.logOf(s.name))
		if err != nil {
			continue
		}
		lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
		fmt.Fprintf(&all, "== %s\n%s\n", s.name, strings.Join(lines[max(0, len(lines)-15):], "\n"))
	}
	_, _ = io.WriteString(w, all.String()) // it has nobody to be told
}

// pause waits, and reports whether ctx still lives.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
