package event_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/paybell/paybell/streams/event"
)

// TestLogValueHoldsNoPersonalData fills every place that may hold some.
func TestLogValueHoldsNoPersonalData(t *testing.T) {
	const secret = "jane@example.org"
	e := succeeded()
	e.Merchant.CustomerRef = secret
	e.Payment.Method = secret
	e.Payment.Failure = &event.Failure{Code: secret, Message: secret}
	e.Dispute = &event.Dispute{Reason: secret}
	e.ProviderEvent.ID, e.ProviderEvent.Type = secret, secret
	for name, value := range map[string]any{"value": e, "pointer": &e, "record": &event.Record{Event: e}} {
		var b bytes.Buffer
		log := slog.New(slog.NewJSONHandler(&b, nil))
		if name == "record" {
			log.Info("event appended", "event", value.(*event.Record).Event)
		} else {
			log.Info("event appended", "event", value)
		}
		text := b.String()
		if strings.Contains(text, secret) || strings.Contains(text, "88.00") {
			t.Errorf("%s: %s", name, text)
		}
		for _, want := range []string{e.ID, `"type":"payment.succeeded"`, `"account":"alipay-main"`, `"order_ref":"A1001"`, `"callback_id":"cb_1"`} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %s is not in %s", name, want, text)
			}
		}
	}
}

func TestOrderingKey(t *testing.T) {
	for _, tc := range []struct {
		name string
		e    event.Event
		want string
	}{
		{"order", event.Event{Payment: &event.Payment{OrderRef: "A1", ParentRef: "p0", ProviderRef: "p1"}}, "shop/order/A1"},
		{"parent before own", event.Event{Payment: &event.Payment{ParentRef: "p0", ProviderRef: "p1"}}, "shop/ref/p0"},
		{"own reference", event.Event{Payment: &event.Payment{ProviderRef: "p1"}}, "shop/ref/p1"},
		{"empty payment", event.Event{Payment: &event.Payment{}}, "shop/event/evt_1"},
		{"stock", event.Event{Stock: &event.Stock{SKU: "tea"}}, "shop/sku/tea"},
		{"stock without a SKU", event.Event{Stock: &event.Stock{}}, "shop/event/evt_1"},
		{"payment before stock", event.Event{Payment: &event.Payment{OrderRef: "A1"}, Stock: &event.Stock{SKU: "tea"}}, "shop/order/A1"},
		{"nothing", event.Event{}, "shop/event/evt_1"},
		{"kept as sent", event.Event{Payment: &event.Payment{OrderRef: " a/B "}}, "shop/order/ a/B "},
		{"no UTF-8", event.Event{Payment: &event.Payment{OrderRef: "a\xff\xfe"}}, "shop/order/a\uFFFD\uFFFD"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.e.ID, tc.e.Namespace = "evt_1", "shop"
			if got := tc.e.OrderingKey(); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

// TestUndecodable: what was completed by the gateway is still undecodable, and nothing
// that a provider has named is.
func TestUndecodable(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*event.Event)
		want   bool
	}{
		{"as it begins", func(*event.Event) {}, true},
		{"completed", func(e *event.Event) {
			e.ID, e.Account, e.Namespace, e.Provider, e.Raw = "evt_1", "bell", "shop", "bellpay", event.Raw{Index: 1}
		}, true},
		{"another type", func(e *event.Event) { e.Type = event.PaymentSucceeded }, false},
		{"a conflict", func(e *event.Event) { *e = e.AsConflict() }, false},
		{"a whole signature", func(e *event.Event) { e.Authenticity = event.Signature }, false},
		{"nothing said of the proof", func(e *event.Event) { e.Authenticity = event.Unverified }, false},
		{"complete", func(e *event.Event) { e.Completeness = event.Full }, false},
		{"a type in the provider's words", func(e *event.Event) { e.ProviderEvent.Type = "coupon.created" }, false},
		{"an id of the provider", func(e *event.Event) { e.ProviderEvent.ID = "evt_9" }, false},
		{"a payment", func(e *event.Event) { e.Payment = &event.Payment{} }, false},
		{"a refund", func(e *event.Event) { e.Refund = &event.Refund{} }, false},
		{"a dispute", func(e *event.Event) { e.Dispute = &event.Dispute{} }, false},
		{"stock", func(e *event.Event) { e.Stock = &event.Stock{} }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := event.NewUndecodable()
			tc.change(&e)
			if e.Undecodable() != tc.want || e.MovesMoney() && tc.want {
				t.Errorf("undecodable: %v, moves money: %v", e.Undecodable(), e.MovesMoney())
			}
		})
	}
}

func TestMovesMoney(t *testing.T) {
	all := []event.Type{
		event.PaymentPending, event.PaymentActionRequired, event.PaymentAuthorized, event.PaymentSucceeded,
		event.PaymentFailed, event.PaymentClosed, event.PaymentReference,
		event.RefundPending, event.RefundSucceeded, event.RefundFailed,
		event.DisputeOpened, event.DisputeUpdated, event.DisputeWon, event.DisputeLost, event.DisputeClosed,
		event.PayoutUpdated, event.MandateUpdated, event.SubscriptionUpdated,
		event.OrderCreated, event.OrderShipped, event.StockChanged, event.TestPing, event.Unmapped, event.Conflict,
		"payment.succeeded.again", "",
	}
	for _, typ := range all {
		family, _, _ := strings.Cut(string(typ), ".")
		folds := (family == "payment" || family == "refund" || family == "dispute") &&
			typ != event.PaymentReference && strings.Count(string(typ), ".") == 1
		if typ.Folds() != folds {
			t.Errorf("%s folds: %v", typ, typ.Folds())
		}
		for _, authenticity := range []event.Authenticity{
			event.Signature, event.SignaturePartial, event.Token, event.DecryptOnly, event.Unverified, "",
		} {
			for _, completeness := range []event.Completeness{event.Full, event.NeedsFetch, ""} {
				e := event.Event{Type: typ, Authenticity: authenticity, Completeness: completeness}
				want := folds && completeness == event.Full && (authenticity == event.Signature || authenticity == event.Token)
				if e.MovesMoney() != want {
					t.Errorf("%s, %q, %q: %v", typ, authenticity, completeness, e.MovesMoney())
				}
			}
		}
	}
}
