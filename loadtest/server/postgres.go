package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// Postgres starts a PostgreSQL whose data lies in dir/postgres, where the next one of
// the same directory finds it. It refuses to run as root, so root runs it as the user
// postgres.
func Postgres(ctx context.Context, dir string, port int, flags ...string) (*Process, error) {
	data := filepath.Join(dir, "postgres")
	made := os.Mkdir(data, 0o700)
	if made != nil && !errors.Is(made, fs.ErrExist) {
		return nil, made
	}
	attr, err := postgresUser(dir, data)
	if err != nil {
		return nil, err
	}
	if made == nil {
		if err := initialise(ctx, data, attr); err != nil {
			return nil, err
		}
	}
	bin, err := postgresBinary("postgres")
	if err != nil {
		return nil, err
	}
	args := append([]string{"-D", data, "-h", "127.0.0.1", "-p", strconv.Itoa(port), "-k", ""}, flags...)
	cmd := exec.CommandContext(context.WithoutCancel(ctx), bin, args...) //nolint:gosec // found on the path
	cmd.SysProcAttr, cmd.Dir = attr, data
	return Start(dir, "postgres-server", cmd)
}

// DSN is how a Postgres at a port is reached.
func DSN(port int) string {
	return fmt.Sprintf("postgres://paybell@127.0.0.1:%d/postgres?sslmode=disable", port)
}

func initialise(ctx context.Context, data string, attr *syscall.SysProcAttr) error {
	bin, err := postgresBinary("initdb")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, bin, "-D", data, "-U", "paybell", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync") //nolint:gosec // found on the path
	cmd.SysProcAttr, cmd.Dir = attr, data
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

func postgresUser(dir, data string) (*syscall.SysProcAttr, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	// The directory above is only walked through by the server's user.
	if err := errors.Join(os.Chmod(dir, 0o711), os.Chown(data, int(uid), int(gid))); err != nil { //nolint:gosec // no listing
		return nil, err
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

// postgresBinary finds a server binary on the path or where Debian puts it, the
// newest version first.
func postgresBinary(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("%s is not installed (make setup installs it)", name)
	}
	return found[len(found)-1], nil
}
