package event_test

import (
	"testing"
	"time"

	"github.com/paybell/paybell/streams/event"
)

func money(t testing.TB, text, currency string) *event.Money {
	t.Helper()
	m, err := event.ParseDecimal(text, currency)
	if err != nil {
		t.Fatal(err)
	}
	return &m
}

func moneyExp(t testing.TB, text string, exponent int, currency string) *event.Money {
	t.Helper()
	m, err := event.ParseDecimalExp(text, exponent, currency)
	if err != nil {
		t.Fatal(err)
	}
	return &m
}

var noon = time.Date(2025, 7, 1, 12, 0, 0, 0, time.UTC)

// succeeded is a payment of 88.00 CNY.
func succeeded() event.Event {
	live := true
	return event.Event{
		Schema:     event.Schema,
		ID:         event.NewID("alipay", "alipay-main", "2019081500222155624068450559358070"),
		Type:       event.PaymentSucceeded,
		Account:    "alipay-main",
		Namespace:  "shop",
		Provider:   "alipay",
		Live:       &live,
		OccurredAt: noon,
		ReceivedAt: noon.Add(2123 * time.Millisecond),
		ProviderEvent: event.ProviderEvent{
			ID: "2019081500222155624068450559358070", IDAuthenticated: true, Type: "trade_status_sync/TRADE_SUCCESS",
		},
		Merchant: event.Merchant{Account: "2088531891668739", App: "2019073166072302", CustomerRef: "customer-7"},
		Payment: &event.Payment{
			OrderRef: "A1001", ProviderRef: "2019081522001468450512505578", Method: "alipay_wallet",
			Amount: &event.Money{Value: "88.00", Minor: 8800, Exponent: 2, Currency: "CNY"},
		},
		Authenticity: event.Signature,
		Completeness: event.Full,
		Raw:          event.Raw{CallbackID: "cb_1", SHA256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
	}
}

type namedRecord struct {
	name   string
	record event.Record
}

// records cover every member of an event at least once.
func records(t testing.TB) []namedRecord {
	t.Helper()
	var all []namedRecord
	add := func(name string, change func(r *event.Record)) {
		r := event.Record{Event: succeeded(), Raw: []byte("trade_status=TRADE_SUCCESS&total_amount=88.00&subject=%3Cb%3E")}
		change(&r)
		r.Event.ID = event.NewID(r.Event.Provider, r.Event.Account, name)
		all = append(all, namedRecord{name, r})
	}
	add("payment", func(r *event.Record) {
		r.Evidence = event.Evidence{
			KeyID: "alipay-2025", SignedAt: noon,
			Headers: map[string]string{"Stripe-Signature": "t=1,v1=00", "Content-Type": "application/json"},
		}
	})
	add("refund-total", func(r *event.Record) {
		r.Event.Type = event.RefundSucceeded
		r.Event.Payment.RefundedTotal = money(t, "8.00", "CNY")
		r.Event.Payment.Final = true
		r.Event.Refund = &event.Refund{OrderRef: "R1"}
	})
	add("refund-failed-item", func(r *event.Record) {
		sequence := int64(4)
		r.Event.Type = event.RefundFailed
		r.Event.ProviderEvent.Sequence = &sequence
		r.Event.Payment.ParentRef = "2019081522001468450512505578"
		r.Event.Refund = &event.Refund{ProviderRef: "re_1", Amount: money(t, "0.05", "CNY")}
		r.Event.Raw.Index = 1
		r.Raw, r.Item = nil, []byte(`{"amount":"0.05"}`)
	})
	add("dispute", func(r *event.Record) {
		r.Event.Type = event.DisputeOpened
		r.Event.Dispute = &event.Dispute{ProviderRef: "dp_1", Reason: "fraudulent", Amount: money(t, "88", "CNY"), DueBy: noon}
	})
	add("payment-failed", func(r *event.Record) {
		r.Event.Type = event.PaymentFailed
		r.Event.Payment.Failure = &event.Failure{Code: "insufficient_funds", Message: "no money <today>"}
		r.Event.Payment.Captured = money(t, "0", "JPY")
	})
	add("stock", func(r *event.Record) {
		available, change := int64(41), int64(-1)
		r.Event.Type, r.Event.Payment = event.StockChanged, nil
		r.Event.Stock = &event.Stock{SKU: "tea/green", Available: &available, Change: &change}
	})
	add("bare", func(r *event.Record) {
		r.Event = event.Event{
			Type: event.Unmapped, Account: "a", Provider: "p",
			Authenticity: event.Unverified, Completeness: event.NeedsFetch,
		}
		r.Raw = nil
	})
	add("conflict", func(r *event.Record) {
		r.Event = r.Event.AsConflict()
	})
	return all
}
