package lines_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/paybell/paybell/cmd/internal/lines"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sink is what a Writer writes to. Each write may be held up, fail, or be cut short.
type sink struct {
	mu      sync.Mutex
	written bytes.Buffer
	calls   int
	fail    error
	takes   int           // bytes before it fails
	held    chan struct{} // a write waits until it is closed
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	held := s.held
	s.mu.Unlock()
	if held != nil {
		<-held
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.fail != nil {
		n := min(s.takes, len(p))
		s.takes = 0
		s.written.Write(p[:n])
		return n, s.fail
	}
	return s.written.Write(p)
}

func (s *sink) set(fail error, takes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail, s.takes = fail, takes
}

func (s *sink) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written.String()
}

// running is a Writer that runs and says what it dropped.
func running(t *testing.T, out io.Writer) *lines.Writer {
	t.Helper()
	w := lines.New(out)
	w.Tell(func(n int) []byte { return fmt.Appendf(nil, "dropped %d\n", n) })
	go w.Run()
	t.Cleanup(func() { w.Close(10 * time.Second) })
	return w
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(what)
		}
	}
}

// line is the n-th one.
func line(n int) string { return fmt.Sprintf("%06d %s\n", n, strings.Repeat("x", n%3000)) }

// TestLinesAreWrittenInOrder, also those longer than what a pipe takes at once, and the
// last ones before the end.
func TestLinesAreWrittenInOrder(t *testing.T) {
	s := new(sink)
	w := running(t, s)
	var want strings.Builder
	for n := range 300 {
		text := line(n * 37)
		if n == 150 {
			text = strings.Repeat("long", 5000) + "\n"
		}
		want.WriteString(text)
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	w.Close(10 * time.Second)
	if s.text() != want.String() || w.Dropped() != 0 {
		t.Errorf("%d bytes of %d are written, %d lines dropped", len(s.text()), want.Len(), w.Dropped())
	}
}

// TestPipeNobodyReads: whoever logs goes on, memory is bounded, whole lines are dropped
// and counted, and the log says so when it is read again.
func TestPipeNobodyReads(t *testing.T) {
	r, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	defer r.Close()
	w := running(t, out)
	const each = 1000
	total := 3 << 20 / each
	for n := range total {
		if _, err := fmt.Fprintf(w, "%06d %s\n", n, strings.Repeat("x", each-8)); err != nil {
			t.Fatal(err)
		}
	}
	dropped := w.Dropped()
	if kept := (total - dropped) * each; kept > 1<<20+1<<18 || kept < 1<<20-1<<16 {
		t.Errorf("%d bytes wait", kept)
	}
	// Whoever reads now gets whole lines, in order, and then how many are missing.
	said := make(chan string, 1)
	go func() {
		var all strings.Builder
		b := make([]byte, 1<<16)
		for !strings.Contains(all.String(), "dropped ") {
			n, err := r.Read(b)
			if err != nil {
				break
			}
			all.Write(b[:n])
		}
		said <- all.String()
	}()
	var got string
	select {
	case got = <-said:
	case <-time.After(10 * time.Second):
		t.Fatal("the log does not say that lines were dropped")
	}
	read := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
	for n, l := range read[:len(read)-1] {
		if len(l) != each-1 || !strings.HasPrefix(l, fmt.Sprintf("%06d ", n)) {
			t.Fatalf("line %d is %.20q, %d bytes", n, l, len(l))
		}
	}
	if last := read[len(read)-1]; last != fmt.Sprintf("dropped %d", dropped) || len(read)-1 != total-dropped {
		t.Errorf("%d lines and %q, want %d and %d dropped", len(read)-1, last, total-dropped, dropped)
	}
}

// TestEndIsNotHeldUp by a reader that does not read, and no line is cut by it.
func TestEndIsNotHeldUp(t *testing.T) {
	s := &sink{held: make(chan struct{})}
	w := running(t, s)
	_, _ = io.WriteString(w, "waits\n") // it has no errors
	begun := time.Now()
	w.Close(50 * time.Millisecond)
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("the end took %s", took)
	}
	_, _ = io.WriteString(w, "too late\n")
	if w.Dropped() != 1 {
		t.Errorf("%d lines dropped behind the end, want 1", w.Dropped())
	}
	close(s.held)
	eventually(t, "what was being written is not", func() bool { return s.text() == "waits\ndropped 1\n" })
}

// TestDeadReaderIsNoEnd: each line is tried once, and counted.
func TestDeadReaderIsNoEnd(t *testing.T) {
	s := &sink{fail: syscall.EPIPE}
	w := running(t, s)
	for n := range 10 {
		_, _ = fmt.Fprintf(w, "%d\n", n)
		eventually(t, "a line is not counted as dropped", func() bool { return w.Dropped() == n+1 })
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls != 10 {
		t.Errorf("%d writes of 10 lines", s.calls)
	}
}

// TestLineThatBreaksOff: what comes next begins a line of its own.
func TestLineThatBreaksOff(t *testing.T) {
	s := &sink{fail: syscall.ENOSPC, takes: 4}
	w := running(t, s)
	_, _ = io.WriteString(w, "broken off\n")
	eventually(t, "it is not dropped", func() bool { return w.Dropped() == 1 })
	s.set(nil, 0)
	_, _ = io.WriteString(w, "whole\n")
	w.Close(10 * time.Second)
	if want := "brok\nwhole\ndropped 1\n"; s.text() != want {
		t.Errorf("%q, want %q", s.text(), want)
	}
}

// TestDescriptorThatDoesNotBlock: another process that shares the terminal has made it so.
func TestDescriptorThatDoesNotBlock(t *testing.T) {
	s := &sink{fail: syscall.EAGAIN, takes: 4}
	w := running(t, s)
	_, _ = io.WriteString(w, "comes in two\n")
	eventually(t, "its beginning is not written", func() bool { return s.text() == "come" })
	s.set(nil, 0)
	w.Close(10 * time.Second)
	if s.text() != "comes in two\n" || w.Dropped() != 0 {
		t.Errorf("%q, %d dropped", s.text(), w.Dropped())
	}
	s = &sink{fail: syscall.EAGAIN}
	w = running(t, s)
	_, _ = io.WriteString(w, "never taken\n")
	w.Close(50 * time.Millisecond) // Run ends all the same, as goleak sees
}
