// Package server starts what a run of paybell needs on loopback ports of its own:
// redis-server, PostgreSQL and paybell itself, as processes that are stopped, killed
// and frozen by their ids.
package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Process is a server that a run started and stops by its id.
type Process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error
}

// Start starts a command whose output is appended to the log file <name>.log in dir.
// The process leads a group of its own, so that Kill reaches what it has started.
func Start(dir, name string, cmd *exec.Cmd) (*Process, error) {
	path := filepath.Join(dir, name+".log")
	out, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &Process{name: name, cmd: cmd, log: path, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Killed reports whether a SIGKILL ended the process. It must have ended.
func (p *Process) Killed() bool {
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// Signal sends a signal; a process that has ended does not mind.
func (p *Process) Signal(sig syscall.Signal) { _ = p.cmd.Process.Signal(sig) }

// Freeze stops the process and its children, Thaw lets them go on. The children of
// PostgreSQL lead groups of their own, so they are looked up.
func (p *Process) Freeze() {
	p.Signal(syscall.SIGSTOP) // first: it then starts no more of them
	for _, pid := range children(p.PID()) {
		_ = syscall.Kill(pid, syscall.SIGSTOP) // it may have ended
	}
}

// Thaw ends a Freeze.
func (p *Process) Thaw() {
	for _, pid := range children(p.PID()) {
		_ = syscall.Kill(pid, syscall.SIGCONT) // it may have ended
	}
	p.Signal(syscall.SIGCONT)
}

// Stop asks the process to end, and ends it when it does not.
func (p *Process) Stop() {
	p.Signal(syscall.SIGCONT)
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(45 * time.Second):
		p.Kill()
	}
}

// Kill ends the process and what it has started between any two instructions.
func (p *Process) Kill() {
	_ = syscall.Kill(-p.PID(), syscall.SIGKILL) // it may have ended already
	<-p.done
}

// Ready polls until try succeeds, or the process has ended, or half a minute is over.
func (p *Process) Ready(ctx context.Context, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended before it was ready: %w", p.name, p.err)
		case <-ctx.Done():
			return fmt.Errorf("%s did not become ready: %w", p.name, errors.Join(ctx.Err(), err))
		case <-tick.C:
		}
	}
}

// Tail writes the end of the process's log.
func (p *Process) Tail(w io.Writer) {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return
	}
	lines := bytes.Split(bytes.TrimRight(text, "\n"), []byte("\n"))
	if len(lines) > 15 {
		lines = lines[len(lines)-15:]
	}
	fmt.Fprintf(w, "== %s\n%s\n", p.name, bytes.Join(lines, []byte("\n")))
}

// Ports are given out of this range: below those that systems give to connections going
// out, which would take a server's while it is away.
const firstPort, lastPort = 15000, 32000

// given are the ports that FreePort has returned.
var given sync.Map

// FreePort returns a loopback port that nobody listens at now, and that it has given to
// nobody else in this process.
func FreePort() (port int, err error) {
	for range 100 {
		port = firstPort + rand.IntN(lastPort-firstPort) //nolint:gosec // a guessable port harms nobody
		if _, taken := given.LoadOrStore(port, true); taken {
			continue
		}
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil { //nolint:noctx // it is closed at once
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("no port is free: %w", err)
}
