package event_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/paybell/paybell/streams/event"
)

var foldingTypes = []event.Type{
	event.PaymentPending, event.PaymentActionRequired, event.PaymentAuthorized, event.PaymentSucceeded,
	event.PaymentSucceeded, event.PaymentFailed, event.PaymentClosed,
	event.RefundPending, event.RefundSucceeded, event.RefundSucceeded, event.RefundFailed,
	event.DisputeOpened, event.DisputeUpdated, event.DisputeWon, event.DisputeLost, event.DisputeClosed,
}

// drawEvent draws from few values, so that events meet on references, moments and
// amounts, and disagree about them.
func drawEvent(t *rapid.T) event.Event {
	ref := rapid.SampledFrom([]string{"", "r1", "r2", "r3", strings.Repeat("long", 40)})
	currency := rapid.SampledFrom([]string{"CNY", "CNY", "CNY", "USD", "JPY", "EUR", "GBP", "CHF"})
	amount := rapid.Custom(func(t *rapid.T) *event.Money {
		if rapid.IntRange(0, 4).Draw(t, "absent") == 0 {
			return nil
		}
		minor := rapid.OneOf(rapid.Int64Range(-1, 5), rapid.Int64Range(0, 10000), rapid.Int64Min(1<<62)).Draw(t, "minor")
		m, err := event.FromMinorExp(minor, rapid.IntRange(0, 3).Draw(t, "exponent"), currency.Draw(t, "currency"))
		if err != nil {
			t.Fatal(err)
		}
		return &m
	})
	e := event.Event{
		ID:        "evt_" + rapid.StringMatching(`[a-c]{1,2}`).Draw(t, "id"),
		Type:      rapid.SampledFrom(foldingTypes).Draw(t, "type"),
		Account:   rapid.SampledFrom([]string{"a1", "a1", "a2", "a3"}).Draw(t, "account"),
		Provider:  "p",
		Namespace: "n",
		Merchant:  event.Merchant{CustomerRef: rapid.SampledFrom([]string{"", "c1", "c1", "c2", "c3", "c4", "c5"}).Draw(t, "customer")},
		ProviderEvent: event.ProviderEvent{
			Type: rapid.SampledFrom([]string{"", "X", "Y"}).Draw(t, "word"),
		},
		Payment: &event.Payment{
			ProviderRef: ref.Draw(t, "payment"), ParentRef: ref.Draw(t, "parent"), Amount: amount.Draw(t, "amount"),
			Final: rapid.Bool().Draw(t, "final"),
		},
		Authenticity: event.Signature,
		Completeness: event.Full,
	}
	if s := rapid.Int64Range(-1, 2).Draw(t, "sequence"); s >= 0 {
		e.ProviderEvent.Sequence = &s
	}
	if s := rapid.IntRange(0, 4).Draw(t, "second"); s > 0 {
		e.OccurredAt = noon.Add(time.Duration(s) * time.Second)
	}
	if rapid.IntRange(0, 3).Draw(t, "related") == 0 {
		e.Payment.RelatedRefs = rapid.SliceOfN(ref, 1, 2).Draw(t, "related refs")
	}
	if rapid.IntRange(0, 5).Draw(t, "left out") == 0 {
		e.LeftOut = []string{rapid.SampledFrom([]string{event.LeftOutCustomerRef, event.LeftOutRefundOrderRef, event.LeftOutMethod}).Draw(t, "field")}
	}
	if rapid.Bool().Draw(t, "totals") {
		e.Payment.Captured, e.Payment.RefundedTotal = amount.Draw(t, "captured"), amount.Draw(t, "refunded")
	}
	if strings.HasPrefix(string(e.Type), "refund.") && rapid.Bool().Draw(t, "refund") {
		e.Refund = &event.Refund{ProviderRef: ref.Draw(t, "refund ref"), Amount: amount.Draw(t, "refund amount")}
	}
	if strings.HasPrefix(string(e.Type), "dispute.") && rapid.Bool().Draw(t, "dispute") {
		e.Dispute = &event.Dispute{ProviderRef: ref.Draw(t, "dispute ref"), Amount: amount.Draw(t, "dispute amount")}
	}
	return e
}

func drawEvents(t *rapid.T) []event.Event {
	return rapid.SliceOfN(rapid.Custom(drawEvent), 0, 40).Draw(t, "events")
}

// fold applies events one after another.
func fold(events ...event.Event) *event.Order {
	o := new(event.Order)
	for i := range events {
		o.Apply(&events[i])
	}
	return o
}

// foldStored is fold as a handler does it: the order is stored as JSON in between.
func foldStored(t rapid.TB, events []event.Event) *event.Order {
	o := new(event.Order)
	for i := range events {
		o.Apply(&events[i])
		stored := new(event.Order)
		if err := json.Unmarshal([]byte(state(t, o)), stored); err != nil {
			t.Fatal(err)
		}
		o = stored
	}
	return o
}

func state(t rapid.TB, o *event.Order) string {
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// face is everything that can be seen of an order, and its worth.
func face(o *event.Order) string {
	words, closed := o.Closed()
	return fmt.Sprintf("%s captured=%s refunded=%s lost=%s conflicts=%v customer=%q closed=%v %q final=%v paid by=%v worth=%d",
		o.Status(), o.Captured(), o.Refunded(), o.Lost(), o.Conflicts(), o.CustomerRef(), closed, words, o.Final(), o.PaidBy(),
		event.Worth(o, onePointPerUnit))
}

// onePointPerUnit gives a point for each major unit.
func onePointPerUnit(m event.Money) int64 {
	points := m.Minor
	for range m.Exponent {
		points /= 10
	}
	return points
}

func same(t rapid.TB, what string, got, want *event.Order) {
	t.Helper()
	if g, w := state(t, got), state(t, want); g != w {
		t.Fatalf("%s: another state\n got %s\nwant %s", what, g, w)
	}
	if g, w := face(got), face(want); g != w {
		t.Fatalf("%s: looks different\n got %s\nwant %s", what, g, w)
	}
}

func shuffled(t *rapid.T, events []event.Event) []event.Event {
	if len(events) == 0 {
		return nil
	}
	return rapid.Permutation(events).Draw(t, "permutation")
}

// duplicated inserts some events again, anywhere.
func duplicated(t *rapid.T, events []event.Event) []event.Event {
	out := slices.Clone(events)
	if len(events) == 0 {
		return out
	}
	for range rapid.IntRange(0, 10).Draw(t, "duplicates") {
		again := rapid.SampledFrom(events).Draw(t, "again")
		out = slices.Insert(out, rapid.IntRange(0, len(out)).Draw(t, "at"), again)
	}
	return out
}

func TestAnyArrivalEndsTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := drawEvents(t)
		want := fold(events...)
		same(t, "permuted and duplicated", fold(duplicated(t, shuffled(t, events))...), want)
		same(t, "stored in between", foldStored(t, shuffled(t, events)), want)

		// Split over two orders, with some events in both, and merged either way.
		var left, right []event.Event
		for _, e := range shuffled(t, events) {
			side := rapid.IntRange(0, 2).Draw(t, "side")
			if side != 1 {
				left = append(left, e)
			}
			if side != 0 {
				right = append(right, e)
			}
		}
		a, b := fold(left...), fold(right...)
		ab, ba := a.Clone(), b.Clone()
		ab.Merge(b)
		ba.Merge(a)
		same(t, "split and merged", ab, want)
		same(t, "split and merged the other way", ba, want)
		same(t, "left after merging", a, fold(left...))
		same(t, "right after merging", b, fold(right...))
	})
}

func TestMergeIsAJoin(t *testing.T) {
	merged := func(os ...*event.Order) *event.Order {
		out := new(event.Order)
		for _, o := range os {
			out.Merge(o)
		}
		return out
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := fold(drawEvents(t)...), fold(drawEvents(t)...), fold(drawEvents(t)...)
		same(t, "commutative", merged(a, b), merged(b, a))
		same(t, "associative", merged(merged(a, b), c), merged(a, merged(b, c)))
		same(t, "idempotent", merged(a, a), a)
		same(t, "identity", merged(a, new(event.Order), nil), a)
		same(t, "absorbed", merged(merged(a, b), b, a), merged(a, b))
	})
}

// TestCapsKeepTheJoin overfills every set there is.
func TestCapsKeepTheJoin(t *testing.T) {
	many := func(kind int) []event.Event {
		var events []event.Event
		for i := range 150 {
			e := succeeded()
			e.ID = fmt.Sprintf("evt_%03d", i*7%150)
			e.OccurredAt = noon.Add(time.Duration(i*13%150) * time.Second)
			ref := fmt.Sprintf("ref_%03d", i*11%150)
			switch kind {
			case 0:
				e.Payment.ProviderRef = ref
			case 1:
				e.Payment.ProviderRef, e.Payment.Captured = ref, e.Payment.Amount
			case 2:
				e.Type, e.Refund = event.RefundSucceeded, &event.Refund{ProviderRef: ref, Amount: e.Payment.Amount}
			case 3:
				e.Type, e.Payment.ProviderRef, e.Payment.RefundedTotal = event.RefundSucceeded, ref, e.Payment.Amount
			case 4:
				e.Type, e.Dispute = event.DisputeLost, &event.Dispute{ProviderRef: ref}
			case 5:
				e.Type, e.Refund = []event.Type{event.RefundFailed, event.RefundSucceeded}[i%2], &event.Refund{ProviderRef: "one"}
			case 6:
				e.Account = ref
			case 7:
				e.Payment.Amount = money(t, fmt.Sprint(i), fmt.Sprintf("A%c%c", 'A'+i%7, 'A'+i%3))
			case 8:
				e.Merchant.CustomerRef = ref
			case 9:
				e.Type, e.ProviderEvent.Type = event.PaymentClosed, ref
			case 10:
				e.Type, e.Payment.ProviderRef = event.PaymentPending, ref
			case 11:
				e.Type, e.Payment.RefundedTotal = event.RefundSucceeded, money(t, fmt.Sprint(i), "CNY")
			case 12:
				e.Payment.RelatedRefs = []string{ref}
			}
			events = append(events, e)
		}
		return events
	}
	for kind := range 13 {
		t.Run(fmt.Sprint(kind), func(t *testing.T) {
			events := many(kind)
			want := fold(events...)
			if !slices.Contains(want.Conflicts(), event.ConflictCap) {
				t.Fatalf("no cap conflict: %v", want.Conflicts())
			}
			if n := len(state(t, want)); n > 64<<10 {
				t.Errorf("the state has %d bytes", n)
			}
			if again := fold(append(slices.Clone(events), events...)...); state(t, again) != state(t, want) {
				t.Error("duplicates changed a full order")
			}
			slices.Reverse(events)
			same(t, "reversed", fold(events...), want)
			a, b := fold(events[:100]...), fold(events[50:]...)
			b.Merge(a)
			same(t, "merged", b, want)
		})
	}
}

// TestOrderOnlyGrows: what an order has said it never takes back.
func TestOrderOnlyGrows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := new(event.Order)
		for _, e := range drawEvents(t) {
			before := o.Clone()
			change := o.Apply(&e)
			joined := before.Clone()
			joined.Merge(o)
			same(t, "the new state holds the old one", joined, o)
			if change == event.ChangeStale && face(before) != face(o) {
				t.Fatalf("a stale event changed what is seen:\n%s\n%s", face(before), face(o))
			}
			unchanged := o.Clone()
			if again := o.Apply(&e); again != event.ChangeStale {
				t.Fatalf("applied again it is %s", again)
			}
			same(t, "applied again", o, unchanged)
		}
	})
}

// TestPaidStaysPaid: no later word makes a paid order look unpaid.
func TestPaidStaysPaid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := fold(drawEvents(t)...)
		paid := drawEvent(t)
		paid.Type = event.PaymentSucceeded
		o.Apply(&paid)
		for _, e := range drawEvents(t) {
			o.Apply(&e)
		}
		switch o.Status() {
		case event.StatusPaid, event.StatusPartiallyRefunded, event.StatusRefunded, event.StatusDisputed, event.StatusChargedBack:
		default:
			t.Fatalf("a paid order is %s", o.Status())
		}
	})
}

func FuzzOrderJSON(f *testing.F) {
	for _, o := range []*event.Order{new(event.Order), fold(succeeded())} {
		f.Add(state(f, o))
	}
	f.Add(`{"v":1,"stage":"paid","customers":{"a":null},"accounts":{"a":null,"b":{"captures":{"c":null,"d":{"CNY":null}},` +
		`"captured_totals":{"":null,"p":{"CNY":null}},"refunds":{"r":null},"disputes":{"d":[{"value":"won"},{"value":"lost"}]}}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		o := new(event.Order)
		if json.Unmarshal([]byte(text), o) != nil {
			return
		}
		face(o) // Whatever is stored, looking at it must not panic.
		again := new(event.Order)
		if err := json.Unmarshal([]byte(state(t, o)), again); err != nil {
			t.Fatal(err)
		}
		same(t, "stored again", again, o)
		o.Merge(again)
		same(t, "merged with itself", o, again)
	})
}

// TestOrderJSONIsThatOfItsTypes holds the JSON that is written by hand to what is read
// back by reflection, names that have to be escaped included.
func TestOrderJSONIsThatOfItsTypes(t *testing.T) {
	odd := rapid.SampledFrom([]string{"", "", "a\"b", `c\d`, "<e>&", "f\u2028g", "h\x01", "汉", "\x80"})
	rapid.Check(t, func(t *rapid.T) {
		var o event.Order
		for _, e := range rapid.SliceOfN(rapid.Custom(drawEvent), 0, 12).Draw(t, "events") {
			e.Merchant.CustomerRef += odd.Draw(t, "customer's")
			e.Account += odd.Draw(t, "account's")
			e.Payment.ProviderRef += odd.Draw(t, "payment's")
			e.ProviderEvent.Type += odd.Draw(t, "word's")
			o.Apply(&e)
		}
		want, err := event.ReflectedJSON(&o)
		if err != nil {
			t.Fatal(err)
		}
		got, err := o.MarshalJSON()
		if err != nil || string(got) != string(want) {
			t.Fatalf("JSON = %s, %v, want %s", got, err, want)
		}
	})
}
