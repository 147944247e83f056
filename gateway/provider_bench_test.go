package gateway_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/gateway/provider/catalog"
	"github.com/paybell/paybell/streams/event"
)

// stripeBody is an ordinary event of a payment intent, of about 1.2 kB.
const stripeBody = `{"id":"evt_000000000000000000000001","object":"event","api_version":"2025-03-31","created":1700000000,` +
	`"livemode":false,"pending_webhooks":1,"type":"payment_intent.succeeded","request":{"id":"req_0000000000000001","idempotency_key":"ik_000000000000000000000001"},` +
	`"data":{"object":{"id":"pi_000000000000000000000001","object":"payment_intent","amount":8800,"amount_capturable":0,"amount_received":8800,` +
	`"capture_method":"automatic","client_secret":"pi_000000000000000000000001_secret_00000000000000000001","confirmation_method":"automatic","created":1700000000,` +
	`"currency":"usd","customer":"cus_00000000000001","description":"Order 1 — three items, délivered","latest_charge":"ch_000000000000000000000001",` +
	`"livemode":false,"metadata":{"order_id":"ord_1","channel":"web","campaign":"autumn \"25\""},"payment_method":"pm_000000000000000000000001",` +
	`"payment_method_options":{"card":{"installments":null,"mandate_options":null,"network":null,"request_three_d_secure":"automatic"}},` +
	`"payment_method_types":["card"],"receipt_email":"buyer1@example.com","shipping":{"address":{"city":"Berlin","country":"DE","line1":"Main street 1",` +
	`"postal_code":"10115"},"name":"Jane Roe"},"status":"succeeded"}}}`

// signed makes a door with one account of a provider's sandbox, and a callback for it.
func signed(tb testing.TB, name string, tamper provider.Tamper) (http.Handler, *provider.Callback) {
	tb.Helper()
	entry, ok := catalog.Lookup(name)
	if !ok {
		tb.Fatalf("no provider %s", name)
	}
	options, err := entry.Sandbox(tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	now := func() time.Time { return noon }
	p, err := entry.New(options, now)
	if err != nil {
		tb.Fatal(err)
	}
	signer, err := entry.Signer(options, now)
	if err != nil {
		tb.Fatal(err)
	}
	sample := provider.Sample{
		OrderRef: "ord_1", ProviderRef: "2026030122001400000000000001", CustomerRef: "member-1",
		Amount: event.Money{Value: "88.00", Minor: 8800, Exponent: 2, Currency: "CNY"}, At: noon, Tamper: tamper,
	}
	if name == "stripe" {
		sample.Body = []byte(stripeBody)
	}
	cb, err := signer.Sign(sample)
	if err != nil {
		tb.Fatal(err)
	}
	g, err := gateway.New(gateway.DefaultOptions(),
		[]gateway.Account{{Name: "bench", ProviderName: name, Provider: p, Window: time.Hour}},
		agreeable{}, gateway.Deps{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		tb.Fatal(err)
	}
	return g, cb
}

// repeat returns a function that sends the callback to h again, without anything of a
// request but what the door itself makes of it.
func repeat(tb testing.TB, h http.Handler, cb *provider.Callback) (send func() int) {
	tb.Helper()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "/callbacks/bench", nil)
	if err != nil {
		tb.Fatal(err)
	}
	r.Header = cb.Header
	r.ContentLength = int64(len(cb.Body))
	body := &rewound{}
	r.Body = body
	w := &blank{header: http.Header{}}
	return func() int {
		body.Reset(cb.Body)
		clear(w.header)
		w.status = 0
		h.ServeHTTP(w, r)
		return w.status
	}
}

// BenchmarkCallback is a callback from its headers on to its reply, with an appender
// that stores nothing.
func BenchmarkCallback(b *testing.B) {
	for _, name := range []string{"stripe", "standardwebhooks", "alipay", "wechatpay"} {
		b.Run(name+"/accepted", func(b *testing.B) {
			h, cb := signed(b, name, provider.TamperNone)
			benchmarkCallback(b, h, cb, 2)
		})
		b.Run(name+"/forged", func(b *testing.B) {
			h, cb := signed(b, name, provider.TamperSignature)
			benchmarkCallback(b, h, cb, 4)
		})
	}
}

func benchmarkCallback(b *testing.B, h http.Handler, cb *provider.Callback, class int) {
	b.Helper()
	send := repeat(b, h, cb)
	b.ReportAllocs()
	for b.Loop() {
		if status := send(); status/100 != class {
			b.Fatalf("status %d", status)
		}
	}
}

// BenchmarkBareStripe is gin, the signature and encoding/json, for comparison.
func BenchmarkBareStripe(b *testing.B) {
	_, cb := signed(b, "stripe", provider.TamperNone)
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	secret := []byte("whsec_bench")
	answer := []byte(`{"received":true}`)
	e.POST("/callbacks/:account", func(c *gin.Context) {
		body, err := io.ReadAll(c.Request.Body)
		if err != nil {
			b.Error(err)
		}
		stamp, given, _ := strings.Cut(strings.TrimPrefix(c.GetHeader("Stripe-Signature"), "t="), ",v1=")
		mac := hmac.New(sha256.New, secret)
		_, _ = io.WriteString(mac, stamp+".")
		mac.Write(body)
		want, err := hex.DecodeString(given)
		_ = hmac.Equal(mac.Sum(nil), want)
		var ev struct {
			ID   string `json:"id"`
			Type string `json:"type"`
			Data struct {
				Object struct {
					ID       string            `json:"id"`
					Amount   int64             `json:"amount_received"`
					Currency string            `json:"currency"`
					Metadata map[string]string `json:"metadata"`
				} `json:"object"`
			} `json:"data"`
		}
		if err = errors.Join(err, json.Unmarshal(body, &ev)); err != nil || ev.ID == "" {
			b.Error(err)
		}
		c.Data(http.StatusOK, "application/json", answer)
	})
	benchmarkCallback(b, e, cb, 2)
}
