package event_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/paybell/paybell/streams/event"
)

// story tells the events of one order, a minute apart, in the words of one account.
type story struct {
	t      testing.TB
	events []event.Event
}

type detail func(e *event.Event)

func tell(t testing.TB) *story { return &story{t: t} }

// add tells one more event.
func (s *story) add(typ event.Type, details ...detail) *story {
	n := len(s.events)
	e := event.Event{
		ID: fmt.Sprintf("evt_%02d", n), Type: typ, Account: "main", Namespace: "shop", Provider: "p",
		OccurredAt: noon.Add(time.Duration(n) * time.Minute),
		Payment:    &event.Payment{OrderRef: "A1001", ProviderRef: "pay_1"},
		Refund:     &event.Refund{ProviderRef: "re_1"}, Dispute: &event.Dispute{ProviderRef: "dp_1"},
		Authenticity: event.Signature, Completeness: event.Full,
	}
	for _, d := range details {
		d(&e)
	}
	s.events = append(s.events, e)
	return s
}

// amount is the amount of what the event is about.
func (s *story) amount(text, currency string) detail {
	return func(e *event.Event) {
		m := money(s.t, text, currency)
		switch {
		case e.Type[:7] == "refund.":
			e.Refund.Amount = m
		case e.Type[:8] == "dispute.":
			e.Dispute.Amount = m
		default:
			e.Payment.Amount = m
		}
	}
}

// add100 is add with an amount of 100 CNY.
func (s *story) add100(typ event.Type, details ...detail) *story {
	return s.add(typ, append([]detail{s.amount("100.00", "CNY")}, details...)...)
}

func (s *story) captured(text string) detail {
	return func(e *event.Event) { e.Payment.Captured = money(s.t, text, "CNY") }
}

func (s *story) refunded(text string) detail {
	return func(e *event.Event) { e.Payment.RefundedTotal = money(s.t, text, "CNY") }
}

func payment(ref string) detail { return func(e *event.Event) { e.Payment.ProviderRef = ref } }

func refund(ref string) detail { return func(e *event.Event) { e.Refund.ProviderRef = ref } }

func dispute(ref string) detail { return func(e *event.Event) { e.Dispute.ProviderRef = ref } }

func account(name string) detail { return func(e *event.Event) { e.Account = name } }

func customer(ref string) detail { return func(e *event.Event) { e.Merchant.CustomerRef = ref } }

func sequence(n int64) detail { return func(e *event.Event) { e.ProviderEvent.Sequence = &n } }

// at is a minute of the story, or -1 for an unknown time.
func at(minute int) detail {
	return func(e *event.Event) {
		e.OccurredAt = noon.Add(time.Duration(minute) * time.Minute)
		if minute < 0 {
			e.OccurredAt = time.Time{}
		}
	}
}

// order folds the story in every permutation, once and with everything told twice,
// and returns the one order that must come out. Keep stories short.
func (s *story) order() *event.Order {
	s.t.Helper()
	want := fold(s.events...)
	permute(s.events, func(p []event.Event) {
		same(s.t, "permutation", fold(p...), want)
		same(s.t, "twice", fold(slices.Concat(p, p)...), want)
	})
	return want
}

func permute(events []event.Event, visit func([]event.Event)) {
	var walk func(head, rest []event.Event)
	walk = func(head, rest []event.Event) {
		if len(rest) == 0 {
			visit(head)
			return
		}
		for i := range rest {
			next := slices.Concat(rest[:i], rest[i+1:])
			walk(append(slices.Clip(head), rest[i]), next)
		}
	}
	walk(nil, events)
}
