package journal_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/paybell/paybell/gateway/journal"
)

// refusingFile writes half of what it is given and returns the error, if there is one.
type refusingFile struct {
	journal.File
	err *atomic.Pointer[error]
}

func (f refusingFile) Write(p []byte) (int, error) {
	if err := f.err.Load(); err != nil {
		n, _ := f.File.Write(p[:len(p)/2])
		return n, *err
	}
	return f.File.Write(p)
}

// TestRefusedWriteIsCalledByItsCause: only a disk without room is full. Whatever it is,
// nothing is kept, and the next callback is when the disk takes it.
func TestRefusedWriteIsCalledByItsCause(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want error
	}{
		{syscall.ENOSPC, journal.ErrFull},
		{syscall.EDQUOT, journal.ErrFull},
		{syscall.EFBIG, journal.ErrFull},
		{syscall.EIO, journal.ErrDisk},
		{syscall.EROFS, journal.ErrDisk},
		{syscall.EMFILE, journal.ErrDisk},
		{syscall.EACCES, journal.ErrDisk},
	} {
		for _, step := range []string{"create", "write"} {
			t.Run(tc.err.Error()+" at "+step, func(t *testing.T) {
				var refuses atomic.Pointer[error]
				dir, disk := t.TempDir(), journal.OS()
				create := disk.Create
				disk.Create = func(path string) (journal.File, error) {
					if err := refuses.Load(); err != nil && step == "create" {
						return nil, *err
					}
					f, err := create(path)
					return refusingFile{f, &refuses}, err
				}
				j, _, stop := open(t, dir, small(), deps(disk))
				if step == "write" {
					appendText(t, j, "before")
				}
				refuses.Store(&tc.err)
				_, err := j.Append(t.Context(), [][]byte{[]byte("refused")})
				for what, err := range map[string]error{"append": err, "ready": j.Ready()} {
					if !errors.Is(err, tc.want) || !errors.Is(err, tc.err) {
						t.Errorf("%s: %v, want %v: %v", what, err, tc.want, tc.err)
					}
					if full := strings.Contains(err.Error(), "full"); full != errors.Is(tc.want, journal.ErrFull) {
						t.Errorf("%s: %v", what, err)
					}
				}
				refuses.Store(nil)
				appendText(t, j, "taken")
				if err := j.Ready(); err != nil {
					t.Errorf("ready when the disk takes it again: %v", err)
				}
				stop()
				j, report, _ := open(t, dir, small(), deps(journal.OS()))
				if got := all(t, j); got[len(got)-1] != "taken" || strings.Contains(strings.Join(got, " "), "refused") || report.Torn+report.Damaged > 0 {
					t.Errorf("read %q, %+v", got, report)
				}
			})
		}
	}
}
