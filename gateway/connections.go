package gateway

import (
	"context"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

const (
	// silentGrace is how old a connection is at least when it is closed because nothing was
	// sent: the first bytes may be on their way.
	silentGrace = 50 * time.Millisecond
	// slowGrace is how long a request may take to arrive before it can be called slow: a
	// body that follows its headers in a packet of its own may wait for a delayed ACK, and a
	// busy process for its turn.
	slowGrace = 250 * time.Millisecond
	// longWait is how long to wait where only a change can help, which is told.
	longWait = time.Second
	// slowRate is how many bytes a second of a request have to arrive. It is only asked for
	// while others wait for the place.
	slowRate = 64 << 10
)

// connState is what a connection does. One that waits for its reply is never closed to
// make room; the others are, in this order.
type connState int

const (
	// connSilent has never sent a byte.
	connSilent connState = iota
	// connArriving is sending its first request.
	connArriving
	// connArrivingAgain is sending a later one.
	connArrivingAgain
	// connIdle was sent a reply, and has sent nothing since.
	connIdle
	// connBusy waits for its reply.
	connBusy
	// connClosed does not count any more.
	connClosed
)

// listener lets as many connections in as may be open at once. Beyond that it closes one
// for each that comes: first those that never sent a byte, then those whose request
// trickles in, then idle ones, always the longest first. A quarter of the places is for
// connections that have sent a whole request: who only opens connections cannot take
// them. Where none may be closed, who comes waits in the kernel's queue.
type listener struct {
	*net.TCPListener
	max int
	// maxUnheard is how many may be open that have sent no whole request yet.
	maxUnheard int
	// newcomers is how many places idle connections leave to those that have sent no
	// request yet: with one place alone each would be closed for the next one.
	newcomers int
	now       func() time.Time
	changed   chan struct{} // some connection does something else
	closed    chan struct{}
	closeOnce sync.Once

	mu      sync.Mutex
	open    int
	unheard int
	rings   [connBusy]ring
	evicted [connBusy]int64
}

// ring is the connections of one state: head.next is the longest in it.
type ring struct {
	head conn
	len  int
}

// conn is a connection and its place in a ring; next is nil where it is in none.
type conn struct {
	*net.TCPConn
	l *listener

	state connState
	// heard is that a whole request has come.
	heard bool
	// since is when the state began, and bytes what has arrived since then.
	since      time.Time
	bytes      int
	next, prev *conn
}

func newListener(l *net.TCPListener, limit int) *listener {
	out := &listener{
		TCPListener: l, max: limit, maxUnheard: limit - limit/4, newcomers: limit / 8, now: time.Now,
		changed: make(chan struct{}, 1), closed: make(chan struct{}),
	}
	for i := range out.rings {
		head := &out.rings[i].head
		head.next, head.prev = head, head
	}
	return out
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	tcp, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	c := &conn{TCPConn: tcp, l: l, state: connClosed}
	if !l.admit(c) {
		_ = tcp.Close() // as those in the kernel's queue are
		return nil, net.ErrClosed
	}
	return c, nil
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.closeOnce.Do(func() { close(l.closed) })
	return l.TCPListener.Close()
}

// admit waits until there is a place for c, and closes others for it. It reports false
// when the listener was closed.
func (l *listener) admit(c *conn) bool {
	for {
		evicted, wait := l.place(c)
		if evicted != nil {
			// Whoever is about to use it finds it closed and opens another, as after the
			// idle timeout.
			_ = evicted.Close() // It is given up either way.
			continue
		}
		if wait == 0 {
			return true
		}
		again := time.NewTimer(wait)
		select {
		case <-l.changed:
		case <-again.C:
		case <-l.closed:
			again.Stop()
			return false
		}
		again.Stop()
	}
}

// place gives c a place, or returns what is to be closed first, or how long to wait
// before asking again.
func (l *listener) place(c *conn) (evicted *conn, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	full, crowded := l.open >= l.max, l.unheard >= l.maxUnheard
	switch {
	case !full && !crowded:
		l.open++
		l.unheard++
		c.enter(connSilent, now)
		return nil, 0
	case full && l.unheard < l.newcomers && l.rings[connIdle].len > 0:
		return l.evict(l.rings[connIdle].head.next), 0
	}
	last := connArrivingAgain
	if crowded { // closing one that was heard would not help
		last = connArriving
	}
	wait = longWait
	for state := connSilent; state <= last; state++ {
		found, young := l.longest(state, now)
		if found != nil {
			return l.evict(found), 0
		}
		if young > 0 {
			wait = min(wait, young)
		}
	}
	// Where others are silent or slow they are given their grace, and then go first.
	if wait == longWait && !crowded && l.rings[connIdle].len > 0 {
		return l.evict(l.rings[connIdle].head.next), 0
	}
	return nil, wait
}

// longest is what has been longest in a state and may be closed for it, or how long it
// takes until one may. One that turns out not to be slow starts anew.
func (l *listener) longest(state connState, now time.Time) (found *conn, young time.Duration) {
	grace := slowGrace
	if state == connSilent {
		grace = silentGrace
	}
	for range l.rings[state].len {
		c := l.rings[state].head.next
		age := now.Sub(c.since)
		if age < grace {
			return nil, grace - age
		}
		switch unread := c.unread(); { // then it is us who are slow
		case unread && state == connSilent:
			c.enter(connArriving, now)
		case unread, state != connSilent && float64(c.bytes) >= slowRate*age.Seconds():
			c.enter(state, now)
		default:
			return c, 0
		}
	}
	return nil, 0
}

// evict takes out a connection that is to be closed; mu is held.
func (l *listener) evict(c *conn) *conn {
	l.evicted[c.state]++
	c.leave()
	return c
}

// track is an http.Server's ConnState hook.
func track(nc net.Conn, state http.ConnState) {
	c, ok := nc.(*conn)
	if !ok {
		return
	}
	switch state {
	case http.StateActive:
		c.received(0)
	case http.StateIdle: // net/http has read the request to its end
		c.move(connIdle, true)
	case http.StateClosed, http.StateHijacked:
		c.move(connClosed, false)
	case http.StateNew:
	}
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if n > 0 {
		c.received(n)
	}
	return n, err
}

// received notes that a part of a request has arrived.
func (c *conn) received(n int) {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	switch c.state {
	case connSilent:
		c.enter(connArriving, c.l.now())
	case connIdle:
		c.enter(connArrivingAgain, c.l.now())
	case connArriving, connArrivingAgain:
	case connBusy, connClosed:
		return
	}
	c.bytes += n
}

// move notes that the connection does something else; heard is that a whole request has
// come.
func (c *conn) move(to connState, heard bool) {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	switch {
	case c.state == connClosed:
	case to == connClosed:
		c.leave()
	default:
		if heard && !c.heard {
			c.heard = true
			c.l.unheard--
		}
		c.enter(to, c.l.now())
	}
}

// unread reports whether something has arrived that was not read yet. It does not wait
// for who is reading.
func (c *conn) unread() bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	var n int
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, _ = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	return err == nil && n > 0
}

// leave takes a connection out of the count; l.mu is held.
func (c *conn) leave() {
	c.l.open--
	if !c.heard {
		c.l.unheard--
	}
	c.enter(connClosed, time.Time{})
}

// enter puts a connection behind the others of a state; l.mu is held.
func (c *conn) enter(state connState, now time.Time) {
	if c.next != nil {
		c.next.prev, c.prev.next = c.prev, c.next
		c.next, c.prev = nil, nil
		c.l.rings[c.state].len--
	}
	c.state, c.since, c.bytes = state, now, 0
	if state < connBusy {
		r := &c.l.rings[state]
		c.next, c.prev = &r.head, r.head.prev
		c.prev.next, c.next.prev = c, c
		r.len++
	}
	select {
	case c.l.changed <- struct{}{}:
	default:
	}
}

// counted is how many connections are open, how many of them were heard, and how many
// were closed to make room, by their state.
func (l *listener) counted() (open, heard int, evicted [connBusy]int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open, l.open - l.unheard, l.evicted
}

// connKey is where a request's context has its connection.
type connKey struct{}

// withConn is an http.Server's ConnContext hook.
func withConn(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, nc)
}

// answering notes that the request of ctx waits for its reply alone; whole is that all of
// it has come.
func answering(ctx context.Context, whole bool) {
	if c, ok := ctx.Value(connKey{}).(*conn); ok {
		c.move(connBusy, whole)
	}
}
