package journal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paybell/paybell/gateway/journal"
)

// removals are what somebody does to a journal's directory while it is used.
var removals = []struct {
	name string
	do   func(dir string) error
	// ours: the directory is still this journal's.
	ours bool
}{
	{name: "the directory is removed", do: os.RemoveAll},
	{name: "the directory is removed and made again", do: func(dir string) error {
		return errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700))
	}},
	{name: "the directory is moved away", do: func(dir string) error { return os.Rename(dir, dir+".old") }},
	{name: "another journal is put in its place", do: func(dir string) error {
		return errors.Join(os.Rename(dir, dir+".old"), os.CopyFS(dir, os.DirFS(dir+".old")), removeSegments(dir))
	}},
	{name: "a file is put in its place", do: func(dir string) error {
		return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600))
	}},
	{name: "its files are removed", ours: true, do: removeSegments},
	{name: "its lock is removed", ours: true, do: func(dir string) error { return os.Remove(filepath.Join(dir, "lock")) }},
}

func removeSegments(dir string) error {
	paths, err := filepath.Glob(filepath.Join(dir, "*.journal"))
	for _, path := range paths {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// logged is a logger and what it wrote. It is read when the journal has answered.
func logged() (*slog.Logger, *bytes.Buffer) {
	var b bytes.Buffer
	return slog.New(slog.NewTextHandler(&b, nil)), &b
}

// wantRemoved checks that a journal takes nothing, and says why.
func wantRemoved(t *testing.T, j *journal.Journal, err error) {
	t.Helper()
	for what, err := range map[string]error{"append": err, "ready": j.Ready(), "stats": j.Stats().Failed} {
		if !errors.Is(err, journal.ErrRemoved) || !errors.Is(err, journal.ErrFailed) || errors.Is(err, journal.ErrFull) {
			t.Errorf("%s: %v, want ErrRemoved and ErrFailed", what, err)
		}
	}
}

// TestRemovedJournalConfirmsNothing: what would be synced into files that the next
// process does not find is refused, once and for all; what was kept before is still read
// and released, and nothing is put into the directory that took the place.
func TestRemovedJournalConfirmsNothing(t *testing.T) {
	for _, tc := range removals {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "journal")
			d := deps(journal.OS())
			var out *bytes.Buffer
			d.Logger, out = logged()
			j, _, stop := open(t, dir, small(), d)
			appendText(t, j, "kept")
			if err := tc.do(dir); err != nil {
				t.Fatal(err)
			}
			before, left := listing(t, dir), segments(t, dir)
			_, err := j.Append(t.Context(), [][]byte{[]byte("refused")})
			wantRemoved(t, j, err)
			if err := j.Submit([][]byte{[]byte("again")}, func(journal.Position, error) {}); !errors.Is(err, journal.ErrRemoved) {
				t.Errorf("the next one: %v", err)
			}
			if n := strings.Count(out.String(), "journal was removed or replaced under the running process"); n != 1 {
				t.Errorf("said %d times:\n%s", n, out)
			}
			if got := all(t, j); len(got) != 1 || got[0] != "kept" {
				t.Errorf("read %q, want what was kept", got)
			}
			if left == 0 {
				if err := j.Release(1); err != nil {
					t.Errorf("release: %v", err)
				}
			}
			if after := listing(t, dir); !tc.ours && after != before {
				t.Errorf("%s is put into what took the place, which held %s", after, before)
			}
			stop()
			if left == 0 == strings.Contains(out.String(), "journal ends with payloads") {
				t.Errorf("%d files are left, and the end says:\n%s", left, out)
			}
			if info, err := os.Stat(dir); err == nil && !info.IsDir() {
				if err := os.Remove(dir); err != nil {
					t.Fatal(err)
				}
			}
			j, _, _ = open(t, dir, small(), deps(journal.OS()))
			if got := all(t, j); left > 0 && (len(got) == 0 || got[0] != "kept") {
				t.Errorf("the next process reads %q", got)
			}
			appendText(t, j, "taken again")
		})
	}
}

func segments(t *testing.T, dir string) int {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.journal"))
	if err != nil {
		t.Fatal(err)
	}
	return len(paths)
}

// listing is the names in a directory, "" where there is none.
func listing(t *testing.T, dir string) string {
	t.Helper()
	entries, _ := os.ReadDir(dir) // there may be none
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return fmt.Sprint(names)
}

// TestJournalRemovedDuringASyncConfirmsNothing: every caller of the batch is refused.
func TestJournalRemovedDuringASyncConfirmsNothing(t *testing.T) {
	for _, tc := range removals {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "journal")
			disk, h := journal.OS(), newHang()
			defer h.end()
			create := disk.Create
			disk.Create = func(path string) (journal.File, error) {
				f, err := create(path)
				return hangingFile{f, h.pass, func() {}}, err
			}
			j, _, _ := open(t, dir, small(), deps(disk))
			appendText(t, j, "kept")
			h.armed.Store(true)
			const callers = 5
			told := make(chan error, callers)
			for range callers {
				if err := j.Submit([][]byte{[]byte("refused")}, func(_ journal.Position, err error) { told <- err }); err != nil {
					t.Fatal(err)
				}
			}
			<-h.reached
			if err := tc.do(dir); err != nil {
				t.Fatal(err)
			}
			h.end()
			for range callers {
				wantRemoved(t, j, <-told)
			}
		})
	}
}

// TestRemovedIdleJournalIsNoticed: before it is needed.
func TestRemovedIdleJournalIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "journal")
		j, _, stop := open(t, dir, small(), deps(journal.OS()))
		defer stop()
		<-time.After(time.Minute)
		if err := errors.Join(j.Ready(), os.RemoveAll(dir)); err != nil {
			t.Fatal(err)
		}
		<-time.After(15 * time.Second)
		if err := j.Ready(); !errors.Is(err, journal.ErrRemoved) {
			t.Errorf("ready: %v, want ErrRemoved", err)
		}
	})
}

// TestNoFileIsMadeInAnotherJournal: its numbers would be those of another's payloads.
func TestNoFileIsMadeInAnotherJournal(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	j, _, _ := open(t, dir, small(), deps(journal.OS()))
	if err := errors.Join(os.Rename(dir, dir+".old"), os.CopyFS(dir, os.DirFS(dir+".old"))); err != nil {
		t.Fatal(err)
	}
	_, err := j.Append(t.Context(), [][]byte{[]byte("refused")})
	wantRemoved(t, j, err)
	if n := segments(t, dir); n > 0 {
		t.Errorf("%d files are made there", n)
	}
}

// TestMarkIsNotPutIntoAnotherJournal: before anything is appended nobody has noticed yet,
// and a mark beside a journal that was put back from a backup would hide what that holds.
func TestMarkIsNotPutIntoAnotherJournal(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	backup, _, stop := open(t, dir, small(), deps(journal.OS()))
	appendText(t, backup, "from the backup")
	stop()
	if err := os.Rename(dir, dir+".backup"); err != nil {
		t.Fatal(err)
	}
	j, _, stop := open(t, dir, small(), deps(journal.OS()))
	for n := range 5 {
		appendText(t, j, numbered(n))
	}
	if err := errors.Join(os.RemoveAll(dir), os.Rename(dir+".backup", dir), j.Release(5)); err != nil {
		t.Fatal(err)
	}
	stop()
	j, _, _ = open(t, dir, small(), deps(journal.OS()))
	if got := all(t, j); len(got) != 1 {
		t.Errorf("%d payloads of the backup are read, want 1", len(got))
	}
}

// TestUnknownPlaceConfirmsNothing: a disk that does not say which file is there.
func TestUnknownPlaceConfirmsNothing(t *testing.T) {
	disk := journal.OS()
	looks := 0
	stat := disk.Stat
	disk.Stat = func(path string) (os.FileInfo, error) {
		if looks++; looks > 2 { // the directory's before the file is made, and the file's
			return nil, os.ErrPermission
		}
		return stat(path)
	}
	j, _, _ := open(t, t.TempDir(), small(), deps(disk))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := j.Append(ctx, [][]byte{[]byte("a")})
	if !errors.Is(err, journal.ErrFailed) || !errors.Is(err, os.ErrPermission) || errors.Is(err, journal.ErrRemoved) {
		t.Fatalf("append: %v, want ErrFailed and the disk's error", err)
	}
}
