package providertest

import (
	"bytes"
	"errors"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

// What the samples say. The texts are long enough to be found again in an error
// that quotes them.
const (
	orderRef    = "order-sentinel-1001"
	providerRef = "payment-sentinel-2002"
	customerRef = "customer-sentinel-3003"
)

var usual = Key{Name: "usual"}

func (s Suite) open(tb testing.TB, keys ...Key) Account {
	tb.Helper()
	a := s.Open(tb, func() time.Time { return now }, keys...)
	if a.Provider == nil {
		tb.Fatalf("Open returned no provider")
	}
	return a
}

func (s Suite) sample() provider.Sample {
	sample := provider.Sample{
		OrderRef:    orderRef,
		ProviderRef: providerRef,
		CustomerRef: customerRef,
		Amount:      s.Amount,
		At:          now,
	}
	if s.NoCustomerRef {
		sample.CustomerRef = ""
	}
	return sample
}

// sign makes a callback that has to be there.
func sign(tb testing.TB, a Account, s provider.Sample) *provider.Callback {
	tb.Helper()
	if a.Signer == nil {
		tb.Fatalf("Open returned no signer")
	}
	cb, err := a.Signer.Sign(s)
	if err != nil {
		tb.Fatalf("Sign(%s): %v", s.Type, err)
	}
	cb.ReceivedAt = now
	return cb
}

// accept verifies and decodes a callback that has to be believed.
func accept(tb testing.TB, a Account, cb *provider.Callback, what string) (*provider.Verified, []provider.Decoded) {
	tb.Helper()
	before := clone(cb)
	v, err := a.Provider.Verify(cb)
	if err != nil {
		tb.Fatalf("%s: Verify: %v", what, err)
	}
	if v == nil {
		tb.Fatalf("%s: Verify returned neither proof nor error", what)
	}
	events, err := a.Provider.Decode(cb, v)
	if err != nil {
		tb.Fatalf("%s: Decode: %v", what, err)
	}
	unchanged(tb, before, cb, what)
	if len(events) == 0 {
		tb.Fatalf("%s: Decode returned no event and no error: the callback would be dropped in silence", what)
	}
	for _, d := range events {
		checkDecoded(tb, d, what)
	}
	return v, events
}

// refuse verifies a callback that must not be believed. Where verification alone
// cannot tell, Decode may refuse as well.
func refuse(tb testing.TB, a Account, cb *provider.Callback, what string) provider.Reason {
	tb.Helper()
	before := clone(cb)
	v, err := a.Provider.Verify(cb)
	if err == nil && v != nil {
		_, err = a.Provider.Decode(cb, v)
	}
	unchanged(tb, before, cb, what)
	if err == nil {
		tb.Errorf("%s: believed, must be refused", what)
		return ""
	}
	quiet(tb, a, cb, err, what)
	var r *provider.Refusal
	if !errors.As(err, &r) {
		tb.Errorf("%s: %v is not a *provider.Refusal: it would be taken for our own failure and sent again", what, err)
		return ""
	}
	return r.Reason
}

// refuseOrSame lets a changed callback through only if it says the same.
func refuseOrSame(tb testing.TB, a Account, cb *provider.Callback, want []provider.Decoded, what string) {
	tb.Helper()
	v, err := a.Provider.Verify(cb)
	if err != nil {
		refuse(tb, a, cb, what)
		return
	}
	got, err := a.Provider.Decode(cb, v)
	if err != nil {
		if _, ok := errors.AsType[*provider.Refusal](err); !ok {
			tb.Errorf("%s: verified, but reads differently: %v", what, err)
		}
		return
	}
	if !same(got, want) {
		tb.Errorf("%s: verified, but decodes to something else", what)
	}
}

// same compares what callbacks say; the bytes an event was cut from may differ.
func same(a, b []provider.Decoded) bool {
	return slices.EqualFunc(a, b, func(x, y provider.Decoded) bool {
		return x.Key == y.Key && reflect.DeepEqual(x.Event, y.Event)
	})
}

func clone(cb *provider.Callback) *provider.Callback {
	c := *cb
	c.Header = cb.Header.Clone()
	c.Body = bytes.Clone(cb.Body)
	return &c
}

func unchanged(tb testing.TB, before, after *provider.Callback, what string) {
	tb.Helper()
	if !bytes.Equal(before.Body, after.Body) || !maps.EqualFunc(before.Header, after.Header, slices.Equal[[]string]) ||
		before.Method != after.Method || before.RawQuery != after.RawQuery || before.ID != after.ID {
		tb.Errorf("%s: the callback was modified", what)
	}
}

// quiet checks that an error tells nothing it must not.
func quiet(tb testing.TB, a Account, cb *provider.Callback, err error, what string) {
	tb.Helper()
	text := err.Error()
	for _, s := range a.Secrets {
		if shows(text, s) {
			tb.Errorf("%s: the error holds a secret", what)
		}
	}
	for _, s := range []string{orderRef, providerRef, customerRef} {
		if strings.Contains(text, s) {
			tb.Errorf("%s: the error quotes the body: %v", what, err)
		}
	}
	for name, values := range cb.Header {
		for _, v := range values {
			if len(v) >= 16 && name != "Content-Type" && strings.Contains(text, v) {
				tb.Errorf("%s: the error quotes header %s: %v", what, name, err)
			}
		}
	}
	if len(cb.Body) >= 16 && strings.Contains(text, string(cb.Body)) {
		tb.Errorf("%s: the error quotes the body: %v", what, err)
	}
}

// checkDecoded tests what every decoded event has to be.
func checkDecoded(tb testing.TB, d provider.Decoded, what string) {
	tb.Helper()
	e := d.Event
	if !slices.Contains(closedTypes, e.Type) {
		tb.Errorf("%s: type %q is not in the closed list", what, e.Type)
	}
	if e.Schema != "" || e.ID != "" || e.Account != "" || e.Namespace != "" || e.Provider != "" || !e.ReceivedAt.IsZero() || e.Raw != (event.Raw{}) {
		tb.Errorf("%s: schema, id, account, namespace, provider, arrival and raw are the gateway's to fill in", what)
	}
	switch e.Authenticity {
	case event.Signature, event.SignaturePartial, event.Token, event.DecryptOnly, event.Unverified:
	default:
		tb.Errorf("%s: authenticity %q is not in the closed list", what, e.Authenticity)
	}
	if e.Completeness != event.Full && e.Completeness != event.NeedsFetch {
		tb.Errorf("%s: completeness %q is not in the closed list", what, e.Completeness)
	}
	if t := e.OccurredAt; !t.IsZero() && (t.Location() != time.UTC || !t.Equal(t.Truncate(time.Millisecond))) {
		tb.Errorf("%s: occurred_at %v is not UTC with at most milliseconds", what, t)
	}
	group, _, _ := strings.Cut(string(e.Type), ".")
	switch {
	case (group == "payment" || group == "order") && e.Payment == nil:
		tb.Errorf("%s: %s without a payment", what, e.Type)
	case group == "refund" && (e.Refund == nil || e.Payment == nil):
		tb.Errorf("%s: %s without refund and payment", what, e.Type)
	case group == "dispute" && (e.Dispute == nil || e.Payment == nil):
		tb.Errorf("%s: %s without dispute and payment", what, e.Type)
	case group == "stock" && e.Stock == nil:
		tb.Errorf("%s: %s without stock", what, e.Type)
	}
	for _, m := range amounts(e) {
		checkMoney(tb, *m, what)
	}
}

func amounts(e event.Event) []*event.Money {
	var all []*event.Money
	if p := e.Payment; p != nil {
		all = append(all, p.Amount, p.Captured, p.RefundedTotal)
	}
	if r := e.Refund; r != nil {
		all = append(all, r.Amount)
	}
	if d := e.Dispute; d != nil {
		all = append(all, d.Amount)
	}
	return slices.DeleteFunc(all, func(m *event.Money) bool { return m == nil })
}

var closedTypes = []event.Type{
	event.PaymentPending, event.PaymentActionRequired, event.PaymentAuthorized, event.PaymentSucceeded, event.PaymentFailed,
	event.PaymentClosed, event.PaymentReference, event.RefundPending, event.RefundSucceeded, event.RefundFailed,
	event.DisputeOpened, event.DisputeUpdated, event.DisputeWon, event.DisputeLost, event.DisputeClosed, event.PayoutUpdated,
	event.MandateUpdated, event.SubscriptionUpdated, event.OrderCreated, event.OrderShipped, event.StockChanged,
	event.TestPing, event.Unmapped,
}

// headerNames returns canonical names.
func (s Suite) headerNames() []string {
	out := make([]string, len(s.SignatureHeaders))
	for i, name := range s.SignatureHeaders {
		out[i] = http.CanonicalHeaderKey(name)
	}
	return out
}
