package journal

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// File is what a journal needs of a file; tests put failing disks behind it.
type File interface {
	Write(p []byte) (int, error)
	ReadAt(p []byte, off int64) (int, error)
	Truncate(size int64) error
	Sync() error
	Close() error
}

// Disk is what a journal does to its files. OS is the real one.
type Disk struct {
	// Create makes a new file for appending and reading.
	Create func(path string) (File, error)
	// Open opens a file for reading and tells how long it is.
	Open func(path string) (File, int64, error)
	// WriteFile makes a file, or replaces what is in it, and syncs nothing.
	WriteFile func(path string, b []byte) error
	// Stat tells which file a path leads to.
	Stat   func(path string) (fs.FileInfo, error)
	Rename func(from, to string) error
	Remove func(path string) error
	// SyncDir makes creations and removals in a directory durable.
	SyncDir func(path string) error
}

// OS is the operating system's disk.
func OS() Disk {
	return Disk{
		Create: func(path string) (File, error) {
			return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR|os.O_APPEND, 0o600)
		},
		Open:      openFile,
		WriteFile: func(path string, b []byte) error { return os.WriteFile(path, b, 0o600) },
		Stat:      os.Stat,
		Rename:    os.Rename,
		Remove:    os.Remove,
		SyncDir:   syncDir,
	}
}

func openFile(path string) (File, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// aboutFile reports whether an error of Open is about that file. A process without
// rights, descriptors or memory could open none of them, and what it may not read is
// not damaged.
func aboutFile(err error) bool {
	for _, other := range []error{fs.ErrPermission, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		if errors.Is(err, other) {
			return false
		}
	}
	return true
}

// How a file is read: in chunks, and where one cannot be read block by block.
const (
	chunkLen = 1 << 20
	blockLen = 4 << 10
	// maxBad bounds the bytes of a file that are tried by the block, because a dying
	// disk may take seconds over each.
	maxBad = 64 * blockLen
)

// readAll reads a file that is as long as b. What the disk does not give stays zero and
// is counted: bad bytes, and the first error. A file that ends earlier is as long as it is.
func readAll(f File, b []byte) (read []byte, bad int64, err error) {
	for off := 0; off < len(b); off += chunkLen {
		chunk := b[off:min(off+chunkLen, len(b))]
		n, rerr := f.ReadAt(chunk, int64(off))
		switch {
		case n == len(chunk):
			continue
		case errors.Is(rerr, io.EOF):
			return b[:off+n], bad, err
		case err == nil:
			err = rerr
		}
		for at := 0; at < len(chunk); {
			block := chunk[at:min(at+blockLen, len(chunk))]
			if bad >= maxBad {
				block = chunk[at:]
			}
			if n, _ = f.ReadAt(block, int64(off+at)); n < len(block) { // the chunk's error says why
				clear(block[n:])
				bad += int64(len(block) - n)
			}
			at += len(block)
		}
	}
	return b, bad, err
}
