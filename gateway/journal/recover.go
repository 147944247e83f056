package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
	j.released, j.noted = released, released
	paths, err := segmentPaths(j.dir)
	if err != nil {
		return report, err
	}
	// From here on Close lets go of them.
	if j.segments, err = loadAll(j.disk, paths); err != nil {
		return report, err
	}
	var kept []*segment
	var damaged []string
	var errs []error
	for _, seg := range j.segments {
		report.Torn += seg.torn
		report.Damaged += seg.damaged
		errs = append(errs, seg.err)
		if seg.damaged > 0 {
			damaged = append(damaged, filepath.Base(seg.path))
			seg.pin = seg.gap(j.released + 1)
			// Two payloads of one number would be taken for one, should those that are
			// lost now be readable the next time.
			j.floor = max(j.floor, seg.end()+Position(seg.size/headerLen)+1) //nolint:gosec // never negative
		}
		if len(seg.records) == 0 || seg.end() <= j.released+1 {
			// Nothing in it can be read, or all of it was released.
			if err := j.retire(seg); err != nil {
				return report, fmt.Errorf("journal: take a segment out of use: %w", err)
			}
			continue
		}
		kept = append(kept, seg)
		report.Payloads += len(seg.records) - seg.index(j.released+1)
	}
	j.segments = kept
	if err := j.countQuarantine(); err != nil {
		return report, fmt.Errorf("journal: read the quarantine: %w", err)
	}
	switch {
	case len(damaged) > 0:
		j.log.Error("journal is damaged: what cannot be read stays in its quarantine directory and the rest is used",
			"files", damaged, "damaged_bytes", report.Damaged, "torn_bytes", report.Torn, "dir", j.dir, "err", errors.Join(errs...))
	case report.Torn > 0:
		j.log.Warn("journal ends in an unfinished record, as a crash leaves it; nothing in it was confirmed",
			"torn_bytes", report.Torn, "dir", j.dir)
	}
	return report, nil
}

// segmentPaths lists the segments, oldest first.
func segmentPaths(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir) // sorted, and unlike Glob it says when it cannot read
	if err != nil {
		return nil, fmt.Errorf("journal: list segments: %w", err)
	}
	var paths []string
	for _, e := range entries {
		if filepath.Ext(e.Name()) != segmentExt {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if _, _, ok := parseName(e.Name()); !ok {
			return nil, fmt.Errorf("journal: %s is no segment of a journal: move it away", path)
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// loadAll reads segments and leaves their files open. One that was removed since it was
// listed is left out.
func loadAll(disk Disk, paths []string) (segments []*segment, err error) {
	for _, path := range paths {
		seg, err := load(disk, path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return segments, fmt.Errorf("journal: read segment: %w", err)
		}
		segments = append(segments, seg)
	}
	for i, seg := range segments[:max(0, len(segments)-1)] {
		switch next := segments[i+1]; {
		case seg.headless:
			// What a crash leaves without a header is gone before the next is begun.
			seg.damaged, seg.torn = max(seg.damaged+seg.torn, fileHeaderLen), 0
		case seg.torn > 0 && next.salt.session == seg.salt.session:
			seg.damaged, seg.torn = seg.damaged+seg.torn, 0 // it was whole when the next was begun
		}
	}
	return segments, nil
}

// load reads a segment as far as the disk gives it; an error says that it was not tried.
func load(disk Disk, path string) (*segment, error) {
	first, named, _ := parseName(filepath.Base(path)) // segmentPaths lists no other
	f, size, err := disk.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || !aboutFile(err) {
			return nil, err
		}
		seg := &segment{path: path, first: first, headless: true, damaged: fileHeaderLen, err: err}
		if info, err := os.Lstat(path); err == nil {
			seg.damaged = max(seg.damaged, info.Size())
		}
		return seg, nil
	}
	b, bad, err := readAll(f, make([]byte, size))
	s := scan(b, first, named)
	seg := &segment{
		path: path, file: f, first: first, salt: s.salt, records: s.records, headless: s.headless,
		size: int64(len(b)), torn: int64(len(b)) - s.good, damaged: s.damaged, err: err,
	}
	switch {
	case bad > 0: // a crash leaves nothing that cannot be read
		seg.damaged, seg.torn = max(seg.damaged+seg.torn, bad), 0
	case s.headless && len(b) > fileHeaderLen && len(bytes.Trim(b, "\x00")) > 0:
		// What a crash leaves without a header is short, or zeros.
		seg.damaged, seg.torn = seg.damaged+seg.torn, 0
	}
	return seg, nil
}

// scanned is what a segment's bytes hold.
type scanned struct {
	salt     salt
	headless bool
	records  []record
	good     int64 // everything before it is records or damage between them
	damaged  int64 // bytes that have good records behind them
}

// scan finds every whole record. Where the header cannot be read, what the file's name
// says counts.
func scan(b []byte, first Position, named *salt) scanned {
	s, whole, ok := saltOf(b)
	out := scanned{salt: s, headless: !ok}
	if !ok && named != nil {
		out.salt = *named
	}
	if len(b) < fileHeaderLen || !ok && named == nil {
		return out
	}
	out.collect(b, first)
	switch {
	case !ok && len(out.records) == 0:
		out.good, out.damaged = 0, 0
	case !ok:
		out.damaged += fileHeaderLen
	case !whole:
		out.damaged += copyLen
	}
	return out
}

// collect finds the records behind the header. A callback whose last record is missing
// at the very end was never acknowledged and is left out; behind damage whatever is good
// counts.
func (out *scanned) collect(b []byte, first Position) {
	out.good = fileHeaderLen
	next := first
	var group []record // of a callback whose last record has not been met
	off := int64(fileHeaderLen)
	for off < int64(len(b)) {
		r, more, _, ok := out.salt.decode(b[off:])
		if !ok || r.position < next {
			behind, found := out.salt.find(b, off+1, next)
			if !found {
				return
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
	segments, err := loadAll(OS(), paths)
	defer func() {
		for _, seg := range segments {
			_ = seg.close() // it was only read
		}
	}()
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
