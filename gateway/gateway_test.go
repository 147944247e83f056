package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestBadInput goes through the table of what arrives and what it gets.
func TestBadInput(t *testing.T) {
	paid := "k1 payment.succeeded A1001\n"
	cases := map[string]struct {
		path   string
		change func(r *http.Request)
		body   string
		status int
		reply  string // the whole body
		header map[string]string
		// counted are label values of exactly one count; kept is the number of entries.
		counted []string
		kept    int
	}{
		"authentic": {
			body: paid, status: 200, reply: "rung", counted: []string{"bell", "accepted", ""}, kept: 1,
			header: map[string]string{"Content-Type": "text/plain", "Retry-After": ""},
		},
		"unknown account": {
			path: "/callbacks/nobody", body: paid, status: 404, reply: "Not Found\n", counted: []string{"unknown", "unknown_account"},
		},
		"account in another case": {
			path: "/callbacks/Bell", body: paid, status: 404, reply: "Not Found\n", counted: []string{"unknown", "unknown_account"},
		},
		"trailing slash": {
			path: "/callbacks/bell/", body: paid, status: 200, reply: "rung", counted: []string{"bell", "accepted"}, kept: 1,
			header: map[string]string{"Location": ""},
		},
		"doubled slash": {
			path: "//callbacks/bell", body: paid, status: 404, reply: "Not Found\n", counted: []string{"unknown", "unknown_path"},
			header: map[string]string{"Location": ""},
		},
		"wrong method": {
			body: paid, change: func(r *http.Request) { r.Method = http.MethodPut },
			status: 405, reply: "Method Not Allowed\n", counted: []string{"unknown", "method"},
			header: map[string]string{"Allow": "POST"},
		},
		"GET": {
			change: func(r *http.Request) { r.Method = http.MethodGet },
			status: 405, reply: "Method Not Allowed\n", counted: []string{"unknown", "method"},
			header: map[string]string{"Allow": "POST"},
		},
		"body over the limit, announced": {
			body: strings.Repeat("x", 256<<10+1), status: 413, reply: "Request Entity Too Large\n",
			counted: []string{"bell", "rejected", "too_large"}, header: map[string]string{"Connection": "close"},
		},
		"body over the limit, chunked": {
			body: strings.Repeat("x", 256<<10+1), change: func(r *http.Request) { r.ContentLength = -1 },
			status: 413, reply: "Request Entity Too Large\n",
			counted: []string{"bell", "rejected", "too_large"}, header: map[string]string{"Connection": "close"},
		},
		"body at the limit, chunked": {
			body: paid + strings.Repeat("x", 256<<10-len(paid)), change: func(r *http.Request) { r.ContentLength = -1 },
			status: 200, reply: "rung", counted: []string{"bell", "accepted"}, kept: 1,
		},
		"body at the limit, announced": {
			body: paid + strings.Repeat("x", 256<<10-len(paid)), status: 200, reply: "rung", counted: []string{"bell", "accepted"}, kept: 1,
		},
		"gzip": {
			body: paid, change: func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") },
			status: 415, reply: "Unsupported Media Type\n", counted: []string{"bell", "rejected", "content_encoding"},
		},
		"identity and gzip": {
			body: paid, change: func(r *http.Request) { r.Header["Content-Encoding"] = []string{"identity", "identity, br"} },
			status: 415, reply: "Unsupported Media Type\n", counted: []string{"bell", "rejected", "content_encoding"},
		},
		"identity": {
			body: paid, change: func(r *http.Request) { r.Header.Set("Content-Encoding", "Identity") },
			status: 200, reply: "rung", counted: []string{"bell", "accepted"}, kept: 1,
		},
		"missing signature": {
			body: paid, change: func(r *http.Request) { r.Header.Del(signatureHeader) },
			status: 401, reply: `{"code":"NO"}`, counted: []string{"bell", "refused", "missing_signature"},
			header: map[string]string{"Content-Type": "application/json", "Retry-After": ""},
		},
		"doubled signature": {
			body: paid, change: func(r *http.Request) { r.Header.Add(signatureHeader, r.Header.Get(signatureHeader)) },
			status: 401, reply: `{"code":"NO"}`, counted: []string{"bell", "refused", "ambiguous"},
		},
		"malformed signature": {
			body: paid, change: func(r *http.Request) { r.Header.Set(signatureHeader, "nonsense") },
			status: 401, reply: `{"code":"NO"}`, counted: []string{"bell", "refused", "malformed_signature"},
		},
		"altered body": {
			body: paid, change: func(r *http.Request) { r.Header.Set(signatureHeader, sign([]byte(paid+" "), noon)) },
			status: 401, reply: `{"code":"NO"}`, counted: []string{"bell", "refused", "signature_mismatch"},
		},
		"stale": {
			body: paid, change: func(r *http.Request) { r.Header.Set(signatureHeader, sign([]byte(paid), noon.Add(-time.Hour))) },
			status: 401, reply: `{"code":"NO"}`, counted: []string{"bell", "refused", "stale"},
		},
		"future": {
			body: paid, change: func(r *http.Request) { r.Header.Set(signatureHeader, sign([]byte(paid), noon.Add(time.Hour))) },
			status: 401, reply: `{"code":"NO"}`, counted: []string{"bell", "refused", "future"},
		},
		"no key to verify with": {
			path: "/callbacks/bell-nokey", body: paid, status: 503, reply: "again",
			counted: []string{"bell-nokey", "retry", "missing_secret"}, header: map[string]string{"Retry-After": "10"},
		},
		"signed part not found": {
			body: "unsigned form", status: 400, reply: `{"code":"WHAT"}`, counted: []string{"bell", "malformed", "malformed_body"},
		},
		"another merchant's": {
			body: "identity of-somebody else-entirely", status: 401, reply: `{"code":"NO"}`, counted: []string{"bell", "refused", "identity"},
		},
		"a reason outside the list": {
			body: "odd reason told by nobody", status: 401, reply: `{"code":"NO"}`, counted: []string{"bell", "refused", "other"},
		},
		"authentic but malformed": {
			body: "short line\n", status: 200, reply: "rung", counted: []string{"bell", "accepted", "undecodable"}, kept: 1,
		},
		"authentic and empty": {
			body: "", status: 200, reply: "rung", counted: []string{"bell", "accepted", "undecodable"}, kept: 1,
		},
		"verifier fails": {
			body: "error in verify", status: 503, reply: "again", counted: []string{"bell", "retry", "internal"},
			header: map[string]string{"Retry-After": "10"},
		},
		"verifier says nothing": {
			body: "nothing verified", status: 503, reply: "again", counted: []string{"bell", "retry", "internal"},
		},
		"verifier panics": {
			body: "panic in verify", status: 503, reply: "again", counted: []string{"bell", "retry", "panic"},
		},
		"decoder panics": {
			body: "panic here now\n", status: 503, reply: "again", counted: []string{"bell", "retry", "panic"},
		},
		"Host and X-Forwarded take no part": {
			body: paid, change: func(r *http.Request) {
				r.Host = "evil.example"
				for _, h := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Prefix", "X-Forwarded-Proto", "X-Real-Ip"} {
					r.Header.Set(h, "evil.example")
				}
			},
			status: 200, reply: "rung", counted: []string{"bell", "accepted"}, kept: 1,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			d := newDoor(t, nil)
			r := request(t, tc.body)
			if tc.path != "" {
				r.URL.Path = tc.path
			}
			if tc.change != nil {
				tc.change(r)
			}
			w := httptest.NewRecorder()
			d.ServeHTTP(w, r)
			if w.Code != tc.status || w.Body.String() != tc.reply {
				t.Errorf("got %d %q, want %d %q", w.Code, w.Body, tc.status, tc.reply)
			}
			for key, want := range tc.header {
				if got := w.Header().Get(key); got != want {
					t.Errorf("%s: got %q, want %q", key, got, want)
				}
			}
			if got := d.count(t, tc.counted...); got != 1 {
				t.Errorf("counted %v as %v, want 1", tc.counted, got)
			}
			if got := d.count(t); got != 1 {
				t.Errorf("counted %v callbacks in all, want 1", got)
			}
			if got := len(d.appender.kept()); got != tc.kept {
				t.Errorf("%d entries, want %d", got, tc.kept)
			}
			noSecrets(t, d, tc.body, r)
		})
	}
}

// noSecrets looks for the body, the signature and the key in the log.
func noSecrets(t *testing.T, d door, body string, r *http.Request) {
	t.Helper()
	for what, text := range map[string]string{
		"body": strings.TrimSpace(body), "signature": r.Header.Get(signatureHeader), "key": secretKey,
	} {
		if text != "" && strings.Contains(d.log.String(), text) {
			t.Errorf("the log tells the %s:\n%s", what, d.log)
		}
	}
}

// TestAppendFailures: whatever the appender does wrong is the provider's
// retryable reply, and never a 4xx.
func TestAppendFailures(t *testing.T) {
	drop := func(r []event.Appended) []event.Appended { return r[:len(r)-1] }
	zero := func(r []event.Appended) []event.Appended { r[0] = 0; return r }
	cases := map[string]struct {
		err    error
		before func(ctx context.Context) error
		spoil  func([]event.Appended) []event.Appended
		reason string
	}{
		"an error":         {err: errors.New("READONLY"), reason: "append_failed"},
		"overload":         {err: fmt.Errorf("queue: %w", full{true}), reason: "overloaded"},
		"not overload":     {err: full{false}, reason: "append_failed"},
		"cancelled":        {err: context.Canceled, reason: "append_failed"},
		"a refusal of all": {err: provider.Refuse(provider.ReasonMismatch, "not yours to say"), reason: "append_failed"},
		"a body error":     {err: gateway.ErrBodyTooLarge, reason: "append_failed"},
		"timeout":          {before: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, reason: "append_timeout"},
		"panic":            {before: func(context.Context) error { panic("at the disco") }, reason: "panic"},
		"too few results":  {spoil: drop, reason: "internal"},
		"an empty result":  {spoil: zero, reason: "internal"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			d := newDoor(t, func(o *gateway.Options, _ *gateway.Deps) {
				o.AppendTimeout = 20 * time.Millisecond
				o.RetryAfter = 1500 * time.Millisecond
			})
			d.appender.before, d.appender.spoil = tc.before, tc.spoil
			if tc.err != nil {
				d.appender.before = func(context.Context) error { return tc.err }
			}
			w := httptest.NewRecorder()
			d.ServeHTTP(w, request(t, "k1 payment.succeeded A1\nk2 payment.succeeded A2\n"))
			if w.Code != 503 || w.Body.String() != "again" || w.Header().Get("Retry-After") != "2" {
				t.Errorf("got %d %q %v", w.Code, w.Body, w.Header())
			}
			if got := d.count(t, "bell", "retry", tc.reason); got != 1 {
				t.Errorf("counted %v as %s:\n%s", got, tc.reason, d.log)
			}
		})
	}
}

// full is an appender's error that says whether it is overload.
type full struct{ is bool }

func (f full) Error() string    { return "full" }
func (f full) Overloaded() bool { return f.is }

// sequence records what happens to a response, in order.
type sequence struct {
	http.ResponseWriter
	steps *[]string
}

func (s sequence) WriteHeader(code int) {
	*s.steps = append(*s.steps, "reply")
	s.ResponseWriter.WriteHeader(code)
}

// TestReplyComesAfterAppend: nothing of a reply is written before the append has
// returned.
func TestReplyComesAfterAppend(t *testing.T) {
	d := newDoor(t, nil)
	var steps []string
	d.appender.before = func(context.Context) error {
		steps = append(steps, "append")
		return nil
	}
	d.appender.spoil = func(r []event.Appended) []event.Appended {
		steps = append(steps, "durable")
		return r
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(sequence{w, &steps}, request(t, "k1 payment.succeeded A1\n"))
	if got := strings.Join(steps, " "); got != "append durable reply" {
		t.Errorf("got %q", got)
	}
}

// TestDuplicatesAreByteIdentical: a redelivery, a conflict and an event in other
// bytes get the very reply of the first.
func TestDuplicatesAreByteIdentical(t *testing.T) {
	d := newDoor(t, nil)
	ask := func(body string) string {
		w := httptest.NewRecorder()
		d.ServeHTTP(w, request(t, body))
		var b strings.Builder
		if err := w.Result().Write(&b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	first := ask("k1 payment.succeeded A1\n")
	for name, body := range map[string]string{
		"resend":         "k1 payment.succeeded A1\n",
		"other bytes":    "k1 payment.succeeded A1 \n",
		"a conflict":     "k1 payment.succeeded B2\n",
		"a new one":      "k2 payment.succeeded A1\n",
		"partly known":   "k1 payment.succeeded A1\nk3 payment.succeeded A1\n",
		"unknown to map": "k4 something.else A1\n",
	} {
		if got := ask(body); got != first {
			t.Errorf("%s: got %q, want %q", name, got, first)
		}
	}
	for outcome, want := range map[string]float64{"accepted": 4, "duplicate": 2, "conflict": 1} {
		if got := d.count(t, "bell", outcome); got != want {
			t.Errorf("%s: counted %v, want %v", outcome, got, want)
		}
	}
}

// TestNew refuses what could not be served.
func TestNew(t *testing.T) {
	good := gateway.Account{Name: "bell", ProviderName: "bellpay", Provider: bellProvider{}, Window: time.Hour}
	cases := map[string]struct {
		change func(a *gateway.Account)
		want   string
	}{
		"a name with a slash":     {func(a *gateway.Account) { a.Name = "a/b" }, `account "a/b": the name must be`},
		"no name":                 {func(a *gateway.Account) { a.Name = "" }, `the name must be`},
		"a namespace with spaces": {func(a *gateway.Account) { a.Namespace = "my shop" }, `the namespace must be`},
		"no provider":             {func(a *gateway.Account) { a.Provider = nil }, `has no provider`},
		"no window":               {func(a *gateway.Account) { a.Window = 0 }, `dedup window`},
		"retry worded as success": {func(a *gateway.Account) { a.Provider = worded{provider.Retry, 200} }, `retry is worded with status 200`},
		"retry worded as refusal": {func(a *gateway.Account) { a.Provider = worded{provider.Retry, 400} }, `retry is worded with status 400`},
		"refusal worded as fault": {func(a *gateway.Account) { a.Provider = worded{provider.Refused, 500} }, `refused is worded with status 500`},
		"success worded as none":  {func(a *gateway.Account) { a.Provider = worded{provider.Accepted, 0} }, `accepted is worded with status 0`},
		"malformed as success":    {func(a *gateway.Account) { a.Provider = worded{provider.Malformed, 200} }, `malformed is worded with status 200`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			bad := good
			tc.change(&bad)
			deps := gateway.Deps{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()}
			_, err := gateway.New(gateway.DefaultOptions(), []gateway.Account{good, bad, good}, &memoryAppender{}, deps)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "account bell: defined twice") {
				t.Errorf("got %v, want all of %q and the doubled account", err, tc.want)
			}
		})
	}
}

// worded is a provider that words one outcome with another status.
type worded struct {
	outcome provider.Outcome
	status  int
}

func (w worded) Verify(*provider.Callback) (*provider.Verified, error) {
	return &provider.Verified{}, nil
}

func (w worded) Decode(*provider.Callback, *provider.Verified) ([]provider.Decoded, error) {
	return nil, nil
}
func (w worded) Identity() provider.Identity { return provider.Identity{} }
func (w worded) Reply(o provider.Outcome) provider.Reply {
	if o == w.outcome {
		return provider.Reply{Status: w.status}
	}
	return bellReplies[o]
}
