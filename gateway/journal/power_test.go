package journal_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/paybell/paybell/gateway/journal"
)

var errPower = errors.New("the power is gone")

// powerDisk is a disk whose power fails at one of its operations: the operation has not
// happened, and none does afterwards. It knows what a disk has to have kept by then:
// the synced bytes of files whose names were synced.
type powerDisk struct {
	dir string

	mu    sync.Mutex
	left  int // operations until the power fails
	dark  bool
	files map[string]*powerFile
}

// powerFile is a file with what is certain of it.
type powerFile struct {
	journal.File
	d       *powerDisk
	written []byte
	synced  int
	named   bool
}

func (d *powerDisk) disk() journal.Disk {
	disk := journal.OS()
	create, syncDir, writeFile, rename, remove := disk.Create, disk.SyncDir, disk.WriteFile, disk.Rename, disk.Remove
	disk.Create = func(path string) (journal.File, error) {
		f := &powerFile{d: d}
		return f, d.do(func() (err error) {
			if f.File, err = create(path); err == nil {
				d.files[filepath.Base(path)] = f
			}
			return err
		})
	}
	disk.SyncDir = func(path string) error {
		return d.do(func() error {
			if path == d.dir {
				for _, f := range d.files {
					f.named = true
				}
			}
			return syncDir(path)
		})
	}
	disk.WriteFile = func(path string, b []byte) error { return d.do(func() error { return writeFile(path, b) }) }
	disk.Rename = func(from, to string) error { return d.do(func() error { return rename(from, to) }) }
	disk.Remove = func(path string) error { return d.do(func() error { return remove(path) }) }
	return disk
}

func (d *powerDisk) do(op func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left--
	if d.dark = d.dark || d.left < 0; d.dark {
		return errPower
	}
	return op()
}

func (f *powerFile) Write(p []byte) (n int, err error) {
	err = f.d.do(func() error {
		n, err = f.File.Write(p)
		f.written = append(f.written, p[:n]...)
		return err
	})
	return n, err
}

func (f *powerFile) Truncate(size int64) error {
	return f.d.do(func() error {
		f.written = f.written[:size]
		f.synced = min(f.synced, len(f.written))
		return f.File.Truncate(size)
	})
}

func (f *powerFile) Sync() error {
	return f.d.do(func() error {
		f.synced = len(f.written)
		return f.File.Sync()
	})
}

// What becomes of what was never synced: a disk may keep any of it.
const (
	keepsNothing = "nothing more" // removals and the released mark are forgotten too
	keepsHalf    = "half of what was written, and no name"
	keepsNames   = "names, and nothing in them"
	keepsAll     = "all"
)

// survivors puts what is left after the power failed into a new directory.
func (d *powerDisk) survivors(t *testing.T, luck string) string {
	t.Helper()
	dir := t.TempDir()
	put := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil { //nolint:gosec // a path of the test
			t.Fatal(err)
		}
	}
	for name, f := range d.files {
		_, err := os.Stat(filepath.Join(d.dir, name))
		removed := err != nil
		switch luck {
		case keepsNothing:
			if f.named {
				put(name, f.written[:f.synced])
			}
		case keepsHalf:
			if f.named {
				put(name, f.written[:(f.synced+len(f.written)+1)/2])
			}
		case keepsNames:
			put(name, f.written[:f.synced])
		case keepsAll:
			if !removed {
				put(name, f.written)
			}
		}
	}
	mark, err := os.ReadFile(filepath.Join(d.dir, "released"))
	if err == nil {
		switch luck {
		case keepsNames:
			put("released", nil) // renamed before its bytes were written
		case keepsHalf, keepsAll:
			put("released", mark)
		}
	}
	return dir
}

// TestWhatWasConfirmedSurvivesPowerLossAtEveryOperation cuts the power at every single
// operation on the disk, of a run that fills several files, releases, and opens the
// journal again. Whatever the disk made of what was never synced: every payload that
// was confirmed and not released is read, in order, whole callbacks alone, and nothing
// that was never written.
func TestWhatWasConfirmedSurvivesPowerLossAtEveryOperation(t *testing.T) {
	for _, luck := range []string{keepsNothing, keepsHalf, keepsNames, keepsAll} {
		t.Run(luck, func(t *testing.T) {
			cuts := 0
			for ; ; cuts++ {
				d := &powerDisk{dir: filepath.Join(t.TempDir(), "j"), left: cuts, files: map[string]*powerFile{}}
				confirmed, released, written := powerRun(t, d)
				if !d.dark {
					break
				}
				j, report, err := journal.Open(d.survivors(t, luck), small(), deps(journal.OS()))
				if err != nil {
					t.Fatalf("cut at %d: open: %v", cuts, err)
				}
				if report.Damaged != 0 {
					t.Fatalf("cut at %d: %+v, although nothing is damaged", cuts, report)
				}
				got := all(t, j)
				if err := j.Close(); err != nil {
					t.Fatal(err)
				}
				checkSurvivors(t, cuts, got, confirmed, released, written)
			}
			if cuts < 50 {
				t.Fatalf("only %d operations: the run does too little", cuts)
			}
		})
	}
}

// powerRun works until the power fails or everything is done. written are all payloads
// in their order, callbacks of two among them, of which the first confirmed ones were
// confirmed and the first released ones released.
func powerRun(t *testing.T, d *powerDisk) (confirmed, released int, written []string) {
	t.Helper()
	for round := range 2 {
		j, _, err := journal.Open(d.dir, small(), deps(d.disk()))
		if err != nil {
			if !errors.Is(err, errPower) {
				t.Fatal(err)
			}
			return confirmed, released, written
		}
		stop := runUntil(t, j)
		for n := range 8 {
			var callback [][]byte
			for k := range 1 + n%2 {
				p := fmt.Sprintf("%03d %d-%d-%d %s", len(written), round, n, k, strings.Repeat("x", 700))
				written = append(written, p)
				callback = append(callback, []byte(p))
			}
			if _, err := j.Append(t.Context(), callback); err != nil {
				stop()
				return confirmed, released, written
			}
			confirmed = len(written)
			if n%3 == 2 {
				released = confirmed - 2
				if err := j.Release(journal.Position(released)); err != nil { //nolint:gosec // never negative
					if !errors.Is(err, errPower) {
						t.Fatal(err)
					}
					stop()
					return confirmed, released, written
				}
			}
		}
		stop()
	}
	return confirmed, released, written
}

func checkSurvivors(t *testing.T, cut int, got []string, confirmed, released int, written []string) {
	t.Helper()
	at := -1 // in written, of the last one read
	seen := map[string]bool{}
	for _, p := range got {
		n := -1
		if _, err := fmt.Sscanf(p, "%03d", &n); err != nil || n >= len(written) || written[n] != p {
			t.Fatalf("cut at %d: read %q, which was never written", cut, p)
		}
		if n <= at {
			t.Fatalf("cut at %d: payload %d behind %d", cut, n, at)
		}
		at, seen[p] = n, true
	}
	for n := released; n < confirmed; n++ {
		if !seen[written[n]] {
			t.Fatalf("cut at %d: payload %d was confirmed, not released, and is lost", cut, n)
		}
	}
	// Payloads 1 and 2, 4 and 5, 7 and 8 ... of each round of 12 are one callback.
	for n := 0; n+1 < len(written); n++ {
		if n%3 == 1 && n >= released && seen[written[n]] != seen[written[n+1]] {
			t.Fatalf("cut at %d: half of the callback of payloads %d and %d", cut, n, n+1)
		}
	}
}
