package server

import (
	"cmp"
	"context"
	_ "embed" // clockSource
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

//go:embed clock/clock.c
var clockSource []byte

// Clock is a wall clock that a server can be started with and that can then be set.
// The server's monotonic clock is the machine's.
type Clock struct {
	library, file string
}

// NewClock builds a clock in dir, with the C compiler that is there. It is right.
func NewClock(ctx context.Context, dir string) (*Clock, error) {
	c := &Clock{library: filepath.Join(dir, "clock.so"), file: filepath.Join(dir, "clock")}
	source := filepath.Join(dir, "clock.c")
	if err := os.WriteFile(source, clockSource, 0o600); err != nil {
		return nil, err
	}
	cc := cmp.Or(os.Getenv("CC"), "cc")
	build := exec.CommandContext(ctx, cc, "-D_GNU_SOURCE", "-O2", "-shared", "-fPIC", "-o", c.library, source) //nolint:gosec // the operator names the compiler
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build a clock with %s (make setup installs a C compiler): %w\n%s", cc, err, out)
	}
	return c, os.WriteFile(c.file, make([]byte, 8), 0o600)
}

// Set makes the clock wrong by so many whole seconds, at once.
func (c *Clock) Set(wrong time.Duration) error {
	// The file is mapped where it is used, so it must keep its length.
	f, err := os.OpenFile(c.file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(wrong/time.Second)), 0) //nolint:gosec // two's complement is meant
	return err
}

func (c *Clock) env() []string {
	if c == nil {
		return nil
	}
	return append(os.Environ(), "LD_PRELOAD="+c.library, "SERVER_CLOCK="+c.file)
}
