package gateway_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

// The clock of the tests stands still here.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

const (
	signatureHeader = "Bell-Signature"
	secretKey       = "the secret that must never show"
)

// bellProvider is a small protocol of our own: the header is "<unix>.<hex hmac of
// unix.body>", the body has one event a line: key, type, order.
type bellProvider struct {
	noKey bool
}

var bellReplies = map[provider.Outcome]provider.Reply{
	provider.Accepted:  {Status: 200, ContentType: "text/plain", Body: []byte("rung")},
	provider.Refused:   {Status: 401, ContentType: "application/json", Body: []byte(`{"code":"NO"}`)},
	provider.Malformed: {Status: 400, ContentType: "application/json", Body: []byte(`{"code":"WHAT"}`)},
	provider.Retry:     {Status: 503, ContentType: "text/plain", Body: []byte("again")},
}

func (p bellProvider) Reply(o provider.Outcome) provider.Reply { return bellReplies[o] }
func (p bellProvider) Identity() provider.Identity             { return provider.Identity{} }

func sign(body []byte, at time.Time) string {
	stamp := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secretKey))
	mac.Write([]byte(stamp + "."))
	mac.Write(body)
	return stamp + "." + hex.EncodeToString(mac.Sum(nil))
}

func (p bellProvider) Verify(cb *provider.Callback) (*provider.Verified, error) {
	if p.noKey {
		return nil, provider.Refuse(provider.ReasonNoKey, "nothing to verify with")
	}
	switch len(cb.Header[signatureHeader]) {
	case 0:
		return nil, provider.Refuse(provider.ReasonMissingSignature, "no signature")
	case 1:
	default:
		return nil, provider.Refuse(provider.ReasonAmbiguous, "two signatures")
	}
	stamp, given, ok := strings.Cut(cb.Header[signatureHeader][0], ".")
	unix, err := strconv.ParseInt(stamp, 10, 64)
	if !ok || err != nil {
		return nil, provider.Refuse(provider.ReasonMalformedSignature, "not a signature")
	}
	if bytes.HasPrefix(cb.Body, []byte("unsigned form")) {
		return nil, provider.Refuse(provider.ReasonMalformedBody, "no signed part")
	}
	_, want, _ := strings.Cut(sign(cb.Body, time.Unix(unix, 0)), ".")
	if !hmac.Equal([]byte(given), []byte(want)) {
		return nil, provider.Refuse(provider.ReasonMismatch, "no match")
	}
	switch age := cb.ReceivedAt.Sub(time.Unix(unix, 0)); {
	case age > 5*time.Minute:
		return nil, provider.Refuse(provider.ReasonStale, "old")
	case age < -5*time.Minute:
		return nil, provider.Refuse(provider.ReasonFuture, "early")
	}
	switch {
	case bytes.HasPrefix(cb.Body, []byte("panic in verify")):
		panic("the body says " + string(cb.Body))
	case bytes.HasPrefix(cb.Body, []byte("error in verify")):
		return nil, errors.New("certificate store is on fire")
	case bytes.HasPrefix(cb.Body, []byte("nothing verified")):
		return nil, nil //nolint:nilnil // what the gateway must not take for a yes
	case bytes.HasPrefix(cb.Body, []byte("odd reason")):
		return nil, provider.Refuse("made up", "odd")
	}
	return &provider.Verified{Evidence: event.Evidence{
		KeyID: "env:BELL", SignedAt: time.Unix(unix, 0).UTC(),
		Headers: map[string]string{signatureHeader: cb.Header[signatureHeader][0]},
	}}, nil
}

func (p bellProvider) Decode(cb *provider.Callback, _ *provider.Verified) ([]provider.Decoded, error) {
	var out []provider.Decoded
	for line := range strings.Lines(string(cb.Body)) {
		line = strings.TrimSuffix(line, "\n")
		words := strings.Split(line, " ")
		switch {
		case words[0] == "panic":
			return out[len(words):], nil // more than there is: a runtime panic
		case words[0] == "identity":
			return nil, provider.Refuse(provider.ReasonIdentity, "another merchant")
		case len(words) < 3:
			return nil, fmt.Errorf("line of %d words: %w", len(words), provider.ErrMalformed)
		}
		if words[1] == "-" { // a provider that says nothing of the event
			out = append(out, provider.Decoded{Key: words[0]})
			continue
		}
		out = append(out, provider.Decoded{
			Key: words[0], Item: []byte(line),
			Event: event.Event{
				Merchant: event.Merchant{CustomerRef: fifth(words)}, Refund: &event.Refund{OrderRef: fifth(words)},
				// What a provider must not decide; the gateway overwrites it.
				Schema: "mine", ID: "mine", Account: "mine", Namespace: "mine", Provider: "mine", ConflictOf: "mine",
				Type:         event.Type(words[1]),
				OccurredAt:   time.Date(2026, 3, 1, 20, 0, 0, 999999, time.FixedZone("", 8*3600)),
				Payment:      &event.Payment{OrderRef: words[2], Amount: amount(words)},
				Authenticity: event.Signature, Completeness: event.Full,
			},
		})
	}
	return out, nil
}

// fifth is the word behind the amount: a reference that decides nothing.
func fifth(words []string) string {
	if len(words) < 5 {
		return ""
	}
	return words[4]
}

// amount is the fourth word of a line; "torn" is one that contradicts itself.
func amount(words []string) *event.Money {
	switch {
	case len(words) < 4:
		return nil
	case words[3] == "torn":
		return &event.Money{Value: "1.00", Minor: 999, Exponent: 2, Currency: "EUR"}
	default:
		return &event.Money{Value: "1.00", Minor: 100, Exponent: 2, Currency: "EUR"}
	}
}

// memoryAppender keeps records as streams do: one entry an ID, a conflict for
// other facts.
type memoryAppender struct {
	mu      sync.Mutex
	entries []event.Record
	orders  map[string]string
	windows []time.Duration
	// before runs first; its error is the append's.
	before func(ctx context.Context) error
	// spoil changes the results.
	spoil func([]event.Appended) []event.Appended
}

func (m *memoryAppender) Append(ctx context.Context, window time.Duration, records []event.Record) ([]event.Appended, error) {
	if m.before != nil {
		if err := m.before(ctx); err != nil {
			return nil, err
		}
	}
	for i := range records {
		if _, err := records[i].Fields(); err != nil {
			return nil, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.orders == nil {
		m.orders = map[string]string{}
	}
	m.windows = append(m.windows, window)
	results := make([]event.Appended, 0, len(records))
	for _, r := range records {
		order, seen := m.orders[r.Event.ID]
		switch {
		case !seen:
			m.orders[r.Event.ID] = r.Event.OrderRef()
			m.entries = append(m.entries, r)
			results = append(results, event.New)
		case order == r.Event.OrderRef():
			results = append(results, event.Duplicate)
		default:
			results = append(results, event.Conflicting)
		}
	}
	if m.spoil != nil {
		results = m.spoil(results)
	}
	return results, nil
}

func (m *memoryAppender) kept() []event.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]event.Record(nil), m.entries...)
}

// lines is a log that tests can read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// door is a gateway with what it was built from.
type door struct {
	*gateway.Gateway
	appender *memoryAppender
	registry *prometheus.Registry
	log      *lines
}

// newDoor builds a gateway with the account "bell", and "bell-nokey" that has
// nothing to verify with. change may change the options and dependencies.
func newDoor(tb testing.TB, change func(*gateway.Options, *gateway.Deps)) door {
	tb.Helper()
	m := &memoryAppender{}
	d := newDoorOn(tb, m, change)
	d.appender = m
	return d
}

// newDoorOn is newDoor on an appender of the test's own.
func newDoorOn(tb testing.TB, a gateway.Appender, change func(*gateway.Options, *gateway.Deps)) door {
	tb.Helper()
	d := door{registry: prometheus.NewRegistry(), log: &lines{}}
	o := gateway.DefaultOptions()
	o.Address, o.DrainDelay = "127.0.0.1:0", 0
	deps := gateway.Deps{
		Logger:     slog.New(slog.NewTextHandler(d.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Registerer: d.registry,
		Now:        func() time.Time { return noon },
	}
	if change != nil {
		change(&o, &deps)
	}
	accounts := []gateway.Account{
		{Name: "bell", Namespace: "shop", ProviderName: "bellpay", Provider: bellProvider{}, Window: 7 * 24 * time.Hour},
		{Name: "bell-nokey", ProviderName: "bellpay", Provider: bellProvider{noKey: true}, Window: time.Hour},
	}
	var err error
	if d.Gateway, err = gateway.New(o, accounts, a, deps); err != nil {
		tb.Fatal(err)
	}
	return d
}

// request is a signed callback.
func request(tb testing.TB, body string) *http.Request {
	tb.Helper()
	r, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, "/callbacks/bell", strings.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	r.Header.Set(signatureHeader, sign([]byte(body), noon))
	return r
}

// count reads a counter of the callbacks metric.
func (d door) count(tb testing.TB, labels ...string) float64 {
	tb.Helper()
	return d.sum(tb, "paybell_gateway_callbacks_total", labels...)
}

// sum adds the values of a metric whose label values include all that are given.
func (d door) sum(tb testing.TB, name string, labels ...string) float64 {
	tb.Helper()
	families, err := d.registry.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	var total float64
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			has := map[string]bool{}
			for _, l := range m.GetLabel() {
				has[l.GetValue()] = true
			}
			all := true
			for _, want := range labels {
				all = all && has[want]
			}
			if all {
				total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return total
}

// serve runs the door on a port of its own until the test ends.
func (d door) serve(t *testing.T, o gateway.Options) string {
	t.Helper()
	l, err := gateway.Listen(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return d.serveOn(t, l)
}

// serveOn is serve on a listener that there is.
func (d door) serveOn(t *testing.T, l net.Listener) string {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return l.Addr().String()
}

// dial opens a raw connection that gives up after a few seconds.
func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // often closed by the test already
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}
