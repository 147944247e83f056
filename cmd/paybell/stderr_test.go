package main_test

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/paybell/paybell/streams/streamstest"
)

// serving is a gateway whose output goes into a pipe.
type serving struct {
	*stack
	p     *process
	admin string
	next  int
}

// newServing starts a gateway that writes to output and waits until it is ready.
func newServing(t *testing.T, output *os.File) *serving {
	t.Helper()
	s := &serving{stack: newStack(t, streamstest.Redis(t, streamstest.AOF("everysec")...).Addr(), "unused"), admin: freeAddress(t)}
	cmd := s.command("gateway", "--set", "admin.address="+s.admin, "--set", "log.level=debug", "--set", "gateway.drain_delay=200ms")
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.p = &process{t, cmd}
	t.Cleanup(s.p.kill)
	s.ready(t)
	return s
}

func (s *serving) ready(t *testing.T) {
	t.Helper()
	away := &away{stack: s.stack}
	waitUntil(t, 20*time.Second, "the gateway is ready", func() bool {
		return strings.HasPrefix(away.get(t.Context(), s.gatewayURL+"/readyz"), "200")
	})
}

func (s *serving) takes(t *testing.T) {
	t.Helper()
	for range 20 {
		if !s.post(t.Context(), s.next) {
			t.Fatalf("callback %d is not accepted", s.next)
		}
		s.next++
	}
}

func (s *serving) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := s.p.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// ends tells it to stop, which has to go well and to be done in time.
func (s *serving) ends(t *testing.T) {
	t.Helper()
	s.signal(t, syscall.SIGTERM)
	ended := make(chan error, 1)
	go func() { ended <- s.p.cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ends with %v", err)
		}
	case <-time.After(15 * time.Second):
		t.Error("it does not end")
		if err := s.p.cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		<-ended
	}
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() }) // the test may have closed them
	return r, w
}

// TestFullPipeHoldsUpNothing: nobody reads what the process writes, and there is no room
// for another byte of it before it starts.
func TestFullPipeHoldsUpNothing(t *testing.T) {
	_, w := pipe(t)
	if err := w.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 16<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the pipe is not full: %v", err)
	}
	s := newServing(t, w)
	s.takes(t)
	s.signal(t, syscall.SIGHUP)
	s.takes(t)
	s.ends(t)
}

// TestDeadReaderEndsNothing: what is written is counted as dropped.
func TestDeadReaderEndsNothing(t *testing.T) {
	r, w := pipe(t)
	s := newServing(t, w)
	if err := errors.Join(r.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	s.takes(t)
	away := &away{stack: s.stack}
	waitUntil(t, 10*time.Second, "lines are counted as dropped", func() bool {
		_, after, ok := strings.Cut(away.get(t.Context(), "http://"+s.admin+"/metrics"), "\npaybell_log_dropped_lines_total ")
		return ok && !strings.HasPrefix(after, "0\n")
	})
	s.takes(t)
	s.ends(t)
}

// TestHangupEndsNothing: the terminal is gone; and the last words of the end are written.
func TestHangupEndsNothing(t *testing.T) {
	path := t.TempDir() + "/log"
	w, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	s := newServing(t, w)
	for range 3 {
		s.signal(t, syscall.SIGHUP)
		s.takes(t)
	}
	waitUntil(t, 10*time.Second, "it is said", func() bool { return strings.Contains(readFile(t, path), "keys and secrets were read again") })
	s.ends(t)
	log := readFile(t, path)
	if strings.Contains(log, "other changes of the configuration") {
		t.Error("bounds that the process has made itself are called changes of the configuration")
	}
	for _, want := range []string{"is ready\n", "msg=stopping", "msg=stopped part=writer"} {
		if !strings.Contains(log, want) {
			t.Errorf("%q is not written", want)
		}
	}
}
