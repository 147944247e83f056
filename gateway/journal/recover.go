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
)

// recover reads the directory: which positions were released, and every whole
// record of every segment.
func (j *Journal) recover() (Report, error) {
	var report Report
	released, err := readReleased(j.dir)
	if err != nil {
		return report, err
	}
	j.released = released
	names, err := filepath.Glob(filepath.Join(j.dir, "*"+segmentExt))
	if err != nil {
		return report, fmt.Errorf("journal: list segments: %w", err)
	}
	slices.Sort(names)
	for i, path := range names {
		first, ok := segmentFirst(filepath.Base(path))
		if !ok {
			return report, fmt.Errorf("journal: %s is no segment of a journal: move it away", path)
		}
		seg, err := j.load(path, first, i == len(names)-1, &report)
		if err != nil {
			return report, err
		}
		if len(seg.records) == 0 {
			// Nothing was ever acknowledged out of it, or all of it is set aside.
			if err := errors.Join(seg.file.Close(), os.Remove(path)); err != nil {
				return report, fmt.Errorf("journal: remove an empty segment: %w", err)
			}
			continue
		}
		j.segments = append(j.segments, seg)
		// Positions are never used again, also when the mark of what was released is older.
		report.Payloads += len(seg.records) - seg.index(j.released+1)
	}
	if report.Torn > 0 || report.Damaged > 0 {
		log := j.log.Warn
		if report.Damaged > 0 {
			log = j.log.Error
		}
		log("journal has unreadable bytes; they are kept in its quarantine directory",
			"torn", report.Torn, "damaged", report.Damaged, "dir", j.dir)
	}
	return report, nil
}

// load scans one segment and sets aside what cannot be read.
func (j *Journal) load(path string, first Position, last bool, report *Report) (*segment, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("journal: read segment: %w", err)
	}
	seg := &segment{path: path, first: first}
	s := scan(b, first)
	seg.records, seg.salt, seg.size = s.records, s.salt, s.good
	for _, d := range s.damaged {
		report.Damaged += d.to - d.from
		if err := j.setAside(path, b, d); err != nil {
			return nil, err
		}
	}
	if tail := (span{s.good, int64(len(b))}); tail.from < tail.to {
		if last {
			report.Torn += tail.to - tail.from
		} else {
			report.Damaged += tail.to - tail.from
		}
		if err := j.setAside(path, b, tail); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("journal: open segment: %w", err)
	}
	if s.good < int64(len(b)) {
		if err := errors.Join(f.Truncate(s.good), f.Sync()); err != nil {
			return nil, errors.Join(fmt.Errorf("journal: cut a torn tail: %w", err), f.Close())
		}
	}
	seg.file = f
	return seg, nil
}

// span is a range of bytes.
type span struct{ from, to int64 }

// scanned is what a segment's bytes hold.
type scanned struct {
	salt    salt
	records []record
	good    int64  // everything before it is records or damage between them
	damaged []span // has good records behind it
}

// scan finds every whole record. A callback whose last record is missing at the very
// end was never acknowledged and is left out; behind damage whatever is good counts.
func scan(b []byte, first Position) scanned {
	if len(b) < fileHeaderLen || string(b[:len(fileMagic)]) != fileMagic {
		return scanned{}
	}
	out := scanned{salt: saltOf(b), good: fileHeaderLen}
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
			out.damaged = append(out.damaged, span{off, behind})
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

// setAside copies unreadable bytes to the quarantine directory.
func (j *Journal) setAside(path string, b []byte, d span) error {
	name := fmt.Sprintf("%s.%d-%d", filepath.Base(path), d.from, d.to)
	if err := os.WriteFile(filepath.Join(j.dir, quarantineDir, name), b[d.from:d.to], 0o600); err != nil { //nolint:gosec // the journal's own directory
		return fmt.Errorf("journal: set damage aside: %w", err)
	}
	return nil
}

// readReleased reads the mark; none is 0.
func readReleased(dir string) (Position, error) {
	b, err := os.ReadFile(filepath.Join(dir, releasedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("journal: read what was released: %w", err)
	}
	if len(b) != 16 || binary.BigEndian.Uint64(b) != ^binary.BigEndian.Uint64(b[8:]) {
		// Passing payloads on twice is harmless, skipping one is not.
		return 0, nil
	}
	return Position(binary.BigEndian.Uint64(b)), nil
}
