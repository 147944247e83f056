package journal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A segment begins with fileMagic and 8 random bytes. They become the mark and the
// CRC's start value of its records, so that no payload can be made up that looks
// like a record when the reader searches behind damage.
//
// A record is a fixed header and its payload:
//
//	0  4  mark, to find the next record behind damage
//	4  4  length of the payload, big endian
//	8  8  position
//	16 8  time of the append, Unix milliseconds
//	24 1  1 when further records of the same callback follow
//	25 4  CRC-32C of everything above and the payload
//
// A callback's records count only when its last one is there: all of them or none.
const (
	headerLen     = 29
	fileMagic     = "paybell1"
	fileHeaderLen = 16
	segmentExt    = ".journal"
	quarantineDir = "quarantine"
	releasedFile  = "released"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is a payload with its place in a segment.
type record struct {
	position Position
	at       int64 // Unix milliseconds
	offset   int64 // of the header
	length   int64 // of the payload
}

// salt is what a segment's random bytes are used for.
type salt struct{ mark, seed uint32 }

func saltOf(header []byte) salt {
	return salt{binary.BigEndian.Uint32(header[8:]), binary.BigEndian.Uint32(header[12:])}
}

// newHeader is the start of a new segment.
func newHeader() []byte {
	b := append(make([]byte, 0, fileHeaderLen), fileMagic...)
	b = b[:fileHeaderLen]
	_, _ = rand.Read(b[len(fileMagic):]) // never fails (crypto/rand)
	return b
}

// segment is one file. Its records are numbered without a gap, except where damage
// was set aside.
type segment struct {
	path    string
	file    File
	salt    salt
	first   Position
	size    int64
	records []record
}

// end is the position after the last record.
func (s *segment) end() Position {
	if n := len(s.records); n > 0 {
		return s.records[n-1].position + 1
	}
	return s.first
}

// timeFrom is the time of the first record at or after p.
func (s *segment) timeFrom(p Position) (time.Time, bool) {
	if i := s.index(p); i < len(s.records) {
		return timeOf(s.records[i].at), true
	}
	return time.Time{}, false
}

// index is that of the first record at or after p.
func (s *segment) index(p Position) int {
	lo, hi := 0, len(s.records)
	for lo < hi {
		if mid := (lo + hi) / 2; s.records[mid].position < p {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// encode appends a record's bytes to b.
func (s salt) encode(b []byte, p Position, at int64, more bool, payload []byte) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint32(b, s.mark)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload))) //nolint:gosec // bounded by MaxPayload
	b = binary.BigEndian.AppendUint64(b, uint64(p))
	b = binary.BigEndian.AppendUint64(b, uint64(at)) //nolint:gosec // a time after 1970
	if more {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	crc := s.sum(b[start:], payload)
	b = binary.BigEndian.AppendUint32(b, crc)
	return append(b, payload...)
}

func (s salt) sum(header, payload []byte) uint32 {
	return crc32.Update(crc32.Update(s.seed, castagnoli, header), castagnoli, payload)
}

// decode reads the record at the start of b; ok is false when there is none whole
// and undamaged.
func (s salt) decode(b []byte) (r record, more bool, payload []byte, ok bool) {
	if len(b) < headerLen || binary.BigEndian.Uint32(b) != s.mark {
		return record{}, false, nil, false
	}
	n := int64(binary.BigEndian.Uint32(b[4:]))
	if n > MaxPayload || int64(len(b)) < headerLen+n || b[24] > 1 {
		return record{}, false, nil, false
	}
	payload = b[headerLen : headerLen+n]
	if s.sum(b[:25], payload) != binary.BigEndian.Uint32(b[25:]) {
		return record{}, false, nil, false
	}
	r = record{
		position: Position(binary.BigEndian.Uint64(b[8:])),
		at:       int64(binary.BigEndian.Uint64(b[16:])), //nolint:gosec // checked by the CRC
		length:   n,
	}
	return r, b[24] == 1, payload, true
}

// read returns a record's payload and checks it again: the disk may have changed
// its mind since the journal was opened.
func (s *segment) read(r record) ([]byte, error) {
	b := make([]byte, headerLen+r.length)
	if _, err := s.file.ReadAt(b, r.offset); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("journal: read %s: %w", filepath.Base(s.path), err)
	}
	got, _, payload, ok := s.salt.decode(b)
	if !ok || got.position != r.position {
		return nil, fmt.Errorf("journal: %s is damaged at byte %d", filepath.Base(s.path), r.offset)
	}
	return payload, nil
}

func segmentName(first Position) string {
	return fmt.Sprintf("%020d%s", uint64(first), segmentExt)
}

func segmentFirst(name string) (Position, bool) {
	digits, ok := strings.CutSuffix(name, segmentExt)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return Position(n), err == nil
}

// lockDir takes an exclusive lock that ends with the process (flock).
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("journal: lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, errors.Join(fmt.Errorf("%s: %w", dir, err), f.Close())
	}
	return f, nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func timeOf(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
