package journal_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paybell/paybell/gateway/journal"
)

// readOnly is a disk that refuses what Release does to it while it is told to.
func readOnly(refuses *atomic.Bool) journal.Disk {
	disk := journal.OS()
	writeFile, rename, remove := disk.WriteFile, disk.Rename, disk.Remove
	unless := func(op func() error) error {
		if refuses.Load() {
			return syscall.EROFS
		}
		return op()
	}
	disk.WriteFile = func(path string, b []byte) error { return unless(func() error { return writeFile(path, b) }) }
	disk.Rename = func(from, to string) error { return unless(func() error { return rename(from, to) }) }
	disk.Remove = func(path string) error { return unless(func() error { return remove(path) }) }
	return disk
}

func numbered(n int) string { return fmt.Sprintf("%02d %s", n, strings.Repeat("x", 1500)) }

// copied is a directory with the same files: what a kill would leave now.
func copied(t *testing.T, dir string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "j")
	if err := os.CopyFS(out, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestRefusedReleaseLosesNothingAndSaysSoOnce: the disk has become read-only. Everything
// is still there for the next process, what is not released can be read, the error is
// told once, and what was refused is done when the disk allows it again.
func TestRefusedReleaseLosesNothingAndSaysSoOnce(t *testing.T) {
	var refuses atomic.Bool
	dir := t.TempDir()
	j, _, stop := open(t, dir, small(), deps(readOnly(&refuses)))
	for n := range 12 {
		appendText(t, j, numbered(n+1))
	}
	before := j.Stats()
	refuses.Store(true)
	if err := j.Release(4); !errors.Is(err, syscall.EROFS) {
		t.Fatalf("release: %v, want EROFS", err)
	}
	for at := journal.Position(5); at <= 8; at++ {
		if err := j.Release(at); err != nil {
			t.Fatalf("it is said again: %v", err)
		}
	}
	if got := all(t, j); len(got) != 4 || got[0] != numbered(9) {
		t.Fatalf("%d payloads are read, want 4", len(got))
	}
	if s := j.Stats(); s.Bytes != before.Bytes || s.Payloads != 4 {
		t.Fatalf("stats %+v, want the bytes that are on the disk: %+v", s, before)
	}
	killed, report, _ := open(t, copied(t, dir), small(), deps(journal.OS()))
	if got := all(t, killed); len(got) != 12 || report.Torn+report.Damaged != 0 {
		t.Fatalf("the next process reads %d payloads, %+v; want all 12", len(got), report)
	}
	refuses.Store(false)
	if err := j.Release(9); err != nil {
		t.Fatal(err)
	}
	if s := j.Stats(); s.Bytes >= before.Bytes/2 {
		t.Fatalf("stats %+v: what was refused is still there", s)
	}
	refuses.Store(true)
	if err := j.Release(10); !errors.Is(err, syscall.EROFS) {
		t.Fatalf("release: %v, want EROFS to be said anew", err)
	}
	refuses.Store(false)
	stop()
	j, _, _ = open(t, dir, small(), deps(journal.OS()))
	if got := all(t, j); len(got) != 3 || got[0] != numbered(10) {
		t.Fatalf("%d payloads, want those from 10 on", len(got))
	}
}

// asideOnFullDisk sets the first payload aside where it cannot be written.
func asideOnFullDisk(t *testing.T, dir string, j *journal.Journal) {
	t.Helper()
	es, err := j.Read(1, 1)
	if err != nil || len(es) != 1 {
		t.Fatal(es, err)
	}
	digest := sha256.Sum256(es[0].Payload)
	// Where the payload would be written nothing can be.
	if err := os.Mkdir(filepath.Join(dir, "quarantine", fmt.Sprintf("%020d.%x.payload", 1, digest[:8])), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := j.SetAside(es[0]); err != nil {
		t.Fatal(err)
	}
}

// TestWhatIsSetAsideInItsFileIsNotForgottenByAKill: the next process finds nothing wrong
// with that file, so it has to be told of that payload again until the file is in the
// quarantine.
func TestWhatIsSetAsideInItsFileIsNotForgottenByAKill(t *testing.T) {
	for _, tc := range []struct {
		name    string
		refuses bool
		upTo    journal.Position
	}{
		{"part of the file is released", false, 2},
		{"all of it is, and it cannot be moved", true, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var refuses atomic.Bool
			disk, dir := readOnly(&refuses), t.TempDir()
			writeFile, rename := journal.OS().WriteFile, journal.OS().Rename
			disk.WriteFile = writeFile
			refusing := disk.Rename
			disk.Rename = func(from, to string) error { // the mark can be written
				if filepath.Base(to) == "released" {
					return rename(from, to)
				}
				return refusing(from, to)
			}
			j, _, _ := open(t, dir, small(), deps(disk))
			for n := range 5 {
				appendText(t, j, numbered(n+1))
			}
			asideOnFullDisk(t, dir, j)
			refuses.Store(tc.refuses)
			if err := j.Release(tc.upTo); (err != nil) != tc.refuses {
				t.Fatalf("release: %v", err)
			}
			killed, _, _ := open(t, copied(t, dir), small(), deps(journal.OS()))
			if got := all(t, killed); len(got) != 5 {
				t.Fatalf("the next process reads %d payloads, want the one that is set aside and all behind it", len(got))
			}
			refuses.Store(false)
			if err := j.Release(4); err != nil {
				t.Fatal(err)
			}
			if moved, err := filepath.Glob(filepath.Join(dir, "quarantine", "*.damaged")); err != nil || len(moved) != 1 {
				t.Fatalf("quarantine: %v, %v", moved, err)
			}
			killed, _, _ = open(t, copied(t, dir), small(), deps(journal.OS()))
			if got := all(t, killed); len(got) != 1 || got[0] != numbered(5) {
				t.Fatalf("the next process reads %d payloads, want the one that is not released", len(got))
			}
		})
	}
}

// TestEmptyFileIsWrittenToAndNotReplaced: a full disk took its first record back. Another
// file of the same number beside it would look like damage, were it removed too late.
func TestEmptyFileIsWrittenToAndNotReplaced(t *testing.T) {
	var refuses atomic.Bool
	dir, d := t.TempDir(), &badDisk{room: 5 << 10}
	disk := readOnly(&refuses)
	disk.Create = d.disk().Create
	j, _, stop := open(t, dir, small(), deps(disk))
	appendText(t, j, strings.Repeat("x", 5<<10-100)) // the next one begins a file
	if _, err := j.Append(t.Context(), [][]byte{[]byte(numbered(2))}); !errors.Is(err, journal.ErrFull) {
		t.Fatalf("append: %v, want ErrFull", err)
	}
	refuses.Store(true)
	if err := j.Release(1); !errors.Is(err, syscall.EROFS) {
		t.Fatalf("release: %v, want EROFS", err)
	}
	d.mu.Lock()
	d.room = 1 << 20
	d.mu.Unlock()
	appendText(t, j, numbered(2))
	stop()
	if files, err := filepath.Glob(filepath.Join(dir, "*.journal")); err != nil || len(files) != 2 {
		t.Fatalf("files %v, %v; want the released one and the other", files, err)
	}
	j, report, _ := open(t, dir, small(), deps(journal.OS()))
	if got := all(t, j); len(got) != 2 || report.Damaged != 0 {
		t.Fatalf("%d payloads, %+v", len(got), report)
	}
}

// TestEmptiedQuarantineMakesRoom: whoever has looked at what was set aside removes it,
// while the gateway runs.
func TestEmptiedQuarantineMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		o := small()
		o.MaxBytes = 16 << 10
		j, _, stop := open(t, dir, o, deps(journal.OS()))
		defer stop()
		if err := j.SetAside(journal.Entry{Position: 1, Payload: make([]byte, o.MaxBytes)}); err != nil {
			t.Fatal(err)
		}
		if err := j.Ready(); !errors.Is(err, journal.ErrFull) {
			t.Fatalf("with a quarantine of all that is allowed: %v", err)
		}
		if err := os.RemoveAll(filepath.Join(dir, "quarantine")); err != nil {
			t.Fatal(err)
		}
		<-time.After(15 * time.Second)
		if err := j.Ready(); err != nil {
			t.Errorf("once it is empty: %v", err)
		}
		if err := j.SetAside(journal.Entry{Position: 2, Payload: []byte("x")}); err != nil {
			t.Errorf("set aside where the directory is gone: %v", err)
		}
		if files, _ := os.ReadDir(filepath.Join(dir, "quarantine")); len(files) != 1 { // none tells as well
			t.Errorf("%d files in the quarantine", len(files))
		}
	})
}
