package alipay_test

import (
	"errors"
	"testing"
	"time"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/gateway/provider/alipay"
	"github.com/paybell/paybell/gateway/provider/providertest"
	"github.com/paybell/paybell/streams/event"
)

func reason(err error) provider.Reason {
	if r, ok := errors.AsType[*provider.Refusal](err); ok {
		return r.Reason
	}
	return ""
}

func TestCanonicalForms(t *testing.T) {
	p, _ := account(t, options(t))
	for _, c := range []struct {
		name    string
		form    form
		without []string
	}{
		{"V1", trade(form{"sign_type": "RSA2"}), []string{"sign_type"}},
		{"V2", trade(form{"sign_type": "RSA2"}), nil},
		{"V1, empty parameters dropped", trade(form{"sign_type": "RSA2", "body": "", "a": ""}), []string{"sign_type", "body", "a"}},
		{"V1, empty parameters kept", trade(form{"sign_type": "RSA2", "body": ""}), []string{"sign_type"}},
		{"V2, empty parameters dropped", trade(form{"sign_type": "RSA2", "body": ""}), []string{"body"}},
		{"V2, empty parameters kept", trade(form{"sign_type": "RSA2", "body": ""}), nil},
		{"V1, certificate left out", trade(form{"sign_type": "RSA2", "alipay_cert_sn": "1"}), []string{"sign_type", "alipay_cert_sn"}},
		{"V1, certificate signed", trade(form{"sign_type": "RSA2", "alipay_cert_sn": "1"}), []string{"sign_type"}},
		{"V2, all of it signed", trade(form{"sign_type": "RSA2", "alipay_cert_sn": "1", "body": ""}), nil},
		{"names that are prefixes of each other", trade(form{"coupon_id_1": "a", "coupon_id_10": "b", "coupon_id": "c"}), nil},
		{"values that look encoded", trade(form{"subject": "100% a+b &amp; %41", "body": " x "}), nil},
		{"a value from the curl days", trade(form{"body": "@file"}), nil},
		{"JSON", trade(form{"fund_bill_list": `[{"amount":"88.00","fundChannel":"PCREDIT"}]`}), nil},
		{"upper case before lower", trade(form{"Zebra": "1", "apple": "2"}), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			key := keyNamed(t, "usual")
			d := believed(t, p, c.form.signed(t, key, c.form.canonical(c.without...)))
			if d.Event.Type != event.PaymentSucceeded || d.Event.Payment.Amount.Minor != 8800 {
				t.Errorf("decoded as %s %+v", d.Event.Type, d.Event.Payment)
			}
			refused(t, p, c.form.signed(t, key, c.form.canonical(append(c.without, "total_amount")...)), provider.ReasonMismatch)
		})
	}
}

func TestSHA1OnlyWhereAllowed(t *testing.T) {
	f := trade(form{"sign_type": "RSA"})
	body := f.signed(t, keyNamed(t, "usual"), f.canonical("sign_type"))
	o := options(t)
	p, _ := account(t, o)
	refused(t, p, body, provider.ReasonUnsupported)
	o.SignTypes = []string{alipay.RSA2, alipay.RSA}
	p, _ = account(t, o)
	believed(t, p, body)
	// A SHA-1 signature is not accepted under the name of the better one.
	body = append(f.signed(t, keyNamed(t, "usual"), f.canonical("sign_type")), '2')
	refused(t, p, body, provider.ReasonMismatch)
	o.SignTypes = []string{alipay.RSA}
	p, s := account(t, o)
	cb, err := s.Sign(provider.Sample{OrderRef: "A1001"})
	if err != nil {
		t.Fatal(err)
	}
	believed(t, p, cb.Body)
	f = trade(form{"sign_type": "RSA2"})
	refused(t, p, f.signed(t, keyNamed(t, "usual"), f.canonical("sign_type")), provider.ReasonUnsupported)
}

func TestCertificates(t *testing.T) {
	usual, other := certificate(t, providertest.Key{Name: "usual"}), certificate(t, providertest.Key{Name: "other"})
	sn := func(text string) string {
		cert, err := provider.ParseCertificate([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		sn, err := alipay.CertificateSN(cert)
		if err != nil {
			t.Fatal(err)
		}
		return sn
	}
	body := func(serial string) []byte {
		f := trade(form{"sign_type": "RSA2"})
		if serial != "" {
			f["alipay_cert_sn"] = serial
		}
		return f.signed(t, keyNamed(t, "usual"), f.canonical("sign_type", "alipay_cert_sn"))
	}
	o := options(t)
	o.PublicKeys = nil
	o.Certificates = []string{other, usual}
	p, _ := account(t, o)
	cb := callback(body(sn(usual)))
	v, err := p.Verify(cb)
	if err != nil || v.Evidence.KeyID != "cert:"+sn(usual) {
		t.Fatalf("evidence %+v, %v", v, err)
	}
	believed(t, p, body("")) // no certificate is named: any of them will do
	refused(t, p, body(sn(other)), provider.ReasonMismatch)
	refused(t, p, body("00000000000000000000000000000000"), provider.ReasonUnknownKey)
	// While an application moves from keys to certificates it has both.
	o.Certificates, o.PublicKeys = []string{other}, []string{bare(t, keyNamed(t, "usual"))}
	p, _ = account(t, o)
	believed(t, p, body(sn(usual)))
	refused(t, p, body(sn(other)), provider.ReasonMismatch)
}

// TestSignedTextReadsOneWay moves the borders between parameters of an authentic
// notice without changing the text that is signed.
func TestSignedTextReadsOneWay(t *testing.T) {
	p, _ := account(t, options(t))
	key := keyNamed(t, "usual")
	honest := trade(form{"subject": "s&total_amount=9999.00&tp="})
	text := honest.canonical()
	refused(t, p, honest.signed(t, key, text), provider.ReasonAmbiguous)

	raised := trade(form{"subject": "s", "total_amount": "9999.00", "tp": "&total_amount=88.00"})
	if raised.canonical() != text {
		t.Fatal("the two forms do not join to one text: this tests nothing")
	}
	refused(t, p, raised.signed(t, key, text), provider.ReasonAmbiguous)

	refund := trade(form{"refund_fee": "88.00", "gmt_refund": "2026-03-04 14:00:00"})
	hidden := trade(form{"out_trade_no": "A1001&refund_fee=88.00", "gmt_payment": "2026-03-04 13:06:00&gmt_refund=2026-03-04 14:00:00"})
	if hidden.canonical() != refund.canonical() {
		t.Fatal("the two forms do not join to one text: this tests nothing")
	}
	believed(t, p, refund.signed(t, key, refund.canonical()))
	refused(t, p, hidden.signed(t, key, refund.canonical()), provider.ReasonAmbiguous)

	named := trade(form{"out_trade_no": "-", "notify_type&out_trade_no": "trade_status_sync=A1001"})
	refused(t, p, named.signed(t, key, text), provider.ReasonMalformedBody)

	taken := trade(form{"body": "x&passback_params=customer-2"})
	refused(t, p, taken.signed(t, key, taken.canonical()), provider.ReasonAmbiguous)

	// The application gateway signs with sign_type. Cut so that it slips into the value
	// before it, the same text passes for a trade notice of another seller.
	second := trade(form{"sign_type": "RSA2", "seller_id": "2088000000000001"})
	slipped := trade(form{"seller_id": "2088000000000001&sign_type=RSA2"})
	if slipped.canonical() != second.canonical() {
		t.Fatal("the two forms do not join to one text: this tests nothing")
	}
	o := options(t)
	o.SellerID = ""
	anySeller, _ := account(t, o)
	believed(t, anySeller, second.signed(t, key, second.canonical()))
	refused(t, anySeller, slipped.signed(t, key, second.canonical()), provider.ReasonAmbiguous)
	for _, name := range []string{"charset", "gmt_close", "alipay_cert_sn"} {
		f := trade(form{"body": "x&" + name + "=y"})
		refused(t, p, f.signed(t, key, f.canonical()), provider.ReasonAmbiguous)
	}

	// Ampersands as such are nothing bad.
	fine := trade(form{"subject": "Tea & cups", "body": "a=1&b=2&total=3&total_amountx=4", "passback_params": "a&b"})
	believed(t, p, fine.signed(t, key, fine.canonical()))
}

// TestReturnURL: what the buyer's browser carries to return_url is signed with the
// same key. It must not become a payment, posted or in the query.
func TestReturnURL(t *testing.T) {
	p, _ := account(t, options(t))
	key := keyNamed(t, "usual")
	f := form{
		"app_id": "2021000000000001", "seller_id": "2088000000000001", "method": "alipay.trade.page.pay.return",
		"out_trade_no": "A1001", "trade_no": "2026030422001400000000000001", "total_amount": "88.00",
		"timestamp": "2026-03-04 13:06:07", "charset": "utf-8", "version": "1.0",
	}
	body := f.signed(t, key, f.canonical())
	if d := believed(t, p, body); d.Event.Type != event.Unmapped || d.Event.Payment != nil || d.Event.MovesMoney() {
		t.Errorf("a return_url became %s", d.Event.Type)
	}
	cb := callback(nil)
	cb.RawQuery = string(body)
	if _, err := p.Verify(cb); reason(err) != provider.ReasonMissingSignature {
		t.Errorf("the query was read: %v", err)
	}
	good := trade(nil)
	cb = callback(good.signed(t, key, good.canonical()))
	cb.RawQuery = "total_amount=1.00&trade_status=TRADE_CLOSED"
	v, err := p.Verify(cb)
	if err != nil {
		t.Fatal(err)
	}
	if ds, err := p.Decode(cb, v); err != nil || ds[0].Event.Payment.Amount.Minor != 8800 {
		t.Errorf("the query took part: %+v %v", ds, err)
	}
}

func TestIdentity(t *testing.T) {
	for _, c := range []struct {
		name    string
		changes form
		set     func(*alipay.Options)
		want    provider.Reason
	}{
		{"another application", form{"app_id": "2021000000000002"}, nil, provider.ReasonIdentity},
		{"no application", form{"app_id": "-"}, nil, provider.ReasonIdentity},
		{"another seller", form{"seller_id": "2088000000000002"}, nil, provider.ReasonIdentity},
		{"no seller in a trade notice", form{"seller_id": "-"}, nil, provider.ReasonIdentity},
		{"no seller in another message", form{"seller_id": "-", "notify_type": "open_app_auth_notify"}, nil, ""},
		{"another seller in another message", form{"seller_id": "2088000000000002", "notify_type": "open_app_auth_notify"}, nil, provider.ReasonIdentity},
		{"any seller where none is configured", form{"seller_id": "2088000000000002"}, func(o *alipay.Options) { o.SellerID = "" }, ""},
		{"no application configured", form{"app_id": "-"}, func(o *alipay.Options) { o.AppID = "" }, provider.ReasonIdentity},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := options(t)
			if c.set != nil {
				c.set(&o)
			}
			p, _ := account(t, o)
			f := trade(c.changes)
			body := f.signed(t, keyNamed(t, "usual"), f.canonical())
			if c.want == "" {
				believed(t, p, body)
			} else {
				refused(t, p, body, c.want)
			}
		})
	}
	p, _ := account(t, options(t))
	if got := p.Identity().Merchant; got != "2021000000000001" {
		t.Errorf("identity %q", got)
	}
}

func TestEvidence(t *testing.T) {
	p, _ := account(t, options(t))
	f := trade(nil)
	v, err := p.Verify(callback(f.signed(t, keyNamed(t, "usual"), f.canonical())))
	if err != nil {
		t.Fatal(err)
	}
	if want := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC); !v.Evidence.SignedAt.Equal(want) {
		t.Errorf("signed at %v, want %v", v.Evidence.SignedAt, want)
	}
	if len(v.Evidence.KeyID) != len("sha256:")+16 {
		t.Errorf("key id %q", v.Evidence.KeyID)
	}
}
