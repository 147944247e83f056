package gateway_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/streams/streamstest"
)

// clocks are those of a gateway and of its event store.
type clocks struct {
	gateway, store time.Time
	away           error
	asked          atomic.Int64
}

func (c *clocks) set(_ *gateway.Options, d *gateway.Deps) {
	d.Now = func() time.Time { return c.gateway }
	d.Clock = func(context.Context) (time.Time, error) {
		c.asked.Add(1)
		return c.store, c.away
	}
}

// timed is a callback that was signed at a time, or forged then.
func timed(t *testing.T, at time.Time, forged bool) *http.Request {
	t.Helper()
	r := request(t, "k1 payment.succeeded A1\n")
	r.Header.Set(signatureHeader, sign([]byte("k1 payment.succeeded A1\n"), at))
	if forged {
		r.Header.Set(signatureHeader, sign([]byte("k1 payment.succeeded A2\n"), at))
	}
	return r
}

// comes answers a request.
func comes(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// gauge reads a metric.
func gauge(t *testing.T, reg prometheus.Gatherer, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// TestGatewayWhoseClockIsOff asks for authentic callbacks again that look old or early to
// it, says so on /readyz, and believes a forged one no more than before. sent is when a
// callback was signed, by the right time.
func TestGatewayWhoseClockIsOff(t *testing.T) {
	for name, c := range map[string]struct {
		ahead time.Duration
		sent  time.Duration
		want  int
		ready string
	}{
		"ahead":                          {330 * time.Second, 0, 503, "not ready: the clock is 5m30s ahead of the event store's\n"},
		"behind":                         {-330 * time.Second, 0, 503, "not ready: the clock is 5m30s behind the event store's\n"},
		"a minute, within the tolerance": {61 * time.Second, 0, 200, "not ready: the clock is 1m1s ahead of the event store's\n"},
		"less than a minute":             {time.Minute, 0, 200, "ready\n"},
		"right, and the callback is old": {0, -301 * time.Second, 401, "ready\n"},
		"right, and the callback early":  {0, 301 * time.Second, 401, "ready\n"},
		"by seconds, and it is old":      {20 * time.Second, -301 * time.Second, 401, "ready\n"},
	} {
		t.Run(name, func(t *testing.T) {
			k := &clocks{gateway: noon.Add(c.ahead), store: noon}
			d := newDoor(t, k.set)
			w := comes(d, timed(t, noon.Add(c.sent), false))
			if w.Code != c.want || (w.Header().Get("Retry-After") == "10") != (c.want == 503) {
				t.Errorf("authentic: got %d %v, want %d", w.Code, w.Header(), c.want)
			}
			if n := d.count(t, "retry", "clock"); n != float64(c.want/503) {
				t.Errorf("%v counted as the clock's", n)
			}
			if w := comes(d, timed(t, noon.Add(c.sent), true)); w.Code != 401 {
				t.Errorf("forged: got %d", w.Code)
			}
			if w := get(t, d, http.MethodGet, "/readyz"); w.Body.String() != c.ready || (w.Code == 200) != (c.ready == "ready\n") {
				t.Errorf("/readyz: got %d %q, want %q", w.Code, w.Body, c.ready)
			}
			if s := gauge(t, d.registry, "paybell_gateway_clock_difference_seconds"); s != c.ahead.Seconds() {
				t.Errorf("metric: %v, want %v", s, c.ahead.Seconds())
			}
		})
	}
}

// TestClockIsComparedOnceASecond, whoever needs to know, and at once when it was set; the
// last answer counts while the event store is away, and a change is logged once.
func TestClockIsComparedOnceASecond(t *testing.T) {
	k := &clocks{gateway: noon, store: noon, away: errors.New("connection refused")}
	d := newDoor(t, k.set)
	old := func() int { return comes(d, timed(t, noon.Add(-time.Hour), false)).Code }
	if code := old(); code != 503 || k.asked.Load() != 1 {
		t.Errorf("never compared: got %d, want to be asked again", code)
	}
	if w := get(t, d, http.MethodGet, "/readyz"); w.Code != 200 {
		t.Errorf("never compared: /readyz says %d %q", w.Code, w.Body)
	}
	k.away, k.gateway, k.store = nil, noon.Add(time.Second), noon.Add(time.Second)
	k.asked.Store(0)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { comes(d, timed(t, noon.Add(-time.Hour), false)) })
	}
	all.Wait()
	if code := old(); code != 401 || k.asked.Load() != 1 {
		t.Errorf("compared and right: got %d after %d questions", code, k.asked.Load())
	}
	for _, jump := range []time.Duration{330 * time.Second, -330 * time.Second} {
		k.gateway = k.store.Add(jump)
		if code := old(); code != 503 {
			t.Errorf("set by %s in the same second: got %d", jump, code)
		}
	}
	k.away = errors.New("connection refused")
	k.gateway = k.gateway.Add(10 * time.Second)
	if code := old(); code != 503 {
		t.Errorf("away, and the last answer was off: got %d", code)
	}
	k.away, k.gateway, k.store = nil, noon.Add(time.Minute), noon.Add(time.Minute)
	if code := old(); code != 401 {
		t.Errorf("right again: got %d", code)
	}
	k.away, k.gateway = errors.New("connection refused"), noon.Add(2*time.Minute)
	if code := old(); code != 401 {
		t.Errorf("away, and the last answer was right: got %d", code)
	}
	log := d.log.String()
	if strings.Count(log, "the clock is wrong") != 1 || strings.Count(log, "the clock is right again") != 1 || !strings.Contains(log, "5m30s ahead of the event store's") {
		t.Errorf("log:\n%s", log)
	}
}

// TestClockIsComparedWithRedis, without anybody asking.
func TestClockIsComparedWithRedis(t *testing.T) {
	server := streamstest.Redis(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = rdb.Close() }) // nothing was written
	var o gateway.Options
	d := newDoor(t, func(options *gateway.Options, deps *gateway.Deps) {
		o = *options
		deps.Now = func() time.Time { return time.Now().Add(330 * time.Second) }
		deps.Clock = func(ctx context.Context) (time.Time, error) { return rdb.Time(ctx).Result() }
	})
	d.serve(t, o)
	streamstest.Eventually(t, "the log tells that the clock is off", func() bool {
		return strings.Contains(d.log.String(), "5m30s ahead of the event store's")
	})
	if w := comes(d, timed(t, time.Now(), false)); w.Code != 503 {
		t.Errorf("authentic: got %d", w.Code)
	}
	if w := comes(d, timed(t, time.Now(), true)); w.Code != 401 {
		t.Errorf("forged: got %d", w.Code)
	}
}
