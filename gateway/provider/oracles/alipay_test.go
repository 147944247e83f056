package oracles_test

import (
	"bytes"
	"crypto/x509/pkix"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/gateway/provider/alipay"
	"github.com/paybell/paybell/streams/event"
)

// alipayAccount is a sandbox whose private key the SDK may have as well.
func alipayAccount(tb testing.TB) (o alipay.Options, p *alipay.Provider, s *alipay.Signer) {
	tb.Helper()
	o, err := alipay.Sandbox(tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	if p, err = alipay.New(o, time.Now); err != nil {
		tb.Fatal(err)
	}
	if s, err = alipay.NewSigner(o, time.Now); err != nil {
		tb.Fatal(err)
	}
	return o, p, s
}

func alipayKey(tb testing.TB, o alipay.Options) string {
	tb.Helper()
	return read(tb, strings.TrimPrefix(o.PublicKeys[0], "file:"))
}

// alipayTrade are a trade notice's parameters.
func alipayTrade(o alipay.Options, changes map[string]string) map[string]string {
	params := map[string]string{
		"notify_id": "2026030400222130607000000000000001", "notify_type": "trade_status_sync",
		"notify_time": "2026-03-04 13:06:07", "charset": "utf-8", "version": "1.0", "sign_type": "RSA2",
		"app_id": o.AppID, "seller_id": o.SellerID, "trade_status": "TRADE_SUCCESS", "out_trade_no": "A1001",
		"trade_no": "2026030422001400000000000001", "total_amount": "88.05", "gmt_payment": "2026-03-04 13:06:00",
	}
	maps.Copy(params, changes)
	return params
}

func formCallback(body []byte) *provider.Callback {
	return &provider.Callback{Method: "POST", Body: body, ReceivedAt: time.Now()}
}

func TestAlipaySDKSigns(t *testing.T) {
	o, p, _ := alipayAccount(t)
	private := reveal(t, o.SigningKey)
	cases := []struct {
		name     string
		changes  map[string]string
		signType bool
	}{
		{"trade notice", nil, false},
		{"trade notice signed as messages are", nil, true},
		{"with JSON", map[string]string{"fund_bill_list": `[{"amount":"88.05","fundChannel":"ALIPAYACCOUNT"}]`}, false},
		{"with percent, plus and ampersand", map[string]string{"subject": "100% a+b & c", "body": "%41 =?"}, false},
		{"in Chinese", map[string]string{"subject": "语雀空间 500人规模", "body": "１＋１"}, false},
		{"with an empty parameter", map[string]string{"body": ""}, false},
		{"with an empty parameter, as messages are", map[string]string{"body": ""}, true},
		{"with names that are prefixes", map[string]string{"coupon_1": "a", "coupon_10": "b", "coupon": "c"}, false},
	}
	var jobs []object
	for _, c := range cases {
		jobs = append(jobs, object{"op": "sign", "params": alipayTrade(o, c.changes), "private_key": private, "with_sign_type": c.signType})
	}
	signed := ask[struct {
		Body []byte `json:"body"`
	}](t, "alipay", jobs...)
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			e := believe(t, p, formCallback(signed[i].Body))
			if e.Type != event.PaymentSucceeded || e.OrderRef() != "A1001" || e.Payment.Amount.Minor != 8805 {
				t.Errorf("decoded as %+v %+v", e, e.Payment)
			}
			altered := bytes.Replace(signed[i].Body, []byte("total_amount=88.05"), []byte("total_amount=98.05"), 1)
			refuse(t, p, formCallback(altered), "altered amount")
			refuse(t, p, formCallback(append(slices.Clip(signed[i].Body), "&refund_fee=1"...)), "added parameter")
			_, stranger, _ := alipayAccount(t)
			refuse(t, stranger, formCallback(signed[i].Body), "another account's key")
		})
	}
}

func TestAlipaySDKVerifies(t *testing.T) {
	o, p, s := alipayAccount(t)
	certified := o
	text, cert := certify(t, reveal(t, o.SigningKey), pkix.Name{
		Country: []string{"CN"}, Organization: []string{"杭州某某信息技术有限公司"}, OrganizationalUnit: []string{"Alipay"},
		CommonName: "支付宝(中国)-2088000000000000",
	})
	certified.PublicKeys, certified.Certificates = nil, []string{text}
	byCertificate, err := alipay.New(certified, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	certifiedSigner, err := alipay.NewSigner(certified, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	key := alipayKey(t, o)
	var jobs []object
	var want []bool
	add := func(s provider.Signer, p provider.Provider, sm provider.Sample, good bool, keys object) {
		cb := sign(t, s, sm)
		job := object{"op": "verify", "body": cb.Body}
		maps.Copy(job, keys)
		jobs, want = append(jobs, job), append(want, good)
		if good {
			believe(t, p, cb)
		} else {
			refuse(t, p, cb, string(sm.Tamper))
		}
	}
	for _, typ := range []event.Type{event.PaymentSucceeded, event.PaymentPending, event.PaymentClosed, event.RefundSucceeded} {
		sm := sample(t, "CNY")
		sm.Type, sm.CustomerRef = typ, "客户 7 & co"
		add(s, p, sm, true, object{"public_key": key})
		add(certifiedSigner, byCertificate, sm, true, object{"certificate": text})
	}
	for _, tamper := range tampers {
		sm := sample(t, "CNY")
		sm.Tamper = tamper
		add(s, p, sm, false, object{"public_key": key})
	}
	for i, v := range ask[verdict](t, "alipay", jobs...) {
		if v.Accepted != want[i] {
			t.Errorf("job %d: the SDK says %v, want %v", i, v.Accepted, want[i])
		}
	}
	ours, err := alipay.CertificateSN(cert)
	if err != nil {
		t.Fatal(err)
	}
	theirs := ask[struct {
		SN string `json:"sn"`
	}](t, "alipay", object{"op": "sn", "certificate": text})
	if ours != theirs[0].SN {
		t.Errorf("SN %s, the SDK says %s", ours, theirs[0].SN)
	}
}

// TestAlipayVector has the SDK judge the vector that our own tests rest on.
func TestAlipayVector(t *testing.T) {
	dir := filepath.Join("..", "alipay", "testdata")
	body, key := read(t, filepath.Join(dir, "trade_notice.form")), read(t, filepath.Join(dir, "trade_notice.key"))
	key = "-----BEGIN PUBLIC KEY-----\n" + key + "\n-----END PUBLIC KEY-----"
	values, err := url.ParseQuery(body)
	if err != nil {
		t.Fatal(err)
	}
	values.Set("notify_id", "1")
	verdicts := ask[verdict](t, "alipay",
		object{"op": "verify", "body": []byte(body), "public_key": key},
		object{"op": "verify", "body": []byte(values.Encode()), "public_key": key})
	if !verdicts[0].Accepted || verdicts[1].Accepted {
		t.Errorf("the SDK says %v of the vector and %v of an altered one", verdicts[0].Accepted, verdicts[1].Accepted)
	}
}
