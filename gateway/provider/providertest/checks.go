package providertest

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

func checkSuite(tb testing.TB, s Suite) {
	tb.Helper()
	if s.Open == nil {
		tb.Fatalf("suite has no Open")
	}
	if !slices.Contains(s.Types, event.PaymentSucceeded) {
		tb.Errorf("suite has no payment.succeeded among its types")
	}
	if s.Amount.Currency == "" || s.Amount.Minor <= 0 {
		tb.Errorf("suite has no amount")
	}
	checkMoney(tb, s.Amount, "suite")
	if len(s.SignatureHeaders) == 0 && !s.LooseBody {
		tb.Errorf("suite has neither a signature header nor a signed form")
	}
}

func checkSamples(tb testing.TB, s Suite) {
	tb.Helper()
	a := s.open(tb, usual)
	for _, typ := range s.Types {
		sample := s.sample()
		sample.Type = typ
		checkSample(tb, s, a, sample)
	}
	sample := s.sample()
	cb := sign(tb, a, sample)
	if _, events := accept(tb, a, cb, "sample without a type"); events[0].Event.Type != event.PaymentSucceeded {
		tb.Errorf("a sample without a type is %s, want %s", events[0].Event.Type, event.PaymentSucceeded)
	}
}

func checkSample(tb testing.TB, s Suite, a Account, sample provider.Sample) {
	tb.Helper()
	what := string(sample.Type)
	cb := sign(tb, a, sample)
	v, events := accept(tb, a, cb, what)
	if len(events) != 1 {
		tb.Errorf("%s: %d events, want 1", what, len(events))
		return
	}
	e := events[0].Event
	if e.Type != sample.Type {
		tb.Errorf("%s: decoded as %s", what, e.Type)
	}
	if got := e.OrderRef(); got != orderRef {
		tb.Errorf("%s: order ref %q, want %q", what, got, orderRef)
	}
	if !s.NoCustomerRef && e.Merchant.CustomerRef != customerRef {
		tb.Errorf("%s: customer ref %q, want %q", what, e.Merchant.CustomerRef, customerRef)
	}
	if p := e.Payment; p == nil || (p.ProviderRef != providerRef && p.ParentRef != providerRef) {
		tb.Errorf("%s: neither provider ref nor parent ref is the payment's", what)
	}
	checkAmount(tb, e, sample.Amount, what)
	if sample.Type.Folds() && !e.MovesMoney() {
		tb.Errorf("%s: authenticity %s and completeness %s cannot move money", what, e.Authenticity, e.Completeness)
	}
	if v.Evidence.KeyID == "" {
		tb.Errorf("%s: evidence does not name the key", what)
	}
	for _, name := range s.headerNames() {
		if got, want := v.Evidence.Headers[name], cb.Header.Get(name); got != want {
			tb.Errorf("%s: evidence of header %s is %q, want %q", what, name, got, want)
		}
	}
	if s.Tolerance > 0 && !v.Evidence.SignedAt.Equal(now) {
		tb.Errorf("%s: evidence was signed at %v, want %v", what, v.Evidence.SignedAt, now)
	}
}

func checkAmount(tb testing.TB, e event.Event, want event.Money, what string) {
	tb.Helper()
	var got *event.Money
	switch {
	case e.Type == event.RefundSucceeded && e.Refund != nil && e.Refund.Amount != nil:
		got = e.Refund.Amount
	case e.Type == event.RefundSucceeded && e.Payment != nil:
		got = e.Payment.RefundedTotal
	case e.Payment != nil && e.Payment.Amount != nil:
		got = e.Payment.Amount
	case e.Payment != nil:
		got = e.Payment.Captured
	}
	switch {
	case got != nil && *got != want:
		tb.Errorf("%s: amount %+v, want %+v", what, *got, want)
	case got == nil && (e.Type == event.PaymentSucceeded || e.Type == event.RefundSucceeded):
		tb.Errorf("%s: no amount", what)
	}
}

func checkOtherTypes(tb testing.TB, s Suite) {
	tb.Helper()
	a := s.open(tb, usual)
	for _, typ := range closedTypes {
		if slices.Contains(s.Types, typ) {
			continue
		}
		sample := s.sample()
		sample.Type = typ
		if _, err := a.Signer.Sign(sample); !errors.Is(err, provider.ErrNoSample) {
			tb.Errorf("Sign(%s): %v, want ErrNoSample", typ, err)
		}
	}
}

func checkRedelivery(tb testing.TB, s Suite) {
	tb.Helper()
	a := s.open(tb, usual)
	for _, typ := range s.Types {
		sample := s.sample()
		sample.Type = typ
		_, first := accept(tb, a, sign(tb, a, sample), string(typ))
		_, again := accept(tb, a, sign(tb, a, sample), string(typ)+" again")
		if !same(first, again) {
			tb.Errorf("%s: the same sample twice has another key or other facts", typ)
		}
		other := sample
		other.OrderRef = "order-sentinel-1002"
		_, third := accept(tb, a, sign(tb, a, other), string(typ)+" of another order")
		if first[0].Key != "" && first[0].Key == third[0].Key {
			tb.Errorf("%s: two orders have one key", typ)
		}
		sample.EventID = "event-sentinel-1"
		_, named := accept(tb, a, sign(tb, a, sample), string(typ)+" with an event id")
		sample.EventID = "event-sentinel-2"
		_, renamed := accept(tb, a, sign(tb, a, sample), string(typ)+" with another event id")
		// A protocol without event ids makes its keys of other signed fields.
		if id := named[0].Event.ProviderEvent.ID; id != "" {
			if id != "event-sentinel-1" {
				tb.Errorf("%s: provider event id %q, want the sample's", typ, id)
			}
			if named[0].Key == renamed[0].Key {
				tb.Errorf("%s: two event ids have one key", typ)
			}
		}
	}
}

func checkBody(tb testing.TB, s Suite) {
	tb.Helper()
	a := s.open(tb, usual)
	cb := sign(tb, a, s.sample())
	_, want := accept(tb, a, cb, "untouched")
	try := func(body []byte, what string) {
		bad := clone(cb)
		bad.Body = body
		if s.LooseBody {
			refuseOrSame(tb, a, bad, want, what)
		} else {
			refuse(tb, a, bad, what)
		}
	}
	for i := 0; i < len(cb.Body); i += max(s.Stride, 1) {
		body := bytes.Clone(cb.Body)
		body[i] ^= 1 << (i % 8)
		try(body, "body byte "+strconv.Itoa(i)+" changed")
	}
	for _, c := range []struct {
		what string
		body []byte
	}{
		{"empty body", nil},
		{"body without its last byte", cb.Body[:len(cb.Body)-1]},
		{"body without its first byte", cb.Body[1:]},
		{"body with a line break behind", append(bytes.Clone(cb.Body), '\n')},
		{"body with a space in front", append([]byte{' '}, cb.Body...)},
		{"body with a byte order mark", append([]byte("\xef\xbb\xbf"), cb.Body...)},
		{"body twice", append(bytes.Clone(cb.Body), cb.Body...)},
	} {
		try(bytes.Clone(c.body), c.what)
	}
}

func checkSignature(tb testing.TB, s Suite) {
	tb.Helper()
	a := s.open(tb, usual)
	cb := sign(tb, a, s.sample())
	_, want := accept(tb, a, cb, "untouched")
	for _, name := range s.headerNames() {
		value := cb.Header.Get(name)
		for i := range len(value) {
			for bit := range 8 {
				bad := clone(cb)
				changed := []byte(value)
				changed[i] ^= 1 << bit
				bad.Header.Set(name, string(changed))
				refuseOrSame(tb, a, bad, want, fmt.Sprintf("%s byte %d bit %d changed", name, i, bit))
			}
		}
		for _, changed := range []string{value[1:], value[:len(value)-1], value + "0", value + "=", "0" + value, value + ",", value + " x", strings.ToUpper(value)} {
			bad := clone(cb)
			bad.Header.Set(name, changed)
			refuseOrSame(tb, a, bad, want, name+" cut or lengthened")
		}
	}
}

func checkHeaders(tb testing.TB, s Suite) {
	tb.Helper()
	a := s.open(tb, usual)
	cb := sign(tb, a, s.sample())
	accept(tb, a, cb, "untouched")
	for _, name := range s.headerNames() {
		value := cb.Header.Get(name)
		for _, c := range []struct {
			what   string
			values []string
			reason provider.Reason
		}{
			{"missing", nil, provider.ReasonMissingSignature},
			{"empty", []string{""}, provider.ReasonMissingSignature},
			{"doubled", []string{value, value}, provider.ReasonAmbiguous},
			{"doubled, good one first", []string{value, "x"}, provider.ReasonAmbiguous},
			{"doubled, good one last", []string{"", value}, provider.ReasonAmbiguous},
		} {
			bad := clone(cb)
			bad.Header[name] = c.values
			if c.values == nil {
				delete(bad.Header, name)
			}
			what := "header " + name + " " + c.what
			if got := refuse(tb, a, bad, what); got != c.reason {
				tb.Errorf("%s: reason %q, want %q", what, got, c.reason)
			}
		}
	}
}

func checkTime(tb testing.TB, s Suite) {
	tb.Helper()
	a := s.open(tb, usual)
	if s.Tolerance == 0 {
		sample := s.sample()
		sample.At = now.Add(-72 * time.Hour)
		accept(tb, a, sign(tb, a, sample), "three days old, where no time is signed")
		return
	}
	for _, c := range []struct {
		off    time.Duration
		reason provider.Reason
	}{
		{-s.Tolerance, ""},
		{-s.Tolerance - time.Second, provider.ReasonStale},
		{-24 * time.Hour, provider.ReasonStale},
		{s.Tolerance, ""},
		{s.Tolerance + time.Second, provider.ReasonFuture},
		{24 * time.Hour, provider.ReasonFuture},
	} {
		sample := s.sample()
		sample.At = now.Add(c.off)
		cb := sign(tb, a, sample)
		what := "signed " + c.off.String() + " from now"
		if c.reason == "" {
			accept(tb, a, cb, what)
		} else if got := refuse(tb, a, cb, what); got != c.reason {
			tb.Errorf("%s: reason %q, want %q", what, got, c.reason)
		}
	}
	for _, tamper := range []provider.Tamper{provider.TamperBody, provider.TamperSignature} {
		sample := s.sample()
		sample.At, sample.Tamper = now.Add(-24*time.Hour), tamper
		if slices.Contains(s.NoTamper, tamper) {
			continue
		}
		if got := refuse(tb, a, sign(tb, a, sample), "old and forged"); got == provider.ReasonStale {
			tb.Errorf("tamper %s: reason %q, which is for the authentic alone", tamper, got)
		}
	}
}

func checkTamper(tb testing.TB, s Suite) {
	tb.Helper()
	a := s.open(tb, usual)
	for _, tamper := range []provider.Tamper{provider.TamperBody, provider.TamperSignature, provider.TamperTimestamp, provider.TamperDrop} {
		sample := s.sample()
		sample.Tamper = tamper
		if slices.Contains(s.NoTamper, tamper) {
			if _, err := a.Signer.Sign(sample); !errors.Is(err, provider.ErrNoSample) {
				tb.Errorf("tamper %s: %v, want ErrNoSample", tamper, err)
			}
			continue
		}
		refuse(tb, a, sign(tb, a, sample), "tamper "+string(tamper))
	}
	sample := s.sample()
	sample.Tamper = "no such way"
	if _, err := a.Signer.Sign(sample); !errors.Is(err, provider.ErrNoSample) {
		tb.Errorf("unknown tamper: %v, want ErrNoSample", err)
	}
}

func checkRefused(tb testing.TB, s Suite) {
	tb.Helper()
	a := s.open(tb, usual)
	for _, r := range s.Refused {
		bad := clone(sign(tb, a, s.sample()))
		r.Spoil(tb, bad)
		if got := refuse(tb, a, bad, r.Name); r.Reason != "" && got != r.Reason {
			tb.Errorf("%s: reason %q, want %q", r.Name, got, r.Reason)
		}
	}
}

// checkUnreadable signs bodies that say nothing. Each must come to a refusal, to
// ErrMalformed or to events, and never to a panic or to silence.
func checkUnreadable(tb testing.TB, s Suite) {
	tb.Helper()
	a := s.open(tb, usual)
	for _, body := range unreadable {
		sample := s.sample()
		sample.Body = []byte(body)
		cb, err := a.Signer.Sign(sample)
		if err != nil {
			if !errors.Is(err, provider.ErrNoSample) {
				tb.Errorf("Sign of body %q: %v, want ErrNoSample or success", body, err)
			}
			continue
		}
		harmless(tb, a, cb, fmt.Sprintf("body %q", body))
	}
}

// harmless verifies and decodes whatever it is given.
func harmless(tb testing.TB, a Account, cb *provider.Callback, what string) {
	tb.Helper()
	v, err := a.Provider.Verify(cb)
	if err != nil {
		refuse(tb, a, cb, what)
		return
	}
	events, err := a.Provider.Decode(cb, v)
	if err != nil {
		var r *provider.Refusal
		if !errors.Is(err, provider.ErrMalformed) && !errors.As(err, &r) {
			tb.Errorf("%s: Decode: %v wraps neither ErrMalformed nor a refusal", what, err)
		}
		quiet(tb, a, cb, err, what)
		return
	}
	if len(events) == 0 {
		tb.Errorf("%s: Decode returned no event and no error", what)
	}
	for _, d := range events {
		checkDecoded(tb, d, what)
	}
}

var unreadable = []string{
	"{}", "[]", "null", "0", `"text"`, "{", "}", " ", "\x00", "\xff\xfe", "a=b", "a=b&a=c", "%zz=1", "<xml></xml>",
	`{"id":1,"type":2,"data":3,"resource":4}`, `{"id":"x","id":"y"}`, `{"type":"","data":{"object":null}}`,
	`{"id":"x","type":"payment_intent.succeeded","data":{"object":{"amount_received":1e3,"currency":"usd"}}}`,
	strings.Repeat("[", 10_000), strings.Repeat(`{"a":`, 10_000), `{"a":` + strings.Repeat("9", 400) + "}",
}

func checkReplies(tb testing.TB, s Suite) {
	tb.Helper()
	a := s.open(tb, usual)
	for _, o := range []provider.Outcome{provider.Accepted, provider.Refused, provider.Malformed, provider.Retry} {
		want, ok := s.Replies[o]
		if !ok {
			tb.Errorf("suite does not say what the reply for outcome %d is", o)
			continue
		}
		for range 2 {
			got := a.Provider.Reply(o)
			if got.Status != want.Status || got.ContentType != want.ContentType || !bytes.Equal(got.Body, want.Body) {
				tb.Errorf("reply for outcome %d is %d %q %q, want %d %q %q", o,
					got.Status, got.ContentType, got.Body, want.Status, want.ContentType, want.Body)
			}
		}
		class := map[provider.Outcome]int{provider.Accepted: 2, provider.Refused: 4, provider.Malformed: 4, provider.Retry: 5}[o]
		if got := a.Provider.Reply(o).Status / 100; got != class {
			tb.Errorf("reply for outcome %d is a %dxx, want a %dxx", o, got, class)
		}
	}
	// An outcome nobody defined is a mistake of ours, and must not look like success.
	if got := a.Provider.Reply(0); got.Status/100 != 5 {
		tb.Errorf("reply for no outcome at all is %d, want a 5xx", got.Status)
	}
}

func checkIdentity(tb testing.TB, s Suite) {
	tb.Helper()
	one, again, other := s.open(tb, usual).Provider.Identity(), s.open(tb, usual).Provider.Identity(), s.open(tb, Key{Name: "other"}).Provider.Identity()
	if len(one.Keys) == 0 {
		tb.Errorf("identity has no keys")
	}
	if !reflect.DeepEqual(one, again) {
		tb.Errorf("one account has two identities")
	}
	for _, k := range one.Keys {
		if k == [32]byte{} {
			tb.Errorf("identity has an empty key digest")
		}
		if slices.Contains(other.Keys, k) {
			tb.Errorf("two accounts with other keys share a key digest")
		}
	}
}
