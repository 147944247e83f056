package stripe_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/configs/secret"
	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/gateway/provider/stripe"
	"github.com/paybell/paybell/streams/event"
)

// The payload and the secrets are those of stripe-go's webhook/client_test.go;
// the digests were computed with "openssl dgst -sha256 -hmac".
const (
	vectorBody   = "{\n  \"id\": \"evt_test_webhook\",\n  \"object\": \"event\",\n  \"api_version\": \"2020-01-01\"\n}"
	vectorSecret = "whsec_test_secret"
	vectorSum    = "88744cb5ff43b7b56410276564ff7b78fc7fa253b71b9a8115f688c5ef6a059f"
	rolledSum    = "3517984f856a14a9ca6f6ac65eb9cbee7f799ad34821bbd64d80647080c71d78"
)

func vectorProvider(tb testing.TB, secrets ...string) *stripe.Provider {
	tb.Helper()
	o := stripe.DefaultOptions()
	dir := tb.TempDir()
	for i, s := range secrets {
		o.Secrets = append(o.Secrets, secretFile(tb, dir, "secret-"+string(rune('a'+i)), s))
	}
	p, err := stripe.New(o, func() time.Time { return time.Unix(12345, 0) })
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func TestVectors(t *testing.T) {
	for _, c := range []struct {
		name, header string
		secrets      []string
		keyID        string
	}{
		{"one signature", "t=12345,v1=" + vectorSum, []string{vectorSecret}, "file:secret-a"},
		{"upper-case digits", "t=12345,v1=" + strings.ToUpper(vectorSum), []string{vectorSecret}, "file:secret-a"},
		{"the secret is being rolled, old one here", "t=12345,v1=" + rolledSum + ",v1=" + vectorSum, []string{vectorSecret}, "file:secret-a"},
		{"the secret is being rolled, new one here", "t=12345,v1=" + vectorSum + ",v1=" + rolledSum, []string{vectorSecret + "_rolled_key"}, "file:secret-a"},
		{"the secret was rolled, both here", "t=12345,v1=" + vectorSum, []string{vectorSecret + "_rolled_key", vectorSecret}, "file:secret-b"},
		{"with the fake scheme of test mode", "t=12345,v1=" + vectorSum + ",v0=6ffbb59b2300aae63f272406069a9788598b792a944a07aba816edb039989a39", []string{vectorSecret}, "file:secret-a"},
		{"with an unreadable signature", "t=12345,v1=" + vectorSum + ",v1=bad_signature", []string{vectorSecret}, "file:secret-a"},
		{"with schemes to come", "v9=x,t=12345,V1=y,v1=" + vectorSum + ",z=", []string{vectorSecret}, "file:secret-a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := vectorProvider(t, c.secrets...).Verify(callback(c.header, vectorBody))
			if err != nil {
				t.Fatal(err)
			}
			if v.Evidence.KeyID != c.keyID || !v.Evidence.SignedAt.Equal(time.Unix(12345, 0)) {
				t.Errorf("evidence is %+v", v.Evidence)
			}
		})
	}
}

func TestSignerMakesTheVector(t *testing.T) {
	o := stripe.DefaultOptions()
	o.Secrets = secret.Slot{secretFile(t, t.TempDir(), "s", vectorSecret)}
	s, err := stripe.NewSigner(o, func() time.Time { return time.Unix(12345, 0) })
	if err != nil {
		t.Fatal(err)
	}
	cb, err := s.Sign(provider.Sample{Body: []byte(vectorBody)})
	if err != nil {
		t.Fatal(err)
	}
	if got := cb.Header.Get("Stripe-Signature"); got != "t=12345,v1="+vectorSum {
		t.Errorf("header is %s", got)
	}
}

// TestOnePaymentCountsOnce folds what Stripe sends about one payment when every
// event type is enabled.
func TestOnePaymentCountsOnce(t *testing.T) {
	const meta = `"currency":"usd","metadata":{"order_id":"A1"}`
	for _, c := range []struct {
		name               string
		events             [][2]string
		captured, refunded string
		status             event.Status
	}{
		{
			name: "intent, charge and session",
			events: [][2]string{
				{"payment_intent.created", `{"id":"pi_1",` + meta + `,"amount":500}`},
				{"charge.succeeded", `{"id":"ch_1","payment_intent":"pi_1",` + meta + `,"amount":500,"amount_captured":500,"captured":true}`},
				{"payment_intent.succeeded", `{"id":"pi_1",` + meta + `,"amount":500,"amount_received":500}`},
				{"checkout.session.completed", `{"id":"cs_1","payment_intent":"pi_1",` + meta + `,"amount_total":500,"payment_status":"paid"}`},
			},
			captured: "5.00 USD", refunded: "0.00 USD", status: event.StatusPaid,
		},
		{
			name: "subscription: session and invoice without an intent, and the intent",
			events: [][2]string{
				{"checkout.session.completed", `{"id":"cs_1","invoice":"in_1",` + meta + `,"amount_total":500,"payment_status":"paid"}`},
				{"invoice.paid", `{"id":"in_1",` + meta + `,"amount_paid":500}`},
				{"invoice.payment_succeeded", `{"id":"in_1",` + meta + `,"amount_paid":500}`},
				{"payment_intent.succeeded", `{"id":"pi_1",` + meta + `,"amount":500,"amount_received":500}`},
			},
			captured: "5.00 USD", refunded: "0.00 USD", status: event.StatusPaid,
		},
		{
			name: "two invoices of one order",
			events: [][2]string{
				{"invoice.paid", `{"id":"in_1",` + meta + `,"amount_paid":500}`},
				{"invoice.paid", `{"id":"in_2",` + meta + `,"amount_paid":300}`},
				{"payment_intent.succeeded", `{"id":"pi_1",` + meta + `,"amount_received":500}`},
				{"payment_intent.succeeded", `{"id":"pi_2",` + meta + `,"amount_received":300}`},
			},
			captured: "8.00 USD", refunded: "0.00 USD", status: event.StatusPaid,
		},
		{
			name: "one refund told as a total and by itself",
			events: [][2]string{
				{"payment_intent.succeeded", `{"id":"pi_1",` + meta + `,"amount_received":500}`},
				{"charge.refunded", `{"id":"ch_1","payment_intent":"pi_1",` + meta + `,"amount_refunded":200}`},
				{"refund.created", `{"id":"re_1","charge":"ch_1","payment_intent":"pi_1",` + meta + `,"amount":200,"status":"succeeded"}`},
				{"refund.updated", `{"id":"re_1","charge":"ch_1","payment_intent":"pi_1",` + meta + `,"amount":200,"status":"succeeded"}`},
			},
			captured: "5.00 USD", refunded: "2.00 USD", status: event.StatusPartiallyRefunded,
		},
		{
			name: "two refunds, one of them told only in the total",
			events: [][2]string{
				{"payment_intent.succeeded", `{"id":"pi_1",` + meta + `,"amount_received":500}`},
				{"refund.updated", `{"id":"re_1","payment_intent":"pi_1",` + meta + `,"amount":200,"status":"succeeded"}`},
				{"charge.refunded", `{"id":"ch_1","payment_intent":"pi_1",` + meta + `,"amount_refunded":500}`},
			},
			captured: "5.00 USD", refunded: "5.00 USD", status: event.StatusRefunded,
		},
		{
			name: "a refund that failed in the end",
			events: [][2]string{
				{"payment_intent.succeeded", `{"id":"pi_1",` + meta + `,"amount_received":500}`},
				{"refund.created", `{"id":"re_1","payment_intent":"pi_1",` + meta + `,"amount":200,"status":"pending"}`},
				{"refund.failed", `{"id":"re_1","payment_intent":"pi_1",` + meta + `,"amount":200,"status":"failed"}`},
			},
			captured: "5.00 USD", refunded: "0.00 USD", status: event.StatusPaid,
		},
		{
			name: "an authorization released, then another one captured",
			events: [][2]string{
				{"charge.succeeded", `{"id":"ch_1","payment_intent":"pi_1",` + meta + `,"amount":10000,"amount_captured":0,"captured":false}`},
				{"payment_intent.amount_capturable_updated", `{"id":"pi_1",` + meta + `,"amount":10000,"amount_capturable":10000}`},
				{"charge.refunded", `{"id":"ch_1","payment_intent":"pi_1",` + meta + `,"amount":10000,"amount_captured":0,"amount_refunded":10000,"captured":false}`},
				{"refund.created", `{"id":"re_1","charge":"ch_1","payment_intent":"pi_1",` + meta + `,"amount":10000,"status":"succeeded","balance_transaction":null}`},
				{"payment_intent.canceled", `{"id":"pi_1",` + meta + `,"amount":10000,"amount_received":0}`},
				{"charge.captured", `{"id":"ch_2","payment_intent":"pi_2",` + meta + `,"amount":10000,"amount_captured":10000,"captured":true}`},
				{"payment_intent.succeeded", `{"id":"pi_2",` + meta + `,"amount":10000,"amount_received":10000}`},
			},
			captured: "100.00 USD", refunded: "0.00 USD", status: event.StatusPaid,
		},
		{
			name: "an authorization released, and nothing else",
			events: [][2]string{
				{"charge.succeeded", `{"id":"ch_1","payment_intent":"pi_1",` + meta + `,"amount":10000,"amount_captured":0,"captured":false}`},
				{"charge.refunded", `{"id":"ch_1","payment_intent":"pi_1",` + meta + `,"amount":10000,"amount_captured":null,"amount_refunded":10000,"captured":false}`},
				{"payment_intent.canceled", `{"id":"pi_1",` + meta + `,"amount":10000,"amount_received":0}`},
			},
			captured: event.Money{}.String(), refunded: event.Money{}.String(), status: event.StatusClosed,
		},
		{
			name: "a part captured, the rest released, and a part of that refunded",
			events: [][2]string{
				{"charge.succeeded", `{"id":"ch_1","payment_intent":"pi_1",` + meta + `,"amount":10000,"amount_captured":0,"captured":false}`},
				{"charge.captured", `{"id":"ch_1","payment_intent":"pi_1",` + meta + `,"amount":10000,"amount_captured":6000,"amount_refunded":4000,"captured":true}`},
				{"charge.refunded", `{"id":"ch_1","payment_intent":"pi_1",` + meta + `,"amount":10000,"amount_captured":6000,"amount_refunded":4000,"captured":true}`},
				{"payment_intent.succeeded", `{"id":"pi_1",` + meta + `,"amount":10000,"amount_received":6000}`},
				{"charge.refunded", `{"id":"ch_1","payment_intent":"pi_1",` + meta + `,"amount":10000,"amount_captured":6000,"amount_refunded":5000,"captured":true}`},
			},
			captured: "60.00 USD", refunded: "10.00 USD", status: event.StatusPartiallyRefunded,
		},
		{
			name: "the same, where what is released is not among the refunds",
			events: [][2]string{
				{"charge.captured", `{"id":"ch_1","payment_intent":"pi_1",` + meta + `,"amount":10000,"amount_captured":6000,"amount_refunded":0,"captured":true}`},
				{"payment_intent.succeeded", `{"id":"pi_1",` + meta + `,"amount":10000,"amount_received":6000}`},
				{"charge.refunded", `{"id":"ch_1","payment_intent":"pi_1",` + meta + `,"amount":10000,"amount_captured":6000,"amount_refunded":1000,"captured":true}`},
			},
			captured: "60.00 USD", refunded: "10.00 USD", status: event.StatusPartiallyRefunded,
		},
		{
			name: "a dispute won, its money back afterwards",
			events: [][2]string{
				{"payment_intent.succeeded", `{"id":"pi_1",` + meta + `,"amount_received":500}`},
				{"charge.dispute.created", `{"id":"dp_1","payment_intent":"pi_1",` + meta + `,"amount":500,"status":"needs_response"}`},
				{"charge.dispute.closed", `{"id":"dp_1","payment_intent":"pi_1",` + meta + `,"amount":500,"status":"won"}`},
				{"charge.dispute.funds_reinstated", `{"id":"dp_1","payment_intent":"pi_1",` + meta + `,"amount":500,"status":"won"}`},
			},
			captured: "5.00 USD", refunded: "0.00 USD", status: event.StatusPaid,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, reversed := range []bool{false, true} {
				var order event.Order
				for i := range c.events {
					at := i
					if reversed {
						at = len(c.events) - 1 - i
					}
					e, err := decode(t, stripe.DefaultOptions(), c.events[at][0], c.events[at][1])
					if err != nil {
						t.Fatal(err)
					}
					e.ID, e.Account, e.Namespace = event.NewID("stripe", "a", c.events[at][0]+c.events[at][1]), "a", "shop"
					// The object's own later events happen later.
					e.OccurredAt = e.OccurredAt.Add(time.Duration(at) * time.Second)
					order.Apply(&e)
				}
				if got := order.Captured().String(); got != c.captured {
					t.Errorf("reversed %v: captured %s, want %s", reversed, got, c.captured)
				}
				if got := order.Refunded().String(); got != c.refunded {
					t.Errorf("reversed %v: refunded %s, want %s", reversed, got, c.refunded)
				}
				if got := order.Status(); got != c.status {
					t.Errorf("reversed %v: status %s, want %s", reversed, got, c.status)
				}
			}
		})
	}
}

func TestOptions(t *testing.T) {
	good := stripe.DefaultOptions()
	good.Secrets = secret.Slot{{Env: "STRIPE"}}
	if err := good.Validate(); err != nil {
		t.Errorf("good options: %v", err)
	}
	for _, c := range []struct {
		name   string
		change func(*stripe.Options)
		want   string
	}{
		{"no secret", func(o *stripe.Options) { o.Secrets = nil }, "secrets: name at least one source"},
		{"a secret from nowhere", func(o *stripe.Options) { o.Secrets = secret.Slot{{Env: "A"}, {}} }, "secrets[1]: "},
		{"no tolerance", func(o *stripe.Options) { o.Tolerance = 0 }, "tolerance: must be between 1s and 1h0m0s"},
		{"endless tolerance", func(o *stripe.Options) { o.Tolerance = 2 * time.Hour }, "tolerance: must be"},
		{"an order reference that is no pointer", func(o *stripe.Options) { o.OrderRef[1] = "metadata.order" }, "order_ref[1]: must be a JSON pointer"},
		{"a customer reference that is no pointer", func(o *stripe.Options) { o.CustomerRef = "/a~2" }, "customer_ref: must be a JSON pointer"},
		{"an account that is none", func(o *stripe.Options) { o.Account = "shop" }, `account: must begin with "acct_"`},
		{"an account without its mode", func(o *stripe.Options) { o.Account = "acct_1" }, "live: must be true or false where account is set"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := stripe.DefaultOptions()
			o.Secrets = good.Secrets
			c.change(&o)
			if err := o.Validate(); err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	t.Run("all problems at once", func(t *testing.T) {
		err := stripe.Options{Account: "x"}.Validate()
		for _, want := range []string{"secrets: ", "tolerance: ", "account: "} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v does not name %s", err, want)
			}
		}
	})
}

// TestSignerSaysTheMode signs for accounts of a mode, which then count it.
func TestSignerSaysTheMode(t *testing.T) {
	for _, live := range []bool{true, false} {
		o, err := stripe.Sandbox(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		o.Account, o.Live = "acct_1", &live
		if err := o.Validate(); err != nil {
			t.Errorf("live %v: %v", live, err)
		}
		s, err := stripe.NewSigner(o, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		cb, err := s.Sign(provider.Sample{OrderRef: "A1", Amount: event.Money{Value: "1", Minor: 1, Currency: "JPY"}})
		if err != nil {
			t.Fatal(err)
		}
		e, err := decodeBody(t, o, string(cb.Body))
		if err != nil || e.Type != event.PaymentSucceeded || e.Live == nil || *e.Live != live {
			t.Errorf("live %v: decoded %s, %v", live, said(e), err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Setenv("EMPTY_SECRET", "")
	t.Setenv("SPACED_SECRET", "whsec_abcdefgh ")
	for _, c := range []struct {
		name, want string
		source     secret.Source
	}{
		{"a secret that is not there", "missing", secret.Source{File: filepath.Join(t.TempDir(), "missing")}},
		{"an empty secret", "env:EMPTY_SECRET", secret.Source{Env: "EMPTY_SECRET"}},
		{"a secret with a space", "env:SPACED_SECRET", secret.Source{Env: "SPACED_SECRET"}},
		{"an unnamed secret", "secrets[0]", secret.Source{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := stripe.DefaultOptions()
			o.Secrets = secret.Slot{c.source}
			_, err := stripe.New(o, time.Now)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("New: %v, want it to name %s", err, c.want)
			}
			if strings.Contains(err.Error(), "whsec_abcdefgh") {
				t.Errorf("New tells the secret")
			}
			if _, err := stripe.NewSigner(o, time.Now); err == nil {
				t.Errorf("NewSigner takes it")
			}
		})
	}
	if _, err := stripe.NewSigner(stripe.DefaultOptions(), time.Now); !errors.Is(err, provider.ErrCannotSign) {
		t.Errorf("a signer without a secret: %v, want ErrCannotSign", err)
	}
}

func TestSandbox(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	first, err := stripe.Sandbox(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Validate(); err != nil {
		t.Errorf("sandbox options: %v", err)
	}
	info, err := os.Stat(first.Secrets[0].File)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("secret file is %v, %v", info, err)
	}
	signer, err := stripe.NewSigner(first, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	again, err := stripe.Sandbox(dir)
	if err != nil {
		t.Fatal(err)
	}
	p, err := stripe.New(again, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	cb, err := signer.Sign(provider.Sample{OrderRef: "A1", CustomerRef: "C1", Amount: event.Money{Value: "1", Minor: 1, Currency: "JPY"}})
	if err != nil {
		t.Fatal(err)
	}
	v, err := p.Verify(cb)
	if err != nil {
		t.Fatalf("the second start does not know the first one's key: %v", err)
	}
	got, err := p.Decode(cb, v)
	if err != nil || got[0].Event.Merchant.CustomerRef != "C1" || got[0].Event.Payment.Amount.String() != "1 JPY" {
		t.Errorf("decoded %+v, %v", got, err)
	}
}

func TestSignerRefusesWhatItCannotSay(t *testing.T) {
	dir := t.TempDir()
	usd := event.Money{Value: "1.00", Minor: 100, Exponent: 2, Currency: "USD"}
	for _, c := range []struct {
		name   string
		order  string
		amount event.Money
	}{
		{"no amount", "/data/object/metadata/order_id", event.Money{}},
		{"half an ariary", "/data/object/metadata/order_id", event.Money{Value: "0.50", Minor: 50, Exponent: 2, Currency: "MGA"}},
		{"an order reference inside a number", "/created/order", usd},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, err := stripe.Sandbox(dir)
			if err != nil {
				t.Fatal(err)
			}
			o.OrderRef = []string{c.order}
			s, err := stripe.NewSigner(o, time.Now)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Sign(provider.Sample{OrderRef: "A1", Amount: c.amount}); !errors.Is(err, provider.ErrNoSample) {
				t.Errorf("Sign: %v, want ErrNoSample", err)
			}
		})
	}
}
