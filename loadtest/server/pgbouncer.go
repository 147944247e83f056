package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// PgBouncer starts a PgBouncer in transaction mode in front of a Postgres. It refuses to
// run as root, so root runs it as PostgreSQL's user.
func PgBouncer(ctx context.Context, dir string, port, postgres int) (*Process, error) {
	bin, err := exec.LookPath("pgbouncer")
	if err != nil { // Debian keeps it from users
		bin, err = exec.LookPath("/usr/sbin/pgbouncer")
	}
	if err != nil {
		return nil, fmt.Errorf("pgbouncer is not installed (make setup installs it): %w", err)
	}
	home := filepath.Join(dir, "pgbouncer")
	text := fmt.Sprintf(`[databases]
postgres = host=127.0.0.1 port=%d user=paybell
[pgbouncer]
listen_addr=127.0.0.1
listen_port=%d
unix_socket_dir=
auth_type=any
pool_mode=transaction
default_pool_size=4
server_login_retry=1
`, postgres, port)
	ini := filepath.Join(home, "pgbouncer.ini")
	if err := errors.Join(os.MkdirAll(home, 0o700), os.WriteFile(ini, []byte(text), 0o644)); err != nil { //nolint:gosec // the server's user reads it
		return nil, err
	}
	attr, err := postgresUser(dir, home)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), bin, ini) //nolint:gosec // found on the path
	cmd.SysProcAttr, cmd.Dir = attr, home
	return Start(dir, "pgbouncer-server", cmd)
}
