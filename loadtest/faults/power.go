package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// losePower leaves of a journal what a power loss would have left: of each file what
// was synced, and no file whose name was not. The page cache survives a SIGKILL, so
// without this a journal that never syncs would look like one that does.
func losePower(journal, synced string) error {
	files, err := filepath.Glob(filepath.Join(journal, "*.journal"))
	if err != nil {
		return err
	}
	for _, path := range files {
		name := filepath.Base(path)
		if _, err := os.Stat(filepath.Join(synced, name+".named")); errors.Is(err, fs.ErrNotExist) {
			if err := os.Remove(path); err != nil {
				return err
			}
			continue
		}
		var kept int64
		// An empty note was made by a process that was killed before it wrote the length.
		if text, err := os.ReadFile(filepath.Join(synced, name)); err == nil && len(text) > 0 {
			if kept, err = strconv.ParseInt(string(text), 10, 64); err != nil {
				return err
			}
		}
		if kept < size(path) {
			if err := os.Truncate(path, kept); err != nil {
				return err
			}
		}
	}
	return nil
}
