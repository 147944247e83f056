package wechatpay_test

import (
	"slices"
	"testing"
	"time"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/gateway/provider/providertest"
	"github.com/paybell/paybell/gateway/provider/wechatpay"
)

// TestBothModes has an account that moves from certificates to the public key, and
// callbacks under either.
func TestBothModes(t *testing.T) {
	o := options(t)
	o.PlatformCertificates = []string{certificate(t, providertest.Key{Name: "certified"})}
	p, byKey := account(t, o)
	byCertificate := o
	byCertificate.PublicKeys, byCertificate.SigningKey = nil, privateFile(t, "certified")
	_, s := account(t, byCertificate)
	for _, signer := range []*wechatpay.Signer{byKey, s} {
		cb, err := signer.Sign(provider.Sample{OrderRef: "A1001"})
		if err != nil {
			t.Fatal(err)
		}
		v, err := p.Verify(cb)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := v.Evidence.KeyID, cb.Header.Get("Wechatpay-Serial"); got != want {
			t.Errorf("verified with %s, want %s", got, want)
		}
	}
	// The serial chooses the key; a good signature under another name is none.
	cb, err := s.Sign(provider.Sample{OrderRef: "A1001"})
	if err != nil {
		t.Fatal(err)
	}
	cb.Header.Set("Wechatpay-Serial", o.PublicKeys[0].ID)
	refused(t, p, cb, provider.ReasonMismatch)
	if n := len(p.Identity().Keys); n != 2 || p.Identity().Merchant != "1900000001" {
		t.Errorf("identity has %d keys and merchant %q", n, p.Identity().Merchant)
	}
}

func TestSerialHasTwoDigitsAByte(t *testing.T) {
	cert, err := provider.ParseCertificate([]byte(certificate(t, providertest.Key{Name: "x"})))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := wechatpay.Serial(cert), "052073657269616C206F662078"; got != want {
		t.Errorf("serial %s, want %s", got, want)
	}
}

func TestSignatureTypeMayBeMissing(t *testing.T) {
	p, s := account(t, options(t))
	cb, err := s.Sign(provider.Sample{OrderRef: "A1001"})
	if err != nil {
		t.Fatal(err)
	}
	cb.Header.Del("Wechatpay-Signature-Type")
	believed(t, p, cb)
}

func TestAPIv3KeysRotate(t *testing.T) {
	const other = "ABCDEFGHIJabcdefghij0123456789+-"
	o := options(t)
	_, s := account(t, o)
	cb, err := s.Sign(provider.Sample{OrderRef: "A1001"})
	if err != nil {
		t.Fatal(err)
	}
	o.APIv3Keys = slices.Insert(o.APIv3Keys, 0, file(t, other))
	p, newer := account(t, o)
	believed(t, p, cb)
	again, err := newer.Sign(provider.Sample{OrderRef: "A1001"})
	if err != nil {
		t.Fatal(err)
	}
	o.APIv3Keys = o.APIv3Keys[:1]
	p, _ = account(t, o)
	believed(t, p, again)
	// The key is missing here, not there: the callback is asked for again.
	refused(t, p, cb, provider.ReasonUnknownKey)
	o.APIv3Keys[0].NotBefore = now.Add(time.Second)
	p, err = wechatpay.New(o, clock)
	if err != nil {
		t.Fatal(err)
	}
	refused(t, p, again, provider.ReasonNoKey)
	o.APIv3Keys[0].NotBefore, o.APIv3Keys[0].NotAfter = time.Time{}, now
	if p, err = wechatpay.New(o, clock); err != nil {
		t.Fatal(err)
	}
	refused(t, p, again, provider.ReasonNoKey)
}

func TestResource(t *testing.T) {
	plain := []byte(`{"mchid":"1900000001","appid":"wx0000000000000001","trade_state":"SUCCESS","transaction_id":"42","amount":{"total":1}}`)
	for _, c := range []struct {
		name   string
		change func(object)
		reason provider.Reason // "" means malformed
	}{
		{"another algorithm", func(r object) { r["algorithm"] = "AEAD_SM4_GCM" }, provider.ReasonUnsupported},
		{"no algorithm", func(r object) { delete(r, "algorithm") }, provider.ReasonUnsupported},
		{"a short nonce", func(r object) { r["nonce"] = "abc" }, ""},
		{"no nonce", func(r object) { delete(r, "nonce") }, ""},
		{"ciphertext not base64", func(r object) { r["ciphertext"] = "!" }, ""},
		{"no ciphertext", func(r object) { delete(r, "ciphertext") }, provider.ReasonUnknownKey},
		{"other associated data", func(r object) { r["associated_data"] = "refund" }, provider.ReasonUnknownKey},
		{"another nonce", func(r object) { r["nonce"] = "lkjihgfedcba" }, provider.ReasonUnknownKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, s := account(t, options(t))
			r := sealed(t, apiv3Key, plain, "transaction")
			body := object{"id": "e-1", "event_type": "TRANSACTION.SUCCESS", "resource": r}
			believed(t, p, callback(t, s, body))
			c.change(r)
			if c.reason == "" {
				malformed(t, p, callback(t, s, body))
			} else {
				refused(t, p, callback(t, s, body), c.reason)
			}
		})
	}
	p, s := account(t, options(t))
	t.Run("no associated data at all", func(t *testing.T) {
		r := sealed(t, apiv3Key, plain, "")
		delete(r, "associated_data")
		believed(t, p, callback(t, s, object{"id": "e-1", "event_type": "TRANSACTION.SUCCESS", "resource": r}))
	})
	t.Run("no resource", func(t *testing.T) { malformed(t, p, callback(t, s, object{"id": "e-1"})) })
	t.Run("a resource that is no object", func(t *testing.T) {
		malformed(t, p, callback(t, s, object{"id": "e-1", "resource": "x"}))
	})
	t.Run("a resource that is no JSON", func(t *testing.T) {
		malformed(t, p, callback(t, s, object{"id": "e-1", "resource": sealed(t, apiv3Key, []byte("{"), "")}))
	})
	t.Run("a member that comes twice", func(t *testing.T) {
		malformed(t, p, callback(t, s, []byte(`{"id":"e-1","id":"e-2"}`)))
	})
}
