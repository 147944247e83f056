package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Read returns at most max payloads from position "from" on, oldest first, and no
// more than maxCommit bytes of them beyond the first. Damage that appeared since the
// journal was opened is an error that names the place.
func (j *Journal) Read(from Position, max int) ([]Entry, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil, ErrClosed
	}
	var out []Entry
	var bytes int64
	for _, seg := range j.segments {
		for _, r := range seg.records[seg.index(from):] {
			if len(out) == max || len(out) > 0 && bytes+r.length > maxCommit {
				return out, nil
			}
			payload, err := seg.read(r)
			if err != nil {
				return out, err
			}
			bytes += r.length
			out = append(out, Entry{Position: r.position, At: timeOf(r.at), Payload: payload})
		}
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
// and need not be kept. Files are removed when all of them is released. After a
// crash some payloads may be read again: passing on must be idempotent.
func (j *Journal) Release(upTo Position) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return ErrClosed
	}
	if upTo <= j.released {
		return nil
	}
	if err := writeReleased(j.dir, upTo); err != nil {
		return err
	}
	j.released = upTo
	var errs []error
	kept := j.segments[:0]
	for _, seg := range j.segments {
		if seg == j.writing || seg.end() > upTo+1 {
			kept = append(kept, seg)
			continue
		}
		errs = append(errs, seg.file.Close(), os.Remove(seg.path))
	}
	clear(j.segments[len(kept):])
	j.segments = kept
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("journal: remove a released segment: %w", err)
	}
	return nil
}

// writeReleased replaces the mark. It is not synced: an older mark only makes the
// reader pass on again what it passed on before.
func writeReleased(dir string, p Position) error {
	b := binary.BigEndian.AppendUint64(nil, uint64(p))
	b = binary.BigEndian.AppendUint64(b, ^uint64(p))
	tmp := filepath.Join(dir, releasedFile+".new")
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("journal: write what was released: %w", err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, releasedFile)); err != nil {
		return fmt.Errorf("journal: write what was released: %w", err)
	}
	return nil
}
