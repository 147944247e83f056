// Package streamstest starts Redis servers for tests and holds the contract
// suite that every engine paybell runs on has to pass. Only tests import it.
package streamstest

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Server is a real redis-server that belongs to one test.
type Server struct {
	tb   testing.TB
	dir  string
	port string
	// config is a configuration file that goes before args; "" for none.
	config string
	args   []string
	// client is how the harness itself connects.
	client redis.Options

	mu  sync.Mutex
	cmd *exec.Cmd
	log bytes.Buffer
}

// Redis starts a redis-server on a free loopback port, in a directory of the
// test, and stops it when the test ends. It keeps nothing on disk unless AOF's
// arguments, or others of redis-server's, are given. Where the binary is absent
// the test is skipped, or fails if PAYBELL_REQUIRE_SERVERS is set.
func Redis(tb testing.TB, args ...string) *Server {
	tb.Helper()
	return launch(tb, redis.Options{}, "", args)
}

// Sentinel starts a Redis Sentinel that watches nothing.
func Sentinel(tb testing.TB) *Server {
	tb.Helper()
	config := filepath.Join(tb.TempDir(), "sentinel.conf") // it writes its own state there
	if err := os.WriteFile(config, nil, 0o600); err != nil {
		tb.Fatalf("streamstest: %v", err)
	}
	return launch(tb, redis.Options{}, config, []string{"--sentinel"})
}

// ClusterNode are the arguments for a node of a Redis Cluster that has no other.
func ClusterNode(tb testing.TB) []string {
	tb.Helper()
	return []string{"--cluster-enabled", "yes", "--cluster-port", freePort(tb)}
}

// RedisTLS starts a redis-server that speaks TLS alone and asks its clients for
// a certificate. The names are of PEM files.
func RedisTLS(tb testing.TB, cert, key, ca, clientCert, clientKey string) *Server {
	tb.Helper()
	pair, err := tls.LoadX509KeyPair(clientCert, clientKey)
	if err != nil {
		tb.Fatalf("streamstest: %v", err)
	}
	authority, err := os.ReadFile(ca)
	if err != nil {
		tb.Fatalf("streamstest: %v", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	client := redis.Options{TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{pair}}}
	return launch(tb, client, "", []string{"--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", ca})
}

func launch(tb testing.TB, client redis.Options, config string, args []string) *Server {
	tb.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("PAYBELL_REQUIRE_SERVERS") != "" {
			tb.Fatal("streamstest: redis-server is not installed")
		}
		tb.Skip("streamstest: redis-server is not installed")
	}
	s := &Server{tb: tb, dir: tb.TempDir(), config: config, args: args, client: client}
	tb.Cleanup(func() {
		s.Kill()
		if tb.Failed() {
			tb.Logf("redis-server wrote:\n%s", s.output())
		}
	})
	// Another process can take a free port before the server does; then the next one.
	for range 5 {
		s.port = freePort(tb)
		if s.start() {
			return s
		}
	}
	tb.Fatalf("streamstest: redis-server did not start:\n%s", s.output())
	return nil
}

// AOF are the arguments for an append-only file; fsync is always, everysec or no.
func AOF(fsync string) []string {
	return []string{"--appendonly", "yes", "--appendfsync", fsync}
}

// Addr is host:port.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", s.port) }

// Port is the port as text.
func (s *Server) Port() string { return s.port }

// Kill ends the server at once, as a crash would.
func (s *Server) Kill() {
	s.mu.Lock()
	cmd := s.cmd
	s.cmd = nil
	s.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Kill() // it may have ended by itself
	_ = cmd.Wait()         // reports the kill
}

// Restart starts a server that was killed, on the same port and directory.
func (s *Server) Restart() {
	s.tb.Helper()
	s.Kill()
	if !s.start() {
		s.tb.Fatalf("streamstest: redis-server did not start again:\n%s", s.output())
	}
}

// RestartWith is Restart with further arguments, for this one run.
func (s *Server) RestartWith(args ...string) {
	s.tb.Helper()
	own := s.args
	s.args = slices.Concat(own, args)
	s.Restart()
	s.args = own
}

// Dir is where the server keeps its files.
func (s *Server) Dir() string { return s.dir }

// PID is the server's process.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return 0
	}
	return s.cmd.Process.Pid
}

func (s *Server) start() bool {
	port := "--port"
	if s.client.TLSConfig != nil {
		port = "--tls-port"
	}
	var args []string
	if s.config != "" {
		args = append(args, s.config)
	}
	args = append(args,
		"--bind", "127.0.0.1", "--port", "0", port, s.port, "--dir", s.dir,
		"--save", "", "--appendonly", "no", "--daemonize", "no",
	)
	args = append(args, s.args...)
	cmd := exec.Command("redis-server", args...) //nolint:noctx // Kill ends it
	cmd.Stdout = writer{s}
	cmd.Stderr = writer{s}
	if err := cmd.Start(); err != nil {
		s.tb.Fatalf("streamstest: %v", err)
	}
	s.mu.Lock()
	s.cmd = cmd
	s.mu.Unlock()
	o := s.client
	o.Addr, o.MaxRetries, o.DialerRetries = s.Addr(), -1, 1
	c := redis.NewClient(&o)
	defer func() { _ = c.Close() }()
	ok := until(10*time.Second, func() bool {
		info, err := c.Info(s.tb.Context(), "server").Result()
		if redis.IsAuthError(err) {
			return true // it is there, and wants a password that the test knows
		}
		return err == nil && strings.Contains(info, "process_id:"+strconv.Itoa(cmd.Process.Pid)+"\r")
	})
	if !ok {
		s.Kill()
	}
	return ok
}

func (s *Server) output() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// writer keeps what the server prints.
type writer struct{ s *Server }

func (w writer) Write(b []byte) (int, error) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	return w.s.log.Write(b)
}

func freePort(tb testing.TB) string {
	tb.Helper()
	l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("streamstest: %v", err)
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		tb.Fatalf("streamstest: %v", err)
	}
	return port
}

// until asks again and again whether something has come true.
func until(limit time.Duration, ok func() bool) bool {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			return ok()
		case <-tick.C:
		}
	}
	return true
}

// Eventually fails the test unless ok comes true within ten seconds.
func Eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	if !until(10*time.Second, ok) {
		tb.Fatalf("not within ten seconds: %s", what)
	}
}
