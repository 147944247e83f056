package alipay_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/gateway/provider/alipay"
	"github.com/paybell/paybell/gateway/provider/providertest"
	"github.com/paybell/paybell/streams/event"
)

func suite(certificates bool) providertest.Suite {
	return providertest.Suite{
		Open: func(tb testing.TB, now func() time.Time, keys ...providertest.Key) providertest.Account {
			tb.Helper()
			return open(tb, certificates, now, keys)
		},
		Types:         []event.Type{event.PaymentSucceeded, event.PaymentPending, event.PaymentClosed, event.RefundSucceeded},
		Amount:        event.Money{Value: "88.05", Minor: 8805, Exponent: 2, Currency: "CNY"},
		LooseBody:     true,
		NoKeyValidity: !certificates,
		Replies: map[provider.Outcome]provider.Reply{
			provider.Accepted:  {Status: http.StatusOK, ContentType: "text/plain", Body: []byte("success")},
			provider.Refused:   {Status: http.StatusUnauthorized, ContentType: "text/plain", Body: []byte("fail")},
			provider.Malformed: {Status: http.StatusBadRequest, ContentType: "text/plain", Body: []byte("fail")},
			provider.Retry:     {Status: http.StatusServiceUnavailable, ContentType: "text/plain", Body: []byte("fail")},
		},
		Refused: []providertest.Refused{
			{Name: "sign twice", Reason: provider.ReasonAmbiguous, Spoil: add("&sign=AAAA")},
			{Name: "a signed parameter twice", Reason: provider.ReasonAmbiguous, Spoil: add("&total_amount=88.05")},
			{Name: "a parameter nobody signed", Reason: provider.ReasonMismatch, Spoil: add("&refund_fee=1.00")},
			{Name: "a name with an equals sign", Reason: provider.ReasonMalformedBody, Spoil: add("&a%3Db=1")},
			{Name: "SHA-1 asked for", Reason: provider.ReasonUnsupported, Spoil: replace("sign_type=RSA2", "sign_type=RSA")},
			{Name: "SM2 asked for", Reason: provider.ReasonUnsupported, Spoil: replace("sign_type=RSA2", "sign_type=SM2")},
			{Name: "sign empty", Reason: provider.ReasonMissingSignature, Spoil: resign("")},
			{Name: "sign not base64", Reason: provider.ReasonMalformedSignature, Spoil: resign("%21%21%21%21")},
			{Name: "sign with a line break", Reason: provider.ReasonMalformedSignature, Spoil: resign("AAAA%0AAAAA")},
			{Name: "sign spelt another way", Reason: provider.ReasonMalformedSignature, Spoil: func(tb testing.TB, cb *provider.Callback) {
				tb.Helper()
				respell(tb, cb)
			}},
			{Name: "sign too short", Reason: provider.ReasonMismatch, Spoil: resign("AAAA")},
		},
	}
}

func open(tb testing.TB, certificates bool, now func() time.Time, keys []providertest.Key) providertest.Account {
	tb.Helper()
	o := alipay.DefaultOptions()
	o.AppID, o.SellerID, o.CustomerRef = "2021000000000001", "2088000000000001", "passback_params"
	var secrets []string
	for i, k := range keys {
		key := keyNamed(tb, k.Name)
		secrets = append(secrets, base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PrivateKey(key)), key.D.String())
		if certificates {
			o.Certificates = append(o.Certificates, certificate(tb, k))
		} else {
			o.PublicKeys = append(o.PublicKeys, bare(tb, key))
		}
		if i == 0 {
			o.SigningKey = privateFile(tb, key)
		}
	}
	p, err := alipay.New(o, now)
	if err != nil {
		tb.Fatal(err)
	}
	a := providertest.Account{Provider: p, Options: o, Secrets: secrets}
	if len(keys) == 0 {
		return a
	}
	if a.Signer, err = alipay.NewSigner(o, now); err != nil {
		tb.Fatal(err)
	}
	return a
}

func add(text string) func(testing.TB, *provider.Callback) {
	return func(_ testing.TB, cb *provider.Callback) { cb.Body = append(cb.Body, text...) }
}

func replace(from, to string) func(testing.TB, *provider.Callback) {
	return func(tb testing.TB, cb *provider.Callback) {
		tb.Helper()
		if !bytes.Contains(cb.Body, []byte(from)) {
			tb.Fatalf("the sample has no %s", from)
		}
		cb.Body = bytes.Replace(cb.Body, []byte(from), []byte(to), 1)
	}
}

// respell changes the bits of the signature's base64 that decode to nothing.
func respell(tb testing.TB, cb *provider.Callback) {
	tb.Helper()
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	padding := []byte("%3D%3D")
	if !bytes.HasSuffix(cb.Body, padding) {
		tb.Fatal("the sample's signature has no padding")
	}
	last := len(cb.Body) - len(padding) - 1
	cb.Body[last] = alphabet[strings.IndexByte(alphabet, cb.Body[last])|1]
}

// resign gives the notice, whose last parameter is its signature, another one.
func resign(sign string) func(testing.TB, *provider.Callback) {
	return func(tb testing.TB, cb *provider.Callback) {
		tb.Helper()
		i := bytes.LastIndex(cb.Body, []byte("&sign="))
		if i < 0 {
			tb.Fatal("the sample has no signature")
		}
		cb.Body = append(cb.Body[:i:i], "&sign="+sign...)
	}
}

func TestConformanceWithPublicKeys(t *testing.T)   { providertest.Run(t, suite(false)) }
func TestConformanceWithCertificates(t *testing.T) { providertest.Run(t, suite(true)) }

func FuzzVerify(f *testing.F) { providertest.FuzzVerify(f, suite(false)) }
func FuzzDecode(f *testing.F) { providertest.FuzzDecode(f, suite(false)) }
