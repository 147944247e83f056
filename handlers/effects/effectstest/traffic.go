package effectstest

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/paybell/paybell/handlers/effects"
)

// Traffic counts what a PostgreSQL server answers, as it passes on the wire.
type Traffic struct {
	// Transactions were committed, Statements completed. After each RoundTrip the
	// server waits for the client.
	Transactions, Statements, RoundTrips atomic.Int64
}

// Reset begins to count anew.
func (c *Traffic) Reset() {
	c.Transactions.Store(0)
	c.Statements.Store(0)
	c.RoundTrips.Store(0)
}

// Watched returns the options of the same PostgreSQL database through a connection
// that is counted.
func Watched(tb testing.TB, o effects.Options) (effects.Options, *Traffic) {
	tb.Helper()
	read, err := o.Postgres.Read()
	if err != nil {
		tb.Fatalf("read the DSN: %v", err)
	}
	dsn, err := url.Parse(read.Value.Reveal())
	if err != nil {
		tb.Fatalf("parse the DSN: %v", err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("listen: %v", err)
	}
	c := &Traffic{}
	var wg sync.WaitGroup
	server := dsn.Host
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // The test has ended.
			}
			wg.Go(func() { c.pass(client, server) })
		}
	})
	tb.Cleanup(func() {
		_ = l.Close() // It is for this test alone.
		wg.Wait()
	})
	dsn.Host = l.Addr().String()
	return options(tb, dsn.String()), c
}

// pass connects a client with the server until either hangs up.
func (c *Traffic) pass(client net.Conn, server string) {
	defer client.Close()
	var d net.Dialer
	up, err := d.Dial("tcp", server)
	if err != nil {
		return // The client sees its connection close.
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(up, client) // How a connection ends is of no interest.
		_ = up.Close()
	})
	_ = c.answers(client, bufio.NewReaderSize(up, 1<<16))
	_ = client.Close()
	_ = up.Close()
	wg.Wait()
}

// answers passes the server's messages on: a type, a length that counts itself, a body.
func (c *Traffic) answers(client io.Writer, from *bufio.Reader) error {
	out := bufio.NewWriterSize(client, 1<<16)
	for {
		head, err := from.Peek(5)
		if err != nil {
			return err
		}
		kind, body := head[0], make([]byte, binary.BigEndian.Uint32(head[1:])+1)
		if _, err := io.ReadFull(from, body); err != nil {
			return err
		}
		switch kind {
		case 'C': // CommandComplete
			c.Statements.Add(1)
			if string(body[5:len(body)-1]) == "COMMIT" {
				c.Transactions.Add(1)
			}
		case 'Z': // ReadyForQuery
			c.RoundTrips.Add(1)
		}
		if _, err := out.Write(body); err != nil {
			return err
		}
		if from.Buffered() == 0 {
			if err := out.Flush(); err != nil {
				return err
			}
		}
	}
}
