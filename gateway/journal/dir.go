package journal

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// The quarantine holds whole segments that had unreadable bytes, moved there when
// they were released, because a move needs no room on a full disk; and payloads that
// were set aside. Its bytes count towards Options.MaxBytes, so the disk stays
// bounded until somebody has looked. Torn tails are what every crash may leave, so
// of those only the newest few are kept.
const (
	quarantineDir = "quarantine"
	damagedExt    = ".damaged"
	tornExt       = ".torn"
	payloadExt    = ".payload"
	keptTorn      = 4
)

// lockDir takes an exclusive lock that ends with the process (flock).
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("journal: lock: %w", err)
	}
	if err := flock(f, syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", dir, err), f.Close())
	}
	return f, nil
}

// flock locks a file or says ErrLocked at once.
func flock(f *os.File, how int) error {
	err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}

// makeDir makes the journal's directories and the entries that lead to them durable:
// a file that was synced is lost all the same when its directory is.
func makeDir(dir string, disk Disk) error {
	if err := os.MkdirAll(filepath.Join(dir, quarantineDir), 0o700); err != nil {
		return fmt.Errorf("journal: make directory: %w", err)
	}
	if err := errors.Join(disk.SyncDir(dir), disk.SyncDir(filepath.Dir(filepath.Clean(dir)))); err != nil {
		return fmt.Errorf("journal: sync directory: %w", err)
	}
	return nil
}

// retire takes a segment out of use: it is removed, or moved to the quarantine when
// there is something in it that could not be read. j.files is held.
func (j *Journal) retire(seg *segment) error {
	_ = seg.close() // what was owed of it was synced, or read, long ago
	ext := damagedExt
	switch {
	case seg.damaged > 0:
	case seg.torn > 0:
		ext = tornExt
	default:
		if err := j.disk.Remove(seg.path); !isGone(err) {
			return err
		}
		return nil
	}
	if err := j.ensureQuarantine(); err != nil {
		return err
	}
	name := fmt.Sprintf("%s.%d%s", filepath.Base(seg.path), j.now().UnixMilli(), ext)
	return j.disk.Rename(seg.path, filepath.Join(j.dir, quarantineDir, name))
}

// countQuarantine removes all but the newest torn segments and learns how many bytes
// the rest takes. j.files is held.
func (j *Journal) countQuarantine() error {
	files, err := quarantined(j.dir)
	if err != nil {
		return err
	}
	torn, bytes := 0, int64(0)
	for _, f := range files {
		if strings.HasSuffix(f.Name(), tornExt) {
			if torn++; torn > keptTorn {
				if err := j.disk.Remove(filepath.Join(j.dir, quarantineDir, f.Name())); err != nil {
					return err
				}
				continue
			}
		}
		bytes += f.Size()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.quarantined = bytes
	return nil
}

// quarantined lists the quarantine, newest first.
func quarantined(dir string) ([]fs.FileInfo, error) {
	entries, err := os.ReadDir(filepath.Join(dir, quarantineDir))
	if err != nil && !isGone(err) {
		return nil, err
	}
	files := make([]fs.FileInfo, 0, len(entries))
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // somebody has just looked at it and removed it
		}
		if err != nil {
			return nil, err
		}
		files = append(files, info)
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int {
		return cmp.Or(b.ModTime().Compare(a.ModTime()), cmp.Compare(b.Name(), a.Name()))
	})
	return files, nil
}

// SetAside writes a payload to the quarantine, durably: it can be read, and nobody
// can take it. The caller goes on behind it. Where it cannot be written, on a full disk,
// the file it lies in goes to the quarantine once it is released, as a damaged one
// does, which needs no room. The quarantined file's name has the payload's digest
// beside its position, because a position can come again where a power loss took the
// mark of what was released along.
func (j *Journal) SetAside(e Entry) error {
	j.files.Lock()
	defer j.files.Unlock()
	err := j.writeAside(e)
	if err == nil {
		return j.countQuarantine()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, seg := range j.segments {
		if i := seg.index(e.Position); i < len(seg.records) && seg.records[i].position == e.Position {
			seg.lose(seg.records[i])
			return nil
		}
	}
	return err
}

// ensureQuarantine makes the directory again where somebody removed it whole.
func (j *Journal) ensureQuarantine() error {
	if err := os.MkdirAll(filepath.Join(j.dir, quarantineDir), 0o700); err != nil {
		return fmt.Errorf("journal: quarantine: %w", err)
	}
	return nil
}

func (j *Journal) writeAside(e Entry) error {
	digest := sha256.Sum256(e.Payload)
	path := filepath.Join(j.dir, quarantineDir, fmt.Sprintf("%020d.%x%s", uint64(e.Position), digest[:8], payloadExt))
	if err := j.ensureQuarantine(); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("journal: set a payload aside: %w", err)
	}
	_, err = f.Write(e.Payload)
	if err := errors.Join(err, f.Sync(), f.Close(), j.disk.SyncDir(filepath.Dir(path))); err != nil {
		return fmt.Errorf("journal: set a payload aside: %w", err)
	}
	return nil
}

// readReleased reads the mark; none, or one that cannot be read, is 0.
func readReleased(dir string) (Position, error) {
	b, err := os.ReadFile(filepath.Join(dir, releasedFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !aboutFile(err) {
		return 0, fmt.Errorf("journal: read what was released: %w", err)
	}
	if len(b) != 16 || binary.BigEndian.Uint64(b) != ^binary.BigEndian.Uint64(b[8:]) {
		// Also where the disk does not give it: passing payloads on twice is harmless,
		// skipping one is not.
		return 0, nil
	}
	return Position(binary.BigEndian.Uint64(b)), nil
}

// writeReleased replaces the mark. It is not synced: an older mark only makes the
// reader pass on again what it passed on before.
func (j *Journal) writeReleased(p Position) error {
	b := binary.BigEndian.AppendUint64(nil, uint64(p))
	b = binary.BigEndian.AppendUint64(b, ^uint64(p))
	path := filepath.Join(j.dir, releasedFile)
	if err := j.disk.WriteFile(path+".new", b); err != nil {
		return err
	}
	return j.disk.Rename(path+".new", path)
}
