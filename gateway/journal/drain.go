package journal

import (
	"errors"
	"fmt"
)

// Read returns at most max payloads from position "from" on, oldest first, and no
// more than maxCommit bytes of them beyond the first. One that has become unreadable
// since it was written comes without its payload and with Err set. Only the
// goroutine that releases may read.
func (j *Journal) Read(from Position, max int) ([]Entry, error) {
	type place struct {
		seg *segment
		r   record
	}
	var places []place
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return nil, ErrClosed
	}
	var bytes int64
page:
	for _, seg := range j.segments {
		for _, r := range seg.records[seg.index(from):] {
			// Not one of the next file either: a page has no gap.
			if len(places) == max || len(places) > 0 && bytes+r.length > maxCommit {
				break page
			}
			bytes += r.length
			places = append(places, place{seg, r})
		}
	}
	j.mu.Unlock()

	// The disk is read without the lock: appends must not wait for it.
	out := make([]Entry, 0, len(places))
	for _, p := range places {
		e := Entry{Position: p.r.position, At: timeOf(p.r.at)}
		if e.Payload, e.Err = p.seg.read(p.r); e.Err != nil {
			j.mu.Lock()
			p.seg.damaged += headerLen + p.r.length
			j.mu.Unlock()
		}
		out = append(out, e)
	}
	return out, nil
}

// Released is the last position that Release was given, 0 before the first.
func (j *Journal) Released() Position {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.released
}

// Release says that everything up to and including a position has been passed on
// and need not be kept. Files are removed when all of them is released, and only then
// is the position noted, so that a full disk gets room first. After an error, and
// after a crash, the next process may read some payloads again: passing on must be
// idempotent.
func (j *Journal) Release(upTo Position) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return ErrClosed
	}
	if upTo <= j.released {
		return nil
	}
	j.released = upTo
	var errs []error
	kept := j.segments[:0]
	for _, seg := range j.segments {
		if seg == j.writing || seg.end() > upTo+1 {
			kept = append(kept, seg)
			continue
		}
		if seg == j.tail {
			j.tail = nil
		}
		errs = append(errs, seg.file.Close(), j.retire(seg))
	}
	clear(j.segments[len(kept):])
	j.segments = kept
	if err := errors.Join(append(errs, writeReleased(j.dir, upTo))...); err != nil {
		return fmt.Errorf("journal: release: %w", err)
	}
	return nil
}
