package wechatpay_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/configs/secret"
	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/gateway/provider/providertest"
	"github.com/paybell/paybell/gateway/provider/wechatpay"
	"github.com/paybell/paybell/streams/event"
)

func suite(certificates bool) providertest.Suite {
	return providertest.Suite{
		Open: func(tb testing.TB, now func() time.Time, keys ...providertest.Key) providertest.Account {
			tb.Helper()
			return openAccount(tb, certificates, now, keys)
		},
		Types:            []event.Type{event.PaymentSucceeded, event.PaymentFailed, event.RefundSucceeded},
		Amount:           event.Money{Value: "88.05", Minor: 8805, Exponent: 2, Currency: "CNY"},
		SignatureHeaders: []string{"Wechatpay-Timestamp", "Wechatpay-Nonce", "Wechatpay-Signature", "Wechatpay-Serial"},
		Tolerance:        5 * time.Minute,
		Stride:           3,
		NoKeyValidity:    !certificates,
		Replies: map[provider.Outcome]provider.Reply{
			provider.Accepted:  {Status: http.StatusNoContent},
			provider.Refused:   {Status: http.StatusUnauthorized, ContentType: "application/json", Body: []byte(`{"code":"FAIL","message":"not authenticated"}`)},
			provider.Malformed: {Status: http.StatusBadRequest, ContentType: "application/json", Body: []byte(`{"code":"FAIL","message":"not readable"}`)},
			provider.Retry:     {Status: http.StatusServiceUnavailable, ContentType: "application/json", Body: []byte(`{"code":"FAIL","message":"try again later"}`)},
		},
		Refused: []providertest.Refused{
			{Name: "unknown serial", Reason: provider.ReasonUnknownKey, Spoil: set("Wechatpay-Serial", "5157F09EFDC096DE15EBE81A47057A7200000000")},
			{Name: "serial in lower case", Reason: provider.ReasonUnknownKey, Spoil: func(_ testing.TB, cb *provider.Callback) {
				cb.Header.Set("Wechatpay-Serial", strings.ToLower(cb.Header.Get("Wechatpay-Serial")+"F"))
			}},
			{Name: "another signature type", Reason: provider.ReasonUnsupported, Spoil: set("Wechatpay-Signature-Type", "WECHATPAY2-SM2-WITH-SM3")},
			{Name: "signature type twice", Reason: provider.ReasonAmbiguous, Spoil: func(_ testing.TB, cb *provider.Callback) {
				cb.Header.Add("Wechatpay-Signature-Type", "WECHATPAY2-SHA256-RSA2048")
			}},
			{Name: "timestamp with a plus", Reason: provider.ReasonMalformedSignature, Spoil: set("Wechatpay-Timestamp", "+1772600767")},
			{Name: "timestamp with a fraction", Reason: provider.ReasonMalformedSignature, Spoil: set("Wechatpay-Timestamp", "1772600767.0")},
			{Name: "timestamp padded", Reason: provider.ReasonMalformedSignature, Spoil: set("Wechatpay-Timestamp", " 1772600767")},
			{Name: "endless nonce", Reason: provider.ReasonMalformedSignature, Spoil: set("Wechatpay-Nonce", strings.Repeat("n", 129))},
			{Name: "nonce with a line feed", Reason: provider.ReasonMalformedSignature, Spoil: set("Wechatpay-Nonce", "a\nb")},
			{Name: "nonce beyond ASCII", Reason: provider.ReasonMalformedSignature, Spoil: set("Wechatpay-Nonce", "né")},
			{Name: "signature not base64", Reason: provider.ReasonMalformedSignature, Spoil: set("Wechatpay-Signature", "!!!!")},
			{Name: "signature with a line break", Reason: provider.ReasonMalformedSignature, Spoil: set("Wechatpay-Signature", "AAAA\nAAAA")},
			{Name: "signature spelt another way", Reason: provider.ReasonMalformedSignature, Spoil: func(tb testing.TB, cb *provider.Callback) {
				tb.Helper()
				const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
				signature, ok := strings.CutSuffix(cb.Header.Get("Wechatpay-Signature"), "==")
				if !ok {
					tb.Fatal("the sample's signature has no padding")
				}
				last := len(signature) - 1
				loose := alphabet[strings.IndexByte(alphabet, signature[last])|1]
				cb.Header.Set("Wechatpay-Signature", signature[:last]+string(loose)+"==")
			}},
			{Name: "probe", Reason: provider.ReasonProbe, Spoil: set("Wechatpay-Signature", probe)},
			{Name: "probe that is not base64", Reason: provider.ReasonProbe, Spoil: set("Wechatpay-Signature", "WECHATPAY/SIGNTEST/x")},
			{Name: "stale probe", Reason: provider.ReasonProbe, Spoil: func(_ testing.TB, cb *provider.Callback) {
				cb.Header.Set("Wechatpay-Signature", probe)
				cb.Header.Set("Wechatpay-Timestamp", "1000000000")
			}},
			{Name: "prefix put in front of a good signature", Reason: provider.ReasonProbe, Spoil: func(_ testing.TB, cb *provider.Callback) {
				cb.Header.Set("Wechatpay-Signature", "WECHATPAY/SIGNTEST/"+cb.Header.Get("Wechatpay-Signature"))
			}},
		},
	}
}

// probe is as long as a signature of 2048 bits.
var probe = "WECHATPAY/SIGNTEST/" + strings.Repeat("A", 344-len("WECHATPAY/SIGNTEST/")-2) + "=="

func openAccount(tb testing.TB, certificates bool, now func() time.Time, keys []providertest.Key) providertest.Account {
	tb.Helper()
	o := wechatpay.DefaultOptions()
	o.MchID, o.AppID, o.CustomerRef = "1900000001", "wx0000000000000001", "/attach"
	o.APIv3Keys = secret.Slot{file(tb, apiv3Key)}
	secrets := []string{apiv3Key}
	for i, k := range keys {
		key := keyNamed(tb, k.Name)
		secrets = append(secrets, base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PrivateKey(key)), key.D.String())
		if certificates {
			o.PlatformCertificates = append(o.PlatformCertificates, certificate(tb, k))
		} else {
			o.PublicKeys = append(o.PublicKeys, publicKey(tb, k.Name))
		}
		if i == 0 {
			o.SigningKey = privateFile(tb, k.Name)
		}
	}
	p, err := wechatpay.New(o, now)
	if err != nil {
		tb.Fatal(err)
	}
	a := providertest.Account{Provider: p, Options: o, Secrets: secrets}
	if len(keys) == 0 {
		return a
	}
	if a.Signer, err = wechatpay.NewSigner(o, now); err != nil {
		tb.Fatal(err)
	}
	return a
}

func set(name, value string) func(testing.TB, *provider.Callback) {
	return func(_ testing.TB, cb *provider.Callback) { cb.Header.Set(name, value) }
}

func gcm(tb testing.TB, key string) cipher.AEAD {
	tb.Helper()
	block, err := aes.NewCipher([]byte(key))
	if err != nil {
		tb.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		tb.Fatal(err)
	}
	return aead
}

func TestConformanceWithPublicKeys(t *testing.T)   { providertest.Run(t, suite(false)) }
func TestConformanceWithCertificates(t *testing.T) { providertest.Run(t, suite(true)) }

func FuzzVerify(f *testing.F) { providertest.FuzzVerify(f, suite(true)) }
func FuzzDecode(f *testing.F) { providertest.FuzzDecode(f, suite(true)) }

// FuzzResource signs and encrypts whatever the fuzzer makes: what stands inside an
// authentic notice must not hurt either.
func FuzzResource(f *testing.F) {
	p, s := account(f, options(f))
	f.Add("TRANSACTION.SUCCESS", []byte(`{"mchid":"1900000001","appid":"wx0000000000000001","trade_state":"SUCCESS","transaction_id":"1","amount":{"total":1}}`))
	f.Add("TRANSACTION.SUCCESS", []byte(`{"combine_mchid":"1900000001","combine_appid":"wx0000000000000001","sub_orders":[{},1,null]}`))
	f.Add("REFUND.SUCCESS", []byte(`{"mchid":"1900000001","refund_status":"SUCCESS","refund_id":"1","amount":{"refund":1}}`))
	f.Add("PAYSCORE.USER_PAID", []byte(`{}`))
	f.Fuzz(func(t *testing.T, eventType string, plain []byte) {
		cb := callback(t, s, object{"id": "e-1", "event_type": eventType, "resource": sealed(t, apiv3Key, plain, "")})
		v, err := p.Verify(cb)
		if err != nil {
			t.Fatalf("Verify: %v", err)
		}
		ds, err := p.Decode(cb, v)
		if err == nil && len(ds) == 0 {
			t.Fatal("neither event nor error")
		}
		for _, d := range ds {
			if d.Event.Type == event.PaymentSucceeded && (d.Event.Payment.Amount == nil || d.Event.Payment.ProviderRef == "") {
				t.Fatalf("paid without amount or reference: %+v", d.Event)
			}
		}
	})
}
