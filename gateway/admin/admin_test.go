package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/paybell/paybell/configs/secret"
	"github.com/paybell/paybell/gateway/admin"
	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const token = "correct horse battery staple"

// tokenFile writes a token where an operator would.
func tokenFile(t *testing.T, value string) secret.Source {
	t.Helper()
	path := filepath.Join(t.TempDir(), "admin-token")
	if err := os.WriteFile(path, []byte(value+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return secret.Source{File: path}
}

// newAdmin builds the door with what a test changes of it.
func newAdmin(t *testing.T, o admin.Options, change func(*admin.Deps)) *admin.Admin {
	t.Helper()
	registry := prometheus.NewRegistry()
	d := admin.Deps{
		Logger: slog.New(slog.DiscardHandler), Gatherer: registry, Registerer: registry,
		Now: func() time.Time { return noon }, Version: "v0.1.0",
	}
	if change != nil {
		change(&d)
	}
	a, err := admin.New(o, d)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// ask sends a request with headers given as pairs.
func ask(t *testing.T, h http.Handler, method, target string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	r.Host = "127.0.0.1:9090"
	for ; len(headers) >= 2; headers = headers[2:] {
		if headers[0] == "Host" {
			r.Host = headers[1]
			continue
		}
		r.Header.Add(headers[0], headers[1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// answer reads an answer's JSON.
func answer[T any](t *testing.T, w *httptest.ResponseRecorder, status int) T {
	t.Helper()
	var v T
	if w.Code != status {
		t.Fatalf("got %d: %s", w.Code, w.Body)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json; charset=utf-8" {
		t.Errorf("content type %q", got)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("%v in %s", err, w.Body)
	}
	return v
}

func TestOptions(t *testing.T) {
	named := secret.Source{Env: "ADMIN_TOKEN"}
	cases := map[string]struct {
		o    admin.Options
		want string
	}{
		"default":                  {admin.DefaultOptions(), ""},
		"localhost":                {admin.Options{Address: "localhost:9090"}, ""},
		"another loopback":         {admin.Options{Address: "127.8.9.10:9090"}, ""},
		"IPv6 loopback":            {admin.Options{Address: "[::1]:9090"}, ""},
		"mapped loopback":          {admin.Options{Address: "[::ffff:127.0.0.1]:9090"}, ""},
		"everywhere":               {admin.Options{Address: ":9090"}, "token: is required"},
		"everywhere, IPv4":         {admin.Options{Address: "0.0.0.0:9090"}, "token: is required"},
		"everywhere, IPv6":         {admin.Options{Address: "[::]:9090"}, "token: is required"},
		"a name":                   {admin.Options{Address: "localhost.example:9090"}, "token: is required"},
		"everywhere with token":    {admin.Options{Address: ":9090", Token: named}, ""},
		"no port":                  {admin.Options{Address: "localhost"}, "address: must be host:port"},
		"token from two places":    {admin.Options{Address: ":9090", Token: secret.Source{File: "a", Env: "b"}}, "token: secret: name exactly one"},
		"a host with a port":       {admin.Options{Address: "localhost:9090", Hosts: []string{"ops:9090"}}, "hosts[0]: must be"},
		"a wildcard host":          {admin.Options{Address: "localhost:9090", Hosts: []string{"ops", "*"}}, "hosts[1]: must be"},
		"everything wrong at once": {admin.Options{Address: "x:", Hosts: []string{""}}, "hosts[0]: must be"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			err := tc.o.Validate()
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains("\n"+err.Error(), "\n"+tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	registry := prometheus.NewRegistry()
	deps := admin.Deps{Logger: slog.New(slog.DiscardHandler), Gatherer: registry, Registerer: registry}
	o := admin.DefaultOptions()
	o.Token = tokenFile(t, "fifteen letters")
	if _, err := admin.New(o, deps); !errors.Is(err, admin.ErrShortToken) {
		t.Errorf("a short token: %v", err)
	}
	o.Token = secret.Source{File: filepath.Join(t.TempDir(), "none")}
	if _, err := admin.New(o, admin.Deps{Logger: deps.Logger, Gatherer: registry, Registerer: prometheus.NewRegistry()}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a token that is not there: %v", err)
	}
	if _, err := admin.New(admin.Options{Address: ":9090"}, deps); err == nil || !strings.Contains(err.Error(), "token: is required") {
		t.Errorf("no token for everybody: %v", err)
	}
	if _, err := admin.New(admin.DefaultOptions(), admin.Deps{}); err == nil {
		t.Error("no logger, gatherer or registerer")
	}
}

// everything is every kind of path there is behind the guard.
var everything = []string{
	"/", "/metrics", "/debug/pprof/", "/debug/pprof/heap", "/api/v1/status", "/api/v1/orders", "/api/v1/orders/shop/A1",
	"/api/v1/deadletters/points", "/api/v1/deadletters/points/0-1-1", "/nothing/here",
}

func TestToken(t *testing.T) {
	o := admin.Options{Address: ":9090", Token: tokenFile(t, token)}
	a := newAdmin(t, o, nil)
	cases := map[string]struct {
		headers []string
		passes  bool
	}{
		"right":                  {[]string{"Authorization", "Bearer " + token}, true},
		"scheme in another case": {[]string{"Authorization", "bearer " + token}, true},
		"by any name":            {[]string{"Authorization", "Bearer " + token, "Host", "ops.example"}, true},
		"none":                   {nil, false},
		"wrong":                  {[]string{"Authorization", "Bearer " + token + "r"}, false},
		"a part":                 {[]string{"Authorization", "Bearer " + token[:len(token)-1]}, false},
		"empty":                  {[]string{"Authorization", "Bearer "}, false},
		"another scheme":         {[]string{"Authorization", "Basic " + token}, false},
		"no scheme":              {[]string{"Authorization", token}, false},
		"twice":                  {[]string{"Authorization", "Bearer " + token, "Authorization", "Bearer " + token}, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			for _, path := range everything {
				w := ask(t, a, http.MethodGet, path, tc.headers...)
				if passed := w.Code != http.StatusUnauthorized; passed != tc.passes {
					t.Errorf("%s: got %d", path, w.Code)
				}
				if !tc.passes && (w.Header().Get("WWW-Authenticate") == "" || strings.Contains(w.Body.String(), "api/v1")) {
					t.Errorf("%s: got %v %s", path, w.Header(), w.Body)
				}
			}
		})
	}
	if w := ask(t, a, http.MethodGet, "/healthz"); w.Code != 200 {
		t.Errorf("healthz without a token: got %d", w.Code)
	}
	w := ask(t, a, http.MethodGet, "/metrics", "Authorization", "Bearer "+token)
	if !strings.Contains(w.Body.String(), `paybell_admin_refusals_total{reason="token"} 70`) {
		t.Errorf("refusals are not counted:\n%s", w.Body)
	}
}

// TestNames: without a token, a page cannot reach the door through a name of its
// own or from another site.
func TestNames(t *testing.T) {
	o := admin.DefaultOptions()
	o.Hosts = []string{"Ops.internal"}
	a := newAdmin(t, o, nil)
	cases := map[string]struct {
		headers []string
		status  int
	}{
		"an address":              {[]string{"Host", "127.0.0.1:9090"}, 200},
		"an IPv6 address":         {[]string{"Host", "[::1]:9090"}, 200},
		"an IPv6 address alone":   {[]string{"Host", "[::1]"}, 200},
		"localhost":               {[]string{"Host", "LocalHost:9090"}, 200},
		"localhost without port":  {[]string{"Host", "localhost"}, 200},
		"a configured name":       {[]string{"Host", "ops.internal:9090"}, 200},
		"another name":            {[]string{"Host", "evil.example:9090"}, 403},
		"a name like an address":  {[]string{"Host", "127.0.0.1.evil.example"}, 403},
		"a name under localhost":  {[]string{"Host", "localhost.evil.example"}, 403},
		"no name":                 {[]string{"Host", ""}, 403},
		"another site's page":     {[]string{"Sec-Fetch-Site", "cross-site"}, 403},
		"a page of the same site": {[]string{"Sec-Fetch-Site", "same-site"}, 403},
		"the door's own page":     {[]string{"Sec-Fetch-Site", "same-origin"}, 200},
		"typed by a person":       {[]string{"Sec-Fetch-Site", "none"}, 200},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if w := ask(t, a, http.MethodGet, "/", tc.headers...); w.Code != tc.status {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
		})
	}
}

func TestHeaders(t *testing.T) {
	a := newAdmin(t, admin.DefaultOptions(), nil)
	for _, path := range append([]string{"/healthz"}, everything...) {
		w := ask(t, a, http.MethodGet, path, "Origin", "https://evil.example")
		for key, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cache-Control": "no-store",
			"Referrer-Policy": "no-referrer", "Access-Control-Allow-Origin": "",
		} {
			if got := w.Header().Get(key); got != want {
				t.Errorf("%s: %s: got %q", path, key, got)
			}
		}
	}
	for _, path := range everything {
		if w := ask(t, a, http.MethodDelete, path); w.Code != 405 && path != "/nothing/here" {
			t.Errorf("DELETE %s: got %d", path, w.Code)
		}
	}
}

func TestProfiles(t *testing.T) {
	a := newAdmin(t, admin.DefaultOptions(), nil)
	if w := ask(t, a, http.MethodGet, "/debug/pprof/goroutine?debug=1"); w.Code != 200 || !strings.Contains(w.Body.String(), "goroutine profile") {
		t.Errorf("got %d", w.Code)
	}
	if w := ask(t, a, http.MethodGet, "/debug/pprof/cmdline"); w.Code != 404 {
		t.Errorf("the command line: got %d", w.Code)
	}
}

// TestServe answers over a real connection and ends when it is told to.
func TestServe(t *testing.T) {
	o := admin.Options{Address: "127.0.0.1:0"}
	a := newAdmin(t, o, nil)
	l, err := admin.Listen(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx, l) }()
	client := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
	for _, path := range []string{"/healthz", "/api/v1/status", "/metrics", "/debug/pprof/profile?seconds=1"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if closeErr := resp.Body.Close(); err != nil || closeErr != nil {
			t.Errorf("%s: %v, %v", path, err, closeErr)
		}
		if resp.StatusCode != 200 || len(body) == 0 {
			t.Errorf("%s: got %d %q", path, resp.StatusCode, body)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
	client.CloseIdleConnections()
	var d net.Dialer
	if conn, err := d.DialContext(t.Context(), "tcp", l.Addr().String()); err == nil {
		_ = conn.Close() // the failure is that it was there at all
		t.Error("the door is still open")
	}
}

// fakes of the sources.
type stats struct {
	report streams.Report
	err    error
}

func (s stats) Read(context.Context) (streams.Report, error) { return s.report, s.err }

type deadLetters struct {
	letters []streams.DeadLetter
	asked   *streams.DeadLetterQuery
	group   *string
	err     error
}

func (d deadLetters) List(_ context.Context, group string, q streams.DeadLetterQuery) (streams.DeadLetterPage, error) {
	*d.group, *d.asked = group, q
	return streams.DeadLetterPage{DeadLetters: d.letters, Next: "3-1700000000000-0"}, d.err
}

func (d deadLetters) Show(_ context.Context, group, id string) (streams.DeadLetter, error) {
	*d.group = group
	for _, l := range d.letters {
		if l.ID == id {
			return l, nil
		}
	}
	return streams.DeadLetter{}, errors.Join(d.err, streams.ErrNoDeadLetter)
}

func (d deadLetters) Replay(_ context.Context, group string, ids []string) ([]streams.DeadLetterResult, error) {
	return d.each(group, ids, streams.Replayed)
}

func (d deadLetters) Drop(_ context.Context, group string, ids []string) ([]streams.DeadLetterResult, error) {
	return d.each(group, ids, streams.Dropped)
}

// each fails at the first dead letter that it does not have, if it is to fail at all.
func (d deadLetters) each(group string, ids []string, done streams.ReplayOutcome) (out []streams.DeadLetterResult, err error) {
	*d.group = group
	for _, id := range ids {
		outcome := streams.Missing
		for _, l := range d.letters {
			if l.ID == id {
				outcome = done
			}
		}
		if outcome == streams.Missing && d.err != nil {
			return out, d.err
		}
		out = append(out, streams.DeadLetterResult{ID: id, Outcome: outcome})
	}
	return out, nil
}

type orders struct {
	orders  []admin.Order
	history []admin.OrderChange
	asked   *admin.OrderQuery
	err     error
}

func (o orders) Find(_ context.Context, q admin.OrderQuery) ([]admin.Order, error) {
	if o.asked != nil {
		*o.asked = q
	}
	return append([]admin.Order(nil), o.orders...), o.err
}

func (o orders) Show(_ context.Context, key admin.OrderKey) (admin.Order, []admin.OrderChange, error) {
	for _, order := range o.orders {
		if order.Namespace == key.Namespace && order.Ref == key.Ref {
			return order, o.history, o.err
		}
	}
	return admin.Order{}, nil, errors.Join(admin.ErrNoOrder, o.err)
}

type points map[admin.OrderKey][]admin.PointsEntry

func (p points) Balances(_ context.Context, keys []admin.OrderKey) (map[admin.OrderKey]int64, error) {
	out := map[admin.OrderKey]int64{}
	for _, key := range keys {
		for _, e := range p[key] {
			out[key] += e.Points
		}
		if len(p[key]) == 0 {
			delete(out, key)
		}
	}
	return out, nil
}

func (p points) Ledger(_ context.Context, key admin.OrderKey) ([]admin.PointsEntry, error) {
	return p[key], nil
}

var (
	yuan       = event.Money{Value: "88.00", Minor: 8800, Exponent: 2, Currency: "CNY"}
	paidOrder  = admin.Order{Namespace: "shop", Ref: "A1001", Status: "paid", Captured: &yuan, UpdatedAt: noon}
	slashOrder = admin.Order{Namespace: "shop", Ref: "2026/03 +1%", Status: "pending", UpdatedAt: noon}
	ledger     = points{{Namespace: "shop", Ref: "A1001"}: {
		{At: noon, EventID: "evt_1", Points: 88}, {At: noon, EventID: "evt_2", Points: -8},
	}}
)
