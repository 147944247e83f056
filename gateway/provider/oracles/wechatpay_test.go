package oracles_test

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/gateway/provider/wechatpay"
	"github.com/paybell/paybell/streams/event"
)

// wechatAccount is a sandbox with a public key and a certificate of the same key:
// callbacks may come under either.
func wechatAccount(tb testing.TB) (o wechatpay.Options, serial string, p *wechatpay.Provider, s *wechatpay.Signer) {
	tb.Helper()
	o, err := wechatpay.Sandbox(tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	text, cert := certify(tb, reveal(tb, o.SigningKey), pkix.Name{CommonName: "Tenpay.com sign"})
	o.PlatformCertificates = []string{text}
	if p, err = wechatpay.New(o, time.Now); err != nil {
		tb.Fatal(err)
	}
	if s, err = wechatpay.NewSigner(o, time.Now); err != nil {
		tb.Fatal(err)
	}
	return o, wechatpay.Serial(cert), p, s
}

// wechatSigned is a callback made by the SDK.
type wechatSigned struct {
	Body      []byte `json:"body"`
	Timestamp string `json:"timestamp"`
	Nonce     string `json:"nonce"`
	Signature string `json:"signature"`
}

func (w wechatSigned) callback(serial string) *provider.Callback {
	h := http.Header{}
	h.Set("Wechatpay-Timestamp", w.Timestamp)
	h.Set("Wechatpay-Nonce", w.Nonce)
	h.Set("Wechatpay-Signature", w.Signature)
	h.Set("Wechatpay-Serial", serial)
	return &provider.Callback{Method: "POST", Header: h, Body: bytes.Clone(w.Body), ReceivedAt: time.Now()}
}

func TestWeChatPaySDKSigns(t *testing.T) {
	o, serial, p, _ := wechatAccount(t)
	payment := object{
		"mchid": o.MchID, "appid": o.AppID, "out_trade_no": "A1001", "transaction_id": "4200000001", "trade_type": "JSAPI",
		"trade_state": "SUCCESS", "trade_state_desc": "支付成功", "attach": "客户-7", "success_time": "2026-03-04T13:06:00+08:00",
		"payer": object{"openid": "o-1"}, "amount": object{"total": 8805, "payer_total": 8805, "currency": "CNY", "payer_currency": "CNY"},
	}
	refund := object{
		"mchid": o.MchID, "out_trade_no": "A1001", "transaction_id": "4200000001", "out_refund_no": "R1", "refund_id": "5000000001",
		"refund_status": "SUCCESS", "success_time": "2026-03-04T14:06:00+08:00", "amount": object{"total": 8805, "refund": 805},
	}
	job := func(eventType, associated string, plain object) object {
		return object{
			"op": "sign", "id": "e-" + eventType, "event_type": eventType, "associated": associated, "plain": plain,
			"apiv3_key": reveal(t, o.APIv3Keys[0]), "private_key": reveal(t, o.SigningKey),
		}
	}
	signed := ask[wechatSigned](t, "wechatpay",
		job("TRANSACTION.SUCCESS", "transaction", payment), job("REFUND.SUCCESS", "refund", refund), job("TRANSACTION.SUCCESS", "", payment))
	for i, want := range []event.Type{event.PaymentSucceeded, event.RefundSucceeded, event.PaymentSucceeded} {
		for _, name := range []string{o.PublicKeys[0].ID, serial} {
			e := believe(t, p, signed[i].callback(name))
			if e.Type != want || e.OrderRef() != "A1001" || !e.MovesMoney() {
				t.Errorf("decoded as %+v", e)
			}
			if want == event.PaymentSucceeded && (e.Payment.Amount.Minor != 8805 || e.Merchant.CustomerRef != "客户-7") {
				t.Errorf("payment %+v of %+v", e.Payment, e.Merchant)
			}
			if want == event.RefundSucceeded && e.Refund.Amount.Minor != 805 {
				t.Errorf("refund %+v", e.Refund)
			}
		}
	}
	for what, spoil := range map[string]func(*provider.Callback){
		"body":      func(cb *provider.Callback) { cb.Body[len(cb.Body)/2] ^= 1 },
		"nonce":     func(cb *provider.Callback) { cb.Header.Set("Wechatpay-Nonce", "x") },
		"timestamp": func(cb *provider.Callback) { cb.Header.Set("Wechatpay-Timestamp", "1624523846") },
		"serial":    func(cb *provider.Callback) { cb.Header.Set("Wechatpay-Serial", strings.ToLower(serial)) },
		"probe": func(cb *provider.Callback) {
			signature := cb.Header.Get("Wechatpay-Signature")
			cb.Header.Set("Wechatpay-Signature", "WECHATPAY/SIGNTEST/"+signature[len("WECHATPAY/SIGNTEST/"):])
		},
	} {
		cb := signed[0].callback(serial)
		spoil(cb)
		refuse(t, p, cb, what)
	}
}

func TestWeChatPaySDKVerifies(t *testing.T) {
	o, _, p, s := wechatAccount(t)
	var jobs []object
	var samples []provider.Sample
	for _, typ := range []event.Type{event.PaymentSucceeded, event.PaymentFailed, event.RefundSucceeded} {
		sm := sample(t, "CNY")
		sm.Type = typ
		samples = append(samples, sm)
	}
	for _, tamper := range tampers {
		sm := sample(t, "CNY")
		sm.Tamper = tamper
		samples = append(samples, sm)
	}
	for _, sm := range samples {
		cb := sign(t, s, sm)
		if sm.Tamper == provider.TamperNone {
			believe(t, p, cb)
		} else {
			refuse(t, p, cb, string(sm.Tamper))
		}
		jobs = append(jobs, object{
			"op": "verify", "body": cb.Body, "timestamp": cb.Header.Get("Wechatpay-Timestamp"), "nonce": cb.Header.Get("Wechatpay-Nonce"),
			"signature": cb.Header.Get("Wechatpay-Signature"), "apiv3_key": reveal(t, o.APIv3Keys[0]),
			"public_key": read(t, strings.TrimPrefix(o.PublicKeys[0].Key, "file:")),
		})
	}
	for i, v := range ask[struct {
		verdict
		Plain object `json:"plain"`
	}](t, "wechatpay", jobs...) {
		if want := samples[i].Tamper == provider.TamperNone; v.Accepted != want {
			t.Errorf("%s %s: the SDK says %v (%s), want %v", samples[i].Type, samples[i].Tamper, v.Accepted, v.Reason, want)
		} else if want && (v.Plain["out_trade_no"] != "A1001" || v.Plain["mchid"] != o.MchID) {
			t.Errorf("the SDK reads %v", v.Plain)
		}
	}
}

// TestWeChatPayVector has the SDK judge the vector that our own tests rest on.
func TestWeChatPayVector(t *testing.T) {
	body := read(t, "../wechatpay/testdata/notice.json")
	fields := map[string]string{}
	for line := range strings.Lines(read(t, "../wechatpay/testdata/notice.headers")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		fields[name] = value
	}
	cert, err := provider.ParseCertificate([]byte(read(t, "../wechatpay/testdata/platform_certificate.pem")))
	if err != nil {
		t.Fatal(err)
	}
	spki := "-----BEGIN PUBLIC KEY-----\n" + base64.StdEncoding.EncodeToString(cert.RawSubjectPublicKeyInfo) + "\n-----END PUBLIC KEY-----"
	job := func(body string) object {
		return object{
			"op": "verify", "body": []byte(body), "timestamp": fields["Wechatpay-Timestamp"], "nonce": fields["Wechatpay-Nonce"],
			"signature": fields["Wechatpay-Signature"], "public_key": spki, "apiv3_key": "",
		}
	}
	// The SDK knows no APIv3 key as short as the vector's, so an authentic one fails
	// at its decryption, and an altered one before.
	got := ask[verdict](t, "wechatpay", job(body), job(body+" "))
	if got[0].Reason == "signature" || got[1].Reason != "signature" {
		t.Errorf("the SDK says %+v", got)
	}
}
