package wechatpay_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/configs/secret"
	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/gateway/provider/wechatpay"
	"github.com/paybell/paybell/streams/event"
)

func TestValidate(t *testing.T) {
	if err := options(t).Validate(); err != nil {
		t.Fatalf("good options: %v", err)
	}
	for _, c := range []struct {
		name string
		set  func(*wechatpay.Options)
		want string
	}{
		{"no merchant", func(o *wechatpay.Options) { o.MchID = "" }, "mchid: "},
		{"no keys", func(o *wechatpay.Options) { o.PublicKeys = nil }, "public_keys: "},
		{"a key without an id", func(o *wechatpay.Options) { o.PublicKeys[0].ID = "PUB_KEY_ID_" }, "public_keys[0].id: "},
		{"a key with a certificate's name", func(o *wechatpay.Options) { o.PublicKeys[0].ID = "5157F0" }, "public_keys[0].id: "},
		{"a key twice", func(o *wechatpay.Options) { o.PublicKeys = append(o.PublicKeys, o.PublicKeys[0]) }, "public_keys[1].id: "},
		{"a key that is empty", func(o *wechatpay.Options) { o.PublicKeys[0].Key = "file: " }, "public_keys[0].key: "},
		{"a certificate that is empty", func(o *wechatpay.Options) { o.PlatformCertificates = []string{""} }, "platform_certificates[0]: "},
		{"no APIv3 key", func(o *wechatpay.Options) { o.APIv3Keys = nil }, "apiv3_keys: "},
		{"an APIv3 key of nowhere", func(o *wechatpay.Options) { o.APIv3Keys = secret.Slot{{}} }, "apiv3_keys[0]: "},
		{"no tolerance", func(o *wechatpay.Options) { o.Tolerance = 0 }, "tolerance: "},
		{"endless tolerance", func(o *wechatpay.Options) { o.Tolerance = 2 * time.Hour }, "tolerance: "},
		{"a customer reference that is no pointer", func(o *wechatpay.Options) { o.CustomerRef = "attach" }, "customer_ref: "},
		{"a customer reference that is personal", func(o *wechatpay.Options) { o.CustomerRef = "/payer/openid" }, "customer_ref: "},
		{"signing key of nowhere", func(o *wechatpay.Options) { o.SigningKey = secret.Source{File: "a", Env: "B"} }, "signing_key: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := options(t)
			c.set(&o)
			err := o.Validate()
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("%v, want a problem of %s", err, c.want)
			}
		})
	}
	err := wechatpay.Options{}.Validate()
	if err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("empty options: %v, want four problems", err)
	}
}

func TestNewNamesWhatItCannotRead(t *testing.T) {
	o := options(t)
	o.PublicKeys = append(o.PublicKeys,
		wechatpay.PublicKey{ID: "PUB_KEY_ID_1", Key: "file:absent.pem"},
		wechatpay.PublicKey{ID: "PUB_KEY_ID_2", Key: "file:" + o.SigningKey.File},
		wechatpay.PublicKey{ID: o.PublicKeys[0].ID, Key: o.PublicKeys[0].Key})
	o.PlatformCertificates = []string{"not a certificate", o.PublicKeys[0].Key}
	o.APIv3Keys = append(o.APIv3Keys, file(t, "too short"), secret.Source{Env: "PAYBELL_TEST_NO_SUCH_VARIABLE"})
	_, err := wechatpay.New(o, clock)
	if err == nil {
		t.Fatal("unreadable keys were accepted")
	}
	for _, want := range []string{
		"public_keys[1] (file:absent.pem)", "public_keys[2] (file:secret)", "public_keys[3] (inline)",
		"platform_certificates[0] (inline)", "platform_certificates[1] (inline)", "env:PAYBELL_TEST_NO_SUCH_VARIABLE",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %s:\n%v", want, err)
		}
	}
	o.APIv3Keys = o.APIv3Keys[:2]
	if _, err = wechatpay.New(o, clock); err == nil || !strings.Contains(err.Error(), "apiv3_keys[1]") || strings.Contains(err.Error(), "too short") {
		t.Errorf("%v, want apiv3_keys[1] without its text", err)
	}
}

func TestNewSigner(t *testing.T) {
	o := options(t)
	o.SigningKey = secret.Source{}
	if _, err := wechatpay.NewSigner(o, clock); !errors.Is(err, provider.ErrCannotSign) {
		t.Errorf("%v, want ErrCannotSign", err)
	}
	o.SigningKey = privateFile(t, "other")
	if _, err := wechatpay.NewSigner(o, clock); err == nil || errors.Is(err, provider.ErrCannotSign) {
		t.Errorf("%v, want that the signing key belongs to no configured key", err)
	}
	o = options(t)
	o.APIv3Keys = nil
	if _, err := wechatpay.NewSigner(o, clock); !errors.Is(err, provider.ErrCannotSign) {
		t.Errorf("%v, want ErrCannotSign without an APIv3 key", err)
	}
}

func TestSignerHasNoSampleOf(t *testing.T) {
	o := options(t)
	o.CustomerRef = "/mchid/customer"
	_, s := account(t, o)
	usd := event.Money{Value: "1.00", Minor: 100, Exponent: 2, Currency: "USD"}
	for name, sample := range map[string]provider.Sample{
		"a refund in dollars":      {Type: event.RefundSucceeded, Amount: usd},
		"a customer inside a text": {CustomerRef: "c"},
	} {
		if _, err := s.Sign(sample); !errors.Is(err, provider.ErrNoSample) {
			t.Errorf("%s: %v, want ErrNoSample", name, err)
		}
	}
	if _, err := s.Sign(provider.Sample{Amount: usd}); err != nil {
		t.Errorf("a payment in dollars: %v", err)
	}
}

func TestServiceProviderSigns(t *testing.T) {
	o := options(t)
	o.SubMchID = "1900000009"
	p, s := account(t, o)
	for _, typ := range []event.Type{event.PaymentSucceeded, event.RefundSucceeded} {
		cb, err := s.Sign(provider.Sample{Type: typ, OrderRef: "A1001"})
		if err != nil {
			t.Fatal(err)
		}
		if e := believed(t, p, cb)[0].Event; e.Type != typ || e.Merchant.Account != "1900000009" {
			t.Errorf("%s for %+v, want %s", e.Type, e.Merchant, typ)
		}
	}
}

func TestSandbox(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	first, err := wechatpay.Sandbox(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := wechatpay.Sandbox(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Validate(); err != nil {
		t.Errorf("sandbox options: %v", err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 3 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", f.Name(), info.Mode(), err)
		}
	}
	_, s := account(t, first)
	p, _ := account(t, second)
	cb, err := s.Sign(provider.Sample{OrderRef: "A1001", CustomerRef: "cust-7", Amount: event.Money{Value: "88.00", Minor: 8800, Exponent: 2, Currency: "CNY"}})
	if err != nil {
		t.Fatal(err)
	}
	e := believed(t, p, cb)[0].Event
	if e.Type != event.PaymentSucceeded || e.Merchant.CustomerRef != "cust-7" || e.Payment.Amount.Minor != 8800 || e.Live == nil || *e.Live {
		t.Errorf("decoded as %+v", e)
	}
}
