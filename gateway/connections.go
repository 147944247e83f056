package gateway

import (
	"container/list"
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
	open int
	idle list.List // of net.Conn, the longest idle first
	at   map[net.Conn]*list.Element
}

func newIdleConns(limit int) *idleConns {
	return &idleConns{max: limit, at: make(map[net.Conn]*list.Element)}
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
		c.open++
	case http.StateIdle:
		if c.at[conn] == nil {
			c.at[conn] = c.idle.PushBack(conn)
		}
	case http.StateActive:
		c.forget(conn)
	case http.StateClosed, http.StateHijacked:
		c.open--
		c.forget(conn)
	}
	longest := c.idle.Front()
	if c.open < c.max || longest == nil {
		return nil
	}
	evicted := longest.Value.(net.Conn) //nolint:errcheck // nothing else is put in
	c.forget(evicted)
	return evicted
}

func (c *idleConns) forget(conn net.Conn) {
	if e := c.at[conn]; e != nil {
		c.idle.Remove(e)
		delete(c.at, conn)
	}
}
