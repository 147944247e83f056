package streamstest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/paybell/paybell/streams/event"
)

// Record is a payment of an order: the n-th event about it. Equal arguments give
// equal records.
func Record(order string, n int) event.Record {
	raw := fmt.Appendf(nil, `{"order":%q,"n":%d}`, order, n)
	sum := sha256.Sum256(raw)
	return event.Record{
		Event: event.Event{
			Schema:     event.Schema,
			ID:         event.NewID("stripe", "stripe-eu", fmt.Sprintf("%s/%d", order, n)),
			Type:       event.PaymentSucceeded,
			Account:    "stripe-eu",
			Namespace:  "shop",
			Provider:   "stripe",
			ReceivedAt: time.Date(2025, 7, 1, 2, 3, 6, 123e6, time.UTC),
			ProviderEvent: event.ProviderEvent{
				ID: fmt.Sprintf("evt-%s-%d", order, n), IDAuthenticated: true, Type: "payment_intent.succeeded",
			},
			Payment: &event.Payment{
				OrderRef: order, ProviderRef: fmt.Sprintf("pi-%s-%d", order, n),
				Amount: &event.Money{Value: "88.00", Minor: 8800, Exponent: 2, Currency: "EUR"},
			},
			Authenticity: event.Signature,
			Completeness: event.Full,
			Raw:          event.Raw{CallbackID: fmt.Sprintf("cb_%s_%d", order, n), SHA256: hex.EncodeToString(sum[:])},
		},
		Evidence: event.Evidence{KeyID: "env:STRIPE_SECRET", Headers: map[string]string{"Stripe-Signature": "t=1,v1=00"}},
		Raw:      raw,
	}
}

// Records are the n records of one callback, each of an order of its own.
func Records(callback string, n int) []event.Record {
	out := make([]event.Record, n)
	for i := range out {
		r := Record(fmt.Sprintf("%s-%d", callback, i), 0)
		r.Event.Raw.CallbackID = "cb_" + callback
		r.Event.Raw.Index = i
		if i > 0 {
			r.Raw, r.Item = nil, fmt.Appendf(nil, `{"item":%d}`, i)
		}
		out[i] = r
	}
	return out
}
