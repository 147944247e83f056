package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// userHZ is the unit of CPU times in /proc (proc(5)): 100 on every Linux that Go runs on.
const userHZ = 100

// spent is one reading of the clocks that a measurement needs, in CPU-seconds.
type spent struct {
	at time.Time
	// busy is the whole machine's, what the hypervisor took for others included.
	busy float64
	// own is this process's and that of all it has started.
	own float64
	// by is that of each process asked for, with what it has started.
	by map[string]float64
}

// read takes a reading; roots name processes by their ids.
func read(roots map[string]int) (s spent, err error) {
	s = spent{at: time.Now(), by: map[string]float64{}}
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return s, err
	}
	if s.busy, err = parseBusy(string(stat)); err != nil {
		return s, err
	}
	all := processes()
	s.own = all.tree(os.Getpid())
	for name, pid := range roots {
		s.by[name] = all.tree(pid)
	}
	return s, nil
}

// parseBusy adds up the first line of /proc/stat but for idle and iowait.
func parseBusy(text string) (seconds float64, err error) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat begins with %q", line)
	}
	// user nice system (idle iowait) irq softirq steal; guest is within user.
	for _, i := range []int{1, 2, 3, 6, 7, 8} {
		ticks, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		seconds += float64(ticks) / userHZ
	}
	return seconds, nil
}

// table is the processes that live, by id.
type table map[int]process

type process struct {
	parent int
	// cpu is its own CPU-seconds and those of the children it has waited for.
	cpu float64
}

func processes() table {
	out := table{}
	dirs, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return out // the pattern is well formed
	}
	for _, path := range dirs {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		if p, ok := parseStat(text); ok {
			out[pid] = p
		}
	}
	return out
}

// parseStat reads /proc/<pid>/stat: "pid (name) state ppid ..."; a name may hold anything.
func parseStat(text []byte) (p process, ok bool) {
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 15 {
		return p, false
	}
	var ticks [5]int64
	for i, at := range []int{1, 11, 12, 13, 14} {
		n, err := strconv.ParseInt(fields[at], 10, 64)
		if err != nil {
			return p, false
		}
		ticks[i] = n
	}
	return process{parent: int(ticks[0]), cpu: float64(ticks[1]+ticks[2]+ticks[3]+ticks[4]) / userHZ}, true
}

// tree is the CPU-seconds of a process and of all below it.
func (t table) tree(root int) float64 {
	below := map[int][]int{}
	for pid, p := range t {
		below[p.parent] = append(below[p.parent], pid)
	}
	sum, next := 0.0, []int{root}
	for len(next) > 0 {
		pid := next[len(next)-1]
		next = append(next[:len(next)-1], below[pid]...)
		sum += t[pid].cpu
	}
	return sum
}

// used is what went by between two readings.
type used struct {
	seconds float64
	// foreign is how many cores others had on average.
	foreign float64
	by      map[string]float64
}

// since subtracts. A process that was not there at the first reading counts whole.
func (s spent) since(before spent) used {
	u := used{seconds: s.at.Sub(before.at).Seconds(), by: map[string]float64{}}
	if u.seconds > 0 {
		u.foreign = max(0, ((s.busy-before.busy)-(s.own-before.own))/u.seconds)
	}
	for name, cpu := range s.by {
		u.by[name] = max(0, cpu-before.by[name])
	}
	return u
}
