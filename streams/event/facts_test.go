package event_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/paybell/paybell/streams/event"
)

func TestFactsByHand(t *testing.T) {
	e := event.Event{
		Type:          event.PaymentSucceeded,
		ProviderEvent: event.ProviderEvent{Type: "TRADE_SUCCESS"},
		Payment: &event.Payment{
			OrderRef: "A1001", ProviderRef: "2019", Amount: money(t, "88.10", "CNY"),
		},
	}
	var b strings.Builder
	for _, s := range []string{
		"payment-facts/1", "payment.succeeded", "TRADE_SUCCESS", "A1001", "2019", "", "CNY 88.1", "", "",
		"", "", "", "", "", "", "", "",
	} {
		fmt.Fprintf(&b, "%d:%s,", len(s), s)
	}
	sum := sha256.Sum256([]byte(b.String()))
	if want := hex.EncodeToString(sum[:8]); e.Facts().String() != want {
		t.Errorf("%s, want %s", e.Facts(), want)
	}
}

func TestFactsAreGolden(t *testing.T) {
	var b strings.Builder
	for _, tc := range records(t) {
		fmt.Fprintf(&b, "%s %s\n", tc.record.Event.Facts(), tc.name)
	}
	golden(t, "facts", b.String())
}

// TestHonestRedeliveriesShareFacts changes everything that a resend may change.
func TestHonestRedeliveriesShareFacts(t *testing.T) {
	live := false
	sequence := int64(9)
	for name, change := range map[string]func(e *event.Event){
		"nothing":            func(*event.Event) {},
		"occurred at":        func(e *event.Event) { e.OccurredAt = e.OccurredAt.Add(time.Hour) },
		"received at":        func(e *event.Event) { e.ReceivedAt = e.ReceivedAt.Add(time.Hour) },
		"raw":                func(e *event.Event) { e.Raw = event.Raw{CallbackID: "cb_2", SHA256: "00", Index: 3} },
		"customer":           func(e *event.Event) { e.Merchant.CustomerRef = "other" },
		"sequence":           func(e *event.Event) { e.ProviderEvent.Sequence = &sequence },
		"live":               func(e *event.Event) { e.Live = &live },
		"method":             func(e *event.Event) { e.Payment.Method = "card" },
		"failure":            func(e *event.Event) { e.Payment.Failure = &event.Failure{Code: "x"} },
		"exponent as sent":   func(e *event.Event) { e.Payment.Amount = moneyExp(t, "88.000", 3, "CNY") },
		"namespace":          func(e *event.Event) { e.Namespace = "renamed" },
		"provider event ID":  func(e *event.Event) { e.ProviderEvent.ID = "retry-2" },
		"dispute deadline":   func(e *event.Event) { e.Dispute = &event.Dispute{DueBy: e.OccurredAt} },
		"an empty refund":    func(e *event.Event) { e.Refund = &event.Refund{} },
		"authenticity":       func(e *event.Event) { e.Authenticity = event.Token },
		"invalid UTF-8 kept": func(e *event.Event) { e.Payment.Method = "\xff" },
	} {
		t.Run(name, func(t *testing.T) {
			e, first := succeeded(), succeeded()
			change(&e)
			if e.Facts() != first.Facts() {
				t.Error("other facts")
			}
		})
	}
}

func TestOtherFacts(t *testing.T) {
	n := int64(1)
	changes := map[string]func(e *event.Event){
		"nothing":           func(*event.Event) {},
		"type":              func(e *event.Event) { e.Type = event.PaymentFailed },
		"provider's word":   func(e *event.Event) { e.ProviderEvent.Type = "TRADE_FINISHED" },
		"order":             func(e *event.Event) { e.Payment.OrderRef = "A1002" },
		"provider ref":      func(e *event.Event) { e.Payment.ProviderRef = "2020" },
		"parent ref":        func(e *event.Event) { e.Payment.ParentRef = "2020" },
		"amount":            func(e *event.Event) { e.Payment.Amount = money(t, "88.01", "CNY") },
		"currency":          func(e *event.Event) { e.Payment.Amount = money(t, "88.00", "USD") },
		"no amount":         func(e *event.Event) { e.Payment.Amount = nil },
		"amount of zero":    func(e *event.Event) { e.Payment.Amount = money(t, "0", "CNY") },
		"captured":          func(e *event.Event) { e.Payment.Captured = money(t, "88.00", "CNY") },
		"refunded":          func(e *event.Event) { e.Payment.RefundedTotal = money(t, "88.00", "CNY") },
		"refund order ref":  func(e *event.Event) { e.Refund = &event.Refund{OrderRef: "R1"} },
		"refund ref":        func(e *event.Event) { e.Refund = &event.Refund{ProviderRef: "R1"} },
		"refund amount":     func(e *event.Event) { e.Refund = &event.Refund{Amount: money(t, "88.00", "CNY")} },
		"dispute ref":       func(e *event.Event) { e.Dispute = &event.Dispute{ProviderRef: "R1"} },
		"dispute amount":    func(e *event.Event) { e.Dispute = &event.Dispute{Amount: money(t, "88.00", "CNY")} },
		"sku":               func(e *event.Event) { e.Stock = &event.Stock{SKU: "R1"} },
		"available":         func(e *event.Event) { e.Stock = &event.Stock{Available: &n} },
		"stock change":      func(e *event.Event) { e.Stock = &event.Stock{Change: &n} },
		"broken exponent":   func(e *event.Event) { e.Payment.Amount = &event.Money{Minor: 8800, Exponent: 99, Currency: "CNY"} },
		"negative exponent": func(e *event.Event) { e.Payment.Amount = &event.Money{Minor: 8800, Exponent: -1, Currency: "CNY"} },
	}
	seen := make(map[event.Facts]string)
	for name, change := range changes {
		e := succeeded()
		change(&e)
		if other, ok := seen[e.Facts()]; ok {
			t.Errorf("%q and %q have the same facts", name, other)
		}
		seen[e.Facts()] = name
	}
}

// TestFactsCannotRunIntoEachOther moves text between neighbours, with the marks of
// the encoding in it.
func TestFactsCannotRunIntoEachOther(t *testing.T) {
	text := rapid.StringOf(rapid.SampledFrom([]rune("1:,0a")))
	rapid.Check(t, func(t *rapid.T) {
		a := event.Event{Payment: &event.Payment{OrderRef: text.Draw(t, "a1"), ProviderRef: text.Draw(t, "a2")}}
		b := event.Event{Payment: &event.Payment{OrderRef: text.Draw(t, "b1"), ProviderRef: text.Draw(t, "b2")}}
		if reflect.DeepEqual(a.Payment, b.Payment) != (a.Facts() == b.Facts()) {
			t.Fatalf("%+v and %+v: %s and %s", a.Payment, b.Payment, a.Facts(), b.Facts())
		}
	})
}

func TestParseFacts(t *testing.T) {
	for _, f := range []event.Facts{0, 1, 0xdeadbeef, 1<<64 - 1} {
		if got, err := event.ParseFacts(f.String()); err != nil || got != f {
			t.Errorf("%s became %s, %v", f, got, err)
		}
	}
	for _, text := range []string{"", "1", "000000000000000G", "00000000000000001", "+000000000000001", "00000000DEADBEEF"} {
		if _, err := event.ParseFacts(text); !errors.Is(err, event.ErrFacts) {
			t.Errorf("%q: error %v", text, err)
		}
	}
}
