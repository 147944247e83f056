// Package limits says what this process may use of the machine: memory and open files.
// It knows no part of paybell: budgets are handed to the parts as plain numbers.
package limits

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"syscall"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// What a bound of memory was found in.
const (
	// FromContainer is the cgroup's limit, v1 or v2.
	FromContainer = "container"
	// FromRuntime is GOMEMLIMIT in the environment.
	FromRuntime = "GOMEMLIMIT"
	// FromConfig is what the configuration says.
	FromConfig = "memory_limit"
	// FromMachine is all the memory that there is: nobody has set a limit.
	FromMachine = "machine"
)

// Bound is how much memory the process may use, and who says so.
type Bound struct {
	Bytes int64
	From  string
}

// Set reports whether somebody has set the bound. What a machine has is for all of its
// processes.
func (b Bound) Set() bool { return b.From != FromMachine }

// String is the bound as a log line says it.
func (b Bound) String() string { return fmt.Sprintf("%d MiB (%s)", b.Bytes>>20, b.From) }

// unknownMachine is taken where not even the machine's memory is known.
const unknownMachine = 1 << 30

// Memory tells what the process may use: the least of the container's limit, GOMEMLIMIT
// and what is configured (0 is nothing), or the machine's memory where none is set. An
// error says that the container could not be asked; the bound is good all the same.
func Memory(configured int64) (Bound, error) {
	return memory(configured, memlimit.FromCgroup, memlimit.FromSystem)
}

func memory(configured int64, container, machine memlimit.Provider) (Bound, error) {
	least := Bound{Bytes: math.MaxInt64, From: FromMachine}
	lower := func(bytes int64, from string) {
		if bytes > 0 && bytes < least.Bytes {
			least = Bound{Bytes: bytes, From: from}
		}
	}
	limit, err := container()
	switch {
	case err == nil:
		lower(int64(min(limit, math.MaxInt64)), FromContainer) //nolint:gosec // it fits
	case errors.Is(err, memlimit.ErrNoLimit), errors.Is(err, memlimit.ErrCgroupsNotSupported), errors.Is(err, memlimit.ErrNoCgroup):
		err = nil
	default:
		err = fmt.Errorf("memory limit of the container: %w", err)
	}
	// What the runtime is held to may be a share that was set since: the environment is asked.
	if _, set := os.LookupEnv("GOMEMLIMIT"); set {
		lower(debug.SetMemoryLimit(-1), FromRuntime)
	}
	lower(configured, FromConfig)
	// A cgroup without a limit may show more than there is.
	total, noTotal := machine()
	if noTotal == nil {
		lower(int64(min(total, math.MaxInt64)), FromMachine) //nolint:gosec // it fits
	}
	if least.Bytes == math.MaxInt64 {
		least.Bytes = unknownMachine
	}
	return least, err
}

// Files is how many files the process may have open at once, connections among them. Go
// has raised the soft limit to the hard one by then.
func Files() (int, error) {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 0, fmt.Errorf("limit of open files: %w", err)
	}
	return int(min(r.Cur, math.MaxInt32)), nil //nolint:gosec // it fits
}
