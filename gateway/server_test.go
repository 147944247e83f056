package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/gateway"
)

// hasty are deadlines that a test can wait for; others leave a busy machine time.
func hasty(o *gateway.Options) { o.HeaderTimeout, o.ReadTimeout = 500*time.Millisecond, time.Second }

// onTheWire builds a door and serves it.
func onTheWire(t *testing.T, change func(*gateway.Options)) (door, string) {
	t.Helper()
	var options gateway.Options
	d := newDoor(t, func(o *gateway.Options, _ *gateway.Deps) {
		if change != nil {
			change(o)
		}
		options = *o
	})
	return d, d.serve(t, options)
}

// post is a signed callback as text; length is its Content-Length header.
func post(body string, length int) string {
	return fmt.Sprintf("POST /callbacks/bell HTTP/1.1\r\nHost: bell\r\n%s: %s\r\nContent-Length: %d\r\n\r\n%s",
		signatureHeader, sign([]byte(body), noon), length, body)
}

const paid = "k1 payment.succeeded A1001\n"

// reply is what came back.
type reply struct {
	StatusCode int
	Close      bool
}

// read reads one response and its body.
func read(t *testing.T, r *bufio.Reader) (reply, string) {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Close}, string(body)
}

// closed reads until the other side closes, and returns what came before.
func closed(t *testing.T, r io.Reader) string {
	t.Helper()
	rest, err := io.ReadAll(r)
	var netErr net.Error
	if errors.As(err, &netErr) && netErr.Timeout() {
		t.Fatalf("the connection stays open; got %q", rest)
	}
	return string(rest)
}

func TestSlowHeadersAreCutOff(t *testing.T) {
	d, addr := onTheWire(t, hasty)
	conn := dial(t, addr)
	start := time.Now()
	send(t, conn, "POST /callbacks/bell HTTP/1.1\r\nHost: bell\r\nX-Slow: ")
	closed(t, conn)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("closed after %s", took)
	}
	if got := d.count(t); got != 0 {
		t.Errorf("counted %v callbacks", got)
	}
}

// TestDrippingHeadersAreCutOff: the deadline is for all headers together, so that
// a byte now and then does not keep a connection open.
func TestDrippingHeadersAreCutOff(t *testing.T) {
	_, addr := onTheWire(t, hasty)
	conn := dial(t, addr)
	send(t, conn, "POST /callbacks/bell HTTP/1.1\r\nHost: bell\r\n")
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = io.Copy(io.Discard, conn) // ends when the door closes
	}()
	drip := time.NewTicker(10 * time.Millisecond)
	defer drip.Stop()
	for n := 0; ; n++ {
		select {
		case <-gone:
			return
		case <-drip.C:
			if _, err := fmt.Fprintf(conn, "X-%d: drip\r\n", n); err != nil {
				<-gone
				return
			}
			if n > 500 {
				t.Fatal("still open after 5 s of dripping")
			}
		}
	}
}

// TestSlowBodyHoldsNoPlace: with room for a single callback, senders of bodies
// that never end do not keep a whole one out, and are cut off.
func TestSlowBodyHoldsNoPlace(t *testing.T) {
	d, addr := onTheWire(t, func(o *gateway.Options) {
		hasty(o)
		o.MaxInFlight = 1
	})
	slow := make([]net.Conn, 20)
	for i := range slow {
		slow[i] = dial(t, addr)
		send(t, slow[i], post("x", 1000))
	}
	whole := dial(t, addr)
	send(t, whole, post(paid, len(paid)))
	if resp, body := read(t, bufio.NewReader(whole)); resp.StatusCode != 200 || body != "rung" {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
	for _, conn := range slow {
		if got := closed(t, conn); !strings.HasPrefix(got, "HTTP/1.1 408 ") || !strings.Contains(got, "Connection: close") {
			t.Errorf("got %q", got)
		}
	}
	if got := d.count(t, "bell", "rejected", "slow_body"); got != 20 {
		t.Errorf("counted %v slow bodies", got)
	}
}

// TestTooLarge: the reply arrives although the sender goes on sending, and the
// connection is closed.
func TestTooLarge(t *testing.T) {
	chunk := fmt.Sprintf("%x\r\n%s\r\n", 32<<10, strings.Repeat("x", 32<<10))
	head := "POST /callbacks/bell HTTP/1.1\r\nHost: bell\r\n"
	for name, tc := range map[string]struct{ head, piece string }{
		"announced":             {head + "Content-Length: 100000000\r\n\r\n", strings.Repeat("x", 32<<10)},
		"announced, with a 100": {head + "Expect: 100-continue\r\nContent-Length: 100000000\r\n\r\n", ""},
		"chunked":               {head + "Transfer-Encoding: chunked\r\n\r\n", chunk},
	} {
		t.Run(name, func(t *testing.T) {
			d, addr := onTheWire(t, nil)
			conn := dial(t, addr)
			send(t, conn, tc.head)
			go func() {
				for range 64 { // 2 MiB, or until the door has closed
					if _, err := io.WriteString(conn, tc.piece); err != nil {
						return
					}
				}
			}()
			r := bufio.NewReader(conn)
			resp, body := read(t, r)
			if resp.StatusCode != 413 || !resp.Close || body != "Request Entity Too Large\n" {
				t.Errorf("got %d, close %v, %q", resp.StatusCode, resp.Close, body)
			}
			if rest := closed(t, r); rest != "" {
				t.Errorf("after the reply: %q", rest)
			}
			if got := d.count(t, "bell", "rejected", "too_large"); got != 1 {
				t.Errorf("counted %v", got)
			}
		})
	}
}

func TestBrokenChunks(t *testing.T) {
	d, addr := onTheWire(t, nil)
	conn := dial(t, addr)
	send(t, conn, "POST /callbacks/bell HTTP/1.1\r\nHost: bell\r\nTransfer-Encoding: chunked\r\n\r\nnot hex\r\n")
	if got := closed(t, conn); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
		t.Errorf("got %q", got)
	}
	if got := d.count(t, "bell", "rejected", "broken_body"); got != 1 {
		t.Errorf("counted %v", got)
	}
}

// TestBodyBreaksOff: half a callback is none, also when the half verifies.
func TestBodyBreaksOff(t *testing.T) {
	d, addr := onTheWire(t, nil)
	conn := dial(t, addr)
	send(t, conn, post(paid, len(paid)+1))
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		t.Fatalf("a %T", conn)
	}
	if err := tcp.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := closed(t, conn); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
		t.Errorf("got %q", got)
	}
	if n := len(d.appender.kept()); n != 0 {
		t.Errorf("%d entries", n)
	}
}

func TestOversizedHeaders(t *testing.T) {
	_, addr := onTheWire(t, nil)
	conn := dial(t, addr)
	go func() {
		_, _ = io.WriteString(conn, "POST /callbacks/bell HTTP/1.1\r\nHost: bell\r\nX: "+strings.Repeat("x", 64<<10)) // cut off in the middle
	}()
	if got := closed(t, conn); !strings.HasPrefix(got, "HTTP/1.1 431 ") {
		t.Errorf("got %q", got)
	}
}

// TestPipelined: two callbacks in one write get two replies, in order, on one
// connection.
func TestPipelined(t *testing.T) {
	_, addr := onTheWire(t, nil)
	conn := dial(t, addr)
	bad := strings.Replace(post(paid, len(paid)), signatureHeader, "No-"+signatureHeader, 1)
	send(t, conn, post(paid, len(paid))+bad+post(paid, len(paid)))
	r := bufio.NewReader(conn)
	for i, want := range []int{200, 401, 200} {
		if resp, _ := read(t, r); resp.StatusCode != want || resp.Close {
			t.Errorf("reply %d: got %d, close %v", i, resp.StatusCode, resp.Close)
		}
	}
}

// TestKeepAliveAfterRefusal: a body that nobody wanted does not desynchronise the
// connection.
func TestKeepAliveAfterRefusal(t *testing.T) {
	_, addr := onTheWire(t, nil)
	conn := dial(t, addr)
	r := bufio.NewReader(conn)
	evil := post(paid, len(paid)) // a callback hidden in an unread body
	for _, line := range []string{"POST /callbacks/nobody HTTP/1.1", "POST / HTTP/1.1", "PUT /callbacks/bell HTTP/1.1"} {
		send(t, conn, fmt.Sprintf("%s\r\nHost: bell\r\nContent-Length: %d\r\n\r\n%s", line, len(evil), evil))
		if resp, _ := read(t, r); resp.StatusCode != 404 && resp.StatusCode != 405 {
			t.Errorf("%s: got %d", line, resp.StatusCode)
		}
	}
	send(t, conn, post(paid, len(paid)))
	if resp, _ := read(t, r); resp.StatusCode != 200 {
		t.Errorf("got %d", resp.StatusCode)
	}
}

// TestNoReplyBeforeDurable: over the wire too, nothing arrives while the append
// is under way.
func TestNoReplyBeforeDurable(t *testing.T) {
	d, addr := onTheWire(t, nil)
	entered, release := make(chan struct{}), make(chan struct{})
	d.appender.before = func(context.Context) error {
		close(entered)
		<-release
		return nil
	}
	conn := dial(t, addr)
	send(t, conn, post(paid, len(paid)))
	<-entered
	if err := conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	if _, err := r.Peek(1); !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
		t.Fatalf("before the append had ended: %v", err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	close(release)
	if resp, _ := read(t, r); resp.StatusCode != 200 {
		t.Errorf("got %d", resp.StatusCode)
	}
}

func isTimeout(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) && netErr.Timeout()
}

// TestAppendOutlivesReadDeadline: the deadline of the body is not one of the
// append, and a provider that hangs up does not stop it.
func TestAppendOutlivesReadDeadline(t *testing.T) {
	d, addr := onTheWire(t, func(o *gateway.Options) {
		hasty(o)
		o.AppendTimeout = 30 * time.Second
	})
	ended := make(chan error, 1)
	d.appender.before = func(ctx context.Context) error {
		after := time.NewTimer(1100 * time.Millisecond)
		defer after.Stop()
		select {
		case <-after.C:
			ended <- nil
		case <-ctx.Done():
			ended <- ctx.Err()
		}
		return nil
	}
	conn := dial(t, addr)
	send(t, conn, post(paid, len(paid)))
	r := bufio.NewReader(conn)
	if resp, _ := read(t, r); resp.StatusCode != 200 {
		t.Errorf("got %d", resp.StatusCode)
	}
	if err := <-ended; err != nil {
		t.Errorf("the append was ended by the read deadline: %v", err)
	}
	// The same connection serves another callback, whose provider then hangs up.
	send(t, conn, post(paid, len(paid)))
	if resp, _ := read(t, r); resp.StatusCode != 200 {
		t.Errorf("second callback: got %d", resp.StatusCode)
	}
	if err := <-ended; err != nil {
		t.Errorf("second callback: %v", err)
	}
	send(t, conn, post("k2 payment.succeeded A2\n", 24))
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the append was ended by the provider: %v", err)
	}
}

// TestConnectionLimit: with one connection allowed, over which a callback is under way,
// the second is served when the first is gone.
func TestConnectionLimit(t *testing.T) {
	d, addr := onTheWire(t, func(o *gateway.Options) { o.MaxConnections = 1 })
	entered, release := make(chan struct{}, 2), make(chan struct{})
	d.appender.before = func(context.Context) error {
		entered <- struct{}{}
		<-release
		return nil
	}
	first := dial(t, addr)
	send(t, first, strings.Replace(post(paid, len(paid)), "\r\n", "\r\nConnection: close\r\n", 1))
	<-entered
	second := dial(t, addr)
	send(t, second, post(paid, len(paid)))
	if err := second.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(second)
	if _, err := r.Peek(1); !isTimeout(err) {
		t.Errorf("the second connection was served beside the first: %v", err)
	}
	if n := len(entered); n != 0 {
		t.Errorf("%d callbacks of the second connection", n)
	}
	close(release)
	if resp, _ := read(t, bufio.NewReader(first)); resp.StatusCode != 200 {
		t.Errorf("the first got %d", resp.StatusCode)
	}
	if err := second.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if resp, _ := read(t, r); resp.StatusCode != 200 {
		t.Errorf("got %d", resp.StatusCode)
	}
}

// TestIdleConnectionsGiveWay: who only keeps connections open cannot shut the door.
func TestIdleConnectionsGiveWay(t *testing.T) {
	const limit = 5
	_, addr := onTheWire(t, func(o *gateway.Options) { o.MaxConnections, o.IdleTimeout = limit, time.Hour })
	for range 3 * limit {
		conn := dial(t, addr)
		send(t, conn, "GET /healthz HTTP/1.1\r\nHost: bell\r\n\r\n")
		if resp, _ := read(t, bufio.NewReader(conn)); resp.StatusCode != 200 {
			t.Fatalf("got %d", resp.StatusCode)
		}
	}
	conn := dial(t, addr)
	send(t, conn, post(paid, len(paid)))
	if resp, _ := read(t, bufio.NewReader(conn)); resp.StatusCode != 200 {
		t.Errorf("got %d", resp.StatusCode)
	}
}

// TestServeDrains: a callback under way gets its reply, nothing new is taken, and
// /readyz says why.
func TestServeDrains(t *testing.T) {
	var options gateway.Options
	d := newDoor(t, func(o *gateway.Options, _ *gateway.Deps) { options = *o })
	entered, release := make(chan struct{}), make(chan struct{})
	d.appender.before = func(context.Context) error {
		close(entered)
		<-release
		return nil
	}
	l, err := gateway.Listen(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Serve(ctx, l) }()

	busy, idle := dial(t, l.Addr().String()), dial(t, l.Addr().String())
	idleReader := bufio.NewReader(idle)
	send(t, idle, "GET /readyz HTTP/1.1\r\nHost: bell\r\n\r\n")
	if resp, body := read(t, idleReader); resp.StatusCode != 200 || body != "ready\n" {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
	send(t, busy, post(paid, len(paid)))
	<-entered
	stop()
	closed(t, idleReader) // an idle connection is closed at once
	var dialer net.Dialer
	if conn, err := dialer.DialContext(t.Context(), "tcp", l.Addr().String()); err == nil {
		_ = conn.Close() // the failure is that it was there at all
		t.Error("a new connection was taken")
	}
	select {
	case err := <-done:
		t.Fatalf("Serve left a callback behind: %v", err)
	default:
	}
	close(release)
	if resp, body := read(t, bufio.NewReader(busy)); resp.StatusCode != 200 || body != "rung" {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// TestServeGivesUpDraining: what does not end in time is cut off and told.
func TestServeGivesUpDraining(t *testing.T) {
	var options gateway.Options
	d := newDoor(t, func(o *gateway.Options, _ *gateway.Deps) {
		o.DrainTimeout = 20 * time.Millisecond
		options = *o
	})
	entered, release := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(release) })
	d.appender.before = func(context.Context) error {
		close(entered)
		<-release
		return nil
	}
	l, err := gateway.Listen(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Serve(ctx, l) }()
	conn := dial(t, l.Addr().String())
	send(t, conn, post(paid, len(paid)))
	<-entered
	stop()
	if err := <-done; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if got := closed(t, conn); got != "" {
		t.Errorf("a reply although nothing is durable: %q", got)
	}
}

func TestServeTellsAListenerThatFailed(t *testing.T) {
	d := newDoor(t, nil)
	o := gateway.DefaultOptions()
	o.Address = "127.0.0.1:0"
	l, err := gateway.Listen(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Serve(t.Context(), l); err == nil {
		t.Error("Serve on a closed listener returned nil")
	}
}
