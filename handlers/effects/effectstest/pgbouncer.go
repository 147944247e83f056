package effectstest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/paybell/paybell/handlers/effects"
)

// Pooler is a PgBouncer in transaction mode in front of a server, on a loopback port.
type Pooler struct {
	server   *Server
	bin, dir string
	database string
	user     string
	settings []string
	port     int
	process  *os.Process
	ended    chan struct{}
}

// StartPgBouncer starts a PgBouncer in front of a new, empty database of the server, and
// stops it when the test ends. It has two connections to the server; settings such as
// "default_pool_size=1" say otherwise. Where PgBouncer is not installed the test is
// skipped, or fails when PAYBELL_REQUIRE_SERVERS is set.
func StartPgBouncer(tb testing.TB, server *Server, settings ...string) *Pooler {
	tb.Helper()
	p := &Pooler{server: server, bin: pgbouncer(tb), database: server.create(tb, ""), user: "paybell"}
	p.settings = append([]string{"pool_mode=transaction", "default_pool_size=2", "max_client_conn=200", "server_login_retry=1", "auth_type=any"}, settings...)
	var err error
	if p.dir, err = os.MkdirTemp("", "paybell-pgb-"); err != nil { //nolint:usetesting // The user of the server has to get in.
		tb.Fatalf("make the pooler's directory: %v", err)
	}
	tb.Cleanup(func() {
		p.Kill()
		_ = os.RemoveAll(p.dir) // A directory that is left in the temporary directory harms nobody.
	})
	if server.cred != nil { // PgBouncer refuses to run as root, too.
		if err := os.Chown(p.dir, int(server.cred.Uid), int(server.cred.Gid)); err != nil {
			tb.Fatalf("hand over the pooler's directory: %v", err)
		}
	}
	p.Start(tb)
	return p
}

// Start runs the pooler again after Kill, on the port it had.
func (p *Pooler) Start(tb testing.TB) {
	tb.Helper()
	for attempt := 0; ; attempt++ {
		if p.port == 0 {
			p.port = freePort(tb)
		}
		if err := p.run(context.WithoutCancel(tb.Context())); err != nil {
			tb.Fatalf("start pgbouncer: %v", err)
		}
		if answers(tb.Context(), p.DSN(), p.ended) {
			return
		}
		// Somebody else may have taken the port between freePort and now.
		if attempt == 4 {
			text, _ := os.ReadFile(filepath.Join(p.dir, "log")) // Without a log there is nothing more to tell.
			tb.Fatalf("pgbouncer does not answer:\n%s", text)
		}
		p.Kill()
		p.port = 0
	}
}

func (p *Pooler) run(ctx context.Context) error {
	text := fmt.Sprintf("[databases]\n%s = host=127.0.0.1 port=%d user=%s\n[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port=%d\nunix_socket_dir=\n%s\n",
		p.database, p.server.port, p.user, p.port, strings.Join(p.settings, "\n"))
	ini := filepath.Join(p.dir, "pgbouncer.ini")
	if err := os.WriteFile(ini, []byte(text), 0o644); err != nil { // The user of the server reads it.
		return err
	}
	c := exec.CommandContext(ctx, p.bin, ini)
	c.Dir = p.dir
	c.SysProcAttr = &syscall.SysProcAttr{Credential: p.server.cred, Pdeathsig: syscall.SIGKILL}
	var err error
	p.process, p.ended, err = spawn(c, filepath.Join(p.dir, "log"))
	return err
}

// Kill ends the pooler at once, with every connection to and through it.
func (p *Pooler) Kill() {
	if p.process == nil {
		return
	}
	_ = p.process.Kill() // It may have ended by itself.
	<-p.ended
}

// DSN names the database behind the pooler.
func (p *Pooler) DSN() string {
	return fmt.Sprintf("postgres://paybell@127.0.0.1:%d/%s?sslmode=disable", p.port, p.database)
}

// Options are those of the database behind the pooler.
func (p *Pooler) Options(tb testing.TB) effects.Options {
	tb.Helper()
	return options(tb, p.DSN())
}

// As restarts the pooler, which from then on is that user of the server. It does not wait
// until the server lets it in.
func (p *Pooler) As(tb testing.TB, user string) {
	tb.Helper()
	p.Kill()
	p.user = user
	if err := p.run(context.WithoutCancel(tb.Context())); err != nil {
		tb.Fatalf("start pgbouncer: %v", err)
	}
}

// DirectOptions are those of the same database, which is not pooled.
func (p *Pooler) DirectOptions(tb testing.TB) effects.Options {
	tb.Helper()
	return options(tb, p.server.DSN(p.database))
}

// Direct is a connection to the same database that is not pooled. The caller closes it.
func (p *Pooler) Direct(tb testing.TB) *pgx.Conn {
	tb.Helper()
	c, err := pgx.Connect(tb.Context(), p.server.DSN(p.database))
	if err != nil {
		tb.Fatalf("connect to postgres: %v", err)
	}
	return c
}

// pgbouncer finds the program: in PATH, or where it is kept from users.
func pgbouncer(tb testing.TB) string {
	tb.Helper()
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer", "/usr/local/sbin/pgbouncer"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("PAYBELL_REQUIRE_SERVERS") != "" {
		tb.Fatal("PgBouncer is not installed: no pgbouncer in PATH or /usr/sbin")
	}
	tb.Skip("PgBouncer is not installed: no pgbouncer in PATH or /usr/sbin")
	return ""
}
