package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/paybell/paybell/gateway"
)

// TestInFlightLimit: beyond the limit a callback is asked to come again at once,
// and the place of one that has ended is free.
func TestInFlightLimit(t *testing.T) {
	d := newDoor(t, func(o *gateway.Options, _ *gateway.Deps) { o.MaxInFlight = 2 })
	entered, release := make(chan struct{}), make(chan struct{})
	d.appender.before = func(context.Context) error {
		entered <- struct{}{}
		<-release
		return nil
	}
	var wg sync.WaitGroup
	for _, body := range []string{"k1 payment.succeeded A1\n", "k2 payment.succeeded A2\n"} {
		wg.Go(func() {
			w := httptest.NewRecorder()
			d.ServeHTTP(w, request(t, body))
			if w.Code != 200 {
				t.Errorf("got %d", w.Code)
			}
		})
		<-entered
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, request(t, "k3 payment.succeeded A3\n"))
	if w.Code != 503 || w.Body.String() != "again" || w.Header().Get("Retry-After") != "10" {
		t.Errorf("beyond the limit: got %d %q %v", w.Code, w.Body, w.Header())
	}
	if got := d.count(t, "bell", "retry", "busy"); got != 1 {
		t.Errorf("counted %v", got)
	}
	close(release)
	wg.Wait()
	d.appender.before = nil
	for range 5 { // whatever ended gave its place back, also the one refused
		w = httptest.NewRecorder()
		d.ServeHTTP(w, request(t, "k3 payment.succeeded A3\n"))
		if w.Code != 200 {
			t.Fatalf("afterwards: got %d", w.Code)
		}
	}
}

// stuckBody is a body of which the first part has arrived.
type stuckBody struct {
	io.Reader
	arrived chan<- struct{}
	release <-chan struct{}
}

func (b stuckBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if n == 0 {
		b.arrived <- struct{}{}
		<-b.release
	}
	return n, err
}

// TestBodyMemory: large bodies share a budget that ordinary callbacks do not need,
// and memory grows with what arrives and not with what is announced.
func TestBodyMemory(t *testing.T) {
	const large = 200 << 10
	d := newDoor(t, func(o *gateway.Options, _ *gateway.Deps) { o.BodyMemory = 1 << 20 })
	arrived, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	end := sync.OnceFunc(func() {
		close(release)
		wg.Wait()
	})
	t.Cleanup(end)
	begin := func(sent int) {
		r := request(t, "")
		r.ContentLength = large
		r.Body = io.NopCloser(stuckBody{strings.NewReader(strings.Repeat("x", sent)), arrived, release})
		ended := make(chan int, 1)
		wg.Go(func() {
			w := httptest.NewRecorder()
			d.ServeHTTP(w, r)
			ended <- w.Code
		})
		select {
		case <-arrived:
		case code := <-ended:
			t.Fatalf("replied %d before the body had ended", code)
		}
	}
	post := func(size int) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		first := "k1 payment.succeeded A1\n"
		d.ServeHTTP(w, request(t, first+strings.Repeat("x", size-len(first))))
		return w
	}
	for range 50 {
		begin(100) // announces much and sends little: costs none of the budget
	}
	if w := post(large); w.Code != 200 {
		t.Errorf("a large body beside 50 announced ones: got %d", w.Code)
	}
	begin(20 << 10) // is believed, or it would hold this while it waits for the rest
	if got := d.sum(t, "paybell_gateway_large_bodies_bytes"); got != large {
		t.Errorf("%v bytes are reserved, of %d announced", got, large)
	}
	for range 4 {
		begin(large - 1)
	}
	if w := post(large); w.Code != 503 || w.Body.String() != "again" || w.Header().Get("Connection") != "close" {
		t.Errorf("a large body beyond the budget: got %d %q %v", w.Code, w.Body, w.Header())
	}
	if w := post(16 << 10); w.Code != 200 {
		t.Errorf("an ordinary body beyond the budget: got %d", w.Code)
	}
	if got := d.count(t, "bell", "retry", "body_memory"); got != 1 {
		t.Errorf("counted %v", got)
	}
	end()
	if w := post(large); w.Code != 200 {
		t.Errorf("afterwards: got %d", w.Code)
	}
}

// TestBodiesWaitForRoom: a body that finds no room gets it when another gives it back,
// and no body holds a part while it waits for the rest.
func TestBodiesWaitForRoom(t *testing.T) {
	const large, bodies = 256 << 10, 40
	d, addr := onTheWire(t, func(o *gateway.Options) { o.BodyMemory = 1 << 20 }) // four at a time
	var most atomic.Int64
	d.appender.before = func(context.Context) error {
		held := int64(d.sum(t, "paybell_gateway_large_bodies_bytes"))
		for {
			before := most.Load()
			if held <= before || most.CompareAndSwap(before, held) {
				return nil
			}
		}
	}
	var senders sync.WaitGroup
	var replies, other atomic.Int64
	for i := range bodies {
		senders.Go(func() {
			first := fmt.Sprintf("k%d payment.succeeded A%d\n", i, i)
			body := first + strings.Repeat("x", large-len(first))
			conn := dial(t, addr)
			go func() { _, _ = io.WriteString(conn, post(body, len(body))) }() // a refused one is not read to its end
			switch resp, _ := read(t, bufio.NewReader(conn)); resp.StatusCode {
			case 200:
				replies.Add(1)
			case 503: // a second was not enough on a busy machine
				other.Add(1)
			default:
				t.Errorf("got %d", resp.StatusCode)
			}
		})
	}
	senders.Wait()
	if replies.Load() < 5 || replies.Load()+other.Load() != bodies {
		t.Errorf("%d of %d were answered with 200, %d with 503", replies.Load(), bodies, other.Load())
	}
	if most.Load() == 0 || most.Load() > 1<<20 {
		t.Errorf("%d bytes were held at once", most.Load())
	}
	if got := d.count(t, "bell", "retry", "body_memory"); got != float64(other.Load()) {
		t.Errorf("counted %v, %d were refused", got, other.Load())
	}
	if got := d.sum(t, "paybell_gateway_large_bodies_bytes"); got != 0 {
		t.Errorf("%v bytes are held by nobody", got)
	}
}

// TestChunkedBodiesReserveWhatTheyGrowTo: a body that announces nothing is in the budget
// too.
func TestChunkedBodiesReserveWhatTheyGrowTo(t *testing.T) {
	d := newDoor(t, func(o *gateway.Options, _ *gateway.Deps) { o.BodyMemory = 1 << 20 })
	arrived, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		r := request(t, "")
		r.ContentLength = -1
		r.Body = io.NopCloser(stuckBody{strings.NewReader(strings.Repeat("x", 200<<10)), arrived, release})
		wg.Go(func() { d.ServeHTTP(httptest.NewRecorder(), r) })
		<-arrived
	}
	if got := d.sum(t, "paybell_gateway_large_bodies_bytes"); got != 1<<20 {
		t.Errorf("%v bytes are held", got)
	}
	w := httptest.NewRecorder()
	r := request(t, strings.Repeat("x", 100<<10))
	r.ContentLength = -1
	d.ServeHTTP(w, r)
	if w.Code != 503 || d.count(t, "bell", "retry", "body_memory") != 1 {
		t.Errorf("beyond the budget: got %d", w.Code)
	}
	close(release)
	wg.Wait()
	if got := d.sum(t, "paybell_gateway_large_bodies_bytes"); got != 0 {
		t.Errorf("%v bytes are held by nobody", got)
	}
}

func TestOptionsWithinAProcess(t *testing.T) {
	for name, tc := range map[string]struct {
		memory                       int64
		files                        int
		change                       func(*gateway.Options)
		bodies, connections, lowered int
	}{
		"small":            {256 << 20, 1 << 20, nil, 16 << 20, 1024, 1},
		"enough":           {1 << 30, 1 << 20, nil, 64 << 20, 4096, 0},
		"large":            {64 << 30, 1 << 20, nil, 64 << 20, 4096, 0},
		"tiny":             {1 << 20, 1 << 20, nil, 1 << 20, 16, 1},
		"few files":        {1 << 30, 900, nil, 64 << 20, 900, 1},
		"no files":         {1 << 30, -40, nil, 64 << 20, 16, 1},
		"both":             {256 << 20, 2000, nil, 16 << 20, 1024, 2},
		"given":            {256 << 20, 1 << 20, func(o *gateway.Options) { o.BodyMemory, o.MaxConnections = 99<<20, 10 }, 99 << 20, 10, 0},
		"one body at once": {64 << 20, 1 << 20, func(o *gateway.Options) { o.MaxBody = 16 << 20 }, 16 << 20, 256, 1},
		"larger headers":   {1 << 30, 1 << 20, func(o *gateway.Options) { o.MaxHeader = 96 << 10 }, 64 << 20, 2048, 1},
	} {
		t.Run(name, func(t *testing.T) {
			o := gateway.DefaultOptions()
			if tc.change != nil {
				tc.change(&o)
			}
			got, notes := o.Within(tc.memory, tc.files)
			if got.BodyMemory != tc.bodies || got.MaxConnections != tc.connections || len(notes) != tc.lowered {
				t.Errorf("bodies %d, connections %d, notes %q", got.BodyMemory, got.MaxConnections, notes)
			}
			if err := got.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}
