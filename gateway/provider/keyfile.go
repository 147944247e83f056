package provider

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// KeepFile makes sure that path exists. A file that is there is kept as it is;
// otherwise generate's bytes are written to it, readable by the owner alone.
// Two processes that start at once end up with one and the same file.
func KeepFile(path string, generate func() ([]byte, error)) error {
	switch _, err := os.Stat(path); {
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("keep key file: %w", err)
	}
	content, err := generate()
	if err != nil {
		return fmt.Errorf("generate %s: %w", filepath.Base(path), err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("keep key file: %w", err)
	}
	// CreateTemp makes the file with mode 0600.
	tmp, err := os.CreateTemp(filepath.Dir(path), ".key-*")
	if err != nil {
		return fmt.Errorf("keep key file: %w", err)
	}
	// Only the linked name is to stay; a leftover is a hidden file beside it.
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.Write(content)
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("keep key file: %w", err)
	}
	// Link fails when the name was taken meanwhile: then the other one's key counts.
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("keep key file: %w", err)
	}
	return nil
}
