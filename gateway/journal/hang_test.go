package journal_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paybell/paybell/gateway/journal"
)

// hang is an operation on a disk that does not come back until it is let go.
type hang struct {
	armed   atomic.Bool
	reached chan struct{}
	over    chan struct{}
}

func newHang() *hang { return &hang{reached: make(chan struct{}, 1), over: make(chan struct{})} }

func (h *hang) pass() {
	if h.armed.Load() {
		select {
		case h.reached <- struct{}{}:
		default:
		}
		<-h.over
	}
}

func (h *hang) end() {
	if h.armed.Swap(false) {
		close(h.over)
	}
}

// hangingFile hangs at its sync, or where it is closed.
type hangingFile struct {
	journal.File
	sync, end func()
}

func (f hangingFile) Sync() error  { f.sync(); return f.File.Sync() }
func (f hangingFile) Close() error { f.end(); return f.File.Close() }

// soon fails the test when f does not return.
func soon(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatalf("%s hangs with the disk", what)
	}
}

// TestHangingDiskHoldsUpNobody: whatever the disk does not come back from, whoever asks
// is answered and whoever appends gets an error when his time is over, or his payload is
// kept beside what hangs.
func TestHangingDiskHoldsUpNobody(t *testing.T) {
	nothing := func() {}
	for _, tc := range []struct {
		name string
		put  func(d *journal.Disk, h *hang)
		// removing: it is Release that hangs, and appends go on.
		removing bool
	}{
		{name: "a new file is made", put: func(d *journal.Disk, h *hang) {
			create := d.Create
			d.Create = func(path string) (journal.File, error) { h.pass(); return create(path) }
		}},
		{name: "its name is synced", put: func(d *journal.Disk, h *hang) {
			syncDir := d.SyncDir
			d.SyncDir = func(path string) error { h.pass(); return syncDir(path) }
		}},
		{name: "it is synced", put: func(d *journal.Disk, h *hang) {
			create := d.Create
			d.Create = func(path string) (journal.File, error) {
				f, err := create(path)
				return hangingFile{f, h.pass, nothing}, err
			}
		}},
		{name: "a file is closed", removing: true, put: func(d *journal.Disk, h *hang) {
			create := d.Create
			d.Create = func(path string) (journal.File, error) {
				f, err := create(path)
				return hangingFile{f, nothing, h.pass}, err
			}
		}},
		{name: "a file is removed", removing: true, put: func(d *journal.Disk, h *hang) {
			remove := d.Remove
			d.Remove = func(path string) error { h.pass(); return remove(path) }
		}},
		{name: "the mark is written", removing: true, put: func(d *journal.Disk, h *hang) {
			writeFile := d.WriteFile
			d.WriteFile = func(path string, b []byte) error { h.pass(); return writeFile(path, b) }
		}},
		{name: "the mark is renamed", removing: true, put: func(d *journal.Disk, h *hang) {
			rename := d.Rename
			d.Rename = func(from, to string) error { h.pass(); return rename(from, to) }
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			disk, h := journal.OS(), newHang()
			defer h.end() // a journal that hangs does not stop
			tc.put(&disk, h)
			j, _, _ := open(t, t.TempDir(), small(), deps(disk))
			hung := make(chan error, 1)
			if tc.removing {
				appendText(t, j, strings.Repeat("x", 5<<10))
				appendText(t, j, "behind it")
				h.armed.Store(true)
				go func() { hung <- j.Release(1) }()
			} else {
				h.armed.Store(true)
				go func() {
					_, err := j.Append(t.Context(), [][]byte{[]byte("hangs")})
					hung <- err
				}()
			}
			<-h.reached
			soon(t, "stats", func() { j.Stats() })
			soon(t, "what is released", func() { j.Released() })
			soon(t, "ready", func() {
				if err := j.Ready(); err != nil {
					t.Errorf("ready: %v", err)
				}
			})
			soon(t, "append", func() {
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				_, err := j.Append(ctx, [][]byte{[]byte("beside it")})
				if tc.removing && err != nil || !tc.removing && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("append: %v", err)
				}
			})
			h.end()
			if err := <-hung; err != nil {
				t.Fatal(err)
			}
			appendText(t, j, "the last")
			if n := j.Stats().Payloads; n != 3 {
				t.Fatalf("%d payloads, want 3", n)
			}
		})
	}
}

// TestBytesOnTheDiskCountUntilTheyAreGone: a removal that hangs makes no room.
func TestBytesOnTheDiskCountUntilTheyAreGone(t *testing.T) {
	disk, h := journal.OS(), newHang()
	defer h.end()
	remove := disk.Remove
	disk.Remove = func(path string) error { h.pass(); return remove(path) }
	o := small()
	o.MaxBytes = 2 * o.SegmentBytes
	j, _, _ := open(t, t.TempDir(), o, deps(disk))
	appendText(t, j, strings.Repeat("x", 7<<10))
	h.armed.Store(true)
	released := make(chan error, 1)
	go func() { released <- j.Release(1) }()
	<-h.reached
	if _, err := j.Append(t.Context(), [][]byte{make([]byte, 1<<10)}); !errors.Is(err, journal.ErrFull) {
		t.Fatalf("append: %v, want ErrFull", err)
	}
	h.end()
	if err := <-released; err != nil {
		t.Fatal(err)
	}
	appendText(t, j, strings.Repeat("y", 1<<10))
}

// TestWaitingPayloadsAreBoundedByBytes: a disk that hangs must not fill the memory.
func TestWaitingPayloadsAreBoundedByBytes(t *testing.T) {
	for given, bound := range map[int64]int{0: 64 << 20, 8 << 20: 8 << 20} {
		t.Run(fmt.Sprint(given), func(t *testing.T) { waitingPayloads(t, given, bound) })
	}
}

func waitingPayloads(t *testing.T, given int64, bound int) {
	t.Helper()
	disk, h := journal.OS(), newHang()
	defer h.end()
	create := disk.Create
	disk.Create = func(path string) (journal.File, error) {
		f, err := create(path)
		return hangingFile{f, h.pass, func() {}}, err
	}
	o := journal.DefaultOptions()
	o.QueueBytes = given
	j, _, _ := open(t, t.TempDir(), o, deps(disk))
	h.armed.Store(true)
	payload := [][]byte{make([]byte, 256<<10)}
	told := make(chan error, 1000)
	submit := func() error {
		return j.Submit(payload, func(_ journal.Position, err error) { told <- err })
	}
	n := 0
	for ; n < 1000; n++ {
		if err := submit(); errors.Is(err, journal.ErrBusy) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if bytes := n * len(payload[0]); bytes > bound || bytes < bound-1<<20 {
		t.Fatalf("busy behind %d payloads, %d bytes", n, bytes)
	}
	if err := j.Submit([][]byte{[]byte("small")}, func(journal.Position, error) { told <- nil }); err != nil {
		t.Fatalf("a small one that fits: %v", err)
	}
	h.end()
	for range n + 1 {
		if err := <-told; err != nil {
			t.Fatal(err)
		}
	}
	if err := submit(); err != nil {
		t.Fatalf("when all were told: %v", err)
	}
}

// TestLargeCallbackIsNotBusyForEver: what exceeds the bound alone is tried alone.
func TestLargeCallbackIsNotBusyForEver(t *testing.T) {
	j, _, _ := open(t, t.TempDir(), small(), deps(journal.OS()))
	p := make([]byte, journal.MaxPayload)
	if _, err := j.Append(t.Context(), [][]byte{p, p, p}); !errors.Is(err, journal.ErrFull) {
		t.Fatalf("append: %v, want the bound of the files to refuse it", err)
	}
}

// TestReleaseBesideAppends: files come and go while others append and ask; everyone's
// payloads are read once and in their order.
func TestReleaseBesideAppends(t *testing.T) {
	dir := t.TempDir()
	o := small()
	o.MaxBytes = 64 << 20
	j, _, stop := open(t, dir, o, deps(journal.OS()))
	const callers, each = 4, 150
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for n := range each {
				if _, err := j.Append(t.Context(), [][]byte{fmt.Appendf(nil, "%d %d %0300d", c, n, 0)}); err != nil {
					t.Errorf("append: %v", err)
					return
				}
			}
		})
	}
	ended := make(chan struct{})
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		for {
			select {
			case <-ended:
				return
			default:
			}
			if s := j.Stats(); s.Payloads < 0 || s.Bytes < 0 {
				t.Errorf("stats %+v", s)
			}
			if err := j.Ready(); err != nil {
				t.Errorf("ready: %v", err)
			}
		}
	}()
	next := make([]int, callers)
	for read := 0; read < callers*each && !t.Failed(); {
		es, err := j.Read(j.Released()+1, 16)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			var c, n int
			if _, err := fmt.Sscanf(string(e.Payload), "%d %d", &c, &n); err != nil || e.Err != nil || n != next[c] {
				t.Fatalf("read %q, %v, want number %d", e.Payload, e.Err, next[c])
			}
			next[c]++
			read++
			if read%50 == 0 {
				if err := j.SetAside(e); err != nil {
					t.Fatal(err)
				}
			}
		}
		if len(es) > 0 {
			if err := j.Release(es[len(es)-1].Position); err != nil {
				t.Fatal(err)
			}
		}
	}
	wg.Wait()
	close(ended)
	<-asked
	stop()
	_, report, _ := open(t, dir, o, deps(journal.OS()))
	if report != (journal.Report{}) {
		t.Fatalf("%+v, want nothing left", report)
	}
}
