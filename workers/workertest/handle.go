package workertest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/workers"
)

// Record returns a succeeded payment of an order, with an event ID of its own.
func Record(id, order string) event.Record {
	return event.Record{
		Event: event.Event{
			Schema: event.Schema, ID: id, Type: event.PaymentSucceeded,
			Account: "test-account", Namespace: "test", Provider: "test",
			ReceivedAt:    time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC),
			ProviderEvent: event.ProviderEvent{ID: id, IDAuthenticated: true},
			Payment: &event.Payment{
				OrderRef: order, ProviderRef: "pay-" + order,
				Amount: &event.Money{Value: "88.00", Minor: 8800, Exponent: 2, Currency: "EUR"},
			},
			Authenticity: event.Signature, Completeness: event.Full,
			Raw: event.Raw{CallbackID: "cb-" + id},
		},
		Raw: []byte(`{"id":"` + id + `"}`),
	}
}

// Deliveries returns first attempts of records as a pool hands them over: of one
// group and partition, in append order.
func Deliveries(group string, recs ...event.Record) []workers.Delivery {
	ds := make([]workers.Delivery, len(recs))
	for i, rec := range recs {
		ds[i] = workers.Delivery{Record: rec, Group: group, EntryID: fmt.Sprintf("%d-0", i+1), Attempt: 1, Epoch: 1}
	}
	return ds
}

// Handle runs h on a first attempt of rec and returns its outcome.
func Handle(tb testing.TB, h workers.Handler, rec event.Record) error {
	tb.Helper()
	return h.Handle(tb.Context(), Deliveries("test", rec)[0])
}

// HandleBatch runs h on first attempts of the records, in one batch, and returns
// their outcomes. It fails the test where h breaks the contract of BatchHandler.
func HandleBatch(tb testing.TB, h workers.BatchHandler, recs ...event.Record) []error {
	tb.Helper()
	ds := Deliveries("test", recs...)
	outcomes := h.HandleBatch(tb.Context(), ds)
	Check(tb, ds, outcomes)
	return outcomes
}

// Check fails the test where the outcomes of a batch break the contract of
// BatchHandler.
func Check(tb testing.TB, ds []workers.Delivery, outcomes []error) {
	tb.Helper()
	if len(outcomes) != len(ds) {
		tb.Errorf("%d outcomes for %d deliveries", len(outcomes), len(ds))
		return
	}
	failed := make(map[string]bool)
	for i, err := range outcomes {
		key := ds[i].Event.OrderingKey()
		switch held := errors.Is(err, workers.ErrHeld); {
		case err == nil && failed[key]:
			tb.Errorf("delivery %d (%s) was applied although an earlier one of %s had failed", i, ds[i].Event.ID, key)
		case held && !failed[key]:
			tb.Errorf("delivery %d (%s) was held although no earlier one of %s had failed", i, ds[i].Event.ID, key)
		case err != nil && !held && failed[key]:
			tb.Errorf("delivery %d (%s) was run although an earlier one of %s had failed: %v", i, ds[i].Event.ID, key, err)
		case err != nil:
			failed[key] = true
		}
	}
}
