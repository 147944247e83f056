package journal_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/paybell/paybell/gateway/journal"
)

var quiet = slog.New(slog.DiscardHandler)

func deps(disk journal.Disk) journal.Deps {
	return journal.Deps{Logger: quiet, Now: time.Now, Disk: disk}
}

// open opens a journal and runs it until the test ends or stop is called.
func open(tb testing.TB, dir string, o journal.Options, d journal.Deps) (*journal.Journal, journal.Report, func()) {
	tb.Helper()
	j, report, err := journal.Open(dir, o, d)
	if err != nil {
		tb.Fatalf("open: %v", err)
	}
	return j, report, runUntil(tb, j)
}

// runUntil runs a journal until the test ends or what it returns is called.
func runUntil(tb testing.TB, j *journal.Journal) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("run: %v", err)
		}
		if err := j.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	tb.Cleanup(stop)
	return stop
}

func small() journal.Options {
	o := journal.DefaultOptions()
	o.SegmentBytes, o.MaxBytes = 4<<10, 1<<20
	return o
}

func appendText(tb testing.TB, j *journal.Journal, payloads ...string) {
	tb.Helper()
	var b [][]byte
	for _, p := range payloads {
		b = append(b, []byte(p))
	}
	if _, err := j.Append(tb.Context(), b); err != nil {
		tb.Fatalf("append: %v", err)
	}
}

func all(tb testing.TB, j *journal.Journal) []string {
	tb.Helper()
	var out []string
	from := j.Released() + 1
	for {
		es, err := j.Read(from, 7)
		if err != nil {
			tb.Fatalf("read: %v", err)
		}
		if len(es) == 0 {
			return out
		}
		for _, e := range es {
			out = append(out, string(e.Payload))
			from = e.Position + 1
		}
	}
}

func TestReadsBackInOrderAcrossSegmentsAndRestarts(t *testing.T) {
	dir := t.TempDir()
	var want []string
	for round := range 3 {
		j, report, stop := open(t, dir, small(), deps(journal.OS()))
		if report.Payloads != len(want) || report.Torn+report.Damaged != 0 {
			t.Fatalf("round %d: report %+v, want %d whole payloads", round, report, len(want))
		}
		for i := range 40 {
			p := fmt.Sprintf("%d-%d-%s", round, i, strings.Repeat("x", 300))
			appendText(t, j, p)
			want = append(want, p)
		}
		if got := all(t, j); strings.Join(got, "|") != strings.Join(want, "|") {
			t.Fatalf("round %d: read %d payloads, want %d in order", round, len(got), len(want))
		}
		stop()
	}
}

func TestReleaseRemovesFilesAndNumbersAreNeverUsedAgain(t *testing.T) {
	dir := t.TempDir()
	j, _, stop := open(t, dir, small(), deps(journal.OS()))
	appendText(t, j, "a", "b", "c")
	if err := j.Release(3); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.journal")); len(left) != 0 {
		t.Fatalf("files %v left after everything was released", left)
	}
	stop()
	j, report, _ := open(t, dir, small(), deps(journal.OS()))
	if report.Payloads != 0 {
		t.Fatalf("%d payloads after release, want none", report.Payloads)
	}
	p, err := j.Append(t.Context(), [][]byte{[]byte("d")})
	if err != nil || p != 4 {
		t.Fatalf("position %d, %v; want 4", p, err)
	}
}

// TestLostRecordsBelowTheMarkDoNotSwallowNewOnes: what was released is counted by
// position; if the file behind it shrank, new payloads must not fall below the mark.
func TestLostRecordsBelowTheMarkDoNotSwallowNewOnes(t *testing.T) {
	dir := t.TempDir()
	j, _, stop := open(t, dir, small(), deps(journal.OS()))
	appendText(t, j, "a")
	appendText(t, j, "b")
	appendText(t, j, "c")
	if err := j.Release(2); err != nil {
		t.Fatal(err)
	}
	stop()
	seg := onlySegment(t, dir)
	b, err := os.ReadFile(seg)
	if err != nil {
		t.Fatal(err)
	}
	// c and half of b are lost.
	if err := os.WriteFile(seg, b[:len(b)-35], 0o600); err != nil { //nolint:gosec // a path of the test
		t.Fatal(err)
	}
	j, _, _ = open(t, dir, small(), deps(journal.OS()))
	appendText(t, j, "d")
	if got := all(t, j); len(got) != 1 || got[0] != "d" {
		t.Fatalf("read %q, want d", got)
	}
}

func onlySegment(tb testing.TB, dir string) string {
	tb.Helper()
	segs, err := filepath.Glob(filepath.Join(dir, "*.journal"))
	if err != nil || len(segs) != 1 {
		tb.Fatalf("segments %v, %v; want one", segs, err)
	}
	return segs[0]
}

// fixture writes three callbacks, the second with two payloads, into one segment.
func fixture(t *testing.T) (segment []byte, name string) {
	t.Helper()
	dir := t.TempDir()
	j, _, stop := open(t, dir, small(), deps(journal.OS()))
	appendText(t, j, "first")
	appendText(t, j, "second-a", "second-b")
	appendText(t, j, "third")
	stop()
	path := onlySegment(t, dir)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b, filepath.Base(path)
}

func reopen(t *testing.T, name string, b []byte) ([]string, journal.Report) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil { //nolint:gosec // a path of the test
		t.Fatal(err)
	}
	disk := journal.OS()
	disk.SyncDir = func(string) error { return nil } // thousands of directories that nobody needs
	j, report, err := journal.Open(dir, small(), deps(disk))
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	defer j.Close()
	return all(t, j), report
}

// TestCutAtEveryByte: whatever the crash left of the file, what is read is a prefix
// of whole callbacks.
func TestCutAtEveryByte(t *testing.T) {
	b, name := fixture(t)
	prefixes := map[string]bool{"": true, "first": true, "first|second-a|second-b": true, "first|second-a|second-b|third": true}
	for _, name := range []string{name, legacyName} {
		for cut := range b {
			got, report := reopen(t, name, b[:cut])
			if !prefixes[strings.Join(got, "|")] {
				t.Fatalf("cut at %d: read %q, not a prefix of whole callbacks", cut, got)
			}
			if report.Damaged != 0 {
				t.Fatalf("cut at %d: reported as damage: %+v", cut, report)
			}
		}
	}
}

// TestDamageAtEveryByte: a flipped bit costs the callback it hits and no other, is
// always reported, and nothing that was not written is ever read.
func TestDamageAtEveryByte(t *testing.T) {
	b, name := fixture(t)
	written := map[string]bool{"first": true, "second-a": true, "second-b": true, "third": true}
	for i := range b {
		for bit, name := range map[byte]string{0x01: name, 0x80: name, 0x10: legacyName} {
			bad := append([]byte(nil), b...)
			bad[i] ^= bit
			got, report := reopen(t, name, bad)
			for _, p := range got {
				if !written[p] {
					t.Fatalf("byte %d: read %q, which was never written", i, p)
				}
			}
			if report.Torn+report.Damaged == 0 {
				t.Fatalf("byte %d: damage was not reported", i)
			}
			want := 2 // "second" has two payloads
			if i < 56 {
				want = 4 // the file's header is there twice
			}
			if len(got) < want {
				t.Fatalf("byte %d: only %q survived a flipped bit", i, got)
			}
		}
	}
}

// TestPayloadCannotPoseAsRecord: a callback that holds another journal's bytes is
// still one payload when the reader searches behind damage.
func TestPayloadCannotPoseAsRecord(t *testing.T) {
	foreign, _ := fixture(t)
	dir := t.TempDir()
	j, _, stop := open(t, dir, small(), deps(journal.OS()))
	appendText(t, j, string(foreign))
	appendText(t, j, "behind")
	stop()
	path := onlySegment(t, dir)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[56] ^= 0xff // the first record's mark
	got, report := reopen(t, filepath.Base(path), b)
	if len(got) != 1 || got[0] != "behind" || report.Damaged == 0 {
		t.Fatalf("read %d payloads, report %+v; want only the one behind the damage", len(got), report)
	}
}

func TestOneProcessHoldsTheDirectory(t *testing.T) {
	dir := t.TempDir()
	_, _, stop := open(t, dir, small(), deps(journal.OS()))
	if _, _, err := journal.Open(dir, small(), deps(journal.OS())); !errors.Is(err, journal.ErrLocked) {
		t.Fatalf("second open: %v, want ErrLocked", err)
	}
	stop()
	open(t, dir, small(), deps(journal.OS()))
}

func TestBounds(t *testing.T) {
	t.Run("bytes", func(t *testing.T) {
		o := small()
		o.MaxBytes = 8 << 10
		j, _, _ := open(t, t.TempDir(), o, deps(journal.OS()))
		for range 9 {
			_, err := j.Append(t.Context(), [][]byte{make([]byte, 1<<10)})
			if err == nil {
				continue
			}
			if !errors.Is(err, journal.ErrFull) {
				t.Fatalf("append: %v, want ErrFull", err)
			}
			if s := j.Stats(); s.Bytes > o.MaxBytes || s.Payloads != 7 {
				t.Fatalf("stats %+v, want 7 payloads within %d bytes", s, o.MaxBytes)
			}
			if err := j.Ready(); !errors.Is(err, journal.ErrFull) {
				t.Fatalf("ready with no room for such a payload: %v", err)
			}
			if err := j.Release(7); err != nil {
				t.Fatal(err)
			}
			if err := j.Ready(); err != nil {
				t.Fatalf("not ready with room again: %v", err)
			}
			appendText(t, j, "room again")
			return
		}
		t.Fatal("the bound was never reached")
	})
	t.Run("age", func(t *testing.T) {
		now := time.Now()
		d := deps(journal.OS())
		d.Now = func() time.Time { return now }
		o := small()
		o.MaxAge = time.Hour
		j, _, _ := open(t, t.TempDir(), o, d)
		appendText(t, j, "old")
		now = now.Add(61 * time.Minute)
		if _, err := j.Append(t.Context(), [][]byte{[]byte("new")}); !errors.Is(err, journal.ErrFull) {
			t.Fatalf("append: %v, want ErrFull", err)
		}
	})
	t.Run("payload", func(t *testing.T) {
		j, _, _ := open(t, t.TempDir(), small(), deps(journal.OS()))
		if _, err := j.Append(t.Context(), [][]byte{make([]byte, journal.MaxPayload+1)}); !errors.Is(err, journal.ErrTooLarge) {
			t.Fatalf("append: %v, want ErrTooLarge", err)
		}
	})
}

// TestTornTailsOfManyCrashesAreNoDamage: every process writes files of its own, so an
// earlier one's unfinished end lies in the middle; what is good before and behind it
// is read, no file of an earlier process changes, and the quarantine does not grow.
func TestTornTailsOfManyCrashesAreNoDamage(t *testing.T) {
	dir := t.TempDir()
	const crashes = 9
	before := map[string]string{}
	for i := range crashes {
		j, report, stop := open(t, dir, small(), deps(journal.OS()))
		if report.Payloads != i || report.Damaged != 0 || (report.Torn > 0) != (i > 0) {
			t.Fatalf("crash %d: report %+v", i, report)
		}
		appendText(t, j, fmt.Sprintf("p%d", i))
		stop()
		segs, err := filepath.Glob(filepath.Join(dir, "*.journal"))
		if err != nil || len(segs) != i+1 {
			t.Fatalf("segments %v, %v", segs, err)
		}
		for path, was := range before {
			if b, err := os.ReadFile(path); err != nil || string(b) != was {
				t.Fatalf("crash %d: %s was written to by a later process (%v)", i, path, err)
			}
		}
		b, err := os.ReadFile(segs[i])
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, b[56:70]...)                              // as if the next record had been begun
		if err := os.WriteFile(segs[i], b, 0o600); err != nil { //nolint:gosec // a path of the test
			t.Fatal(err)
		}
		before[segs[i]] = string(b)
	}
	j, _, _ := open(t, dir, small(), deps(journal.OS()))
	if got := all(t, j); len(got) != crashes {
		t.Fatalf("read %q", got)
	}
	if err := j.Release(crashes); err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadDir(filepath.Join(dir, "quarantine"))
	if err != nil || len(kept) != 4 {
		t.Fatalf("%d torn segments kept, %v; want the newest 4", len(kept), err)
	}
}

// TestDamageIsQuarantinedAndCounted: the file stays in its place as long as something
// good in it is owed, then moves to the quarantine, whose bytes count.
func TestDamageIsQuarantinedAndCounted(t *testing.T) {
	dir := t.TempDir()
	j, _, _ := open(t, dir, small(), deps(journal.OS()))
	appendText(t, j, "first")
	appendText(t, j, "second")
	appendText(t, j, "third")
	path := onlySegment(t, dir)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	i := strings.Index(string(b), "second")
	b[i] ^= 1                                            // the disk forgets while the journal is open
	if err := os.WriteFile(path, b, 0o600); err != nil { //nolint:gosec // a path of the test
		t.Fatal(err)
	}
	es, err := j.Read(1, 10)
	if err != nil || len(es) != 3 || es[0].Err != nil || es[1].Err == nil || es[2].Err != nil {
		t.Fatalf("read %+v, %v; want an error in place of the second alone", es, err)
	}
	if err := j.Release(3); err != nil {
		t.Fatal(err)
	}
	if s := j.Stats(); s.Quarantined != int64(len(b)) || s.Bytes != 0 {
		t.Fatalf("stats %+v, want %d bytes in quarantine", s, len(b))
	}
	// Twice the same is one file; another payload at the same place is not written over it.
	for _, payload := range []string{"nobody takes it", "nobody takes it", "nor that"} {
		if err := j.SetAside(journal.Entry{Position: 9, Payload: []byte(payload)}); err != nil {
			t.Fatal(err)
		}
	}
	if s := j.Stats(); s.Quarantined != int64(len(b))+15+8 {
		t.Fatalf("stats %+v after two payloads were set aside", s)
	}
}

// TestRecoversOnAFullDisk: reading what was kept needs no room, only new payloads do.
func TestRecoversOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	j, _, stop := open(t, dir, small(), deps(journal.OS()))
	appendText(t, j, "kept")
	stop()
	path := onlySegment(t, dir)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(b, "half a rec"...), 0o600); err != nil { //nolint:gosec // a path of the test
		t.Fatal(err)
	}
	full := journal.OS()
	full.Create = func(string) (journal.File, error) { return nil, syscall.ENOSPC }
	j, report, _ := open(t, dir, small(), deps(full))
	if got := all(t, j); len(got) != 1 || got[0] != "kept" || report.Torn != 10 {
		t.Fatalf("read %q, report %+v", got, report)
	}
	if err := j.Ready(); err != nil {
		t.Fatalf("ready before anything was tried: %v", err)
	}
	if _, err := j.Append(t.Context(), [][]byte{[]byte("new")}); !errors.Is(err, journal.ErrFull) {
		t.Fatalf("append: %v, want ErrFull", err)
	}
	if err := j.Ready(); !errors.Is(err, journal.ErrFull) {
		t.Fatalf("ready on a full disk: %v, want ErrFull", err)
	}
}

// TestFailedDirectorySyncFailsClosed: a file whose name may be forgotten keeps nothing.
func TestFailedDirectorySyncFailsClosed(t *testing.T) {
	disk, broken := journal.OS(), false
	syncDir := disk.SyncDir
	disk.SyncDir = func(path string) error {
		if broken {
			return syscall.EIO
		}
		return syncDir(path)
	}
	j, _, _ := open(t, t.TempDir(), small(), deps(disk))
	broken = true
	if _, err := j.Append(t.Context(), [][]byte{[]byte("a")}); !errors.Is(err, journal.ErrFailed) {
		t.Fatalf("append: %v, want ErrFailed", err)
	}
	if err := j.Ready(); !errors.Is(err, journal.ErrFailed) {
		t.Fatalf("ready: %v, want ErrFailed", err)
	}
}

// TestFateIsToldWhenNobodyWaits: whoever gave up did not take the payload back.
func TestFateIsToldWhenNobodyWaits(t *testing.T) {
	dir := t.TempDir()
	j, _, err := journal.Open(dir, small(), deps(journal.OS()))
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := j.Append(gone, [][]byte{[]byte("left behind")}); !errors.Is(err, context.Canceled) {
		t.Fatalf("append: %v, want Canceled", err)
	}
	told := make(chan journal.Position, 1)
	if err := j.Submit([][]byte{[]byte("submitted")}, func(p journal.Position, err error) {
		if err != nil {
			t.Errorf("told %v", err)
		}
		told <- p
	}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop() // Run commits what waits before it returns
	if err := j.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if p := <-told; p != 2 {
		t.Fatalf("told position %d, want 2", p)
	}
	if got := all(t, j); len(got) != 2 {
		t.Fatalf("read %q", got)
	}
	if err := j.Submit([][]byte{nil}, func(journal.Position, error) { t.Error("told of what was refused") }); !errors.Is(err, journal.ErrClosed) {
		t.Fatalf("submit behind the end: %v, want ErrClosed", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestInspectLooksWithoutTaking(t *testing.T) {
	dir := t.TempDir()
	if _, err := journal.Inspect(dir); err == nil {
		t.Fatal("an empty directory passes for a journal")
	}
	j, _, stop := open(t, dir, small(), deps(journal.OS()))
	appendText(t, j, "a", "b", "c")
	if err := j.Release(1); err != nil {
		t.Fatal(err)
	}
	in, err := journal.Inspect(dir)
	if err != nil || !in.Held || in.Payloads != 2 || in.Oldest.IsZero() || in.Bytes != j.Stats().Bytes {
		t.Fatalf("%+v, %v", in, err)
	}
	stop()
	if in, err = journal.Inspect(dir); err != nil || in.Held || in.Payloads != 2 {
		t.Fatalf("%+v, %v after it was closed", in, err)
	}
	open(t, dir, small(), deps(journal.OS()))
}

// badDisk fails as it is told to.
type badDisk struct {
	mu               sync.Mutex
	syncErr          error
	room             int
	syncs, truncated int
}

type badFile struct {
	journal.File
	d *badDisk
}

func (d *badDisk) disk() journal.Disk {
	disk := journal.OS()
	create := disk.Create
	disk.Create = func(path string) (journal.File, error) {
		f, err := create(path)
		return badFile{f, d}, err
	}
	return disk
}

func (f badFile) Write(p []byte) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if len(p) > f.d.room {
		n, _ := f.File.Write(p[:f.d.room])
		f.d.room = 0
		return n, syscall.ENOSPC
	}
	f.d.room -= len(p)
	return f.File.Write(p)
}

func (f badFile) Truncate(n int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.d.truncated++
	return f.File.Truncate(n)
}

func (f badFile) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.d.syncs++
	if f.d.syncErr != nil {
		return f.d.syncErr
	}
	return f.File.Sync()
}

// TestFailedSyncIsNeverRetried: the first failure closes the journal to appends,
// also after the disk has recovered.
func TestFailedSyncIsNeverRetried(t *testing.T) {
	d := &badDisk{room: 1 << 20, syncErr: syscall.EIO}
	j, _, _ := open(t, t.TempDir(), small(), deps(d.disk()))
	if _, err := j.Append(t.Context(), [][]byte{[]byte("a")}); !errors.Is(err, journal.ErrFailed) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("append: %v, want ErrFailed and EIO", err)
	}
	d.mu.Lock()
	d.syncErr = nil
	d.mu.Unlock()
	if _, err := j.Append(t.Context(), [][]byte{[]byte("b")}); !errors.Is(err, journal.ErrFailed) {
		t.Fatalf("append after the disk recovered: %v, want ErrFailed", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.syncs != 1 {
		t.Fatalf("%d syncs, want 1", d.syncs)
	}
	if !errors.Is(j.Stats().Failed, journal.ErrFailed) {
		t.Fatal("stats do not tell of the failure")
	}
}

// TestFullDiskKeepsNothingHalf: what did not fit is taken back, and the journal
// goes on when there is room again.
func TestFullDiskKeepsNothingHalf(t *testing.T) {
	dir := t.TempDir()
	d := &badDisk{room: 100}
	j, _, stop := open(t, dir, small(), deps(d.disk()))
	appendText(t, j, "fits")
	if _, err := j.Append(t.Context(), [][]byte{[]byte(strings.Repeat("y", 200))}); !errors.Is(err, journal.ErrFull) {
		t.Fatalf("append: %v, want ErrFull", err)
	}
	d.mu.Lock()
	d.room = 1 << 20
	d.mu.Unlock()
	appendText(t, j, "fits again")
	stop()
	j, report, _ := open(t, dir, small(), deps(journal.OS()))
	if got := all(t, j); len(got) != 2 || got[1] != "fits again" || report.Torn != 0 {
		t.Fatalf("read %q, report %+v", got, report)
	}
}

// TestOneSyncServesAllThatWait proves the group commit by counting.
func TestOneSyncServesAllThatWait(t *testing.T) {
	d := &badDisk{room: 1 << 30}
	j, _, _ := open(t, t.TempDir(), journal.DefaultOptions(), deps(d.disk()))
	const callers = 64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range 20 {
				appendText(t, j, "payload")
			}
		})
	}
	wg.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if got := len(all(t, j)); got != callers*20 {
		t.Fatalf("%d payloads, want %d", got, callers*20)
	}
	if d.syncs > callers*20/2 {
		t.Fatalf("%d syncs for %d appends: they are not shared", d.syncs, callers*20)
	}
}

// TestAnyHistory appends, releases, reopens and crashes at random against a model.
func TestAnyHistory(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "j") //nolint:usetesting // one directory for each history, not for all
		if err != nil {
			rt.Fatal(err)
		}
		var model []string // not released
		var released, next int
		j, _, stop := open(t, dir, small(), deps(journal.OS()))
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			switch rapid.IntRange(0, 3).Draw(rt, "step") {
			case 0, 1:
				var ps []string
				for range rapid.IntRange(1, 4).Draw(rt, "payloads") {
					next++
					ps = append(ps, fmt.Sprintf("%d-%s", next, strings.Repeat("z", rapid.IntRange(0, 900).Draw(rt, "length"))))
				}
				appendText(t, j, ps...)
				model = append(model, ps...)
			case 2:
				n := rapid.IntRange(0, len(model)).Draw(rt, "release")
				released += n
				model = model[n:]
				if err := j.Release(journal.Position(released)); err != nil { //nolint:gosec // never negative
					rt.Fatal(err)
				}
			case 3:
				stop()
				j, _, stop = open(t, dir, small(), deps(journal.OS()))
			}
			if got := all(t, j); strings.Join(got, "|") != strings.Join(model, "|") {
				rt.Fatalf("read %d payloads, want %d", len(got), len(model))
			}
		}
		stop()
	})
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte("paybell1\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		reopen(t, legacyName, b)
		reopen(t, "00000000000000000001-6d61726b73656564000000000000002a.journal", b)
	})
}

func BenchmarkAppend(b *testing.B) {
	j, _, _ := open(b, b.TempDir(), journal.DefaultOptions(), deps(journal.OS()))
	payload := [][]byte{make([]byte, 1500)}
	b.SetParallelism(64)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p, err := j.Append(b.Context(), payload)
			if err != nil {
				b.Fatal(err)
			}
			if p%4096 == 0 {
				if err := j.Release(p - 2048); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

// TestPagesHaveNoGap: a page that is full by its bytes ends there, also where the next
// file begins with something small: what was skipped would be released unread.
func TestPagesHaveNoGap(t *testing.T) {
	o := journal.DefaultOptions()
	o.SegmentBytes, o.MaxBytes = 9<<20, 256<<20
	dir := t.TempDir()
	j, _, stop := open(t, dir, o, deps(journal.OS()))
	r := rand.New(rand.NewPCG(1, 2))
	var want []int
	for range 250 {
		n := 1 + r.IntN(50)
		if r.IntN(10) < 7 {
			n = 300 << 10
		}
		want = append(want, n)
		if _, err := j.Append(t.Context(), [][]byte{make([]byte, n)}); err != nil {
			t.Fatal(err)
		}
	}
	check := func() {
		t.Helper()
		var got []int
		for {
			es, err := j.Read(journal.Position(len(got)+1), 512)
			if err != nil {
				t.Fatal(err)
			}
			if len(es) == 0 {
				break
			}
			for _, e := range es {
				if e.Position != journal.Position(len(got)+1) || e.Err != nil {
					t.Fatalf("position %d behind %d, %v", e.Position, len(got), e.Err)
				}
				got = append(got, len(e.Payload))
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("read %d payloads of %d, or others", len(got), len(want))
		}
	}
	check()
	stop()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j, _, _ = open(t, dir, o, deps(journal.OS()))
	check()
}

// TestFullJournalCanBeMoved: what is in a full journal can be put at its end, so that
// its beginning can be released; what is new cannot.
func TestFullJournalCanBeMoved(t *testing.T) {
	o := small()
	o.MaxBytes = 2 * o.SegmentBytes
	j, _, _ := open(t, t.TempDir(), o, deps(journal.OS()))
	payload := [][]byte{make([]byte, 1000)}
	n := 0
	for ; ; n++ {
		if _, err := j.Append(t.Context(), payload); errors.Is(err, journal.ErrFull) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := j.Move(t.Context(), payload); err != nil {
		t.Fatal(err)
	}
	if err := j.Release(journal.Position(n)); err != nil {
		t.Fatal(err)
	}
	if got := all(t, j); len(got) != 1 {
		t.Fatalf("%d payloads, want the one that was moved", len(got))
	}
	if _, err := j.Append(t.Context(), payload); err != nil {
		t.Fatalf("with room again: %v", err)
	}
}

// TestSetAsideNeedsNoRoom: where a payload cannot be written to the quarantine, the file
// it lies in goes there.
func TestSetAsideNeedsNoRoom(t *testing.T) {
	dir := t.TempDir()
	j, _, _ := open(t, dir, small(), deps(journal.OS()))
	appendText(t, j, "nobody takes it")
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
	for range 5 { // a new file, so that the first is released
		appendText(t, j, strings.Repeat("x", 1<<10))
	}
	if err := j.Release(2); err != nil {
		t.Fatal(err)
	}
	damaged, err := filepath.Glob(filepath.Join(dir, "quarantine", "*.damaged"))
	for i := 3; len(damaged) == 0 && i <= 6; i++ {
		if err := j.Release(journal.Position(i)); err != nil {
			t.Fatal(err)
		}
		damaged, err = filepath.Glob(filepath.Join(dir, "quarantine", "*.damaged"))
	}
	if err != nil || len(damaged) != 1 {
		t.Fatalf("quarantine holds %v, %v", damaged, err)
	}
	if b, err := os.ReadFile(damaged[0]); err != nil || !strings.Contains(string(b), "nobody takes it") {
		t.Fatalf("the payload is not in it: %v", err)
	}
}
