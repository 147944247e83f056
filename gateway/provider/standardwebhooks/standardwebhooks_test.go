package standardwebhooks_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/configs/secret"
	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/gateway/provider/standardwebhooks"
	"github.com/paybell/paybell/streams/event"
)

// The vectors of the specification's own libraries: libraries/go,
// TestSymmetricWebhookSign and TestAsymmetricWebhookSign.
const (
	vectorID     = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorTime   = 1614265330
	vectorBody   = `{"test": 2432232314}`
	vectorSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	vectorV1     = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	vectorSeed   = "VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk="
	vectorV1a    = "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag=="
)

func vectorNow() time.Time { return time.Unix(vectorTime, 0) }

func vectorOptions(tb testing.TB) standardwebhooks.Options {
	tb.Helper()
	seed, err := base64.StdEncoding.DecodeString(vectorSeed)
	if err != nil {
		tb.Fatal(err)
	}
	public := base64.StdEncoding.EncodeToString(ed25519.NewKeyFromSeed(seed)[ed25519.SeedSize:])
	dir := tb.TempDir()
	o := standardwebhooks.DefaultOptions()
	o.Secrets = secret.Slot{file(tb, dir, "secret", vectorSecret)}
	o.PublicKeys = []string{"file:" + file(tb, dir, "public", "whpk_"+public).File}
	o.SigningKey = file(tb, dir, "private", vectorSeed)
	return o
}

func signed(header, body string) *provider.Callback {
	return &provider.Callback{
		Method: http.MethodPost,
		Header: http.Header{"Webhook-Id": {vectorID}, "Webhook-Timestamp": {"1614265330"}, "Webhook-Signature": {header}},
		Body:   []byte(body),
	}
}

// TestSvixNames: the same signature under the names that Svix gives the headers, all of
// them and never a mixture.
func TestSvixNames(t *testing.T) {
	p, err := standardwebhooks.New(vectorOptions(t), vectorNow)
	if err != nil {
		t.Fatal(err)
	}
	svix := func() *provider.Callback {
		cb := signed(vectorV1, vectorBody)
		for _, name := range []string{"Id", "Timestamp", "Signature"} {
			cb.Header["Svix-"+name] = cb.Header["Webhook-"+name]
			delete(cb.Header, "Webhook-"+name)
		}
		return cb
	}
	v, err := p.Verify(svix())
	if err != nil || v.Evidence.Headers["Svix-Id"] != vectorID {
		t.Fatalf("%+v, %v", v, err)
	}
	events, err := p.Decode(svix(), v)
	if err != nil || len(events) != 1 || events[0].Key != vectorID {
		t.Fatalf("%+v, %v", events, err)
	}
	for name, c := range map[string]struct {
		change func(http.Header)
		want   provider.Reason
	}{
		"both":               {func(h http.Header) { h["Webhook-Id"] = h["Svix-Id"] }, provider.ReasonAmbiguous},
		"an id of the other": {func(h http.Header) { h["Webhook-Id"] = []string{"msg_2"}; delete(h, "Svix-Id") }, provider.ReasonAmbiguous},
		"no id":              {func(h http.Header) { delete(h, "Svix-Id") }, provider.ReasonMissingSignature},
		"two signatures":     {func(h http.Header) { h["Svix-Signature"] = append(h["Svix-Signature"], vectorV1) }, provider.ReasonAmbiguous},
		"another id":         {func(h http.Header) { h["Svix-Id"] = []string{"msg_2"} }, provider.ReasonMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			cb := svix()
			c.change(cb.Header)
			_, err := p.Verify(cb)
			if r, ok := errors.AsType[*provider.Refusal](err); !ok || r.Reason != c.want {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

func TestVectors(t *testing.T) {
	const noise = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
	for _, c := range []struct{ name, header, keyID string }{
		{"v1", vectorV1, "file:secret"},
		{"v1a", vectorV1a, "file:public"},
		{"both", vectorV1 + " " + vectorV1a, "file:secret"},
		{"v1 among others", noise + " v2,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= " + vectorV1 + " " + noise, "file:secret"},
		{"v1a beside a v1 that is wrong", noise + " " + vectorV1a, "file:public"},
		{"v1 beside something unreadable", "v1,%%% v1, " + vectorV1, "file:secret"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := standardwebhooks.New(vectorOptions(t), vectorNow)
			if err != nil {
				t.Fatal(err)
			}
			v, err := p.Verify(signed(c.header, vectorBody))
			if err != nil {
				t.Fatal(err)
			}
			if v.Evidence.KeyID != c.keyID {
				t.Errorf("key is %s, want %s", v.Evidence.KeyID, c.keyID)
			}
			if _, err := p.Verify(signed(c.header, vectorBody+" ")); err == nil {
				t.Errorf("another body is believed as well")
			}
		})
	}
}

func TestSignerMakesTheVectors(t *testing.T) {
	s, err := standardwebhooks.NewSigner(vectorOptions(t), vectorNow)
	if err != nil {
		t.Fatal(err)
	}
	cb, err := s.Sign(provider.Sample{EventID: vectorID, Body: []byte(vectorBody)})
	if err != nil {
		t.Fatal(err)
	}
	if got := cb.Header.Get("webhook-signature"); got != vectorV1+" "+vectorV1a {
		t.Errorf("header is %s", got)
	}
}

// decode reads a body with a mapping; nil is the default one.
func decode(tb testing.TB, mapping []standardwebhooks.Rule, body string) (event.Event, error) {
	tb.Helper()
	o := standardwebhooks.DefaultOptions()
	o.Secrets = secret.Slot{{Env: "UNUSED"}}
	o.Mapping = mapping
	if err := o.Validate(); err != nil {
		tb.Fatalf("options: %v", err)
	}
	o.Secrets = nil
	p, err := standardwebhooks.New(o, vectorNow)
	if err != nil {
		tb.Fatal(err)
	}
	got, err := p.Decode(signed("", body), &provider.Verified{})
	if err != nil {
		return event.Event{}, err
	}
	if len(got) != 1 || got[0].Key != vectorID {
		tb.Fatalf("decoded %+v", got)
	}
	return got[0].Event, nil
}

// said is what a test looks at, as text.
func said(e event.Event) string {
	money := func(m *event.Money) string {
		if m == nil {
			return "-"
		}
		return m.String()
	}
	parts := []string{string(e.Type), e.Merchant.CustomerRef}
	if p := e.Payment; p != nil {
		parts = append(parts, p.OrderRef, p.ProviderRef, p.ParentRef, money(p.Amount), money(p.Captured), money(p.RefundedTotal))
		if p.Failure != nil {
			parts = append(parts, p.Failure.Code+" "+p.Failure.Message)
		}
	}
	if r := e.Refund; r != nil {
		parts = append(parts, "refund "+r.ProviderRef+" "+money(r.Amount))
	}
	if d := e.Dispute; d != nil {
		parts = append(parts, "dispute "+d.ProviderRef+" "+money(d.Amount))
	}
	if s := e.Stock; s != nil {
		parts = append(parts, "stock "+s.SKU+" "+count(s.Available)+" "+count(s.Change))
	}
	return strings.Join(parts, "|")
}

func count(n *int64) string {
	if n == nil {
		return "-"
	}
	return time.Duration(*n).String()
}

func TestDefaultMapping(t *testing.T) {
	for _, c := range []struct{ name, body, want string }{
		{"paid", `{"type":"payment.succeeded","data":{"order_id":"A1","customer_id":"C7","payment_id":"P1","amount":"88.00","currency":"EUR"}}`, "payment.succeeded|C7|A1|P1||88.00 EUR|-|-"},
		{"paid, amount as a number", `{"type":"payment.succeeded","data":{"order_id":"A1","amount":88.10,"currency":"eur"}}`, "payment.succeeded||A1|||88.10 EUR|-|-"},
		{"paid, order as a number", `{"type":"payment.succeeded","data":{"order_id":9007199254740993,"amount":1,"currency":"EUR"}}`, "payment.succeeded||9007199254740993|||1.00 EUR|-|-"},
		{"pending", `{"type":"payment.pending","data":{"order_id":"A1"}}`, "payment.pending||A1|||-|-|-"},
		{"failed", `{"type":"payment.failed","data":{"order_id":"A1","failure_code":"card","failure_message":"No."}}`, "payment.failed||A1|||-|-|-|card No."},
		{"refunded", `{"type":"refund.succeeded","data":{"order_id":"A1","payment_id":"P1","refund_id":"R1","amount":"8.00","currency":"EUR"}}`, "refund.succeeded||A1|P1|P1|-|-|-|refund R1 8.00 EUR"},
		{"refunded, as a total", `{"type":"refund.succeeded","data":{"order_id":"A1","refunded_total":"8.00","currency":"EUR"}}`, "refund.succeeded||A1|||-|-|8.00 EUR|refund  -"},
		{"disputed", `{"type":"dispute.opened","data":{"payment_id":"P1","dispute_id":"D1","amount":"8.00","currency":"EUR"}}`, "dispute.opened|||P1|P1|-|-|-|dispute D1 8.00 EUR"},
		{"order created", `{"type":"order.created","data":{"order_id":"A1","customer_id":"C7","amount":"88.00","currency":"EUR"}}`, "order.created|C7|A1|||88.00 EUR|-|-"},
		{"order shipped", `{"type":"order.shipped","data":{"order_id":"A1"}}`, "order.shipped||A1|||-|-|-"},
		{"stock", `{"type":"stock.changed","data":{"sku":"S1","available":7,"change":-2}}`, "stock.changed||stock S1 7ns -2ns"},
		{"stock, change alone", `{"type":"stock.changed","data":{"sku":"S1","change":5}}`, "stock.changed||stock S1 - 5ns"},
		{"ping", `{"type":"test.ping"}`, "test.ping|"},
		{"unknown", `{"type":"user.created","data":{"order_id":"A1"}}`, "unmapped|"},
		{"no type", `{}`, "unmapped|"},
		{"null members are absent", `{"type":"payment.pending","timestamp":null,"data":{"order_id":"A1","amount":null,"currency":null}}`, "payment.pending||A1|||-|-|-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := decode(t, nil, c.body)
			if err != nil {
				t.Fatal(err)
			}
			if got := said(e); got != c.want {
				t.Errorf("said\n %s, want\n %s", got, c.want)
			}
			if e.ProviderEvent.ID != vectorID || !e.ProviderEvent.IDAuthenticated {
				t.Errorf("provider event is %+v", e.ProviderEvent)
			}
		})
	}
}

func TestOccurredAt(t *testing.T) {
	for _, c := range []struct {
		name, value string
		want        time.Time
	}{
		{"RFC 3339", `"2022-11-03T20:26:10.344522Z"`, time.Date(2022, 11, 3, 20, 26, 10, 344e6, time.UTC)},
		{"RFC 3339 elsewhere", `"2022-11-03T20:26:10+08:00"`, time.Date(2022, 11, 3, 12, 26, 10, 0, time.UTC)},
		{"Unix seconds", `1667507170`, time.Date(2022, 11, 3, 20, 26, 10, 0, time.UTC)},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := decode(t, nil, `{"type":"test.ping","timestamp":`+c.value+`}`)
			if err != nil || e.OccurredAt != c.want {
				t.Errorf("occurred at %v, %v, want %v", e.OccurredAt, err, c.want)
			}
		})
	}
}

func TestConfiguredMapping(t *testing.T) {
	mapping := []standardwebhooks.Rule{
		{
			When: standardwebhooks.Condition{Pointer: "/event", Equals: "order"},
			And:  []standardwebhooks.Condition{{Pointer: "/state", Equals: "3"}, {Pointer: "/test", Equals: "false"}},
			Type: event.PaymentSucceeded, OrderRef: "/order/no", ProviderRef: "/tx/0", CustomerRef: "/order/by",
			Amount: "/order/cents", AmountUnit: standardwebhooks.UnitMinor, CurrencyFixed: "JPY", Method: "/how", Final: true,
		},
		{
			When: standardwebhooks.Condition{Pointer: "/event", Equals: "order"}, Type: event.PaymentSucceeded,
			OrderRef: "/order/no", Captured: "/order/paid", Currency: "/order/cur",
		},
	}
	for _, c := range []struct{ name, body, want string }{
		{"every condition holds", `{"event":"order","state":3,"test":false,"order":{"no":"A1","by":"C7","cents":8800},"tx":["T1"],"how":"cash"}`, "payment.succeeded|C7|A1|T1||8800 JPY|-|-"},
		{"cents as text", `{"event":"order","state":3,"test":false,"order":{"no":"A1","cents":"8800"}}`, "payment.succeeded||A1|||8800 JPY|-|-"},
		{"the next rule", `{"event":"order","state":4,"order":{"no":"A1","paid":"5.5","cur":"KWD"}}`, "payment.succeeded||A1|||-|5.500 KWD|-"},
		{"a condition compares what is written", `{"event":"order","state":"3","test":"false","order":{"no":"A1","cents":8800}}`, "payment.succeeded||A1|||8800 JPY|-|-"},
		{"a number that is written otherwise", `{"event":"order","state":3.0,"test":false,"order":{"no":"A1","paid":"1","cur":"USD"}}`, "payment.succeeded||A1|||-|1.00 USD|-"},
		{"no rule", `{"event":["order"]}`, "unmapped|"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := decode(t, mapping, c.body)
			if err != nil {
				t.Fatal(err)
			}
			if got := said(e); got != c.want {
				t.Errorf("said\n %s, want\n %s", got, c.want)
			}
			if e.Type == event.PaymentSucceeded && e.ProviderEvent.Type != "order" {
				t.Errorf("provider type is %q", e.ProviderEvent.Type)
			}
		})
	}
}

func TestDecodeMalformed(t *testing.T) {
	for _, c := range []struct{ name, body string }{
		{"not JSON", `hello`},
		{"paid without an order or a payment", `{"type":"payment.succeeded","data":{"amount":"1","currency":"EUR"}}`},
		{"paid without an amount", `{"type":"payment.succeeded","data":{"order_id":"A1","currency":"EUR"}}`},
		{"paid without a currency", `{"type":"payment.succeeded","data":{"order_id":"A1","amount":"1"}}`},
		{"paid a fraction of a cent", `{"type":"payment.succeeded","data":{"order_id":"A1","amount":"1.001","currency":"EUR"}}`},
		{"paid with an exponent", `{"type":"payment.succeeded","data":{"order_id":"A1","amount":1e2,"currency":"EUR"}}`},
		{"paid less than nothing", `{"type":"payment.succeeded","data":{"order_id":"A1","amount":-1,"currency":"EUR"}}`},
		{"paid an object", `{"type":"payment.succeeded","data":{"order_id":"A1","amount":{},"currency":"EUR"}}`},
		{"an order that is an object", `{"type":"payment.pending","data":{"order_id":{}}}`},
		{"an order that is a fraction", `{"type":"payment.pending","data":{"order_id":1.0}}`},
		{"refunded nothing", `{"type":"refund.succeeded","data":{"order_id":"A1","currency":"EUR"}}`},
		{"refunded of nothing", `{"type":"refund.succeeded","data":{"amount":"1","currency":"EUR"}}`},
		{"shipped nothing", `{"type":"order.shipped","data":{}}`},
		{"stock of nothing", `{"type":"stock.changed","data":{"available":1}}`},
		{"stock unchanged", `{"type":"stock.changed","data":{"sku":"S1"}}`},
		{"half an article", `{"type":"stock.changed","data":{"sku":"S1","available":0.5}}`},
		{"half a surrogate pair for an order", `{"type":"payment.pending","data":{"order_id":"S\ud800x"}}`},
		{"half a surrogate pair for a payment", `{"type":"payment.pending","data":{"order_id":"A1","payment_id":"\udc00"}}`},
		{"a currency that is a number", `{"type":"payment.succeeded","data":{"order_id":"A1","amount":"1","currency":978}}`},
		{"a currency that Unicode makes one", `{"type":"payment.succeeded","data":{"order_id":"A1","amount":"1","currency":"uſd"}}`},
		{"paid with a comma", `{"type":"payment.succeeded","data":{"order_id":"A1","amount":"88,00","currency":"EUR"}}`},
		{"a failed refund of no number", `{"type":"refund.failed","data":{"order_id":"A1","amount":"x","currency":"EUR"}}`},
		{"a lost dispute of no number", `{"type":"dispute.lost","data":{"order_id":"A1","amount":"x","currency":"EUR"}}`},
		{"a type twice", `{"type":"test.ping","type":"payment.succeeded"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if e, err := decode(t, nil, c.body); !errors.Is(err, provider.ErrMalformed) {
				t.Errorf("decoded as %s with %v, want ErrMalformed", said(e), err)
			}
		})
	}
}

// TestLeftOut: what decides nothing costs only itself.
func TestLeftOut(t *testing.T) {
	for _, c := range []struct {
		name, body string
		want       event.Type
		left       string
	}{
		{"a time that is none", `{"type":"test.ping","timestamp":"yesterday"}`, event.TestPing, "occurred_at"},
		{"a time after all times", `{"type":"test.ping","timestamp":253402300800}`, event.TestPing, "occurred_at"},
		{"half a surrogate pair for a customer", `{"type":"payment.succeeded","data":{"order_id":"A1","customer_id":"\ud800","amount":"1","currency":"EUR"}}`, event.PaymentSucceeded, "merchant.customer_ref"},
		{"a customer that is an object", `{"type":"payment.succeeded","data":{"order_id":"A1","customer_id":{},"amount":"1","currency":"EUR"}}`, event.PaymentSucceeded, "merchant.customer_ref"},
		{"a method that is a list", `{"type":"payment.succeeded","data":{"order_id":"A1","method":["card"],"amount":"1","currency":"EUR"}}`, event.PaymentSucceeded, "payment.method"},
		{"why it failed, and how much", `{"type":"payment.failed","data":{"order_id":"A1","failure_code":{},"failure_message":[],"amount":"1,5","currency":"EUR"}}`, event.PaymentFailed, "payment.failure payment.amount"},
		{"a refund under way of no number", `{"type":"refund.pending","data":{"order_id":"A1","amount":"x","currency":"EUR"}}`, event.RefundPending, "refund.amount"},
		{"a dispute of no number", `{"type":"dispute.opened","data":{"order_id":"A1","amount":"x","currency":"EUR"}}`, event.DisputeOpened, "dispute.amount"},
		{"nothing", `{"type":"payment.succeeded","data":{"order_id":"A1","amount":"1","currency":"EUR"}}`, event.PaymentSucceeded, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := decode(t, nil, c.body)
			if err != nil || e.Type != c.want || strings.Join(e.LeftOut, " ") != c.left {
				t.Errorf("%s without %v, %v, want %s without %s", e.Type, e.LeftOut, err, c.want, c.left)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	when := standardwebhooks.Condition{Pointer: "/type", Equals: "x"}
	paid := standardwebhooks.Rule{When: when, Type: event.PaymentSucceeded, OrderRef: "/o", Amount: "/a", Currency: "/c"}
	rule := func(change func(*standardwebhooks.Rule)) func(*standardwebhooks.Options) {
		return func(o *standardwebhooks.Options) {
			r := paid
			change(&r)
			o.Mapping = []standardwebhooks.Rule{paid, r}
		}
	}
	for _, c := range []struct {
		name, want string
		change     func(*standardwebhooks.Options)
	}{
		{"no key at all", "secrets: name at least one source, or a key in public_keys", func(o *standardwebhooks.Options) { o.Secrets = nil }},
		{"a secret from nowhere", "secrets[0]: ", func(o *standardwebhooks.Options) { o.Secrets = secret.Slot{{}} }},
		{"a public key that is none", "public_keys[0]: standardwebhooks: a public key is base64 of 32 bytes", func(o *standardwebhooks.Options) { o.PublicKeys = []string{"whpk_AAAA"} }},
		{"a private key in public", "public_keys[0]: standardwebhooks: this is a private key", func(o *standardwebhooks.Options) { o.PublicKeys = []string{"whsk_" + vectorSeed} }},
		{"a signing key from two places", "signing_key: ", func(o *standardwebhooks.Options) { o.SigningKey = secret.Source{File: "a", Env: "B"} }},
		{"no tolerance", "tolerance: must be between 1s and 1h0m0s", func(o *standardwebhooks.Options) { o.Tolerance = 0 }},
		{"a rule for everything", "mapping[1].when.equals: must not be empty", rule(func(r *standardwebhooks.Rule) { r.When.Equals = "" })},
		{"a rule that looks nowhere", "mapping[1].when.pointer: must be a JSON pointer", rule(func(r *standardwebhooks.Rule) { r.When.Pointer = "type" })},
		{"a further condition", "mapping[1].and[0].pointer: must be a JSON pointer", rule(func(r *standardwebhooks.Rule) { r.And = []standardwebhooks.Condition{{Equals: "x"}} })},
		{"a type that is none", "mapping[1].type: must be one of dispute.closed, ", rule(func(r *standardwebhooks.Rule) { r.Type = "paid" })},
		{"a type rules must not make", "mapping[1].type: must be one of ", rule(func(r *standardwebhooks.Rule) { r.Type = event.Conflict })},
		{"a pointer that is none", "mapping[1].order_ref: must be a JSON pointer", rule(func(r *standardwebhooks.Rule) { r.OrderRef = "o" })},
		{"a unit that is none", "mapping[1].amount_unit: must be decimal or minor", rule(func(r *standardwebhooks.Rule) { r.AmountUnit = "cents" })},
		{"two currencies", "mapping[1].currency_fixed: ", rule(func(r *standardwebhooks.Rule) { r.CurrencyFixed = "EUR" })},
		{"no currency", "mapping[1].currency: an amount needs", rule(func(r *standardwebhooks.Rule) { r.Currency = "" })},
		{"a fixed currency that is none", "mapping[1].currency_fixed: must be a three-letter", rule(func(r *standardwebhooks.Rule) { r.Currency, r.CurrencyFixed = "", "€" })},
		{"paid by nobody", "mapping[1].order_ref: this or provider_ref is needed for payment.succeeded", rule(func(r *standardwebhooks.Rule) { r.OrderRef = "" })},
		{"paid nothing", "mapping[1].amount: this or captured is needed for payment.succeeded", rule(func(r *standardwebhooks.Rule) { r.Amount = "" })},
		{"refunded nothing", "mapping[1].amount: this or refunded_total is needed for refund.succeeded", rule(func(r *standardwebhooks.Rule) { r.Type, r.Amount = event.RefundSucceeded, "" })},
		{"shipped nothing", "mapping[1].order_ref: is needed for order.shipped", rule(func(r *standardwebhooks.Rule) { r.Type, r.OrderRef = event.OrderShipped, "" })},
		{"stock of nothing", "mapping[1].sku: is needed for stock.changed", rule(func(r *standardwebhooks.Rule) {
			*r = standardwebhooks.Rule{When: when, Type: event.StockChanged, Change: "/c"}
		})},
		{"stock unchanged", "mapping[1].available: this or change is needed", rule(func(r *standardwebhooks.Rule) {
			*r = standardwebhooks.Rule{When: when, Type: event.StockChanged, SKU: "/s"}
		})},
		{"a member that would be passed over", "mapping[1].refund_ref: means nothing for payment.succeeded", rule(func(r *standardwebhooks.Rule) { r.RefundRef = "/r" })},
		{"final for a refund", "mapping[1].final: means nothing for refund.succeeded", rule(func(r *standardwebhooks.Rule) { r.Type, r.Final = event.RefundSucceeded, true })},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := standardwebhooks.DefaultOptions()
			o.Secrets = secret.Slot{{Env: "S"}}
			c.change(&o)
			if err := o.Validate(); err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	t.Run("the default mapping is valid", func(t *testing.T) {
		o := standardwebhooks.DefaultOptions()
		o.Secrets = secret.Slot{{Env: "S"}}
		o.Mapping = standardwebhooks.DefaultMapping()
		if err := o.Validate(); err != nil {
			t.Error(err)
		}
	})
}

func TestKeysAreRead(t *testing.T) {
	dir := t.TempDir()
	b64 := func(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }
	for _, c := range []struct {
		name, text string
		want       error
	}{
		{"23 bytes", "whsec_" + b64(23), standardwebhooks.ErrSecret},
		{"24 bytes", "whsec_" + b64(24), nil},
		{"64 bytes", "whsec_" + b64(64), nil},
		{"65 bytes", "whsec_" + b64(65), standardwebhooks.ErrSecret},
		{"without a prefix", b64(32), nil},
		{"not base64", "whsec_" + strings.Repeat("!", 40), standardwebhooks.ErrSecret},
		{"a signing key", "whsk_" + b64(32), standardwebhooks.ErrSecret},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := standardwebhooks.DefaultOptions()
			o.Secrets = secret.Slot{file(t, dir, "secret", c.text)}
			_, err := standardwebhooks.New(o, vectorNow)
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if err != nil && (!strings.Contains(err.Error(), "file:secret") || strings.Contains(err.Error(), c.text)) {
				t.Errorf("%v does not name the source, or tells the secret", err)
			}
		})
	}
	t.Run("public key file that is missing", func(t *testing.T) {
		o := standardwebhooks.DefaultOptions()
		o.PublicKeys = []string{"file:" + filepath.Join(dir, "missing")}
		if _, err := standardwebhooks.New(o, vectorNow); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("public key file that holds the private one", func(t *testing.T) {
		o := standardwebhooks.DefaultOptions()
		o.PublicKeys = []string{"file:" + file(t, dir, "oops", "whsk_"+vectorSeed).File}
		if _, err := standardwebhooks.New(o, vectorNow); !errors.Is(err, standardwebhooks.ErrPrivatePublic) || strings.Contains(err.Error(), vectorSeed) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("signing key of the wrong size", func(t *testing.T) {
		o := standardwebhooks.DefaultOptions()
		o.SigningKey = file(t, dir, "short", "whsk_AAAA")
		if _, err := standardwebhooks.NewSigner(o, vectorNow); !errors.Is(err, standardwebhooks.ErrPrivateKey) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("nothing to sign with", func(t *testing.T) {
		if _, err := standardwebhooks.NewSigner(standardwebhooks.DefaultOptions(), vectorNow); !errors.Is(err, provider.ErrCannotSign) {
			t.Errorf("got %v", err)
		}
	})
}

func TestSandbox(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	first, err := standardwebhooks.Sandbox(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Validate(); err != nil {
		t.Errorf("sandbox options: %v", err)
	}
	for _, path := range []string{first.Secrets[0].File, first.SigningKey.File} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("key file is %v, %v", info, err)
		}
	}
	again, err := standardwebhooks.Sandbox(dir)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := standardwebhooks.NewSigner(first, vectorNow)
	if err != nil {
		t.Fatal(err)
	}
	cb, err := signer.Sign(provider.Sample{OrderRef: "A1", Amount: event.Money{Value: "1.00", Minor: 100, Exponent: 2, Currency: "EUR"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, scheme := range []string{"v1,", "v1a,"} {
		t.Run(scheme, func(t *testing.T) {
			o := again
			if scheme == "v1," {
				o.PublicKeys = nil
			} else {
				o.Secrets = nil
			}
			p, err := standardwebhooks.New(o, vectorNow)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.Verify(cb); err != nil {
				t.Errorf("the second start does not know the first one's key: %v", err)
			}
		})
	}
}

// TestSignerFollowsTheMapping makes callbacks for a configured mapping and reads
// them back.
func TestSignerFollowsTheMapping(t *testing.T) {
	o := vectorOptions(t)
	o.Mapping = []standardwebhooks.Rule{{
		When: standardwebhooks.Condition{Pointer: "/event", Equals: "paid"}, Type: event.PaymentSucceeded,
		OrderRef: "/order/no", CustomerRef: "/by", Captured: "/sum", AmountUnit: standardwebhooks.UnitMinor, CurrencyFixed: "EUR",
	}, {
		When: standardwebhooks.Condition{Pointer: "/event", Equals: "back"}, Type: event.RefundSucceeded,
		OrderRef: "/order/no", RefundedTotal: "/back", CurrencyFixed: "EUR",
	}}
	s, err := standardwebhooks.NewSigner(o, vectorNow)
	if err != nil {
		t.Fatal(err)
	}
	p, err := standardwebhooks.New(o, vectorNow)
	if err != nil {
		t.Fatal(err)
	}
	eur := event.Money{Value: "1.00", Minor: 100, Exponent: 2, Currency: "EUR"}
	for typ, want := range map[event.Type]string{
		event.PaymentSucceeded: "payment.succeeded|C7|A1|||-|1.00 EUR|-",
		event.RefundSucceeded:  "refund.succeeded||A1|||-|-|1.00 EUR|refund  -",
	} {
		cb, err := s.Sign(provider.Sample{Type: typ, OrderRef: "A1", CustomerRef: "C7", Amount: eur})
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.Decode(cb, &provider.Verified{})
		if err != nil || said(got[0].Event) != want {
			t.Errorf("%s: %v, %v", typ, got, err)
		}
	}
	for name, sample := range map[string]provider.Sample{
		"a type without a rule": {Type: event.PaymentFailed, OrderRef: "A1", Amount: eur},
		"another currency":      {OrderRef: "A1", Amount: event.Money{Value: "1.00", Minor: 100, Exponent: 2, Currency: "USD"}},
		"no amount":             {OrderRef: "A1"},
	} {
		if _, err := s.Sign(sample); !errors.Is(err, provider.ErrNoSample) {
			t.Errorf("%s: %v, want ErrNoSample", name, err)
		}
	}
}
