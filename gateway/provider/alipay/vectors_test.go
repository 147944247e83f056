package alipay_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	stdcrypto "crypto"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/gateway/provider/alipay"
	"github.com/paybell/paybell/streams/event"
)

func testdata(tb testing.TB, name string) []byte {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

// vector opens an account for a published notice.
func vector(tb testing.TB, appID, keyFile string) *alipay.Provider {
	tb.Helper()
	o := alipay.DefaultOptions()
	o.AppID = appID
	o.PublicKeys = []string{"file:" + filepath.Join("testdata", keyFile)}
	p, _ := account(tb, o)
	return p
}

func TestPublishedTradeNotice(t *testing.T) {
	p := vector(t, "2019073166072302", "trade_notice.key")
	body := testdata(t, "trade_notice.form")
	d := believed(t, p, body)
	e := d.Event
	if d.Key != "2019081500222155624068450559358070" || e.ProviderEvent.ID != d.Key || !e.ProviderEvent.IDAuthenticated {
		t.Errorf("key %q, provider event %+v", d.Key, e.ProviderEvent)
	}
	if e.Type != event.PaymentSucceeded || e.ProviderEvent.Type != "trade_status_sync/TRADE_SUCCESS" {
		t.Errorf("type %s of %s", e.Type, e.ProviderEvent.Type)
	}
	if want := (event.Merchant{Account: "2088531891668739", App: "2019073166072302"}); e.Merchant != want {
		t.Errorf("merchant %+v, want %+v", e.Merchant, want)
	}
	amount := event.Money{Value: "0.10", Minor: 10, Exponent: 2, Currency: "CNY"}
	pay := e.Payment
	if pay.OrderRef != "20190815155618536-564-57" || pay.ProviderRef != "2019081522001468450512505578" || *pay.Amount != amount {
		t.Errorf("payment %+v", pay)
	}
	if want := time.Date(2019, 8, 15, 7, 56, 24, 0, time.UTC); !e.OccurredAt.Equal(want) {
		t.Errorf("occurred at %v, want %v", e.OccurredAt, want)
	}
	if e.Live != nil {
		t.Errorf("live is %v, Alipay does not say", *e.Live)
	}
	refused(t, p, bytes.Replace(body, []byte("total_amount=0.10"), []byte("total_amount=9.10"), 1), provider.ReasonMismatch)
	refused(t, vector(t, "2019073166072302", "application_notice.pem"), body, provider.ReasonMismatch)
}

func TestPublishedTradeNoticeWithoutSignType(t *testing.T) {
	p := vector(t, "2019073166072302", "trade_notice.key")
	body := bytes.Replace(testdata(t, "trade_notice.form"), []byte("&sign_type=RSA2"), nil, 1)
	if d := believed(t, p, body); d.Event.Type != event.PaymentSucceeded {
		t.Errorf("type %s", d.Event.Type)
	}
}

func TestPublishedCertificateSN(t *testing.T) {
	cert, err := provider.ParseCertificate(testdata(t, "certificate.crt"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := alipay.CertificateSN(cert)
	if err != nil {
		t.Fatal(err)
	}
	if want := "7513daaaa48aa3ba2e4018d84402479c"; got != want {
		t.Errorf("SN %s, want %s", got, want)
	}
}

// form is a notice before it is encoded. These tests sign it by themselves, so
// that they do not believe the package's own canonical form.
type form map[string]string

// trade is a notice of a paid trade.
func trade(changes form) form {
	f := form{
		"notify_id": "2026030400222130607000000000000001", "notify_type": "trade_status_sync",
		"notify_time": "2026-03-04 13:06:07", "charset": "utf-8", "version": "1.0",
		"app_id": "2021000000000001", "seller_id": "2088000000000001", "trade_status": "TRADE_SUCCESS",
		"out_trade_no": "A1001", "trade_no": "2026030422001400000000000001", "total_amount": "88.00",
		"gmt_create": "2026-03-04 13:05:00", "gmt_payment": "2026-03-04 13:06:00",
	}
	for name, value := range changes {
		if value == "-" {
			delete(f, name)
		} else {
			f[name] = value
		}
	}
	return f
}

// canonical joins every parameter but the named ones, sorted by name.
func (f form) canonical(without ...string) string {
	names := make([]string, 0, len(f))
	for name := range f {
		if !slices.Contains(without, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for i, name := range names {
		names[i] = name + "=" + f[name]
	}
	return strings.Join(names, "&")
}

// signed encodes the form with a signature over text. A sign_type of RSA makes a
// SHA-1 signature.
func (f form) signed(tb testing.TB, key *rsa.PrivateKey, text string) []byte {
	tb.Helper()
	hash, digest := stdcrypto.SHA256, sha256.New()
	if f["sign_type"] == "RSA" {
		hash, digest = stdcrypto.SHA1, sha1.New()
	}
	digest.Write([]byte(text))
	sign, err := rsa.SignPKCS1v15(rand.Reader, key, hash, digest.Sum(nil))
	if err != nil {
		tb.Fatal(err)
	}
	values := url.Values{"sign": {base64.StdEncoding.EncodeToString(sign)}}
	for name, value := range f {
		values.Set(name, value)
	}
	return []byte(values.Encode())
}

func callback(body []byte) *provider.Callback {
	return &provider.Callback{ID: "cb_1", Method: "POST", Body: body, ReceivedAt: now}
}

// believed verifies and decodes a notice of one event.
func believed(tb testing.TB, p *alipay.Provider, body []byte) provider.Decoded {
	tb.Helper()
	cb := callback(body)
	v, err := p.Verify(cb)
	if err != nil {
		tb.Fatalf("Verify: %v", err)
	}
	ds, err := p.Decode(cb, v)
	if err != nil {
		tb.Fatalf("Decode: %v", err)
	}
	if len(ds) != 1 {
		tb.Fatalf("%d events, want 1", len(ds))
	}
	return ds[0]
}

// refused expects a refusal for a reason, by Verify or Decode.
func refused(tb testing.TB, p *alipay.Provider, body []byte, want provider.Reason) {
	tb.Helper()
	cb := callback(body)
	v, err := p.Verify(cb)
	if err == nil {
		_, err = p.Decode(cb, v)
	}
	if got := reason(err); got != want {
		tb.Errorf("%v, want a refusal for %s", err, want)
	}
}
