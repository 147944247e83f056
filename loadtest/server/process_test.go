package server_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/paybell/paybell/loadtest/server"
)

// TestFreezeReachesChildren: a child that leads a group of its own stands still too,
// and its memory counts.
func TestFreezeReachesChildren(t *testing.T) {
	dir := t.TempDir()
	goOn := filepath.Join(dir, "go-on") // the child's life: its group is not the shell's
	if err := os.WriteFile(goOn, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	beat := filepath.Join(dir, "beat")
	shell := `setsid sh -c 'while [ -e "` + goOn + `" ]; do echo >> "` + beat + `"; sleep 0.02; done' & wait`
	p, err := server.Start(dir, "shell", exec.CommandContext(t.Context(), "sh", "-c", shell))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		p.Thaw()
		if err := os.Remove(goOn); err != nil {
			t.Error(err)
		}
		<-p.Done()
	}()
	length := func() int64 {
		info, err := os.Stat(beat)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	grows := func(within time.Duration) bool {
		before, tick := length(), time.NewTicker(10*time.Millisecond)
		defer tick.Stop()
		for end := time.Now().Add(within); time.Now().Before(end); <-tick.C {
			if length() > before {
				return true
			}
		}
		return false
	}
	if !grows(10 * time.Second) {
		t.Fatal("the child does nothing")
	}
	if all, own := p.Resident(), p.HighWater(); all == 0 || own == 0 {
		t.Errorf("%d bytes of the process and its child, %d of the process", all, own)
	}
	p.Freeze()
	grows(100 * time.Millisecond) // what it was about
	if grows(300 * time.Millisecond) {
		t.Error("frozen, the child goes on")
	}
	p.Thaw()
	if !grows(10 * time.Second) {
		t.Error("the child does not go on")
	}
}
