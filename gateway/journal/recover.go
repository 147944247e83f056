package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// recover reads the directory: which positions were released, and every whole
// record of every segment. It writes nothing, so it works on a full disk, and no
// segment of an earlier process is ever written to again: a sync of a file that had
// a failed one before proves nothing.
func (j *Journal) recover() (Report, error) {
	var report Report
	released, err := readReleased(j.dir)
	if err != nil {
		return report, err
	}
	j.released = released
	paths, err := segmentPaths(j.dir)
	if err != nil {
		return report, err
	}
	segments, err := loadAll(paths)
	if err != nil {
		return report, err
	}
	for _, seg := range segments {
		report.Torn += seg.torn
		report.Damaged += seg.damaged
		if len(seg.records) == 0 || seg.end() <= j.released+1 {
			// Nothing in it can be read, or all of it was released.
			if err := j.retire(seg); err != nil {
				return report, fmt.Errorf("journal: take a segment out of use: %w", err)
			}
			continue
		}
		if seg.file, err = os.Open(seg.path); err != nil {
			return report, fmt.Errorf("journal: open segment: %w", err)
		}
		j.segments = append(j.segments, seg)
		report.Payloads += len(seg.records) - seg.index(j.released+1)
	}
	if err := j.countQuarantine(); err != nil {
		return report, fmt.Errorf("journal: read the quarantine: %w", err)
	}
	switch {
	case report.Damaged > 0:
		j.log.Error("journal is damaged: what cannot be read stays in its quarantine directory and the rest is used",
			"damaged_bytes", report.Damaged, "torn_bytes", report.Torn, "dir", j.dir)
	case report.Torn > 0:
		j.log.Warn("journal ends in an unfinished record, as a crash leaves it; nothing in it was confirmed",
			"torn_bytes", report.Torn, "dir", j.dir)
	}
	return report, nil
}

// segmentPaths lists the segments, oldest first.
func segmentPaths(dir string) ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*"+segmentExt))
	if err != nil {
		return nil, fmt.Errorf("journal: list segments: %w", err)
	}
	for _, path := range paths {
		if _, ok := segmentFirst(filepath.Base(path)); !ok {
			return nil, fmt.Errorf("journal: %s is no segment of a journal: move it away", path)
		}
	}
	slices.Sort(paths)
	return paths, nil
}

// loadAll scans segments. One that was removed since it was listed is left out.
func loadAll(paths []string) ([]*segment, error) {
	var segments []*segment
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("journal: read segment: %w", err)
		}
		first, _ := segmentFirst(filepath.Base(path)) // segmentPaths lists no other
		s := scan(b, first)
		segments = append(segments, &segment{
			path: path, first: first, salt: s.salt, records: s.records,
			size: int64(len(b)), torn: int64(len(b)) - s.good, damaged: s.damaged,
		})
	}
	for i, seg := range segments[:max(0, len(segments)-1)] {
		if seg.torn > 0 && segments[i+1].salt.session == seg.salt.session {
			seg.damaged, seg.torn = seg.damaged+seg.torn, 0 // it was whole when the next was begun
		}
	}
	return segments, nil
}

// scanned is what a segment's bytes hold.
type scanned struct {
	salt    salt
	records []record
	good    int64 // everything before it is records or damage between them
	damaged int64 // bytes that have good records behind them
}

// scan finds every whole record. A callback whose last record is missing at the very
// end was never acknowledged and is left out; behind damage whatever is good counts.
func scan(b []byte, first Position) scanned {
	s, whole, ok := saltOf(b)
	if !ok {
		return scanned{}
	}
	out := scanned{salt: s, good: fileHeaderLen}
	if !whole {
		out.damaged = copyLen
	}
	next := first
	var group []record // of a callback whose last record has not been met
	off := int64(fileHeaderLen)
	for off < int64(len(b)) {
		r, more, _, ok := out.salt.decode(b[off:])
		if !ok || r.position < next {
			behind, found := out.salt.find(b, off+1, next)
			if !found {
				return out
			}
			out.damaged += behind - off
			out.records, group = append(out.records, group...), nil
			off = behind
			continue
		}
		r.offset = off
		next = r.position + 1
		off += headerLen + r.length
		group = append(group, r)
		if !more {
			out.records, group = append(out.records, group...), nil
			out.good = off
		}
	}
	return out
}

// find looks for the next whole record at or behind off.
func (s salt) find(b []byte, off int64, next Position) (int64, bool) {
	mark := binary.BigEndian.AppendUint32(nil, s.mark)
	for off < int64(len(b)) {
		i := bytes.Index(b[off:], mark)
		if i < 0 {
			return 0, false
		}
		off += int64(i)
		if r, _, _, ok := s.decode(b[off:]); ok && r.position >= next {
			return off, true
		}
		off++
	}
	return 0, false
}

// Inspection is what Inspect saw.
type Inspection struct {
	Stats
	// Torn and Damaged are as in Report.
	Torn, Damaged int64
	// Held is true while a process has the journal open; what it writes meanwhile
	// may be seen in part.
	Held bool
}

// Inspect looks at a journal without taking or changing it.
func Inspect(dir string) (Inspection, error) {
	var out Inspection
	lock, err := os.Open(filepath.Join(dir, lockFile))
	if err != nil {
		return out, fmt.Errorf("journal: %s holds no journal: %w", dir, err)
	}
	// Held shared for an instant: a gateway that starts in just that one is told that
	// the directory is held, and is started again.
	err = flock(lock, syscall.LOCK_SH)
	out.Held = errors.Is(err, ErrLocked)
	if err := lock.Close(); err != nil {
		return out, fmt.Errorf("journal: lock: %w", err)
	}
	released, err := readReleased(dir)
	if err != nil {
		return out, err
	}
	paths, err := segmentPaths(dir)
	if err != nil {
		return out, err
	}
	segments, err := loadAll(paths)
	if err != nil {
		return out, err
	}
	for _, seg := range segments {
		out.Bytes += seg.size
		out.Torn += seg.torn
		out.Damaged += seg.damaged
		out.Payloads += len(seg.records) - seg.index(released+1)
		if at, ok := seg.timeFrom(released + 1); ok && out.Oldest.IsZero() {
			out.Oldest = at
		}
	}
	files, err := quarantined(dir)
	if err != nil {
		return out, fmt.Errorf("journal: read the quarantine: %w", err)
	}
	for _, f := range files {
		out.Quarantined += f.Size()
	}
	return out, nil
}
