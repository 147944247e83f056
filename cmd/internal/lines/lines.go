// Package lines writes the log of a process without waiting for whoever reads it: a pipe
// that nobody empties, a terminal that was stopped or a full disk holds up no callback and
// no end of the process. What cannot be written is dropped by the whole line, and counted.
package lines

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// maxWaiting bounds the bytes that wait for the reader.
	maxWaiting = 1 << 20
	// atomicLen is what a pipe takes whole or not at all (PIPE_BUF in pipe(7)), so that no
	// end of the process cuts a line, and no other process's line comes in between.
	atomicLen = 4096
	// againAfter is how long to wait where somebody has made the descriptor non-blocking.
	againAfter = 10 * time.Millisecond
)

// Writer takes whole lines and never waits. Its methods are safe for concurrent use.
type Writer struct {
	out   io.Writer
	wake  chan struct{}
	over  chan struct{} // closed when nobody waits for the rest any more
	ended chan struct{} // closed when Run has returned
	torn  bool          // the last write ended inside a line; only Run knows

	mu       sync.Mutex
	waiting  []byte
	underway int // bytes that Run has taken and not written
	dropped  int
	untold   int // of those, what the log does not say yet
	tell     func(dropped int) (line []byte)
	closed   bool
}

// New returns a Writer to out. Run has to be running.
func New(out io.Writer) *Writer {
	return &Writer{out: out, wake: make(chan struct{}, 1), over: make(chan struct{}), ended: make(chan struct{})}
}

// Tell sets the line that is put into the log, when it can be written again, about how
// many lines were dropped.
func (w *Writer) Tell(line func(dropped int) []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tell = line
}

// Write implements io.Writer for one line or several whole ones. It has no errors: a log
// is not what a process ends for.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.waiting)+w.underway+len(p) > maxWaiting {
		w.drop(p)
		return len(p), nil
	}
	w.waiting = append(w.waiting, p...)
	w.rouse()
	return len(p), nil
}

// drop counts the lines of p as dropped. w.mu is held.
func (w *Writer) drop(p []byte) {
	n := int(bytes.Count(p, newline))
	w.dropped += n
	w.untold += n
}

var newline = []byte{'\n'}

func (w *Writer) rouse() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Dropped is how many lines were dropped.
func (w *Writer) Dropped() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dropped
}

// Collector exports Dropped.
func (w *Writer) Collector() prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "paybell_log_dropped_lines_total",
		Help: "Lines of the log that were dropped, because nobody read them in time or they could not be written.",
	}, func() float64 { return float64(w.Dropped()) })
}

// Close has Run write what waits, and gives it that long. What is written later is dropped.
func (w *Writer) Close(within time.Duration) {
	w.mu.Lock()
	first := !w.closed
	w.closed = true
	w.mu.Unlock()
	w.rouse()
	if !first {
		return
	}
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case <-w.ended:
	case <-late.C:
	}
	close(w.over)
}

// Run writes until Close was called and nothing waits.
func (w *Writer) Run() {
	defer close(w.ended)
	var spare []byte
	for range w.wake {
		for {
			taken, closed := w.take(spare)
			if len(taken) == 0 && closed {
				return
			}
			if len(taken) == 0 {
				break
			}
			for rest := taken; len(rest) > 0; {
				n := whole(rest)
				w.put(rest[:n])
				rest = rest[n:]
			}
			spare = taken[:0]
		}
	}
}

// take returns what waits. What comes next is then put into spare.
func (w *Writer) take(spare []byte) (taken []byte, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) == 0 {
		return nil, w.closed
	}
	taken, w.waiting, w.underway = w.waiting, spare, len(w.waiting)
	return taken, w.closed
}

// whole is how much of b goes into one write: as many lines as a pipe takes whole, or one.
func whole(b []byte) int {
	if len(b) <= atomicLen {
		return len(b)
	}
	if i := bytes.LastIndexByte(b[:atomicLen], '\n'); i >= 0 {
		return i + 1
	}
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return i + 1
	}
	return len(b)
}

// put writes lines, or drops what cannot be written of them.
func (w *Writer) put(b []byte) {
	size := len(b)
	if w.torn {
		b = append([]byte{'\n'}, b...)
	}
	n, err := w.out.Write(b)
	for errors.Is(err, syscall.EAGAIN) && w.pause() {
		b = b[n:]
		n, err = w.out.Write(b)
	}
	if n > 0 {
		w.torn = b[n-1] != '\n'
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.underway -= size
	if err != nil {
		w.drop(b[n:])
		return
	}
	if w.untold > 0 && w.tell != nil {
		w.waiting = append(w.waiting, w.tell(w.untold)...) // behind what came before them
		w.untold = 0
	}
}

// pause waits a moment, and reports whether anybody waits for the rest.
func (w *Writer) pause() bool {
	t := time.NewTimer(againAfter)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-w.over:
		return false
	}
}
