package limits

import (
	"errors"
	"math"
	"os"
	"runtime/debug"
	"syscall"
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// TestMemoryIsTheLeastThatSomebodySaid: a limit is never raised by another one.
func TestMemoryIsTheLeastThatSomebodySaid(t *testing.T) {
	const total = 8 << 30
	bytes := func(n uint64) memlimit.Provider { return memlimit.Limit(n) }
	none := func(err error) memlimit.Provider { return func() (uint64, error) { return 0, err } }
	broken := errors.New("unreadable")
	for name, tc := range map[string]struct {
		configured int64
		runtime    int64
		container  memlimit.Provider
		machine    memlimit.Provider
		want       Bound
		err        error
	}{
		"container":                  {0, 0, bytes(256 << 20), bytes(total), Bound{256 << 20, FromContainer}, nil},
		"container above the config": {128 << 20, 0, bytes(256 << 20), bytes(total), Bound{128 << 20, FromConfig}, nil},
		"container below the config": {1 << 30, 0, bytes(256 << 20), bytes(total), Bound{256 << 20, FromContainer}, nil},
		"runtime":                    {0, 200 << 20, bytes(256 << 20), bytes(total), Bound{200 << 20, FromRuntime}, nil},
		"runtime above the others":   {300 << 20, 1 << 30, none(memlimit.ErrNoLimit), bytes(total), Bound{300 << 20, FromConfig}, nil},
		"nothing":                    {0, 0, none(memlimit.ErrNoCgroup), bytes(total), Bound{total, FromMachine}, nil},
		"more than there is":         {0, 0, bytes(math.MaxUint64), bytes(total), Bound{total, FromMachine}, nil},
		"nothing at all":             {0, 0, none(memlimit.ErrCgroupsNotSupported), none(memlimit.ErrNoLimit), Bound{unknownMachine, FromMachine}, nil},
		"container unreadable":       {0, 0, none(broken), bytes(total), Bound{total, FromMachine}, broken},
	} {
		t.Run(name, func(t *testing.T) {
			before := debug.SetMemoryLimit(-1)
			t.Cleanup(func() { debug.SetMemoryLimit(before) })
			// Without it in the environment what the runtime is held to says nothing.
			debug.SetMemoryLimit(1 << 28)
			t.Setenv("GOMEMLIMIT", "set") // restored by the test
			if tc.runtime > 0 {
				debug.SetMemoryLimit(tc.runtime)
			} else if err := os.Unsetenv("GOMEMLIMIT"); err != nil {
				t.Fatal(err)
			}
			got, err := memory(tc.configured, tc.container, tc.machine)
			if got != tc.want || !errors.Is(err, tc.err) {
				t.Errorf("got %v, %v; want %v, %v", got, err, tc.want, tc.err)
			}
			if got.Set() != (tc.want.From != FromMachine) {
				t.Errorf("%v: set is %v", got, got.Set())
			}
		})
	}
}

func TestFilesAreTheLimitOfTheProcess(t *testing.T) {
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	lower := before
	lower.Cur = 200
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lower); err != nil {
		t.Fatal(err)
	}
	got, err := Files()
	if e := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); e != nil {
		t.Fatal(e)
	}
	if got != 200 || err != nil {
		t.Errorf("got %d, %v", got, err)
	}
}
