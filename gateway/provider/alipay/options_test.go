package alipay_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/paybell/paybell/configs/secret"
	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/gateway/provider/alipay"
	"github.com/paybell/paybell/gateway/provider/providertest"
	"github.com/paybell/paybell/streams/event"
)

func holds(tb testing.TB, e event.Event, text string) bool {
	tb.Helper()
	wire, err := json.Marshal(e)
	if err != nil {
		tb.Fatal(err)
	}
	return strings.Contains(string(wire), text)
}

func TestValidate(t *testing.T) {
	if err := options(t).Validate(); err != nil {
		t.Fatalf("good options: %v", err)
	}
	for _, c := range []struct {
		name string
		set  func(*alipay.Options)
		want string
	}{
		{"no application", func(o *alipay.Options) { o.AppID = "" }, "app_id: "},
		{"no keys", func(o *alipay.Options) { o.PublicKeys = nil }, "public_keys: "},
		{"empty key", func(o *alipay.Options) { o.PublicKeys = append(o.PublicKeys, " ") }, "public_keys[1]: "},
		{"key of no file", func(o *alipay.Options) { o.PublicKeys = []string{"file:"} }, "public_keys[0]: "},
		{"empty certificate", func(o *alipay.Options) { o.Certificates = []string{""} }, "certificates[0]: "},
		{"no sign types", func(o *alipay.Options) { o.SignTypes = nil }, "sign_types: "},
		{"unknown sign type", func(o *alipay.Options) { o.SignTypes = []string{"RSA2", "SM2"} }, "sign_types[1]: "},
		{"sign type twice", func(o *alipay.Options) { o.SignTypes = []string{"RSA2", "RSA2"} }, "sign_types[1]: "},
		{"customer reference in the signature", func(o *alipay.Options) { o.CustomerRef = "sign" }, "customer_ref: "},
		{"customer reference with a space", func(o *alipay.Options) { o.CustomerRef = "a b" }, "customer_ref: "},
		{"unknown encoding", func(o *alipay.Options) { o.CustomerRefEncoding = "hex" }, "customer_ref_encoding: "},
		{"signing key of nowhere", func(o *alipay.Options) { o.SigningKey = secret.Source{File: "a", Env: "B"} }, "signing_key: "},
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
	err := alipay.Options{}.Validate()
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("empty options: %v, want three problems", err)
	}
}

func TestNewNamesWhatItCannotRead(t *testing.T) {
	dir := t.TempDir()
	private := privateFile(t, keyNamed(t, "usual")).File
	text := testdata(t, "certificate.crt")
	garbage := filepath.Join(dir, "garbage.pem")
	if err := os.WriteFile(garbage, []byte("not a key at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := options(t)
	o.PublicKeys = []string{"file:" + filepath.Join(dir, "absent.pem"), "file:" + garbage, "file:" + private, "MIIB"}
	o.Certificates = []string{"file:" + garbage, string(text), "file:testdata/application_notice.pem"}
	_, err := alipay.New(o, clock)
	if err == nil {
		t.Fatal("unreadable keys were accepted")
	}
	for _, want := range []string{
		"public_keys[0] (file:absent.pem)", "public_keys[1] (file:garbage.pem)", "public_keys[2] (file:private.pem)",
		"public_keys[3] (inline)", "certificates[0] (file:garbage.pem)", "certificates[2] (file:application_notice.pem)",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %s:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "certificates[1]") || strings.Contains(err.Error(), "not a key at all") {
		t.Errorf("the error says too much:\n%v", err)
	}
}

func TestNewSigner(t *testing.T) {
	o := options(t)
	o.SigningKey = secret.Source{}
	if _, err := alipay.NewSigner(o, clock); !errors.Is(err, provider.ErrCannotSign) {
		t.Errorf("%v, want ErrCannotSign", err)
	}
	o.SigningKey = privateFile(t, keyNamed(t, "other"))
	if _, err := alipay.NewSigner(o, clock); err == nil {
		t.Error("a signing key that belongs to no configured key was accepted")
	}
	o.PublicKeys, o.Certificates = nil, []string{certificate(t, providertest.Key{Name: "other"})}
	if _, err := alipay.NewSigner(o, clock); err != nil {
		t.Errorf("signing key of a certificate: %v", err)
	}
	o.SigningKey = secret.Source{File: filepath.Join(t.TempDir(), "absent.pem")}
	if _, err := alipay.NewSigner(o, clock); err == nil || !strings.Contains(err.Error(), "absent.pem") {
		t.Errorf("%v, want the file's name", err)
	}
}

func TestSignerRefusesOtherCurrencies(t *testing.T) {
	_, s := account(t, options(t))
	_, err := s.Sign(provider.Sample{OrderRef: "A1", Amount: event.Money{Value: "1.00", Minor: 100, Exponent: 2, Currency: "USD"}})
	if !errors.Is(err, provider.ErrNoSample) {
		t.Errorf("%v, want ErrNoSample", err)
	}
}

func TestSandbox(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	first, err := alipay.Sandbox(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := alipay.Sandbox(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Validate(); err != nil {
		t.Errorf("sandbox options: %v", err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", f.Name(), info.Mode(), err)
		}
	}
	_, s := account(t, first)
	p, _ := account(t, second)
	cb, err := s.Sign(provider.Sample{OrderRef: "A1001", CustomerRef: "c&1 %", Amount: event.Money{Value: "88.00", Minor: 8800, Exponent: 2, Currency: "CNY"}})
	if err != nil {
		t.Fatal(err)
	}
	d := believed(t, p, cb.Body)
	if d.Event.Type != event.PaymentSucceeded || d.Event.Merchant.CustomerRef != "c&1 %" || d.Event.Payment.Amount.Minor != 8800 {
		t.Errorf("decoded as %+v", d.Event)
	}
	if d.Event.Live == nil || *d.Event.Live {
		t.Error("a sandbox is not live")
	}
}
