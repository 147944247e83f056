package journal_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/paybell/paybell/gateway/journal"
)

// The name of a first segment in earlier versions, which wrote only its number into it.
const legacyName = "00000000000000000001.journal"

// before is the name of a segment before another, made of that one's name.
func before(name string) string { return strings.Replace(name, "1", "0", 1) }

// segmentOf is a segment with as many payloads, each in a callback of its own, and the
// bytes that each takes.
func segmentOf(t *testing.T, payloads int) (b []byte, name string, each int) {
	t.Helper()
	dir := t.TempDir()
	o := small()
	o.SegmentBytes, o.MaxBytes = 1<<20, 4<<20
	j, _, stop := open(t, dir, o, deps(journal.OS()))
	for n := range payloads {
		appendText(t, j, record(n))
	}
	stop()
	path := onlySegment(t, dir)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b, filepath.Base(path), (len(b) - 56) / payloads
}

func record(n int) string { return fmt.Sprintf("%03d %s", n, strings.Repeat("x", 296)) }

func put(t *testing.T, dir, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// loud opens a journal and returns what it logs.
func loud(t *testing.T, dir string, disk journal.Disk) (*journal.Journal, journal.Report, *bytes.Buffer, func()) {
	t.Helper()
	var log bytes.Buffer
	d := journal.Deps{Logger: slog.New(slog.NewTextHandler(&log, nil)), Now: time.Now, Disk: disk}
	j, report, stop := open(t, dir, small(), d)
	return j, report, &log, stop
}

func quarantine(t *testing.T, dir, ext string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "quarantine", "*"+ext))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestLostBlocksCostWhatTheyHeld wipes a block at every sector, the header's among them:
// every record outside it is read.
func TestLostBlocksCostWhatTheyHeld(t *testing.T) {
	const payloads, block, sector = 40, 4 << 10, 512
	b, name, each := segmentOf(t, payloads)
	noise := make([]byte, block)
	for i := range noise {
		noise[i] = byte(rand.N(256)) //nolint:gosec // any bytes
	}
	for from := 0; from < len(b); from += sector {
		to := min(from+block, len(b))
		for what, with := range map[string][]byte{"zeros": make([]byte, block), "noise": noise} {
			bad := slices.Clone(b)
			copy(bad[from:to], with)
			var want []string
			for n := range payloads {
				if begin := 56 + n*each; begin+each <= from || begin >= to {
					want = append(want, record(n))
				}
			}
			got, report := reopen(t, name, bad)
			if !slices.Equal(got, want) {
				t.Fatalf("%s at %d: read %d payloads, want the %d outside them", what, from, len(got), len(want))
			}
			if report.Damaged == 0 && (report.Torn == 0 || to < len(b)) {
				t.Fatalf("%s at %d: %+v", what, from, report)
			}
			// Without the salt in its name a segment stands and falls with its header.
			got, report = reopen(t, legacyName, bad)
			if from == 0 && (len(got) != 0 || report.Damaged != int64(len(b))) || from > 56 && !slices.Equal(got, want) {
				t.Fatalf("%s at %d: read %d payloads of a segment of an earlier version, %+v", what, from, len(got), report)
			}
		}
	}
}

// TestSegmentsWithoutAHeader: what a crash leaves without one is short or zeros, and the
// last; everything else may have been confirmed, is said loudly and never deleted.
func TestSegmentsWithoutAHeader(t *testing.T) {
	b, name, _ := segmentOf(t, 20)
	_, other, _ := segmentOf(t, 1)
	garbage := bytes.Repeat([]byte("garbage "), 1<<10)
	for _, tc := range []struct {
		name    string
		b       []byte
		later   bool
		damaged bool
	}{
		{"empty", nil, false, false},
		{"short", b[:40], false, false},
		{"short and garbage", garbage[:56], false, false},
		{"zeros", make([]byte, 8<<10), false, false},
		{"garbage", garbage, false, true},
		{"empty, with a later one", nil, true, true},
		{"short, with a later one", b[:40], true, true},
		{"zeros, with a later one", make([]byte, 8<<10), true, true},
		{"garbage, with a later one", garbage, true, true},
	} {
		for version, as := range map[string]string{"earlier": before(legacyName), "this": before(other)} {
			t.Run(tc.name+", of "+version+" version", func(t *testing.T) {
				dir := t.TempDir()
				put(t, dir, as, tc.b)
				want := 0
				if tc.later {
					put(t, dir, name, b)
					want = 20
				}
				j, report, log, stop := loud(t, dir, journal.OS())
				if got := all(t, j); len(got) != want {
					t.Fatalf("%d payloads of the other, want %d", len(got), want)
				}
				lost := int64(len(tc.b))
				if tc.damaged && report.Damaged != max(56, lost) || !tc.damaged && (report.Torn != lost || report.Damaged != 0) {
					t.Fatalf("%+v of %d bytes", report, lost)
				}
				if tc.damaged != strings.Contains(log.String(), "level=ERROR") {
					t.Fatalf("log: %s", log)
				}
				torn, damaged := quarantine(t, dir, ".torn"), quarantine(t, dir, ".damaged")
				if len(damaged) != map[bool]int{true: 1}[tc.damaged] || len(torn) > 0 && tc.damaged {
					t.Fatalf("quarantine: %v, %v", torn, damaged)
				}
				// What a crash leaves is gone before the next file is begun.
				appendText(t, j, "goes on")
				stop()
				j, report, _ = open(t, dir, small(), deps(journal.OS()))
				if got := all(t, j); len(got) != want+1 || report.Torn+report.Damaged > 0 {
					t.Fatalf("%d payloads in the end, %+v", len(got), report)
				}
			})
		}
	}
}

// TestDamagedSegmentsAreKept: all of them, not the newest few.
func TestDamagedSegmentsAreKept(t *testing.T) {
	const damaged = 9
	dir := t.TempDir()
	b, _, _ := segmentOf(t, 20)
	copy(b, make([]byte, 512))
	for n := range damaged {
		put(t, dir, fmt.Sprintf("%020d.journal", 1+20*n), b)
	}
	for round := range 2 {
		j, report, _ := open(t, dir, small(), deps(journal.OS()))
		if round == 0 && report.Damaged != int64(damaged*len(b)) {
			t.Fatalf("%+v, want all of %d files", report, damaged)
		}
		if s := j.Stats(); s.Quarantined != int64(damaged*len(b)) {
			t.Fatalf("%+v", s)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if kept := quarantine(t, dir, ".damaged"); len(kept) != damaged {
		t.Fatalf("%d kept, want %d", len(kept), damaged)
	}
}

// unreadable is a disk that does not give some bytes of a file.
func unreadable(name string, from, to int64) journal.Disk {
	disk := journal.OS()
	open := disk.Open
	disk.Open = func(path string) (journal.File, int64, error) {
		f, size, err := open(path)
		if err == nil && filepath.Base(path) == name {
			f = unreadableFile{f, from, to}
		}
		return f, size, err
	}
	return disk
}

type unreadableFile struct {
	journal.File
	from, to int64
}

func (f unreadableFile) ReadAt(p []byte, off int64) (int, error) {
	if off >= f.to || off+int64(len(p)) <= f.from {
		return f.File.ReadAt(p, off)
	}
	n := max(0, f.from-off)
	if _, err := f.File.ReadAt(p[:n], off); err != nil {
		return 0, err
	}
	return int(n), syscall.EIO
}

// TestUnreadableBlocksAreDamage: the journal opens, everything outside of what the disk
// does not give is read, and it is said loudly; the file is kept.
func TestUnreadableBlocksAreDamage(t *testing.T) {
	const payloads, block = 1000, 4 << 10
	b, name, each := segmentOf(t, payloads)
	blocks := int64(len(b) / block)
	for _, tc := range []struct {
		name     string
		from, to int64
	}{
		{"the first block", 0, block},
		{"a block", 7 * block, 8 * block},
		{"many blocks", 3 * block, 40 * block},
		{"the last block", blocks * block, blocks*block + block},
		{"all", 0, int64(len(b))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, dir, name, b)
			j, report, log, stop := loud(t, dir, unreadable(name, tc.from, tc.to))
			var want []string
			for n := range payloads {
				if begin := int64(56 + n*each); begin+int64(each) <= tc.from || begin >= tc.to {
					want = append(want, record(n))
				}
			}
			if got := all(t, j); !slices.Equal(got, want) {
				t.Fatalf("read %d payloads, want %d", len(got), len(want))
			}
			if report.Payloads != len(want) || report.Damaged < min(tc.to, int64(len(b)))-tc.from || report.Torn != 0 {
				t.Fatalf("%+v", report)
			}
			if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), name) || !strings.Contains(log.String(), syscall.EIO.Error()) {
				t.Fatalf("log: %s", log)
			}
			at, err := j.Append(t.Context(), [][]byte{[]byte("new")})
			if err != nil {
				t.Fatal(err)
			}
			// The disk may change its mind: what was lost comes back, nothing has taken
			// its numbers, and none of it counts as released.
			if len(want) > 0 {
				if err := j.Release(payloads / 2); err != nil {
					t.Fatal(err)
				}
				killed, report, _ := open(t, copied(t, dir), small(), deps(journal.OS()))
				got := all(t, killed)
				if report.Damaged != 0 || got[len(got)-1] != "new" || at <= payloads {
					t.Fatalf("the next process: %+v, and the new one has number %d", report, at)
				}
				for n := range payloads {
					if !slices.Contains(want, record(n)) && !slices.Contains(got, record(n)) {
						t.Fatalf("payload %d does not come back", n)
					}
				}
			}
			if err := j.Release(at); err != nil {
				t.Fatal(err)
			}
			stop()
			if kept := quarantine(t, dir, ".damaged"); len(kept) != 1 {
				t.Fatalf("quarantine: %v", kept)
			} else if got, err := os.ReadFile(kept[0]); err != nil || !bytes.Equal(got, b) {
				t.Fatalf("the file has changed: %v", err)
			}
		})
	}
}

// TestDyingDiskIsNotAskedForEveryBlock: each of them may take it seconds.
func TestDyingDiskIsNotAskedForEveryBlock(t *testing.T) {
	dir, asked := t.TempDir(), 0
	put(t, dir, legacyName, make([]byte, 8<<20))
	disk := journal.OS()
	open := disk.Open
	disk.Open = func(path string) (journal.File, int64, error) {
		f, size, err := open(path)
		return countingFile{unreadableFile{f, 0, size}, &asked}, size, err
	}
	_, report, _, _ := loud(t, dir, disk)
	if report.Damaged != 8<<20 || asked > 100 {
		t.Fatalf("%+v behind %d reads", report, asked)
	}
}

type countingFile struct {
	journal.File
	asked *int
}

func (f countingFile) ReadAt(p []byte, off int64) (int, error) {
	*f.asked++
	return f.File.ReadAt(p, off)
}

// TestFilesThatCannotBeReadAtAll are damage, of whatever kind; but a process that may
// not read takes nothing for damaged.
func TestFilesThatCannotBeReadAtAll(t *testing.T) {
	b, name, _ := segmentOf(t, 20)
	refused := before(legacyName)
	refusing := func(err error) journal.Disk {
		disk := journal.OS()
		open := disk.Open
		disk.Open = func(path string) (journal.File, int64, error) {
			if filepath.Base(path) == refused {
				return nil, 0, &fs.PathError{Op: "open", Path: path, Err: err}
			}
			return open(path)
		}
		return disk
	}
	opens := func(t *testing.T, dir string, disk journal.Disk, damaged int64) {
		t.Helper()
		put(t, dir, name, b)
		j, report, log, _ := loud(t, dir, disk)
		if got := all(t, j); len(got) != 20 || report.Damaged != damaged {
			t.Fatalf("%d payloads of the other, %+v", len(got), report)
		}
		if !strings.Contains(log.String(), "level=ERROR") || len(quarantine(t, dir, ".damaged")) != 1 {
			t.Fatalf("log: %s", log)
		}
		appendText(t, j, "goes on")
	}
	t.Run("it cannot be opened", func(t *testing.T) {
		dir := t.TempDir()
		put(t, dir, refused, b)
		opens(t, dir, refusing(syscall.EIO), int64(len(b)))
	})
	t.Run("it is a directory", func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, refused)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		opens(t, dir, journal.OS(), info.Size())
		if in, err := journal.Inspect(dir); err != nil || in.Quarantined == 0 {
			t.Fatalf("%+v, %v", in, err)
		}
	})
	for _, err := range []error{syscall.EACCES, syscall.EMFILE} {
		t.Run(err.Error(), func(t *testing.T) {
			dir := t.TempDir()
			refused = name
			put(t, dir, name, b)
			if j, _, got := journal.Open(dir, small(), deps(refusing(err))); got == nil {
				t.Fatal("it opens", j.Close())
			}
			j, report, _ := open(t, dir, small(), deps(journal.OS()))
			if got := all(t, j); len(got) != 20 || report.Damaged != 0 {
				t.Fatalf("%d payloads, %+v when it may", len(got), report)
			}
		})
	}
	t.Run("the mark", func(t *testing.T) {
		dir := t.TempDir()
		put(t, dir, name, b)
		if err := os.Mkdir(filepath.Join(dir, "released"), 0o700); err != nil {
			t.Fatal(err)
		}
		j, _, _ := open(t, dir, small(), deps(journal.OS()))
		if got := all(t, j); len(got) != 20 {
			t.Fatalf("%d payloads, want all to be passed on again", len(got))
		}
	})
}

// TestAnyNameOfADirectoryWillDo: brackets are a pattern to those who look for names.
func TestAnyNameOfADirectoryWillDo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "j[1")
	j, _, stop := open(t, dir, small(), deps(journal.OS()))
	appendText(t, j, "kept")
	stop()
	j, _, _ = open(t, dir, small(), deps(journal.OS()))
	if got := all(t, j); len(got) != 1 {
		t.Fatalf("read %q", got)
	}
}
