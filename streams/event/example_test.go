package event_test

import (
	"fmt"

	"github.com/paybell/paybell/streams/event"
)

func ExampleParseDecimal() {
	m, err := event.ParseDecimal("88.1", "cny")
	fmt.Println(m.Value, m.Minor, m.Currency, err)
	_, err = event.ParseDecimal("88.001", "CNY")
	fmt.Println(err)
	// Output:
	// 88.10 8810 CNY <nil>
	// event: amount_precision: more than 2 decimal digits
}

func ExampleOrder() {
	amount, err := event.ParseDecimal("88.00", "CNY")
	if err != nil {
		fmt.Println(err)
		return
	}
	paid := event.Event{
		ID: "evt_1", Type: event.PaymentSucceeded, Account: "alipay-main",
		Payment:      &event.Payment{OrderRef: "A1001", ProviderRef: "2019", Amount: &amount},
		Authenticity: event.Signature, Completeness: event.Full,
	}
	pending := paid
	pending.ID, pending.Type = "evt_0", event.PaymentPending

	var o event.Order
	fmt.Println(o.Apply(&paid), o.Status())
	fmt.Println(o.Apply(&pending), o.Status())
	fmt.Println(o.Captured(), event.Worth(&o, func(m event.Money) int64 { return m.Minor / 100 }))
	// Output:
	// applied paid
	// stale paid
	// 88.00 CNY 88
}

func ExampleRecord_Fields() {
	r := event.Record{Event: event.Event{ID: "evt_1", Type: event.TestPing, Account: "a", Namespace: "a"}, Raw: []byte("ping")}
	fields, err := r.Fields()
	if err != nil {
		fmt.Println(err)
		return
	}
	back, err := event.ParseRecordValues(fields)
	fmt.Println(back.Event.Type, string(back.Raw), err)
	// Output: test.ping ping <nil>
}
