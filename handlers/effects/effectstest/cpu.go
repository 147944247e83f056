package effectstest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// tick is the unit of times in /proc: USER_HZ is 100 on every Linux there is.
const tick = time.Second / 100

// CPU is the processor time that the server and its sessions have used so far.
func (s *Server) CPU(tb testing.TB) time.Duration {
	tb.Helper()
	var ticks int64
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // The pattern is well formed.
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // The process has ended meanwhile.
		}
		// The second field is the program's name in brackets and may hold anything.
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 15 {
			continue
		}
		switch {
		case filepath.Dir(name) == fmt.Sprintf("/proc/%d", s.process.Pid):
			ticks += sum(fields[11:15]) // Its own, and of the children that have ended.
		case fields[1] == strconv.Itoa(s.process.Pid):
			ticks += sum(fields[11:13])
		}
	}
	return time.Duration(ticks) * tick
}

func sum(fields []string) (n int64) {
	for _, f := range fields {
		v, _ := strconv.ParseInt(f, 10, 64) // The kernel writes numbers.
		n += v
	}
	return n
}
