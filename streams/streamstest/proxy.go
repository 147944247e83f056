package streamstest

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// Proxy stands between a client and a server and can lose the server's answers:
// the command has run, and the client does not know.
type Proxy struct {
	ctx    context.Context //nolint:containedctx // the test's, for dialling
	l      net.Listener
	server string
	// lose counts the answers still to be lost.
	lose atomic.Int32
	lost atomic.Int32
	wg   sync.WaitGroup
	mu   sync.Mutex
	open map[net.Conn]struct{}
}

// NewProxy starts a proxy before the server at addr and stops it when the test ends.
func NewProxy(tb testing.TB, addr string) *Proxy {
	tb.Helper()
	l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("streamstest: proxy: %v", err)
	}
	p := &Proxy{ctx: tb.Context(), l: l, server: addr, open: make(map[net.Conn]struct{})}
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
		server, err := (&net.Dialer{}).DialContext(p.ctx, "tcp", p.server)
		if err != nil {
			_ = client.Close() // as an absent server would
			continue
		}
		p.mu.Lock()
		p.open[client], p.open[server] = struct{}{}, struct{}{}
		p.mu.Unlock()
		p.wg.Go(func() {
			_, _ = io.Copy(server, client) // ends when either side closes
			p.drop(client, server)
		})
		p.wg.Go(func() {
			p.answers(client, server)
			p.drop(client, server)
		})
	}
}

// answers hands on what the server says, until an answer is to be lost.
func (p *Proxy) answers(client, server net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if n > 0 {
			if p.lose.Add(-1) >= 0 {
				p.lost.Add(1)
				return
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *Proxy) drop(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // a second close is harmless
		delete(p.open, c)
	}
}
