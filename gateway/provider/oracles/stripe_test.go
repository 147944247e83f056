package oracles_test

import (
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v84/webhook"

	"github.com/paybell/paybell/configs/secret"
	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/gateway/provider/stripe"
	"github.com/paybell/paybell/streams/event"
)

// stripeAccount is a sandbox that is rolling its secret: the newest signs, the one
// before is still accepted.
func stripeAccount(tb testing.TB) (newest, old string, p *stripe.Provider, s *stripe.Signer) {
	tb.Helper()
	dir := tb.TempDir()
	o, err := stripe.Sandbox(filepath.Join(dir, "new"))
	if err != nil {
		tb.Fatal(err)
	}
	before, err := stripe.Sandbox(filepath.Join(dir, "old"))
	if err != nil {
		tb.Fatal(err)
	}
	o.Secrets = secret.Slot{o.Secrets[0], before.Secrets[0]}
	if p, err = stripe.New(o, time.Now); err != nil {
		tb.Fatal(err)
	}
	if s, err = stripe.NewSigner(o, time.Now); err != nil {
		tb.Fatal(err)
	}
	return reveal(tb, o.Secrets[0]), reveal(tb, o.Secrets[1]), p, s
}

const stripeBody = `{"id":"evt_1","object":"event","api_version":"2025-03-31.basil","created":1772600767,"livemode":false,` +
	`"type":"payment_intent.succeeded","data":{"object":{"id":"pi_1","object":"payment_intent","amount":8805,` +
	`"amount_received":8805,"currency":"eur","status":"succeeded","metadata":{"order_id":"A1001","customer_id":"Kunde 7 ü"}}}}`

func stripeCallback(body, header string) *provider.Callback {
	return &provider.Callback{
		Method: "POST", Header: http.Header{"Stripe-Signature": {header}}, Body: []byte(body), ReceivedAt: time.Now(),
	}
}

// stripeSigned checks our side of a callback that an SDK signed.
func stripeSigned(t *testing.T, p provider.Provider, header string) {
	t.Helper()
	e := believe(t, p, stripeCallback(stripeBody, header))
	if e.Type != event.PaymentSucceeded || e.OrderRef() != "A1001" || e.Payment.Amount.Minor != 8805 || e.Merchant.CustomerRef != "Kunde 7 ü" {
		t.Errorf("decoded as %+v %+v", e, e.Payment)
	}
	refuse(t, p, stripeCallback(stripeBody+" ", header), "altered body")
	refuse(t, p, stripeCallback(stripeBody, "t=1"+header[2:]), "altered time")
	_, _, stranger, _ := stripeAccount(t)
	refuse(t, stranger, stripeCallback(stripeBody, header), "another account's secret")
}

func TestStripeGoSigns(t *testing.T) {
	newest, old, p, _ := stripeAccount(t)
	for _, s := range []string{newest, old} {
		signed := webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: []byte(stripeBody), Secret: s, Timestamp: time.Now()})
		stripeSigned(t, p, signed.Header)
	}
	stale := webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{
		Payload: []byte(stripeBody), Secret: newest, Timestamp: time.Now().Add(-time.Hour),
	})
	refuse(t, p, stripeCallback(stripeBody, stale.Header), "stale")
	if _, err := webhook.ConstructEvent([]byte(stripeBody), stale.Header, newest); err == nil {
		t.Error("the SDK accepts what is stale")
	}
}

func TestStripeNodeSigns(t *testing.T) {
	newest, old, p, _ := stripeAccount(t)
	job := func(s string, at time.Time) object {
		return object{"op": "sign", "body": []byte(stripeBody), "secret": s, "timestamp": at.Unix()}
	}
	got := ask[struct {
		Header string `json:"header"`
	}](t, "stripe", job(newest, time.Now()), job(old, time.Now()), job(newest, time.Now().Add(-time.Hour)))
	stripeSigned(t, p, got[0].Header)
	stripeSigned(t, p, got[1].Header)
	refuse(t, p, stripeCallback(stripeBody, got[2].Header), "stale")
}

func TestStripeVerifies(t *testing.T) {
	newest, old, p, s := stripeAccount(t)
	var jobs []object
	var want []bool
	add := func(cb *provider.Callback, with string, good bool) {
		header := cb.Header.Get("Stripe-Signature")
		_, err := webhook.ConstructEventWithOptions(cb.Body, header, with, webhook.ConstructEventOptions{IgnoreAPIVersionMismatch: true})
		if (err == nil) != good {
			t.Errorf("the Go SDK says %v, want %v", err, good)
		}
		jobs = append(jobs, object{"op": "verify", "body": cb.Body, "header": header, "secret": with})
		want = append(want, good)
	}
	for _, typ := range []event.Type{event.PaymentSucceeded, event.PaymentFailed, event.RefundSucceeded} {
		sm := sample(t, "EUR")
		sm.Type = typ
		cb := sign(t, s, sm)
		believe(t, p, cb)
		add(cb, newest, true)
		add(cb, old, false)
	}
	for _, tamper := range tampers {
		sm := sample(t, "EUR")
		sm.Tamper = tamper
		cb := sign(t, s, sm)
		refuse(t, p, cb, string(tamper))
		add(cb, newest, false)
	}
	sm := sample(t, "EUR")
	sm.At = time.Now().Add(-time.Hour)
	cb := sign(t, s, sm)
	refuse(t, p, cb, "stale")
	add(cb, newest, false)
	for i, v := range ask[verdict](t, "stripe", jobs...) {
		if v.Accepted != want[i] {
			t.Errorf("job %d: the Node SDK says %v (%s), want %v", i, v.Accepted, v.Reason, want[i])
		}
	}
}
