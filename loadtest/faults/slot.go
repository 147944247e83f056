package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/paybell/paybell/loadtest/faults/proxy"
	"github.com/paybell/paybell/loadtest/server"
)

// Where a kill happened that is no named point.
const (
	atRandom  = "random"
	powerLoss = "power loss"
	byPoison  = "poison" // an order that takes its worker along
)

// slot is the place of one paybell process, which is started again whenever it ends.
type slot struct {
	st            *stack
	name, kind    string
	public, admin int
	// proxy is before Redis, sql before PostgreSQL.
	proxy, sql *proxy.Proxy
	points     []string

	mu   sync.Mutex
	rand *rand.Rand
	proc *server.Process
	// spared: no kill is due, the process is left alone.
	spared bool
	// frozen: it must not be killed, or SIGKILL would count as something else.
	frozen bool
	// cut: its machine has lost its power.
	cut bool
}

// small reports whether the process may use little memory.
func (s *slot) small() bool { return s.name == "gateway-2" || s.name == "worker-2" }

func (s *slot) dir() string    { return filepath.Join(s.st.dir, s.name) }
func (s *slot) synced() string { return filepath.Join(s.st.dir, s.name+"-synced") }
func (s *slot) clock() string  { return filepath.Join(s.st.dir, s.name+"-clock") }

// keep runs processes one after another until ctx ends.
func (s *slot) keep(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := s.live(ctx); err != nil {
			return err
		}
	}
	return nil
}

// live is the life of one process: it is armed with a point, and killed at random
// when it does not get there in time.
func (s *slot) live(ctx context.Context) error {
	point, n, span := s.draw()
	env := []string{"PAYBELL_SYNCED=" + s.synced(), "PAYBELL_CLOCK=" + s.clock(), "PAYBELL_BROKEN=" + s.st.o.variant}
	if point != "" {
		env = append(env, fmt.Sprintf("PAYBELL_CRASH=%s:%d", point, n))
	}
	from := size(s.st.logOf(s.name))
	p, err := s.st.paybell(ctx, s, env)
	if err != nil {
		return err
	}
	s.set(p)
	timer := time.NewTimer(span)
	defer timer.Stop()
	poll := time.NewTicker(200 * time.Millisecond)
	defer poll.Stop()
	place := ""
	due := false
	for place == "" {
		select {
		case <-ctx.Done():
			s.memory(p)
			p.Stop()
			s.set(nil)
			return nil
		case <-p.Done():
			s.set(nil)
			if place = crashedAt(s.st.logOf(s.name), from); place == "" && s.wasCut() {
				place = powerLoss
			}
			if place == "" || !p.Killed() {
				return fmt.Errorf("%s ended by itself (its log is %s)", s.name, s.st.logOf(s.name))
			}
		case <-timer.C:
			due = true
		case <-poll.C:
			s.memory(p)
			if point != "" && s.isSpared() {
				// It would die although nothing may now: one that is not armed goes on.
				p.Stop()
				s.set(nil)
				return nil
			}
			if due && s.mayDie() {
				place = atRandom
				s.kill(p)
			}
		}
	}
	inFlight := s.st.inFlight() > 0
	if s.kind == "gateway" && (place == powerLoss || s.roll(3) == 0) {
		if err := losePower(filepath.Join(s.dir(), "journal"), s.synced()); err != nil {
			return err
		}
		s.st.tally.fault(powerLoss + " of a journal's disk")
	}
	s.st.tally.killed(s.kind, place, inFlight)
	return nil
}

// draw chooses how a life ends.
func (s *slot) draw() (point string, n int, span time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	span = s.st.o.lifetime/2 + rand2(s.rand, s.st.o.lifetime)
	if s.spared || s.rand.IntN(10) == 0 {
		return "", 0, span
	}
	// One that is armed is given the time to get there.
	span *= 4
	point = s.st.tally.rarest(s.points, s.kind, s.rand)
	// How often a point is passed before: those of every callback or batch many times.
	most := 12
	switch point {
	case "verified", "appended":
		most = 200
	case "adopted", "trimmed":
		most = 24
	case "parked", "unpacked", "dead", "drain.appended", "journal.created":
		most = 2
	}
	n = 1 + s.rand.IntN(most)
	return point, n, span
}

func rand2(r *rand.Rand, d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d) + 1)) }

func (s *slot) roll(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rand.IntN(n)
}

func (s *slot) set(p *server.Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proc = p
}

// spare leaves the process alone, or ends that. One that is armed already dies.
func (s *slot) spare(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spared = on
}

// cutPower ends the process, if there is one, as a power loss does.
func (s *slot) cutPower() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil || s.frozen {
		return false
	}
	s.cut = true
	s.proc.Signal(syscall.SIGKILL)
	return true
}

// wasCut reports whether the process has just ended by cutPower.
func (s *slot) wasCut() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.cut
	s.cut = false
	return was
}

func (s *slot) isSpared() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spared
}

func (s *slot) mayDie() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.spared && !s.frozen
}

func (s *slot) kill(p *server.Process) {
	s.memory(p)
	p.Kill()
	s.set(nil)
}

// freeze stops the process, if there is one, for a while, so that it believes in what
// has passed.
func (s *slot) freeze(ctx context.Context, d time.Duration) bool {
	s.mu.Lock()
	p := s.proc
	s.frozen = true
	s.mu.Unlock()
	if p != nil {
		p.Signal(syscall.SIGSTOP)
		pause(ctx, d)
		p.Signal(syscall.SIGCONT)
	}
	s.mu.Lock()
	s.frozen = false
	s.mu.Unlock()
	return p != nil
}

// memory notes the most memory that the process has had.
func (s *slot) memory(p *server.Process) {
	kind := s.kind
	if s.small() {
		kind = small(kind)
	}
	s.st.tally.resident(kind, p.HighWater())
}

// small is what the tally calls a process of a kind that may use little memory.
func small(kind string) string { return fmt.Sprintf("%s of %d MiB", kind, smallMemory>>20) }

func size(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// crashedAt is the point that a process named in its log before it killed itself.
func crashedAt(path string, from int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(f, from, 64<<20))
	if err != nil {
		return ""
	}
	_, rest, ok := bytes.Cut(text, []byte("faults: crash at "))
	if !ok {
		return ""
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	return string(line)
}

// listPoints asks the binary where it can be stopped.
func listPoints(ctx context.Context, cmd *exec.Cmd) (map[string][]string, error) {
	cmd.Env = append(cmd.Env, "PAYBELL_CRASH=list")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list the points: %w (is it built with -tags faults?)", err)
	}
	points := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		if kind, point, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			points[kind] = append(points[kind], point)
		}
	}
	if len(points["gateway"]) == 0 || len(points["worker"]) == 0 {
		return nil, fmt.Errorf("the points of a gateway and a worker are not all there: %q", out)
	}
	return points, ctx.Err()
}
