package stripe_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/configs/secret"
	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/gateway/provider/providertest"
	"github.com/paybell/paybell/gateway/provider/stripe"
	"github.com/paybell/paybell/streams/event"
)

func TestConformance(t *testing.T) { providertest.Run(t, suite()) }

func FuzzVerify(f *testing.F) { providertest.FuzzVerify(f, suite()) }

func FuzzDecode(f *testing.F) { providertest.FuzzDecode(f, suite()) }

func suite() providertest.Suite {
	return providertest.Suite{
		Open:             open,
		Types:            []event.Type{event.PaymentSucceeded, event.PaymentPending, event.PaymentFailed, event.PaymentClosed, event.RefundSucceeded},
		Amount:           event.Money{Value: "88.05", Minor: 8805, Exponent: 2, Currency: "USD"},
		SignatureHeaders: []string{"Stripe-Signature"},
		Tolerance:        5 * time.Minute,
		Replies: map[provider.Outcome]provider.Reply{
			provider.Accepted:  {Status: 200, ContentType: "application/json", Body: []byte(`{"received":true}`)},
			provider.Refused:   {Status: 400, ContentType: "application/json", Body: []byte(`{"error":"signature verification failed"}`)},
			provider.Malformed: {Status: 400, ContentType: "application/json", Body: []byte(`{"error":"malformed event"}`)},
			provider.Retry:     {Status: 503, ContentType: "application/json", Body: []byte(`{"error":"temporarily unavailable"}`)},
		},
		Refused: []providertest.Refused{
			{Name: "the fake scheme v0 alone", Reason: provider.ReasonMissingSignature, Spoil: header(func(h string) string {
				return strings.Replace(h, "v1=", "v0=", 1)
			})},
			{Name: "v0 right and v1 wrong", Reason: provider.ReasonMismatch, Spoil: header(func(h string) string {
				return strings.Replace(h, "v1=", "v0=", 1) + ",v1=" + strings.Repeat("0", 64)
			})},
			{Name: "a scheme of the future alone", Reason: provider.ReasonMissingSignature, Spoil: header(func(h string) string {
				return strings.Replace(h, "v1=", "v2=", 1)
			})},
			{Name: "no timestamp", Reason: provider.ReasonMalformedSignature, Spoil: header(func(h string) string {
				return h[strings.Index(h, "v1="):]
			})},
			{Name: "two timestamps", Reason: provider.ReasonAmbiguous, Spoil: header(func(h string) string {
				return h + ",t=1"
			})},
			{Name: "the same timestamp twice", Reason: provider.ReasonAmbiguous, Spoil: header(func(h string) string {
				return h[:strings.Index(h, ",")+1] + h
			})},
			{Name: "a pair without a value", Reason: provider.ReasonMalformedSignature, Spoil: header(func(h string) string {
				return h + ",v1"
			})},
			{Name: "a pair that splits in three", Reason: provider.ReasonMalformedSignature, Spoil: header(func(h string) string {
				return h + ",v1=a=b"
			})},
			{Name: "an unreadable v1 alone", Reason: provider.ReasonMalformedSignature, Spoil: header(func(h string) string {
				return h[:strings.Index(h, "v1=")] + "v1=bad_signature"
			})},
			{Name: "more signatures than anyone sends", Reason: provider.ReasonMalformedSignature, Spoil: header(func(h string) string {
				return h + strings.Repeat(",v1="+strings.Repeat("0", 64), 16)
			})},
			{Name: "a timestamp with a sign", Reason: provider.ReasonMalformedSignature, Spoil: header(func(h string) string {
				return strings.Replace(h, "t=", "t=+", 1)
			})},
			{Name: "a timestamp with a fraction", Reason: provider.ReasonMalformedSignature, Spoil: header(func(h string) string {
				return strings.Replace(h, ",", ".0,", 1)
			})},
		},
	}
}

func header(change func(string) string) func(testing.TB, *provider.Callback) {
	return func(_ testing.TB, cb *provider.Callback) {
		cb.Header.Set("Stripe-Signature", change(cb.Header.Get("Stripe-Signature")))
	}
}

// open makes an endpoint whose secrets are made from the names of the keys.
func open(tb testing.TB, now func() time.Time, keys ...providertest.Key) providertest.Account {
	tb.Helper()
	o := stripe.DefaultOptions()
	o.CustomerRef = "/data/object/metadata/customer_id"
	a := providertest.Account{}
	dir := tb.TempDir()
	for _, k := range keys {
		text := "whsec_secret_text_of_" + k.Name
		src := secretFile(tb, dir, k.Name, text)
		src.NotBefore, src.NotAfter = k.NotBefore, k.NotAfter
		o.Secrets = append(o.Secrets, src)
		a.Secrets = append(a.Secrets, text)
	}
	p, err := stripe.New(o, now)
	if err != nil {
		tb.Fatalf("New: %v", err)
	}
	a.Provider, a.Options = p, o
	if len(keys) > 0 {
		s, err := stripe.NewSigner(o, now)
		if err != nil {
			tb.Fatalf("NewSigner: %v", err)
		}
		a.Signer = s
	}
	return a
}

func secretFile(tb testing.TB, dir, name, text string) secret.Source {
	tb.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	return secret.Source{File: path}
}

func callback(header, body string) *provider.Callback {
	return &provider.Callback{Method: http.MethodPost, Header: http.Header{"Stripe-Signature": {header}}, Body: []byte(body)}
}
