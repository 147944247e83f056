package server

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Resident is how much memory the process and its children have now, in bytes: what is
// theirs alone added up, and of what they share the most that one has of it.
func (p *Process) Resident() int64 {
	var own, shared int64
	for _, pid := range append(children(p.PID()), p.PID()) {
		s := status(pid)
		own += s["RssAnon"]
		shared = max(shared, s["RssFile"]+s["RssShmem"])
	}
	return own + shared
}

// HighWater is the most memory that the process itself has had, in bytes.
func (p *Process) HighWater() int64 { return status(p.PID())["VmHWM"] }

// children are the processes that one has started and that live.
func children(pid int) (out []int) {
	// Not every kernel has /proc/<pid>/task/<pid>/children.
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	for _, dir := range dirs {
		// "pid (name) state ppid ...": a name may hold anything, but no second one ends later.
		text, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue // it has ended
		}
		after := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(after) < 2 || after[1] != strconv.Itoa(pid) {
			continue
		}
		if child, err := strconv.Atoi(filepath.Base(dir)); err == nil {
			out = append(out, child)
		}
	}
	return out
}

// status has the sizes of /proc/<pid>/status (proc(5)), in bytes.
func status(pid int) map[string]int64 {
	out := map[string]int64{}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return out // it has ended
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		if kb, ok := strings.CutSuffix(strings.TrimSpace(value), " kB"); ok {
			n, _ := strconv.ParseInt(kb, 10, 64) // the kernel wrote it
			out[name] = n << 10
		}
	}
	return out
}
