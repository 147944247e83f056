package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// Redis starts a redis-server with a configuration file and further flags. Its data
// lies in dir/redis, where the next one of the same directory finds it.
func Redis(ctx context.Context, dir, conf string, port int, flags ...string) (*Process, error) {
	return RedisAt(ctx, nil, dir, conf, port, flags...)
}

// RedisAt is Redis by a clock of its own; nil is the machine's.
func RedisAt(ctx context.Context, clock *Clock, dir, conf string, port int, flags ...string) (*Process, error) {
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("redis-server: %w (make setup installs it)", err)
	}
	data := filepath.Join(dir, "redis")
	if err := os.Mkdir(data, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	args := append([]string{conf, "--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", data}, flags...)
	// Not bound to ctx: an interrupted run stops it like any other, gracefully.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), bin, args...) //nolint:gosec // found on the path
	cmd.Env = clock.env()
	return Start(dir, "redis", cmd)
}

// SilenceClient keeps the Redis client library from telling standard error of every
// server that is away: that is what a run is about. It changes the whole process, so
// it is for main alone.
func SilenceClient() { redis.SetLogger(silent{}) }

type silent struct{}

// Printf implements the library's logger.
func (silent) Printf(context.Context, string, ...any) {}
