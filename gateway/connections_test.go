package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paybell/paybell/gateway"
)

const evictions = "paybell_gateway_connections_evicted_total"

// patient are deadlines that no test waits for: only making room closes a connection.
func patient(limit int) func(*gateway.Options) {
	return func(o *gateway.Options) {
		o.MaxConnections = limit
		o.HeaderTimeout, o.ReadTimeout, o.IdleTimeout = time.Minute, time.Minute, time.Hour
	}
}

// heard is a connection over which a whole request has come.
type heard struct {
	net.Conn
	r *bufio.Reader
}

// hear opens connections and sends a request over each.
func hear(t *testing.T, addr string, n int) []heard {
	t.Helper()
	out := make([]heard, n)
	for i := range out {
		conn := dial(t, addr)
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		out[i] = heard{conn, bufio.NewReader(conn)}
		out[i].works(t)
	}
	return out
}

// works sends one more request.
func (h heard) works(t *testing.T) {
	t.Helper()
	send(t, h, post(paid, len(paid)))
	if resp, body := read(t, h.r); resp.StatusCode != 200 || body != "rung" {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
}

// crowd opens connections, each of which sends text and then nothing, and reads from none.
func crowd(t *testing.T, addr string, n int, text string) []net.Conn {
	t.Helper()
	out := make([]net.Conn, n)
	for i := range out {
		out[i] = dial(t, addr)
		if text != "" {
			send(t, out[i], text)
		}
	}
	return out
}

// callbacks sends n callbacks, each over a connection of its own, a few at a time, and
// counts the replies of 200. Where the machine is so busy that a sender comes to write
// only when its connection is taken for a silent one, it dials again, as a provider does.
func callbacks(t *testing.T, addr string, n int) (answered int) {
	t.Helper()
	var (
		mu      sync.Mutex
		senders sync.WaitGroup
		numbers = make(chan int)
	)
	one := func(i int) error {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			return err
		}
		body := fmt.Sprintf("once%d payment.succeeded A%d\n", i, i)
		text := strings.Replace(post(body, len(body)), "\r\n", "\r\nConnection: close\r\n", 1)
		if _, err := conn.Write([]byte(text)); err != nil {
			return err
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil {
			return err
		}
		if !strings.HasPrefix(line, "HTTP/1.1 200 ") {
			return fmt.Errorf("got %q", line)
		}
		return nil
	}
	for range 8 {
		senders.Go(func() {
			for i := range numbers {
				err := one(i)
				for tries := 0; err != nil && tries < 5; tries++ {
					t.Logf("callback %d: %v", i, err)
					err = one(i)
				}
				if err != nil {
					t.Errorf("callback %d: %v", i, err)
					continue
				}
				mu.Lock()
				answered++
				mu.Unlock()
			}
		})
	}
	for i := range n {
		numbers <- i
	}
	close(numbers)
	senders.Wait()
	return answered
}

// TestWhoSendsNothingCannotShutTheDoor: many more connections than may be open send
// nothing, or the beginning of a request, while others are kept open by senders who
// were heard. Every callback is answered, and none of those that were heard is closed.
func TestWhoSendsNothingCannotShutTheDoor(t *testing.T) {
	for name, tc := range map[string]struct {
		n            int
		text, reason string
	}{
		"nothing":                {500, "", "silent"},
		"a part of the headers":  {150, "POST /callbacks/bell HTTP/1.1\r\nHost: bell\r\nX-Slow: ", "slow"},
		"a part of a small body": {150, post("x", 1000), "slow"},
	} {
		t.Run(name, func(t *testing.T) {
			d, addr := onTheWire(t, patient(50))
			// With those of the senders, which may be open a moment longer, fewer than the
			// places that are left to newcomers ask for.
			kept := hear(t, addr, 24)
			before := len(d.appender.kept())
			crowd(t, addr, tc.n, tc.text)
			if got := callbacks(t, addr, 200); got != 200 {
				t.Errorf("%d of 200 callbacks were answered", got)
			}
			if got := len(d.appender.kept()) - before; got != 200 {
				t.Errorf("%d of 200 events", got)
			}
			for _, h := range kept {
				h.works(t)
			}
			if got := d.sum(t, evictions, tc.reason); got < float64(tc.n-50) {
				t.Errorf("%v closed as %s, of %d", got, tc.reason, tc.n)
			}
			if got := d.sum(t, evictions, "idle"); got != 0 {
				t.Errorf("%v idle ones were closed, and %v %s ones", got, d.sum(t, evictions, tc.reason), tc.reason)
			}
		})
	}
}

// TestOrderOfEviction: the silent one goes first, then the slow one, then the longest
// idle; a callback under way never does.
func TestOrderOfEviction(t *testing.T) {
	d, addr := onTheWire(t, patient(6))
	entered, release := make(chan struct{}), make(chan struct{})
	idle := hear(t, addr, 3)
	d.appender.before = func(context.Context) error {
		close(entered)
		<-release
		return nil
	}
	busy := dial(t, addr)
	send(t, busy, post("k2 payment.succeeded A2\n", 24))
	<-entered
	// Places 5 and 6; the silent one is the younger.
	slow := dial(t, addr)
	send(t, slow, "POST /callbacks/bell HTTP/1.1\r\n")
	silent := dial(t, addr)
	knock := func() heard {
		conn := dial(t, addr)
		h := heard{conn, bufio.NewReader(conn)}
		send(t, h, "GET /healthz HTTP/1.1\r\nHost: bell\r\n\r\n")
		if resp, _ := read(t, h.r); resp.StatusCode != 200 {
			t.Errorf("got %d", resp.StatusCode)
		}
		return h
	}
	// Which of the idle ones was answered first the door knows, and no sender.
	idleGone := make(chan error, len(idle))
	for _, h := range idle {
		go func() {
			_, err := h.r.ReadByte()
			idleGone <- err
		}()
	}
	for i, step := range []struct {
		what string
		gone func() (rest string)
	}{
		{"silent", func() string { return closed(t, silent) }},
		{"slow", func() string { return closed(t, slow) }},
		{"idle", func() string { <-idleGone; return "" }},
		{"idle", func() string { <-idleGone; return "" }},
	} {
		knock()
		if rest := step.gone(); rest != "" {
			t.Errorf("the %s one was sent %q", step.what, rest)
		}
		n := map[string]float64{}
		for _, reason := range []string{"silent", "slow", "idle"} {
			n[reason] = d.sum(t, evictions, reason)
		}
		if n["silent"]+n["slow"]+n["idle"] != float64(i+1) || n[step.what] == 0 {
			t.Errorf("%s: %v were closed", step.what, n)
		}
	}
	close(release)
	if resp, _ := read(t, bufio.NewReader(busy)); resp.StatusCode != 200 {
		t.Errorf("the one under way got %d", resp.StatusCode)
	}
}

// TestReserveForThoseThatWereHeard: with a place for each of them free, those that were
// not heard get three quarters of all.
func TestReserveForThoseThatWereHeard(t *testing.T) {
	d, addr := onTheWire(t, patient(40))
	kept := hear(t, addr, 5)
	crowd(t, addr, 100, "P")
	for d.sum(t, evictions, "slow") < 100-35 { // of 40 places 5 are taken
		if t.Context().Err() != nil {
			t.Fatal("they are not closed")
		}
		runtime.Gosched()
	}
	if got := d.sum(t, "paybell_gateway_connections", "no"); got > 30 {
		t.Errorf("%v that were not heard are open", got)
	}
	if got := callbacks(t, addr, 20); got != 20 {
		t.Errorf("%d of 20 callbacks were answered", got)
	}
	for _, h := range kept {
		h.works(t)
	}
	if got := d.sum(t, evictions, "idle"); got != 0 {
		t.Errorf("%v idle ones were closed", got)
	}
}

// TestSteadySendersAreNotSlow: a large body that keeps arriving keeps its place, although
// its request is older than one of which little arrives.
func TestSteadySendersAreNotSlow(t *testing.T) {
	var options gateway.Options
	d := newDoor(t, func(o *gateway.Options, _ *gateway.Deps) {
		patient(4)(o)
		options = *o
	})
	l, err := gateway.Listen(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	var passed atomic.Int64
	gateway.SetClock(l, func() time.Time { return noon.Add(time.Duration(passed.Load())) })
	addr := d.serveOn(t, l)

	body := paid + strings.Repeat("x", 200<<10)
	text := post(body, len(body))
	steady := dial(t, addr)
	send(t, steady, text[:100<<10])
	for d.sum(t, "paybell_gateway_large_bodies_bytes") == 0 { // until it is being read
		if t.Context().Err() != nil {
			t.Fatal("the body is not read")
		}
		runtime.Gosched()
	}
	slow := dial(t, addr)
	send(t, slow, "P")
	hear(t, addr, 2)
	passed.Store(int64(time.Second))
	hear(t, addr, 1)
	if rest := closed(t, slow); rest != "" {
		t.Errorf("the slow one was sent %q", rest)
	}
	send(t, steady, text[100<<10:])
	if resp, _ := read(t, bufio.NewReader(steady)); resp.StatusCode != 200 {
		t.Errorf("the steady one got %d", resp.StatusCode)
	}
}

// TestWhatNobodyReadIsNotSilence: a sender is not closed for what the process has not come
// to read, although its connection is older than one that sent nothing.
func TestWhatNobodyReadIsNotSilence(t *testing.T) {
	o := gateway.DefaultOptions()
	o.Address, o.MaxConnections = "127.0.0.1:0", 2
	l, err := gateway.Listen(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	now := noon
	gateway.SetClock(l, func() time.Time { return now })
	accept := func() net.Conn {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() }) // one of them was closed to make room
		return conn
	}
	sent := dial(t, l.Addr().String())
	send(t, sent, "P")
	unread := accept()
	silent := dial(t, l.Addr().String())
	accept()
	now = now.Add(time.Minute)
	slow := dial(t, l.Addr().String())
	served := accept()
	if rest := closed(t, silent); rest != "" {
		t.Errorf("the silent one was sent %q", rest)
	}
	send(t, slow, "P")
	if _, err := served.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Minute)
	dial(t, l.Addr().String())
	accept()
	if rest := closed(t, slow); rest != "" {
		t.Errorf("the slow one was sent %q", rest)
	}
	if n, err := unread.Read(make([]byte, 2)); n != 1 || err != nil {
		t.Errorf("the one that sent something: %d bytes, %v", n, err)
	}
}
