package app

import (
	"os"
	"path/filepath"
	"testing"
)

// TestMarkThatALossOfPowerEmptiedIsMadeAgain, and one that says whose the journal is stays.
func TestMarkThatALossOfPowerEmptiedIsMadeAgain(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "deployment")
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"first", "second"} {
		if err := writeMark(mark, id); err != nil {
			t.Fatal(err)
		}
		if got, err := readMark(mark); err != nil || got != "first" {
			t.Errorf("after writing %q the mark says %q, %v", id, got, err)
		}
	}
}
