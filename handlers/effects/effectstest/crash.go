package effectstest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/workers"
)

// childEnv carries the work of a child process.
const childEnv = "PAYBELL_EFFECTSTEST_CHILD"

// killOrder is what a child process is told to do.
type killOrder struct {
	SQLite, DSNFile string
	Step            effects.Step
	Transaction     int
}

// stopAtEveryStep stops each transaction once at each step, by an error and by a
// panic, and looks at what stands.
func stopAtEveryStep(t *testing.T, o effects.Options) {
	s := open(t, o)
	next := 0
	for _, step := range effects.Steps() {
		for _, how := range []string{"error", "panic"} {
			t.Run(string(step)+" "+how, func(t *testing.T) {
				ds := orders(next+4, 1)[next:]
				next += 4
				stopOnce(t, s, ds, step, how == "panic")
			})
		}
	}
}

func stopOnce(t *testing.T, s *effects.Store, ds []workers.Delivery, step effects.Step, panics bool) {
	t.Helper()
	before := total(t, s)
	at := func(now effects.Step) error {
		switch {
		case now != step:
			return nil
		case panics:
			panic("stopped at " + string(step))
		default:
			return goneError{}
		}
	}
	func() {
		defer func() {
			if v := recover(); (v != nil) != panics {
				t.Errorf("recovered %v, want a panic: %t", v, panics)
			}
		}()
		for i, err := range s.Handler(group, tally, effects.WithSteps(at)).HandleBatch(t.Context(), ds) {
			if err == nil {
				t.Errorf("outcome %d is nil, but the worker was never told of the commit", i)
			}
		}
	}()
	want := 0
	if step == effects.StepCommitted {
		want = len(ds)
	}
	effectsMade, keysMade := total(t, s)-before, keys(t, s)-before
	if effectsMade != want || keysMade != want {
		t.Errorf("stopped after %s: %d effects and %d keys, want %d of both", step, effectsMade, keysMade, want)
	}
	wantNil(t, s.Handler(group, tally).HandleBatch(t.Context(), ds))
	if got := total(t, s) - before; got != len(ds) {
		t.Errorf("after it ran again: %d effects, want %d", got, len(ds))
	}
}

// goneError is an error that says nothing about an event.
type goneError struct{}

// Error implements error.
func (goneError) Error() string { return "effectstest: the connection is gone" }

// Timeout implements net.Error, which makes it a fault of the connection.
func (goneError) Timeout() bool { return false }

// Temporary implements net.Error.
func (goneError) Temporary() bool { return true }

// killAtEveryStep has a child process work through batches and kill itself with
// SIGKILL at a step of a transaction in the middle. It then finishes the work
// and counts.
func killAtEveryStep(t *testing.T, o effects.Options) {
	s := open(t, o)
	ds := childDeliveries()
	for n, step := range effects.Steps() {
		t.Run(string(step), func(t *testing.T) {
			dies := 2 + n // Each child gets a little further than the one before.
			order, err := json.Marshal(killOrder{SQLite: o.SQLite, DSNFile: o.Postgres.File, Step: step, Transaction: dies})
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$") //nolint:gosec // This test binary again.
			cmd.Env = append(os.Environ(), childEnv+"="+string(order))
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) {
				t.Fatalf("the child ended with %v, want SIGKILL\n%s", err, out)
			}
			if status, ok := exit.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
				t.Fatalf("the child ended with %v, want SIGKILL\n%s", err, out)
			}
			want := (dies - 1) * childBatch
			if step == effects.StepCommitted {
				want = dies * childBatch
			}
			// The server may find out a moment later that its client died, and only
			// then roll back; what was committed is there at once.
			Eventually(t, "the killed transaction is rolled back", func() bool { return keys(t, s) == want })
			wantOnce(t, s, ds[:want])
		})
	}
	wantNil(t, s.Handler(group, tally).HandleBatch(t.Context(), ds))
	wantOnce(t, s, ds)
}

const childBatch = 16

func childDeliveries() []workers.Delivery { return orders(8*childBatch, 1) }

// child is a process of its own. It returns only if it failed to die.
func child(order string) int {
	fmt.Fprintln(os.Stderr, childWork(context.Background(), order)) //nolint:forbidigo // A main begins here.
	return 3
}

func childWork(ctx context.Context, text string) error {
	var order killOrder
	if err := json.Unmarshal([]byte(text), &order); err != nil {
		return err
	}
	o := effects.DefaultOptions()
	o.SQLite, o.Postgres.File = order.SQLite, order.DSNFile
	s, err := effects.Open(ctx, o, effects.Deps{})
	if err != nil {
		return err
	}
	transaction := 0
	at := func(step effects.Step) error {
		if step == effects.StepBegun {
			transaction++
		}
		if transaction == order.Transaction && step == order.Step {
			return syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		return nil
	}
	h := s.Handler(group, tally, effects.WithSteps(at))
	ds := childDeliveries()
	for from := 0; from < len(ds); from += childBatch {
		if err := errors.Join(h.HandleBatch(ctx, ds[from:from+childBatch])...); err != nil {
			return err
		}
	}
	return errors.Join(s.Close(), errors.New("effectstest: the child lived on"))
}
