package standardwebhooks_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/configs/secret"
	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/gateway/provider/providertest"
	"github.com/paybell/paybell/gateway/provider/standardwebhooks"
	"github.com/paybell/paybell/streams/event"
)

func TestConformanceHMAC(t *testing.T) { providertest.Run(t, suite()) }

func TestConformanceEd25519(t *testing.T) { providertest.Run(t, asymmetric()) }

func FuzzVerifyHMAC(f *testing.F) { providertest.FuzzVerify(f, suite()) }

func FuzzVerifyEd25519(f *testing.F) { providertest.FuzzVerify(f, asymmetric()) }

func FuzzDecode(f *testing.F) { providertest.FuzzDecode(f, suite()) }

func suite() providertest.Suite {
	return providertest.Suite{
		Open:             openHMAC,
		Types:            []event.Type{event.PaymentSucceeded, event.PaymentPending, event.PaymentFailed, event.PaymentClosed, event.RefundSucceeded},
		Amount:           event.Money{Value: "88.05", Minor: 8805, Exponent: 2, Currency: "EUR"},
		SignatureHeaders: []string{"webhook-signature", "webhook-id", "webhook-timestamp"},
		Tolerance:        5 * time.Minute,
		Replies: map[provider.Outcome]provider.Reply{
			provider.Accepted:  {Status: 200},
			provider.Refused:   {Status: 401, ContentType: "application/json", Body: []byte(`{"error":"signature verification failed"}`)},
			provider.Malformed: {Status: 400, ContentType: "application/json", Body: []byte(`{"error":"malformed callback"}`)},
			provider.Retry:     {Status: 503, ContentType: "application/json", Body: []byte(`{"error":"temporarily unavailable"}`)},
		},
		Refused: []providertest.Refused{
			{Name: "an id with a full stop", Reason: provider.ReasonMalformedSignature, Spoil: set("Webhook-Id", "msg.1")},
			{Name: "an id with a space", Reason: provider.ReasonMalformedSignature, Spoil: set("Webhook-Id", "msg 1")},
			{Name: "an endless id", Reason: provider.ReasonMalformedSignature, Spoil: set("Webhook-Id", strings.Repeat("a", 257))},
			{Name: "another id", Reason: provider.ReasonMismatch, Spoil: set("Webhook-Id", "msg_other")},
			{Name: "a timestamp with a fraction", Reason: provider.ReasonMalformedSignature, Spoil: set("Webhook-Timestamp", "1772600767.0")},
			{Name: "no pair", Reason: provider.ReasonMalformedSignature, Spoil: set("Webhook-Signature", "v1")},
			{Name: "an empty signature", Reason: provider.ReasonMalformedSignature, Spoil: set("Webhook-Signature", "v1,")},
			{Name: "a short signature", Reason: provider.ReasonMalformedSignature, Spoil: set("Webhook-Signature", "v1,AAAA")},
			{Name: "a scheme of the future", Reason: provider.ReasonMissingSignature, Spoil: set("Webhook-Signature", "v2,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=")},
			{Name: "somebody else's signature", Reason: provider.ReasonMismatch, Spoil: set("Webhook-Signature", "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=")},
			{Name: "a scheme without a key here", Reason: provider.ReasonUnsupported, Spoil: set("Webhook-Signature",
				"v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==")},
			{Name: "more signatures than anyone sends", Reason: provider.ReasonMalformedSignature, Spoil: func(_ testing.TB, cb *provider.Callback) {
				cb.Header.Set("Webhook-Signature", strings.Repeat(cb.Header.Get("Webhook-Signature")+" ", 17))
			}},
		},
	}
}

// asymmetric is the same with public keys alone.
func asymmetric() providertest.Suite {
	s := suite()
	s.Open = openEd25519
	s.NoKeyValidity = true
	s.Refused = []providertest.Refused{
		{Name: "somebody else's signature", Reason: provider.ReasonMismatch, Spoil: set("Webhook-Signature",
			"v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==")},
		{Name: "the public key used as a shared secret", Reason: provider.ReasonUnsupported, Spoil: signWithPublicKey},
	}
	return s
}

// signWithPublicKey is the oldest trick: make an HMAC with what everybody knows.
func signWithPublicKey(tb testing.TB, cb *provider.Callback) {
	tb.Helper()
	o := standardwebhooks.DefaultOptions()
	o.Secrets = secret.Slot{file(tb, tb.TempDir(), "public", base64.StdEncoding.EncodeToString(key("usual")[32:]))}
	s, err := standardwebhooks.NewSigner(o, func() time.Time { return time.Time{} })
	if err != nil {
		tb.Fatal(err)
	}
	at, err := time.Parse(time.DateTime, "2026-03-04 05:06:07")
	if err != nil {
		tb.Fatal(err)
	}
	forged, err := s.Sign(provider.Sample{EventID: cb.Header.Get("Webhook-Id"), At: at, Body: cb.Body})
	if err != nil {
		tb.Fatal(err)
	}
	cb.Header = forged.Header
}

func set(name, value string) func(testing.TB, *provider.Callback) {
	return func(_ testing.TB, cb *provider.Callback) { cb.Header.Set(name, value) }
}

func openHMAC(tb testing.TB, now func() time.Time, keys ...providertest.Key) providertest.Account {
	tb.Helper()
	o := standardwebhooks.DefaultOptions()
	var a providertest.Account
	dir := tb.TempDir()
	for _, k := range keys {
		sum := sha256.Sum256([]byte(k.Name))
		text := base64.StdEncoding.EncodeToString(sum[:])
		src := file(tb, dir, k.Name, "whsec_"+text)
		src.NotBefore, src.NotAfter = k.NotBefore, k.NotAfter
		o.Secrets = append(o.Secrets, src)
		a.Secrets = append(a.Secrets, text, string(sum[:]))
	}
	return finish(tb, o, a, now, len(keys) > 0)
}

func openEd25519(tb testing.TB, now func() time.Time, keys ...providertest.Key) providertest.Account {
	tb.Helper()
	o := standardwebhooks.DefaultOptions()
	var a providertest.Account
	dir := tb.TempDir()
	for i, k := range keys {
		private := key(k.Name)
		seed := base64.StdEncoding.EncodeToString(private.Seed())
		if i == 0 {
			o.SigningKey = file(tb, dir, k.Name, "whsk_"+seed)
		}
		o.PublicKeys = append(o.PublicKeys, "whpk_"+base64.StdEncoding.EncodeToString(private[32:]))
		a.Secrets = append(a.Secrets, seed, string(private.Seed()))
	}
	return finish(tb, o, a, now, len(keys) > 0)
}

func finish(tb testing.TB, o standardwebhooks.Options, a providertest.Account, now func() time.Time, signs bool) providertest.Account {
	tb.Helper()
	p, err := standardwebhooks.New(o, now)
	if err != nil {
		tb.Fatalf("New: %v", err)
	}
	a.Provider, a.Options = p, o
	if signs {
		s, err := standardwebhooks.NewSigner(o, now)
		if err != nil {
			tb.Fatalf("NewSigner: %v", err)
		}
		a.Signer = s
	}
	return a
}

func key(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func file(tb testing.TB, dir, name, text string) secret.Source {
	tb.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	return secret.Source{File: path}
}
