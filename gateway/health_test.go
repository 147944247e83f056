package gateway_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/paybell/paybell/gateway"
)

// reason is an error that chooses its public words.
type reason struct{ error }

func (reason) PublicReason() string { return "redis is full" }

func get(tb testing.TB, h http.Handler, method, path string) *httptest.ResponseRecorder {
	tb.Helper()
	r, err := http.NewRequestWithContext(tb.Context(), method, path, nil)
	if err != nil {
		tb.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestReadySaysWhyNot(t *testing.T) {
	cases := map[string]struct {
		ready  func(context.Context) error
		status int
		want   string
	}{
		"always":         {nil, 200, "ready\n"},
		"ready":          {func(context.Context) error { return nil }, 200, "ready\n"},
		"internal words": {func(context.Context) error { return errors.New("dial 10.0.0.7:6379: refused") }, 503, "not ready: the event store cannot take callbacks\n"},
		"public words":   {func(context.Context) error { return reason{errors.New("OOM at 10.0.0.7")} }, 503, "not ready: redis is full\n"},
		"too slow":       {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, 503, "not ready: the event store does not answer in time\n"},
		"panics":         {func(context.Context) error { panic("10.0.0.7") }, 503, "not ready: the event store cannot take callbacks\n"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			d := newDoor(t, func(_ *gateway.Options, deps *gateway.Deps) { deps.Ready = tc.ready })
			w := get(t, d, http.MethodGet, "/readyz")
			if w.Code != tc.status || w.Body.String() != tc.want {
				t.Errorf("got %d %q", w.Code, w.Body)
			}
			if w := get(t, d, http.MethodGet, "/healthz"); w.Code != 200 || w.Body.String() != "ok\n" {
				t.Errorf("healthz: got %d %q", w.Code, w.Body)
			}
			if w := get(t, d, http.MethodHead, "/readyz"); w.Code != tc.status {
				t.Errorf("HEAD: got %d", w.Code)
			}
			if w := get(t, d, http.MethodPost, "/readyz"); w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD" {
				t.Errorf("POST: got %d, Allow %q", w.Code, w.Header().Get("Allow"))
			}
		})
	}
}

// TestReadyIsAskedOnceASecond: anyone may ask the door, and the store behind it
// hears of it once a second; a change is logged once.
func TestReadyIsAskedOnceASecond(t *testing.T) {
	now, asked := noon, 0
	var trouble error
	d := newDoor(t, func(_ *gateway.Options, deps *gateway.Deps) {
		deps.Now = func() time.Time { return now }
		deps.Ready = func(context.Context) error { asked++; return trouble }
	})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { get(t, d, http.MethodGet, "/readyz") })
	}
	wg.Wait()
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	for _, trouble = range []error{errors.New("dial 10.0.0.7:6379: refused"), errors.New("still"), nil} {
		now = now.Add(time.Second)
		if w := get(t, d, http.MethodGet, "/readyz"); (w.Code == 200) != (trouble == nil) {
			t.Errorf("got %d with %v", w.Code, trouble)
		}
	}
	log := d.log.String()
	if strings.Count(log, "gateway not ready") != 1 || strings.Count(log, "gateway ready again") != 1 || !strings.Contains(log, "10.0.0.7:6379") {
		t.Errorf("log:\n%s", log)
	}
}

func TestDrain(t *testing.T) {
	d := newDoor(t, nil)
	d.Drain()
	if w := get(t, d, http.MethodGet, "/readyz"); w.Code != 503 || w.Body.String() != "not ready: the door is closing\n" {
		t.Errorf("got %d %q", w.Code, w.Body)
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, request(t, "k1 payment.succeeded A1\n"))
	if w.Code != 200 {
		t.Errorf("a callback while draining: got %d", w.Code)
	}
}
