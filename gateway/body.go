package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// smallBody is how much of a body is taken without asking the budget. Ordinary
// callbacks are smaller, so that nobody can push them out with large ones.
const smallBody = 16 << 10

// body is a callback's body, read once.
//
// Its memory is never used again for another callback: the records made from it
// refer to it, and an append that ran out of time may still be writing them.
type body struct {
	bytes []byte
	// charged is what the body holds of Options.BodyMemory.
	charged int
}

// bodyWait is how long a body waits for others to give their memory back before the
// provider is asked to send it again. With the append it stays below the 5 s that most
// providers wait.
const bodyWait = time.Second

// bodyBudget is what bodies larger than smallBody may hold together. Those that wait are
// served in the order in which they came.
type bodyBudget struct {
	room *semaphore.Weighted
	held atomic.Int64
}

func newBodyBudget(size int) *bodyBudget {
	return &bodyBudget{room: semaphore.NewWeighted(int64(size))}
}

// reserve takes n bytes, or returns ErrBodyMemory where they do not become free in time.
func (b *bodyBudget) reserve(ctx context.Context, n int) error {
	if !b.room.TryAcquire(int64(n)) {
		ctx, cancel := context.WithTimeout(ctx, bodyWait)
		defer cancel()
		if b.room.Acquire(ctx, int64(n)) != nil {
			return ErrBodyMemory
		}
	}
	b.held.Add(int64(n))
	return nil
}

// release gives n bytes back.
func (b *bodyBudget) release(n int) {
	b.held.Add(-int64(n))
	b.room.Release(int64(n))
}

// readBody reads the body as it was sent, at most Options.MaxBody bytes. What was
// announced costs nothing until more than smallBody has arrived: then all of it is
// reserved, so that no body waits for room that others hold who wait as well. A chunked
// one reserves as it grows. The caller gives back what was charged, also after an error.
func (g *Gateway) readBody(r *http.Request) (b body, err error) {
	if encoded(r.Header) {
		return b, ErrEncoding
	}
	limit := g.options.MaxBody
	announced := r.ContentLength // -1 when chunked
	switch {
	case announced == 0:
		return b, nil
	case announced > int64(limit):
		return b, ErrBodyTooLarge
	case announced > 0:
		limit = int(announced)
	}
	ctx := r.Context()
	if err := g.grow(ctx, &b, min(limit, firstRead(announced))); err != nil {
		return b, err
	}
	for {
		if len(b.bytes) == cap(b.bytes) {
			if len(b.bytes) == limit {
				return b, ended(r.Body, announced)
			}
			next := min(limit, 2*cap(b.bytes))
			if announced > 0 {
				next = limit
			}
			if err := g.grow(ctx, &b, next); err != nil {
				return b, err
			}
		}
		n, err := r.Body.Read(b.bytes[len(b.bytes):cap(b.bytes)])
		b.bytes = b.bytes[:len(b.bytes)+n]
		switch {
		case errors.Is(err, io.EOF) && (announced < 0 || len(b.bytes) == limit):
			return b, nil
		case err != nil:
			return b, broken(err)
		}
	}
}

// firstRead is the first piece of memory for a body: an announced small one fits
// without a second.
func firstRead(announced int64) int {
	if announced > 0 {
		return smallBody
	}
	return 4 << 10
}

// ended makes sure that a body read to its limit ends there. An announced length
// is held by net/http, a chunked body has to be asked.
func ended(r io.Reader, announced int64) error {
	if announced > 0 {
		return nil
	}
	for {
		n, err := r.Read(make([]byte, 1))
		switch {
		case n > 0:
			return ErrBodyTooLarge
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return broken(err)
		}
	}
}

// broken tells a sender that was too slow from one that went away.
func broken(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ErrSlowBody
	}
	return fmt.Errorf("%w: %w", ErrBrokenBody, err)
}

// grow gives the body room for size bytes, once the budget has them.
func (g *Gateway) grow(ctx context.Context, b *body, size int) error {
	if size > smallBody {
		if err := g.bodies.reserve(ctx, size-b.charged); err != nil {
			return err
		}
		b.charged = size
	}
	larger := make([]byte, len(b.bytes), size)
	copy(larger, b.bytes)
	b.bytes = larger
	return nil
}

// encoded reports whether the body comes in an encoding other than identity.
func encoded(h http.Header) bool {
	for _, line := range h["Content-Encoding"] {
		for coding := range strings.SplitSeq(line, ",") {
			if coding = strings.TrimSpace(coding); coding != "" && !strings.EqualFold(coding, "identity") {
				return true
			}
		}
	}
	return false
}
