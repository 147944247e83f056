package journal

import (
	"errors"
	"fmt"
	"slices"
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
			p.seg.lose(p.r)
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
// is the position noted, so that a full disk gets room first. What the disk refuses is
// tried again with the next Release; one that goes on refusing is an error once. After
// an error, and after a crash, the next process may read some payloads again: passing on
// must be idempotent.
func (j *Journal) Release(upTo Position) error {
	j.files.Lock()
	defer j.files.Unlock()
	gone, err := j.letGo(upTo)
	if err != nil || gone == nil {
		return err
	}
	var errs []error
	var left []*segment
	for _, seg := range gone {
		if err := j.retire(seg); err != nil {
			errs = append(errs, err)
			left = append(left, seg)
		}
	}
	mark := j.leave(left, upTo)
	if len(gone) > len(left) {
		errs = append(errs, j.countQuarantine())
	}
	if mark > j.noted && j.inPlace(nil) == nil { // this mark would hide what another journal holds
		if err := j.writeReleased(mark); err != nil {
			errs = append(errs, err)
		} else {
			j.noted = mark
		}
	}
	before := j.ailing
	if err = errors.Join(errs...); err != nil {
		err = fmt.Errorf("journal: release: %w", err)
	}
	if j.ailing = err != nil; before {
		return nil
	}
	return err
}

// letGo advances what is released, and returns the segments that nobody needs any more:
// nil if nothing was advanced.
func (j *Journal) letGo(upTo Position) ([]*segment, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil, ErrClosed
	}
	if upTo <= j.released {
		return nil, nil
	}
	j.released = upTo
	gone := append([]*segment{}, j.left...)
	kept := j.segments[:0]
	for _, seg := range j.segments {
		// An empty one is about to be written to.
		if seg == j.writing || seg.end() > upTo+1 || len(seg.records) == 0 {
			kept = append(kept, seg)
			continue
		}
		if seg == j.tail {
			j.tail = nil
		}
		gone = append(gone, seg)
	}
	clear(j.segments[len(kept):])
	j.segments, j.left = kept, gone
	return gone, nil
}

// leave notes what is still on the disk of what was released, and returns the position
// that the mark may tell.
func (j *Journal) leave(left []*segment, upTo Position) Position {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.left = left
	for _, seg := range left {
		if seg.damaged > 0 && seg.pin == 0 {
			seg.pin = seg.first
		}
	}
	for _, seg := range slices.Concat(left, j.segments) {
		if seg.pin > 0 {
			upTo = min(upTo, seg.pin-1)
		}
	}
	return upTo
}
