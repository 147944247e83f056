package effectstest

import (
	"fmt"
	"time"

	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/workers"
)

// Base is the time the events of the builders below count from.
var Base = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// Event returns an authenticated, complete event of an order. n makes its ID and
// its time: equal arguments make the same event.
func Event(n int, typ event.Type, orderRef, providerRef string, amount event.Money) event.Event {
	at := Base.Add(time.Duration(n) * time.Second)
	return event.Event{
		Schema: event.Schema, ID: fmt.Sprintf("evt_%08d", n), Type: typ,
		Account: "alipay-main", Namespace: "shop", Provider: "alipay",
		OccurredAt: at, ReceivedAt: at.Add(time.Second),
		ProviderEvent: event.ProviderEvent{ID: fmt.Sprintf("pe_%d", n), IDAuthenticated: true, Type: string(typ)},
		Payment:       &event.Payment{OrderRef: orderRef, ProviderRef: providerRef, Amount: &amount},
		Authenticity:  event.Signature, Completeness: event.Full,
		Raw: event.Raw{CallbackID: fmt.Sprintf("cb_%08d", n), SHA256: fmt.Sprintf("%064x", n)},
	}
}

// CNY is an amount in fen.
func CNY(minor int64) event.Money {
	return event.Money{Value: fmt.Sprintf("%d.%02d", minor/100, minor%100), Minor: minor, Exponent: 2, Currency: "CNY"}
}

// Deliveries owes events to a group, as entries of partition 0 in their order.
func Deliveries(group string, events ...event.Event) []workers.Delivery {
	out := make([]workers.Delivery, len(events))
	for i := range events {
		out[i] = workers.Delivery{
			Record: event.Record{Event: events[i], Raw: []byte(`{"n":` + fmt.Sprint(i) + `}`)},
			Group:  group, EntryID: fmt.Sprintf("%d-0", i+1), Attempt: 1, Epoch: 1,
		}
	}
	return out
}
