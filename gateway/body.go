package gateway

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
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

// readBody reads the body as it was sent, at most Options.MaxBody bytes. Memory
// grows with what arrives and not with what was announced. The caller gives back
// what was charged, also after an error.
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
	if err := g.grow(&b, min(limit, firstRead(announced))); err != nil {
		return b, err
	}
	for {
		if len(b.bytes) == cap(b.bytes) {
			if len(b.bytes) == limit {
				return b, ended(r.Body, announced)
			}
			if err := g.grow(&b, min(limit, 2*cap(b.bytes))); err != nil {
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

// grow gives the body room for size bytes, if the budget has them.
func (g *Gateway) grow(b *body, size int) error {
	if size > smallBody {
		more := size - b.charged
		b.charged = size
		if g.bodyMemory.Add(int64(more)) > int64(g.options.BodyMemory) {
			return ErrBodyMemory
		}
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
