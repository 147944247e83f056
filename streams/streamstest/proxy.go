package streamstest

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// Proxy stands between a client and a server and fails as networks do. It can lose
// the server's answers: the command has run, and the client does not know. It can
// swallow everything, and it can end the server's side alone.
type Proxy struct {
	ctx    context.Context //nolint:containedctx // the test's, for dialling
	l      net.Listener
	server string
	// lose counts the answers still to be lost.
	lose atomic.Int32
	lost atomic.Int32
	// hole: what either side says is swallowed, and so are new connections.
	hole atomic.Bool
	wg   sync.WaitGroup
	mu   sync.Mutex
	open map[net.Conn]struct{}
	// servers are those of open that lead to the server.
	servers map[net.Conn]struct{}
}

// NewProxy starts a proxy before the server at addr and stops it when the test ends.
func NewProxy(tb testing.TB, addr string) *Proxy {
	tb.Helper()
	l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("streamstest: proxy: %v", err)
	}
	p := &Proxy{ctx: tb.Context(), l: l, server: addr, open: make(map[net.Conn]struct{}), servers: make(map[net.Conn]struct{})}
	p.wg.Go(p.accept)
	tb.Cleanup(func() {
		_ = l.Close() // accept ends with it
		p.CloseConnections()
		p.wg.Wait()
	})
	return p
}

// Addr is host:port of the proxy.
func (p *Proxy) Addr() string { return p.l.Addr().String() }

// LoseAnswers makes the proxy close the connection in place of handing on the
// next n answers.
func (p *Proxy) LoseAnswers(n int) { p.lose.Store(int32(n)) } //nolint:gosec // a handful

// Lost is how many answers were lost.
func (p *Proxy) Lost() int { return int(p.lost.Load()) }

// BlackHole swallows what either side says, and keeps connections open, until Heal.
func (p *Proxy) BlackHole() { p.hole.Store(true) }

// HalfOpen ends every connection on the server's side and tells the clients nothing,
// until Heal: they write, and nobody is there.
func (p *Proxy) HalfOpen() {
	p.hole.Store(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.servers {
		_ = c.Close() // its reader sees it, and keeps silent
	}
}

// Heal ends BlackHole and HalfOpen. Connections that missed something are closed.
func (p *Proxy) Heal() {
	p.hole.Store(false)
	p.CloseConnections()
}

// CloseConnections closes every connection that stands.
func (p *Proxy) CloseConnections() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		_ = c.Close() // the copying ends with it
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.l.Accept()
		if err != nil {
			return // closed
		}
		if p.hole.Load() {
			p.wg.Go(func() {
				p.mu.Lock()
				p.open[client] = struct{}{}
				p.mu.Unlock()
				_, _ = io.Copy(io.Discard, client) // ends when it is closed
				p.drop(client)
			})
			continue
		}
		server, err := (&net.Dialer{}).DialContext(p.ctx, "tcp", p.server)
		if err != nil {
			_ = client.Close() // as an absent server would
			continue
		}
		p.keep(client, server)
		p.wg.Go(func() {
			p.pass(server, client, func() bool { return true })
			p.drop(client, server)
		})
		p.wg.Go(func() {
			p.pass(client, server, p.answered)
			if p.hole.Load() {
				return // Heal closes it, or the client does
			}
			p.drop(client, server)
		})
	}
}

// pass hands on what one side says, as long as hand allows it. In a black hole it is
// read all the same, also when the other side has gone.
func (p *Proxy) pass(to, from net.Conn, hand func() bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !p.hole.Load() {
			if !hand() {
				return
			}
			if _, err := to.Write(buf[:n]); err != nil && !p.hole.Load() {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// answered is false when an answer is to be lost.
func (p *Proxy) answered() bool {
	if p.lose.Add(-1) < 0 {
		return true
	}
	p.lost.Add(1)
	return false
}

func (p *Proxy) keep(client, server net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[client], p.open[server], p.servers[server] = struct{}{}, struct{}{}, struct{}{}
}

func (p *Proxy) drop(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // a second close is harmless
		delete(p.open, c)
		delete(p.servers, c)
	}
}
