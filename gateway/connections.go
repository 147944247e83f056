package gateway

import (
	"net"
	"net/http"
	"sync"
)

// idleConns keeps idle connections from shutting the door: when as many are open as
// may be, the one that has been idle longest is closed, so that the next one in the
// kernel's queue can come in.
type idleConns struct {
	max int

	mu   sync.Mutex
	open map[net.Conn]*idleConn
	// ring is the idle ones: ring.next is the longest idle, ring.prev the latest.
	ring idleConn
}

// idleConn is a connection's place in the ring, made once for all its requests; next and
// prev are nil while it is not idle.
type idleConn struct {
	conn       net.Conn
	next, prev *idleConn
}

func newIdleConns(limit int) *idleConns {
	c := &idleConns{max: limit, open: make(map[net.Conn]*idleConn)}
	c.ring.next, c.ring.prev = &c.ring, &c.ring
	return c
}

// track is an http.Server's ConnState hook.
func (c *idleConns) track(conn net.Conn, state http.ConnState) {
	if evicted := c.note(conn, state); evicted != nil {
		// Whoever is about to use it finds it closed and opens another, as after the
		// idle timeout.
		_ = evicted.Close() // It is given up either way.
	}
}

// note takes a state over and returns the connection to close, if any.
func (c *idleConns) note(conn net.Conn, state http.ConnState) net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		c.open[conn] = &idleConn{conn: conn}
	case http.StateIdle:
		if at := c.open[conn]; at != nil && at.next == nil {
			at.next, at.prev = &c.ring, c.ring.prev
			at.prev.next, at.next.prev = at, at
		}
	case http.StateActive:
		c.open[conn].leave()
	case http.StateClosed, http.StateHijacked:
		c.open[conn].leave()
		delete(c.open, conn)
	}
	longest := c.ring.next
	if len(c.open) < c.max || longest == &c.ring {
		return nil
	}
	longest.leave()
	return longest.conn
}

// leave takes a connection out of the ring if it is in it.
func (at *idleConn) leave() {
	if at != nil && at.next != nil {
		at.next.prev, at.prev.next = at.prev, at.next
		at.next, at.prev = nil, nil
	}
}
