package send

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sys/unix"
)

// Plan is what a run sends.
type Plan struct {
	// Port is the server's port on 127.0.0.1.
	Port int
	// Conns is how many connections are open at once.
	Conns int
	// List holds the requests, First is where to begin. A run ends early at the end of
	// the list, unless Wrap begins again.
	List  *List
	First int
	Wrap  bool
	// For is how long requests are sent; those under way are waited for.
	For time.Duration
	// Rate is how many requests are due a second; 0 is a closed loop.
	Rate int
	// Again sends anew what got no success reply, until it gets one or nothing did for
	// Patience: for servers that are killed on the way.
	Again bool
}

// Patience is how long a run waits for a reply that does not come.
const Patience = 30 * time.Second

// pause is how long a request or a connection that failed waits for its next attempt.
const pause = 20 * time.Millisecond

// Result is what became of a run.
type Result struct {
	// Next is the first request of the list that was not sent.
	Next int
	// Accepted requests got a success reply; Refused counts replies that were none,
	// and Broken requests that got no reply.
	Accepted, Refused, Broken int
	// Took is the time from the first request to the last reply.
	Took time.Duration
	// Waits are the times to a success reply, in microseconds and in no order.
	Waits []uint32
	// Replied is when requests First, First+1, … got their success reply, in Unix
	// microseconds, 0 where they did not. A run that wraps has none.
	Replied []int64
	// LastStatus is the last reply's status that was no success.
	LastStatus int
}

// conn is a connection and the request that is under way on it.
type conn struct {
	fd   int
	busy bool
	job  job
	buf  []byte
	n    int
	// back is when a lost connection is tried again.
	back time.Time
}

// job is one request of the list.
type job struct {
	index int
	due   time.Time
	// not is when it may be sent again.
	not time.Time
}

type generator struct {
	plan  Plan
	out   Result
	epoll int
	timer int
	conns []*conn
	idle  []*conn
	// again are requests that wait to be sent anew.
	again []job
	start time.Time
	last  time.Time
	sent  int
	done  bool
	// broken are connections to be opened again.
	broken []*conn
}

// Run sends and returns when the last request under way has ended.
func Run(ctx context.Context, p Plan) (_ *Result, err error) {
	if p.List.Len() == 0 || p.Conns < 1 {
		return nil, errors.New("nothing to send")
	}
	g := &generator{plan: p}
	if g.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	defer func() { err = errors.Join(err, g.close()) }()
	if g.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return nil, fmt.Errorf("timer: %w", err)
	}
	if err := g.watch(g.timer, -1); err != nil {
		return nil, err
	}
	for i := range p.Conns {
		c := &conn{buf: make([]byte, 4096)}
		g.conns = append(g.conns, c)
		if err := g.dial(i); err != nil {
			return nil, err
		}
	}
	return &g.out, g.loop(ctx)
}

func (g *generator) close() error {
	var errs []error
	for _, c := range g.conns {
		if c.fd > 0 {
			errs = append(errs, unix.Close(c.fd))
		}
	}
	if g.timer > 0 {
		errs = append(errs, unix.Close(g.timer))
	}
	return errors.Join(append(errs, unix.Close(g.epoll))...)
}

func (g *generator) watch(fd, index int) error {
	err := unix.EpollCtl(g.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(index)}) //nolint:gosec // few connections
	if err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// dial connects connection i and makes it idle. On loopback a connection is there at
// once or refused.
func (g *generator) dial(i int) error {
	c := g.conns[i]
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	c.fd, c.n, c.busy = fd, 0, false
	err = errors.Join(
		unix.Connect(fd, &unix.SockaddrInet4{Port: g.plan.Port, Addr: [4]byte{127, 0, 0, 1}}),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetNonblock(fd, true))
	if err == nil {
		err = g.watch(fd, i)
	}
	if err != nil {
		c.fd = 0
		return errors.Join(fmt.Errorf("connect: %w", err), unix.Close(fd))
	}
	g.idle = append(g.idle, c)
	return nil
}

// loop sends what is due and reads what is there until nothing is under way.
func (g *generator) loop(ctx context.Context) error {
	g.start = time.Now()
	g.last = g.start
	g.out.Next = g.plan.First
	events := make([]unix.EpollEvent, 256)
	for {
		now := time.Now()
		g.redial(now)
		g.done = g.done || now.Sub(g.start) >= g.plan.For
		g.send(now)
		if ctx.Err() != nil || g.finished(now) {
			break
		}
		n, err := unix.EpollWait(g.epoll, events, g.sleep(now))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("epoll: %w", err)
		}
		for _, e := range events[:n] {
			if e.Fd < 0 {
				var ticks [8]byte
				_, _ = unix.Read(g.timer, ticks[:]) // it only wakes
				continue
			}
			g.read(g.conns[e.Fd])
		}
	}
	g.out.Took = g.last.Sub(g.start)
	return ctx.Err()
}

// finished reports whether all that will be sent is answered or given up.
func (g *generator) finished(now time.Time) bool {
	if !g.done && !g.exhausted() {
		return false
	}
	if now.Sub(g.last) > Patience {
		for _, c := range g.conns {
			if c.busy {
				g.out.Broken++
			}
		}
		g.out.Broken += len(g.again)
		return true
	}
	if len(g.again) > 0 {
		return false
	}
	if g.plan.Rate > 0 && !g.exhausted() && g.due(g.sent).Sub(g.start) < g.plan.For {
		return false // requests that were due in time wait for a connection
	}
	for _, c := range g.conns {
		if c.busy {
			return false
		}
	}
	return true
}

func (g *generator) exhausted() bool {
	return !g.plan.Wrap && g.plan.First+g.sent >= g.plan.List.Len()
}

// due is when request number n of the run is due.
func (g *generator) due(n int) time.Time {
	return g.start.Add(time.Duration(int64(n) * int64(time.Second) / int64(g.plan.Rate)))
}

// sleep is how many milliseconds to wait at most. What is due sooner is left to the
// timer, which is finer.
func (g *generator) sleep(now time.Time) int {
	if g.plan.Rate > 0 && len(g.idle) > 0 && !g.exhausted() {
		if wait := g.due(g.sent).Sub(now); wait > 0 {
			at := unix.NsecToTimespec(int64(wait))
			_ = unix.TimerfdSettime(g.timer, 0, &unix.ItimerSpec{Value: at}, nil) // else a tick later
		}
	}
	if len(g.again) > 0 || len(g.broken) > 0 {
		return 5
	}
	return 100
}

// send gives idle connections what is due.
func (g *generator) send(now time.Time) {
	again := g.again
	g.again = nil // a write that fails adds to it
	for _, j := range again {
		if len(g.idle) > 0 && !now.Before(j.not) {
			g.write(j)
		} else {
			g.again = append(g.again, j)
		}
	}
	for len(g.idle) > 0 && !g.exhausted() {
		j := job{index: g.plan.First + g.sent, due: now}
		if g.plan.Rate > 0 {
			if j.due = g.due(g.sent); j.due.After(now) || j.due.Sub(g.start) >= g.plan.For {
				break
			}
		} else if g.done {
			break
		}
		if g.plan.Rate == 0 {
			j.due = time.Now()
		}
		g.sent++
		g.out.Next = j.index + 1
		if !g.plan.Wrap {
			g.out.Replied = append(g.out.Replied, 0)
		}
		g.write(j)
	}
}

// write sends a request on an idle connection.
func (g *generator) write(j job) {
	c := g.idle[len(g.idle)-1]
	g.idle = g.idle[:len(g.idle)-1]
	c.busy, c.job, c.n = true, j, 0
	raw := g.plan.List.At(j.index % g.plan.List.Len())
	// A request is far smaller than the buffer of a loopback socket that is idle.
	if n, err := unix.Write(c.fd, raw); err != nil || n < len(raw) {
		g.lose(c)
	}
}

// read takes what a connection has received.
func (g *generator) read(c *conn) {
	if c.fd == 0 {
		return
	}
	n, err := unix.Read(c.fd, c.buf[c.n:])
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return
	}
	if err != nil || n == 0 || !c.busy {
		g.lose(c)
		return
	}
	c.n += n
	r, whole, err := parse(c.buf[:c.n])
	if err != nil || !whole && c.n == len(c.buf) {
		g.lose(c)
		return
	}
	if whole {
		g.replied(c, r)
	}
}

func (g *generator) replied(c *conn, r reply) {
	now := time.Now()
	g.last = now
	c.busy = false
	if r.status < http.StatusOK || r.status >= http.StatusMultipleChoices {
		g.out.Refused++
		g.out.LastStatus = r.status
		g.repeat(c.job, now)
	} else {
		g.out.Accepted++
		g.out.Waits = append(g.out.Waits, uint32(min(now.Sub(c.job.due).Microseconds(), 1<<31))) //nolint:gosec // bounded, and not negative
		if !g.plan.Wrap {
			g.out.Replied[c.job.index-g.plan.First] = now.UnixMicro()
		}
	}
	if r.last {
		g.lose(c)
		return
	}
	g.idle = append(g.idle, c)
}

func (g *generator) repeat(j job, now time.Time) {
	if g.plan.Again {
		j.not = now.Add(pause)
		g.again = append(g.again, j)
	}
}

// lose closes a connection that is no use, and opens it again later.
func (g *generator) lose(c *conn) {
	now := time.Now()
	if c.busy {
		c.busy = false
		if !g.plan.Again {
			g.out.Broken++
		}
		g.repeat(c.job, now)
	} else {
		for i := range g.idle {
			if g.idle[i] == c {
				g.idle = append(g.idle[:i], g.idle[i+1:]...)
				break
			}
		}
	}
	_ = unix.Close(c.fd) // it was lost already
	c.fd, c.back = 0, now.Add(pause)
	if !g.plan.Again {
		c.back = now
	}
	g.broken = append(g.broken, c)
}

// redial opens lost connections again.
func (g *generator) redial(now time.Time) {
	if len(g.broken) == 0 {
		return
	}
	waiting := g.broken[:0]
	for _, c := range g.broken {
		if now.Before(c.back) {
			waiting = append(waiting, c)
			continue
		}
		for i := range g.conns {
			if g.conns[i] == c && g.dial(i) != nil {
				c.back = now.Add(pause)
				waiting = append(waiting, c)
			}
		}
	}
	g.broken = waiting
}
