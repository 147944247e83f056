package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// inPlace is nil when the paths of the lock and of seg, unless that is nil, still lead to
// the files that this process has open. Their inodes cannot be used again meanwhile, so
// it is certain that the next process finds what is synced into them.
func (j *Journal) inPlace(seg *segment) error {
	if err := j.leadsTo(filepath.Join(j.dir, lockFile), j.locked); err != nil || seg == nil {
		return err
	}
	return j.leadsTo(seg.path, seg.info)
}

func (j *Journal) leadsTo(path string, held fs.FileInfo) error {
	info, err := j.look(path)
	if err == nil && !os.SameFile(info, held) {
		return fmt.Errorf("%w: %s is another file", ErrRemoved, path)
	}
	return err
}

func (j *Journal) look(path string) (fs.FileInfo, error) {
	info, err := j.disk.Stat(path)
	if isGone(err) {
		return nil, fmt.Errorf("%w: %s is gone", ErrRemoved, path)
	}
	if err != nil {
		return nil, fmt.Errorf("see whether a file is in its place: %w", err)
	}
	return info, nil
}

// isGone reports whether an error says that no file is there, nor perhaps its directory.
func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) }
