// Package proxy stands between paybell and Redis or PostgreSQL on loopback and does to
// their connections what networks do.
package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Mode is what happens to the traffic of a Proxy.
type Mode string

// The modes.
const (
	// Pass hands everything on.
	Pass Mode = "pass"
	// Refuse cuts every connection with a reset, and new ones too.
	Refuse Mode = "reset"
	// LostReply lets commands reach the server and loses the replies: where one
	// comes, the connection is cut.
	LostReply Mode = "lost reply"
	// LostCommit loses the reply to a COMMIT that PostgreSQL has executed: the
	// connection is cut there, and hands everything else on.
	LostCommit Mode = "lost reply to COMMIT"
	// BlackHole swallows everything, both ways, and keeps connections open.
	BlackHole Mode = "black hole"
	// HalfOpen ends the server's side of every connection and does not tell the
	// client's.
	HalfOpen Mode = "half-open"
	// Delay hands everything on, later.
	Delay Mode = "delay"
	// Loading cuts every connection and answers each command of new ones as a server
	// does that is still reading its data.
	Loading Mode = "loading"
)

// committed is the tag of a CommandComplete: PostgreSQL's "Message Formats". One that
// two reads cut in half is not noticed, and its commit goes well.
var committed = []byte("COMMIT\x00")

// delay is what Delay adds to each direction.
const delay = 80 * time.Millisecond

// Proxy is one listener in front of a server. Its methods are safe for concurrent use.
type Proxy struct {
	listener net.Listener
	server   string

	mu    sync.Mutex
	mode  Mode
	turn  chan struct{} // closed when the mode changes
	pairs map[*pair]struct{}
	wait  sync.WaitGroup
}

// pair is a connection of a client and the one to the server that belongs to it.
type pair struct{ client, server *net.TCPConn }

// New listens on a loopback port and forwards to the server's address.
func New(ctx context.Context, server string) (*Proxy, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, server: server, mode: Pass, turn: make(chan struct{}), pairs: map[*pair]struct{}{}}
	p.wait.Go(p.accept)
	return p, nil
}

// Addr is where clients connect.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Port is the port of Addr.
func (p *Proxy) Port() int { return p.listener.Addr().(*net.TCPAddr).Port } //nolint:errcheck // a TCP listener's address is one

// Close cuts everything and returns when all has ended.
func (p *Proxy) Close() {
	_ = p.listener.Close() // nothing can be done about it
	p.Set(Refuse)
	p.wait.Wait()
}

// Set changes what happens from now on.
func (p *Proxy) Set(m Mode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.mode
	p.mode = m
	close(p.turn)
	p.turn = make(chan struct{})
	for c := range p.pairs {
		switch {
		case m == Refuse, m == Loading, was == BlackHole, was == Loading, was == HalfOpen:
			// What was swallowed is missing, so nothing sensible could follow it.
			c.reset()
		case m == HalfOpen && c.server != nil:
			_ = c.server.Close() // it may have ended
		}
	}
}

func (p *Proxy) now() (Mode, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mode, p.turn
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		client, _ := c.(*net.TCPConn) // a TCP listener accepts nothing else
		p.wait.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client *net.TCPConn) {
	c := &pair{client: client}
	defer c.reset()
	switch m, _ := p.now(); m {
	case Refuse:
		return
	case Loading:
		if p.enter(c) {
			answer(client, "-LOADING Redis is loading the dataset in memory\r\n")
			p.leave(c)
		}
		return
	case BlackHole, HalfOpen:
		if p.enter(c) {
			p.swallow(client)
			p.leave(c)
		}
		return
	case Pass, LostReply, LostCommit, Delay:
	}
	s, err := net.DialTimeout("tcp", p.server, time.Second) //nolint:noctx // bounded
	if err != nil {
		return
	}
	c.server, _ = s.(*net.TCPConn) // TCP was dialled
	if !p.enter(c) {
		return
	}
	defer p.leave(c)
	done := make(chan struct{})
	p.wait.Go(func() {
		defer close(done)
		p.pump(c, client, c.server, false)
	})
	p.pump(c, c.server, client, true)
	<-done
}

// enter notes a pair, unless the mode has become one that cuts it.
func (p *Proxy) enter(c *pair) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mode == Refuse {
		return false
	}
	p.pairs[c] = struct{}{}
	return true
}

func (p *Proxy) leave(c *pair) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pairs, c)
}

// pump hands on what comes from one side until either ends.
func (p *Proxy) pump(c *pair, from, to *net.TCPConn, replies bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		mode, _ := p.now()
		if n > 0 && replies && (mode == LostReply || mode == LostCommit && bytes.Contains(buf[:n], committed)) {
			c.reset()
			return
		}
		if n > 0 && mode == Delay {
			<-time.After(delay)
		}
		if n > 0 && mode != BlackHole && mode != HalfOpen {
			if _, bad := to.Write(buf[:n]); bad != nil {
				err = bad
			}
		}
		if err == nil {
			continue
		}
		if mode, turn := p.now(); replies && mode == HalfOpen {
			<-turn // the client is not told before
		}
		c.reset()
		return
	}
}

// swallow reads what a client sends, for as long as it sends.
func (p *Proxy) swallow(client *net.TCPConn) {
	buf := make([]byte, 32<<10)
	for {
		if _, err := client.Read(buf); err != nil {
			return
		}
	}
}

// reset ends both sides with RST.
func (c *pair) reset() {
	for _, conn := range []*net.TCPConn{c.client, c.server} {
		if conn != nil {
			_ = errors.Join(conn.SetLinger(0), conn.Close()) // it may have ended
		}
	}
}

// answer gives every command of a client the same reply.
func answer(client *net.TCPConn, reply string) {
	r := newCommands(client)
	for {
		if err := r.next(); err != nil {
			return
		}
		if _, err := fmt.Fprint(client, reply); err != nil {
			return
		}
	}
}
