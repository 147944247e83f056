package journal

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A segment begins with fileMagic, 8 random bytes, 8 of the process that writes it
// and a CRC-32C of all, twice. The random bytes become the mark and the CRC's start
// value of its records, so that no payload can be made up that looks like a record when
// the reader searches behind damage. Both are in the file's name too, behind the number
// of its first record: no damage to the file's beginning costs what is behind it. A
// process begins a segment when the last is whole, so an unfinished end is what a
// crash left where the next segment is another process's, and damage where it is not.
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
	saltLen       = 16
	copyLen       = 28
	fileHeaderLen = 2 * copyLen
	segmentExt    = ".journal"
	releasedFile  = "released"
	lockFile      = "lock"
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
type salt struct {
	mark, seed uint32
	session    uint64
}

func newSalt(session uint64) salt {
	b := binary.BigEndian.AppendUint64(nil, random())
	return readSalt(binary.BigEndian.AppendUint64(b, session))
}

func readSalt(b []byte) salt {
	return salt{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint64(b[8:])}
}

func (s salt) bytes() []byte {
	b := binary.BigEndian.AppendUint32(nil, s.mark)
	b = binary.BigEndian.AppendUint32(b, s.seed)
	return binary.BigEndian.AppendUint64(b, s.session)
}

// saltOf reads a segment's header; whole is false when one of its copies is
// damaged, ok when both are.
func saltOf(b []byte) (s salt, whole, ok bool) {
	if len(b) < fileHeaderLen {
		return salt{}, false, false
	}
	good := 0
	for _, c := range [][]byte{b[:copyLen], b[copyLen:fileHeaderLen]} {
		body := c[:copyLen-4]
		if string(body[:len(fileMagic)]) != fileMagic || crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(c[copyLen-4:]) {
			continue
		}
		s = readSalt(body[len(fileMagic):])
		good++
	}
	return s, good == 2, good > 0
}

// header is the start of a segment.
func (s salt) header() []byte {
	b := append(make([]byte, 0, fileHeaderLen), fileMagic...)
	b = append(b, s.bytes()...)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return append(b, b...)
}

func random() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return binary.BigEndian.Uint64(b[:])
}

// segment is one file. Its records are numbered without a gap, except where damage
// was set aside.
type segment struct {
	path    string
	file    File
	info    fs.FileInfo // which file it is, where this process writes to it
	salt    salt
	first   Position
	size    int64
	records []record
	// torn and damaged count what cannot be read of the file, as Report does. A
	// segment that has any is kept in the quarantine once it is released.
	torn, damaged int64
	// headless: not even its header can be read, and err is why the disk did not give it.
	headless bool
	err      error
	// pin is the first position whose bytes only this file has any more, or 0. The mark
	// on the disk stays below it until the file is in the quarantine: the next process
	// may find nothing wrong with it and remove it.
	pin Position
}

// gap is the first number from p on that none of the records has.
func (s *segment) gap(p Position) Position {
	p = max(p, s.first)
	for _, r := range s.records[s.index(p):] {
		if r.position != p {
			break
		}
		p++
	}
	return p
}

// lose says that a record has to stay in this file.
func (s *segment) lose(r record) {
	s.damaged += headerLen + r.length
	if s.pin == 0 || r.position < s.pin {
		s.pin = r.position
	}
}

// close lets go of the file.
func (s *segment) close() error {
	if s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	return f.Close()
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

// readTries is how often a read that fails is tried.
const readTries = 3

// read returns a record's payload and checks it again: the disk may have changed
// its mind since the journal was opened.
func (s *segment) read(r record) ([]byte, error) {
	b := make([]byte, headerLen+r.length)
	for try := 1; ; try++ {
		_, err := s.file.ReadAt(b, r.offset)
		if err == nil || errors.Is(err, io.EOF) {
			break
		}
		if try == readTries { // an error that stays is damage
			return nil, fmt.Errorf("journal: read %s: %w", filepath.Base(s.path), err)
		}
	}
	got, _, payload, ok := s.salt.decode(b)
	if !ok || got.position != r.position {
		return nil, fmt.Errorf("journal: %s is damaged at byte %d", filepath.Base(s.path), r.offset)
	}
	return payload, nil
}

func segmentName(first Position, s salt) string {
	return fmt.Sprintf("%020d-%x%s", uint64(first), s.bytes(), segmentExt)
}

// parseName reads a segment's name. Earlier versions put no salt into it.
func parseName(name string) (first Position, named *salt, ok bool) {
	stem, ok := strings.CutSuffix(name, segmentExt)
	digits, hexed, salted := strings.Cut(stem, "-")
	if !ok || len(digits) != 20 {
		return 0, nil, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || !salted {
		return Position(n), nil, err == nil
	}
	b, err := hex.DecodeString(hexed)
	if err != nil || len(b) != saltLen {
		return 0, nil, false
	}
	s := readSalt(b)
	return Position(n), &s, true
}

func timeOf(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
