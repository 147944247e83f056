package catalog_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/gateway/provider/alipay"
	"github.com/paybell/paybell/gateway/provider/catalog"
	"github.com/paybell/paybell/gateway/provider/stripe"
	"github.com/paybell/paybell/streams/event"
)

func now() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC) }

func TestNames(t *testing.T) {
	want := []string{"alipay", "standardwebhooks", "stripe", "wechatpay"}
	if got := catalog.Names(); !slices.Equal(got, want) {
		t.Errorf("names %v, want %v", got, want)
	}
	if _, ok := catalog.Lookup("paypigeon"); ok {
		t.Error("found a provider nobody has written")
	}
	for _, name := range want {
		e, ok := catalog.Lookup(name)
		if !ok || e.Name != name {
			t.Errorf("Lookup(%s) is %q, %v", name, e.Name, ok)
		}
		if e.Redelivery < time.Hour || e.Redelivery > 40*24*time.Hour {
			t.Errorf("%s resends over %s, which cannot be", name, e.Redelivery)
		}
	}
}

// TestSandboxes runs every provider from its own sandbox to an event, through
// nothing but what the catalog hands out.
func TestSandboxes(t *testing.T) {
	amount, err := event.ParseDecimal("88.00", "CNY")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range catalog.Names() {
		t.Run(name, func(t *testing.T) {
			e, _ := catalog.Lookup(name)
			o, err := e.Sandbox(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if err := o.Validate(); err != nil {
				t.Errorf("sandbox options: %v", err)
			}
			p, err := e.New(o, now)
			if err != nil {
				t.Fatal(err)
			}
			s, err := e.Signer(o, now)
			if err != nil {
				t.Fatal(err)
			}
			cb, err := s.Sign(provider.Sample{OrderRef: "A1001", CustomerRef: "cust-7", Amount: amount, At: now()})
			if err != nil {
				t.Fatal(err)
			}
			v, err := p.Verify(cb)
			if err != nil {
				t.Fatal(err)
			}
			ds, err := p.Decode(cb, v)
			if err != nil || len(ds) != 1 {
				t.Fatalf("decoded as %+v, %v", ds, err)
			}
			ev := ds[0].Event
			if ev.Type != event.PaymentSucceeded || ev.OrderRef() != "A1001" || *ev.Payment.Amount != amount {
				t.Errorf("decoded as %+v %+v", ev, ev.Payment)
			}
			if ev.Merchant.CustomerRef != "cust-7" {
				t.Errorf("customer ref %q: a sandbox must show points", ev.Merchant.CustomerRef)
			}
		})
	}
}

func TestNewOptions(t *testing.T) {
	for _, name := range catalog.Names() {
		t.Run(name, func(t *testing.T) {
			e, _ := catalog.Lookup(name)
			o := e.NewOptions()
			if k := reflect.TypeOf(o).Kind(); k != reflect.Pointer {
				t.Fatalf("options are a %s, want a pointer to decode into", k)
			}
			if err := o.Validate(); err == nil {
				t.Error("options without a key are valid")
			}
			if reflect.ValueOf(o).Pointer() == reflect.ValueOf(e.NewOptions()).Pointer() {
				t.Error("two accounts share their options")
			}
			decoder := yaml.NewDecoder(strings.NewReader("no_such_key: 1\n"))
			decoder.KnownFields(true)
			if err := decoder.Decode(o); err == nil {
				t.Error("an unknown key was decoded")
			}
			snakeCase(t, reflect.TypeOf(o).Elem())
		})
	}
}

// snakeCase checks that every field can be set, by a name of one form.
func snakeCase(t *testing.T, typ reflect.Type) {
	t.Helper()
	for f := range typ.Fields() {
		tag, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if tag == "" || tag != strings.ToLower(tag) || strings.ContainsAny(tag, "- ") {
			t.Errorf("field %s.%s has yaml tag %q", typ, f.Name, tag)
		}
	}
}

// TestOptionsOfAnother gives a provider what is not its own.
func TestOptionsOfAnother(t *testing.T) {
	e, _ := catalog.Lookup(alipay.Name)
	other := stripe.DefaultOptions()
	for what, o := range map[string]catalog.Options{
		"another provider's": &other, "none": nil, "a nil pointer": (*alipay.Options)(nil), "a copy": alipay.DefaultOptions(),
	} {
		if p, err := e.New(o, now); err == nil || p != nil {
			t.Errorf("%s options: %v, %v", what, p, err)
		}
		if s, err := e.Signer(o, now); err == nil || s != nil {
			t.Errorf("%s options to sign with: %v, %v", what, s, err)
		}
	}
}

// TestNothingHalfOpen: where opening fails there is no provider, and no interface
// that only looks like one.
func TestNothingHalfOpen(t *testing.T) {
	e, _ := catalog.Lookup(alipay.Name)
	o := alipay.DefaultOptions()
	o.PublicKeys = []string{"file:/no/such/key.pem"}
	if p, err := e.New(&o, now); err == nil || p != nil {
		t.Errorf("%v, %v", p, err)
	}
	o.PublicKeys = nil
	if s, err := e.Signer(&o, now); !errors.Is(err, provider.ErrCannotSign) || s != nil {
		t.Errorf("%v, %v", s, err)
	}
	if o, err := e.Sandbox("/dev/null/keys"); err == nil || o != nil {
		t.Errorf("%v, %v", o, err)
	}
}
