package stripe_test

import (
	"testing"
	"time"

	"github.com/paybell/paybell/configs/secret"
	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/gateway/provider/stripe"
)

// benchBody is an ordinary payment intent event of about 1.2 kB.
const benchBody = `{"id":"evt_000000000000000000000001","object":"event","api_version":"2025-03-31","created":1700000000,` +
	`"livemode":false,"pending_webhooks":1,"type":"payment_intent.succeeded","request":{"id":"req_0000000000000001","idempotency_key":"ik_000000000000000000000001"},` +
	`"data":{"object":{"id":"pi_000000000000000000000001","object":"payment_intent","amount":8800,"amount_capturable":0,"amount_received":8800,` +
	`"capture_method":"automatic","client_secret":"pi_000000000000000000000001_secret_00000000000000000001","confirmation_method":"automatic","created":1700000000,` +
	`"currency":"usd","customer":"cus_00000000000001","description":"Order 1 — three items, délivered","latest_charge":"ch_000000000000000000000001",` +
	`"livemode":false,"metadata":{"order_id":"ord_1","channel":"web","campaign":"autumn \"25\""},"payment_method":"pm_000000000000000000000001",` +
	`"payment_method_options":{"card":{"installments":null,"mandate_options":null,"network":null,"request_three_d_secure":"automatic"}},` +
	`"payment_method_types":["card"],"receipt_email":"buyer1@example.com","shipping":{"address":{"city":"Berlin","country":"DE","line1":"Main street 1",` +
	`"postal_code":"10115"},"name":"Jane Roe"},"status":"succeeded"}}}`

func benchmark(b *testing.B) (*stripe.Provider, *provider.Callback) {
	b.Helper()
	o := stripe.DefaultOptions()
	o.Secrets = secret.Slot{secretFile(b, b.TempDir(), "s", "whsec_bench")}
	now := func() time.Time { return time.Unix(1700000000, 0) }
	p, err := stripe.New(o, now)
	if err != nil {
		b.Fatal(err)
	}
	s, err := stripe.NewSigner(o, now)
	if err != nil {
		b.Fatal(err)
	}
	cb, err := s.Sign(provider.Sample{Body: []byte(benchBody)})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(cb.Body)))
	return p, cb
}

func BenchmarkVerify(b *testing.B) {
	p, cb := benchmark(b)
	for b.Loop() {
		if _, err := p.Verify(cb); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyDecode(b *testing.B) {
	p, cb := benchmark(b)
	for b.Loop() {
		v, err := p.Verify(cb)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.Decode(cb, v); err != nil {
			b.Fatal(err)
		}
	}
}
