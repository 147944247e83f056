package gateway_test

import (
	"context"
	"io"
	"net/http/httptest"
	"strings"
	"sync"
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
	for range 5 {
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
