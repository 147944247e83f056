package effectstest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/paybell/paybell/handlers/effects"
)

// Server is a PostgreSQL server on a loopback port, with a directory of its own.
type Server struct {
	bin, dir  string
	port      int
	settings  []string
	cred      *syscall.Credential
	process   *os.Process
	ended     chan struct{}
	databases atomic.Int64
}

// StartPostgres starts a server; the caller stops it. It does not sync to disk
// unless a setting such as "fsync=on" says so, for tests that only kill processes
// and never cut the power. Where PostgreSQL is not installed the test is skipped,
// or fails when PAYBELL_REQUIRE_SERVERS is set.
func StartPostgres(tb testing.TB, settings ...string) *Server {
	tb.Helper()
	s := &Server{bin: binaries(tb), settings: append([]string{"fsync=off", "full_page_writes=off", "deadlock_timeout=50ms"}, settings...)}
	// Not tb.TempDir: the shared server outlives the test that starts it.
	dir, err := os.MkdirTemp("", "paybell-pg-") //nolint:usetesting // See above.
	if err != nil {
		tb.Fatalf("make the server's directory: %v", err)
	}
	s.dir = dir
	if os.Geteuid() == 0 {
		// PostgreSQL refuses to run as root.
		s.cred = credential(tb)
		if err := os.Chown(dir, int(s.cred.Uid), int(s.cred.Gid)); err != nil {
			tb.Fatalf("hand over the server's directory: %v", err)
		}
	}
	initdb := s.command(tb.Context(), "initdb", "-D", s.data(), "-U", "paybell", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
	if out, err := initdb.CombinedOutput(); err != nil {
		_ = os.RemoveAll(dir) // The failure below is the one to tell.
		tb.Fatalf("initdb: %v\n%s", err, out)
	}
	s.Start(tb)
	return s
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, filepath.Join(s.bin, name), args...)
	c.Dir = s.dir
	c.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred, Pdeathsig: syscall.SIGQUIT}
	return c
}

// Start runs the server again after Kill or Stop, on the port it had.
func (s *Server) Start(tb testing.TB) {
	tb.Helper()
	for attempt := 0; ; attempt++ {
		if s.port == 0 {
			s.port = freePort(tb)
		}
		if err := s.run(context.WithoutCancel(tb.Context())); err != nil {
			tb.Fatalf("start postgres: %v", err)
		}
		if answers(tb.Context(), s.DSN("postgres"), s.ended) {
			return
		}
		// Somebody else may have taken the port between freePort and now.
		if attempt == 4 {
			text, _ := os.ReadFile(filepath.Join(s.dir, "log")) // Without a log there is nothing more to tell.
			tb.Fatalf("postgres does not answer:\n%s", text)
		}
		s.Kill()
		s.port = 0
	}
}

func (s *Server) run(ctx context.Context) error {
	args := []string{
		"-D", s.data(), "-p", strconv.Itoa(s.port), "-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories=" + s.dir, "-c", "max_connections=200",
	}
	for _, setting := range s.settings {
		args = append(args, "-c", setting)
	}
	var err error
	s.process, s.ended, err = spawn(s.command(ctx, "postgres", args...), filepath.Join(s.dir, "log"))
	return err
}

// spawn starts a process from a thread that lives as long as it does: the kernel
// sends Pdeathsig when the *thread* that forked ends. What it says goes to the file log.
func spawn(c *exec.Cmd, log string) (*os.Process, chan struct{}, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, err
	}
	c.Stdout, c.Stderr = out, out
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(ended)
		defer out.Close()
		err := c.Start()
		started <- err
		if err == nil {
			_ = c.Wait() // It ends by a signal; how is of no interest.
		}
	}()
	if err := <-started; err != nil {
		return nil, nil, err
	}
	return c.Process, ended, nil
}

// answers waits until the server takes connections or has ended.
func answers(ctx context.Context, dsn string, ended <-chan struct{}) bool {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := pgx.Connect(ctx, dsn); err == nil {
			return c.Close(ctx) == nil
		}
		select {
		case <-tick.C:
		case <-ended:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// Kill ends the server at once, as a crash does: SIGQUIT makes it abandon every
// session without a checkpoint and recover from its log when it starts again.
func (s *Server) Kill() {
	_ = s.process.Signal(syscall.SIGQUIT) // It may have ended by itself.
	<-s.ended
}

// Stop ends the server for good and removes its directory.
func (s *Server) Stop() {
	s.Kill()
	_ = os.RemoveAll(s.dir) // A directory that is left in the temporary directory harms nobody.
}

// DSN names a database of the server.
func (s *Server) DSN(database string) string {
	return fmt.Sprintf("postgres://paybell@127.0.0.1:%d/%s?sslmode=disable", s.port, database)
}

// Admit restarts the server with other lines of pg_hba.conf.
func (s *Server) Admit(tb testing.TB, lines ...string) {
	tb.Helper()
	if err := os.WriteFile(filepath.Join(s.data(), "pg_hba.conf"), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		tb.Fatalf("write pg_hba.conf: %v", err)
	}
	s.Kill()
	s.Start(tb)
}

// Database makes a new, empty database and returns the options to open it.
func (s *Server) Database(tb testing.TB) effects.Options {
	tb.Helper()
	return options(tb, s.DSN(s.create(tb, "")))
}

// Odd is Database with a clause of CREATE DATABASE more.
func (s *Server) Odd(tb testing.TB, clause string) effects.Options {
	tb.Helper()
	return options(tb, s.DSN(s.create(tb, clause)))
}

// create makes a new, empty database and returns its name.
func (s *Server) create(tb testing.TB, clause string) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 30*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, s.DSN("postgres"))
	if err != nil {
		tb.Fatalf("connect to postgres: %v", err)
	}
	defer c.Close(ctx) //nolint:errcheck // The database is made or the test has failed.
	name := "t" + strconv.FormatInt(s.databases.Add(1), 10)
	if _, err := c.Exec(ctx, "CREATE DATABASE "+name+" "+clause); err != nil {
		tb.Fatalf("create a database: %v", err)
	}
	return name
}

// binaries finds the server's programs: beside a postgres in PATH, or where
// Debian keeps them.
func binaries(tb testing.TB) string {
	tb.Helper()
	if path, err := exec.LookPath("postgres"); err == nil {
		return filepath.Dir(path)
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres") // The pattern is well formed.
	if len(found) > 0 {
		return filepath.Dir(slices.Max(found))
	}
	if os.Getenv("PAYBELL_REQUIRE_SERVERS") != "" {
		tb.Fatal("PostgreSQL is not installed: no postgres in PATH or /usr/lib/postgresql")
	}
	tb.Skip("PostgreSQL is not installed: no postgres in PATH or /usr/lib/postgresql")
	return ""
}

// credential is the user the server runs as.
func credential(tb testing.TB) *syscall.Credential {
	tb.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		tb.Fatalf("PostgreSQL does not run as root and there is no user for it: %v", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		tb.Fatalf("user id of postgres: %v", err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		tb.Fatalf("group id of postgres: %v", err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func freePort(tb testing.TB) int {
	tb.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("find a free port: %v", err)
	}
	defer l.Close()
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		tb.Fatalf("listener on %s", l.Addr())
	}
	return addr.Port
}
