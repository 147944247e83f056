package event_test

import (
	"encoding/json"
	"testing"

	"github.com/paybell/paybell/streams/event"
)

func BenchmarkFields(b *testing.B) {
	r := records(b)[0].record
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Fields(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseRecord(b *testing.B) {
	r := records(b)[0].record
	m := asMap(fields(b, r))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := event.ParseRecord(m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNewID(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		event.NewID("alipay", "alipay-main", "2019081500222155624068450559358070")
	}
}

func BenchmarkFacts(b *testing.B) {
	e := succeeded()
	b.ReportAllocs()
	for b.Loop() {
		e.Facts()
	}
}

// BenchmarkApply folds the four events that most paid orders have.
func BenchmarkApply(b *testing.B) {
	events := []event.Event{succeeded(), succeeded(), succeeded(), succeeded()}
	for i, typ := range []event.Type{event.PaymentPending, event.PaymentSucceeded, event.PaymentSucceeded, event.RefundSucceeded} {
		events[i].Type = typ
		events[i].ID += string(rune('a' + i))
	}
	events[3].Refund = &event.Refund{ProviderRef: "re_1", Amount: money(b, "8.00", "CNY")}
	b.ReportAllocs()
	for b.Loop() {
		var o event.Order
		for i := range events {
			o.Apply(&events[i])
		}
	}
}

// BenchmarkOrderJSON stores and loads an order, as a handler does for each event.
func BenchmarkOrderJSON(b *testing.B) {
	o := fold(succeeded())
	b.ReportAllocs()
	for b.Loop() {
		text, err := json.Marshal(o)
		if err != nil {
			b.Fatal(err)
		}
		if err := json.Unmarshal(text, new(event.Order)); err != nil {
			b.Fatal(err)
		}
	}
}
