package event_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/paybell/paybell/streams/event"
)

// told is what must be seen of an order, whatever the order of arrival.
type seen struct {
	status                   event.Status
	captured, refunded, lost string
	conflicts                string
	worth                    int64
}

func (want seen) check(t *testing.T, o *event.Order) {
	t.Helper()
	value := func(m event.Money) string { return strings.TrimSuffix(m.Value, ".00") }
	words := make([]string, 0, 4)
	for _, d := range o.Conflicts() {
		words = append(words, string(d))
	}
	got := seen{
		o.Status(), value(o.Captured()), value(o.Refunded()), value(o.Lost()),
		strings.Join(words, " "), event.Worth(o, onePointPerUnit),
	}
	if got != want {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
}

func parent(ref string) detail {
	return func(e *event.Event) { e.Payment.ParentRef = ref }
}

func related(refs ...string) detail {
	return func(e *event.Event) { e.Payment.RelatedRefs = refs }
}

// TestWhatCallbacksMean has one course of callbacks for each rule of docs/event.md that
// is about money, each folded in every order of arrival, once and twice.
func TestWhatCallbacksMean(t *testing.T) {
	const succeeded, failed = event.RefundSucceeded, event.RefundFailed
	paid := event.PaymentSucceeded
	for _, tc := range []struct {
		name string
		tell func(s *story)
		want seen
	}{
		// Refunds that fail after they were counted.
		{"a refund fails that a total had counted", func(s *story) {
			s.add100(paid).add(succeeded, refund(""), s.refunded("100")).add100(failed)
		}, seen{event.StatusPaid, "100", "0", "0", "", 100}},
		{"it was told to be pending before", func(s *story) {
			s.add100(paid).add100(event.RefundPending).add(succeeded, refund(""), s.refunded("100")).add100(failed)
		}, seen{event.StatusPaid, "100", "0", "0", "", 100}},
		{"one of two in the total fails", func(s *story) {
			s.add100(paid).add(succeeded, refund("re_a"), s.amount("20", "CNY")).add(succeeded, refund(""), s.refunded("20"))
			s.add(succeeded, refund(""), s.refunded("50")).add(failed, refund("re_b"), s.amount("30", "CNY"))
		}, seen{event.StatusPartiallyRefunded, "100", "20", "0", "", 80}},
		{"another refund of the same size afterwards, told by its total alone", func(s *story) {
			s.add100(paid).add(succeeded, refund(""), s.refunded("50")).add(failed, s.amount("50", "CNY"))
			s.add(succeeded, refund(""), s.refunded("50"))
		}, seen{event.StatusPartiallyRefunded, "100", "50", "0", "", 50}},
		{"a smaller one afterwards", func(s *story) {
			s.add100(paid).add(succeeded, refund(""), s.refunded("50")).add(failed, s.amount("50", "CNY"))
			s.add(succeeded, refund(""), s.refunded("10"))
		}, seen{event.StatusPartiallyRefunded, "100", "10", "0", "", 90}},
		{"a failed refund larger than the total was not in it", func(s *story) {
			s.add100(paid).add(succeeded, refund(""), s.refunded("20")).add(failed, s.amount("30", "CNY"))
		}, seen{event.StatusPartiallyRefunded, "100", "20", "0", "", 80}},
		{"a failed refund of another payment was not in it", func(s *story) {
			s.add100(paid).add100(paid, payment("pay_2")).add(succeeded, refund(""), s.refunded("100"))
			s.add(failed, payment("pay_2"), s.amount("50", "CNY"))
		}, seen{event.StatusPartiallyRefunded, "200", "100", "0", "", 100}},
		{"a failed refund of one or another payment leaves the sum once", func(s *story) {
			s.add100(paid).add100(paid, payment("pay_2")).add(succeeded, refund(""), s.refunded("50"))
			s.add(succeeded, payment("pay_2"), refund(""), s.refunded("50")).add(failed, payment(""), s.amount("50", "CNY"))
		}, seen{event.StatusPartiallyRefunded, "200", "50", "0", "double_payment", 150}},
		{"no times are told", func(s *story) {
			s.add100(paid, at(-1)).add(succeeded, refund(""), s.refunded("100"), at(-1)).add100(failed, at(-1))
		}, seen{event.StatusPaid, "100", "0", "0", "", 100}},
		{"how much failed is not told", func(s *story) {
			s.add100(paid).add(succeeded, s.refunded("50")).add(failed)
		}, seen{event.StatusPartiallyRefunded, "100", "50", "0", "missing_amount", 50}},
		{"a refund fails that was told by its own amount", func(s *story) {
			s.add100(paid).add(succeeded, s.amount("50", "CNY"), s.refunded("50")).add(failed, s.amount("50", "CNY"))
		}, seen{event.StatusPaid, "100", "0", "0", "", 100}},
		{"a total in the notice of the payment's end counts", func(s *story) {
			s.add100(paid, s.refunded("20"))
		}, seen{event.StatusPartiallyRefunded, "100", "20", "0", "", 80}},
		{"refunds of two payments add up, one told by a total", func(s *story) {
			s.add100(paid).add100(paid, payment("pay_2")).add(succeeded, refund(""), s.refunded("20"))
			s.add(succeeded, payment("pay_2"), s.amount("30", "CNY"))
		}, seen{event.StatusPartiallyRefunded, "200", "50", "0", "double_payment", 150}},

		// Lost disputes.
		{"a lost dispute takes the rest", func(s *story) {
			s.add100(paid).add(succeeded, s.amount("30", "CNY")).add(event.DisputeLost, s.amount("70", "CNY"))
		}, seen{event.StatusChargedBack, "100", "30", "70", "", 0}},
		{"a lost dispute takes a part", func(s *story) {
			s.add100(paid).add(event.DisputeLost, s.amount("40", "CNY"))
		}, seen{event.StatusPartiallyRefunded, "100", "0", "40", "", 60}},
		{"and is won later", func(s *story) {
			s.add100(paid).add(event.DisputeLost, s.amount("40", "CNY")).add(event.DisputeWon, s.amount("40", "CNY"))
		}, seen{event.StatusPaid, "100", "0", "0", "", 100}},
		{"refunded and lost: never below nothing", func(s *story) {
			s.add100(paid).add100(succeeded).add100(event.DisputeLost)
		}, seen{event.StatusChargedBack, "100", "100", "100", "", 0}},
		{"two lost disputes add up", func(s *story) {
			s.add100(paid).add(event.DisputeLost, s.amount("40", "CNY")).add(event.DisputeLost, dispute("dp_2"), s.amount("60", "CNY"))
		}, seen{event.StatusChargedBack, "100", "0", "100", "", 0}},
		{"a lost dispute over an unknown amount takes its payment alone", func(s *story) {
			s.add100(paid).add100(paid, payment("pay_2")).add(event.DisputeLost)
		}, seen{event.StatusPartiallyRefunded, "200", "0", "100", "", 100}},
		{"a lost dispute over an unknown amount takes what was left", func(s *story) {
			s.add100(paid).add100(paid, payment("pay_2")).add(succeeded, s.amount("60", "CNY")).add(event.DisputeLost)
		}, seen{event.StatusPartiallyRefunded, "200", "60", "40", "", 100}},
		{"an open dispute beside a lost one", func(s *story) {
			s.add100(paid).add(event.DisputeLost, s.amount("40", "CNY")).add(event.DisputeOpened, dispute("dp_2"), s.amount("1", "CNY"))
		}, seen{event.StatusDisputed, "100", "0", "40", "", 60}},

		// Attempts.
		{"the first closed, the second authorized", func(s *story) {
			s.add(event.PaymentClosed).add(event.PaymentAuthorized, payment("pay_2"))
		}, seen{status: event.StatusAuthorized}},
		{"the first closed, the second under way", func(s *story) {
			s.add(event.PaymentClosed).add(event.PaymentPending, payment("pay_2"))
		}, seen{status: event.StatusPending}},
		{"the first closed, the second paid", func(s *story) {
			s.add(event.PaymentPending).add(event.PaymentClosed).add100(paid, payment("pay_2"))
		}, seen{event.StatusPaid, "100", "0", "0", "", 100}},
		{"the first closed in another account, the second paid", func(s *story) {
			s.add(event.PaymentClosed, account("other")).add100(paid)
		}, seen{event.StatusPaid, "100", "0", "0", "", 100}},
		{"closed after the second had begun", func(s *story) {
			s.add(event.PaymentPending).add(event.PaymentPending, payment("pay_2")).add(event.PaymentClosed)
		}, seen{status: event.StatusPending}},
		{"both closed", func(s *story) {
			s.add(event.PaymentPending).add(event.PaymentClosed).add(event.PaymentAuthorized, payment("pay_2")).add(event.PaymentClosed, payment("pay_2"))
		}, seen{status: event.StatusClosed}},
		{"the first closed, the second failed", func(s *story) {
			s.add(event.PaymentClosed).add(event.PaymentFailed, payment("pay_2"))
		}, seen{status: event.StatusFailed}},
		{"the first failed, the second closed", func(s *story) {
			s.add(event.PaymentFailed).add(event.PaymentClosed, payment("pay_2"))
		}, seen{status: event.StatusClosed}},
		{"failed and closed", func(s *story) {
			s.add(event.PaymentPending).add(event.PaymentClosed).add(event.PaymentFailed)
		}, seen{status: event.StatusClosed}},
		{"nobody names attempts: closed, then tried again", func(s *story) {
			s.add(event.PaymentPending, payment("")).add(event.PaymentClosed, payment("")).add(event.PaymentPending, payment(""))
		}, seen{status: event.StatusPending}},
		{"nobody names attempts: tried, then closed", func(s *story) {
			s.add(event.PaymentPending, payment("")).add(event.PaymentAuthorized, payment("")).add(event.PaymentClosed, payment(""))
		}, seen{status: event.StatusClosed}},
		{"nobody names attempts: closed, then paid", func(s *story) {
			s.add(event.PaymentClosed, payment("")).add100(paid, payment(""))
		}, seen{event.StatusPaid, "100", "0", "0", "", 100}},
		{"nobody names attempts: paid, then closed", func(s *story) {
			s.add100(paid, payment("")).add(event.PaymentClosed, payment(""))
		}, seen{event.StatusPaid, "100", "0", "0", "paid_and_closed", 100}},
		{"a closing without a name closes what came before it", func(s *story) {
			s.add(event.PaymentPending).add(event.PaymentClosed, payment(""))
		}, seen{status: event.StatusClosed}},
		{"and not what came after it", func(s *story) {
			s.add(event.PaymentClosed, payment("")).add(event.PaymentAuthorized)
		}, seen{status: event.StatusAuthorized}},
		{"without a time it closes all", func(s *story) {
			s.add(event.PaymentAuthorized).add(event.PaymentClosed, payment(""), at(-1))
		}, seen{status: event.StatusClosed}},
		{"a closing without a name is of its account", func(s *story) {
			s.add(event.PaymentPending).add(event.PaymentClosed, payment(""), account("other"))
		}, seen{status: event.StatusPending}},
		{"at one moment a failure ends an attempt", func(s *story) {
			s.add(event.PaymentFailed, at(3)).add(event.PaymentPending, at(3))
		}, seen{status: event.StatusFailed}},

		// Paid twice.
		{"two payments of one account", func(s *story) {
			s.add100(paid).add100(paid, payment("pay_2"))
		}, seen{event.StatusPaid, "200", "0", "0", "double_payment", 200}},
		{"until one is refunded", func(s *story) {
			s.add100(paid).add100(paid, payment("pay_2")).add100(succeeded, payment("pay_2"))
		}, seen{event.StatusPartiallyRefunded, "200", "100", "0", "", 100}},
		{"but not by a refund that failed", func(s *story) {
			s.add100(paid).add100(paid, payment("pay_2")).add100(succeeded, payment("pay_2")).add100(failed, payment("pay_2"))
		}, seen{event.StatusPaid, "200", "0", "0", "double_payment", 200}},
		{"or charged back", func(s *story) {
			s.add100(paid).add100(paid, account("other")).add100(event.DisputeLost, account("other"))
		}, seen{event.StatusPartiallyRefunded, "200", "0", "100", "", 100}},
		{"a payment of nothing pays nothing twice", func(s *story) {
			s.add(paid, s.captured("0")).add100(paid, payment("pay_2"))
		}, seen{event.StatusPaid, "100", "0", "0", "", 100}},
		{"captures of one authorization are one payment", func(s *story) {
			s.add(event.PaymentAuthorized, payment("auth"))
			s.add(paid, payment("cap_1"), parent("auth"), s.amount("60", "CNY")).add(paid, payment("cap_2"), parent("auth"), s.amount("40", "CNY"))
		}, seen{event.StatusPaid, "100", "0", "0", "", 100}},
		{"an order that costs nothing is settled", func(s *story) {
			s.add(paid, s.captured("0"))
		}, seen{event.StatusPaid, "0", "0", "0", "", 0}},

		// One payment with several names.
		{"an invoice and its intent, known to be one", func(s *story) {
			s.add(paid, payment("in_1"), s.captured("100"), related("pi_1")).add100(paid, payment("pi_1"))
		}, seen{event.StatusPaid, "100", "0", "0", "", 100}},
		{"an invoice and its intent, not known to be one", func(s *story) {
			s.add(paid, payment("in_1"), s.captured("100")).add100(paid, payment("pi_1"))
		}, seen{event.StatusPaid, "100", "0", "0", "", 100}},
		{"an invoice and another payment", func(s *story) {
			s.add(paid, payment("in_1"), s.captured("100"), related("pi_1")).add100(paid, payment("pi_2"))
		}, seen{event.StatusPaid, "200", "0", "0", "double_payment", 200}},
		{"an invoice paid by two intents", func(s *story) {
			s.add(paid, payment("in_1"), s.captured("100"))
			s.add(paid, payment("pi_1"), s.amount("60", "CNY"), related("in_1")).add(paid, payment("pi_2"), s.amount("40", "CNY"), related("in_1"))
		}, seen{event.StatusPaid, "100", "0", "0", "", 100}},
		{"two invoices", func(s *story) {
			s.add(paid, payment("in_1"), s.captured("100")).add(paid, payment("in_2"), s.captured("100"))
		}, seen{event.StatusPaid, "200", "0", "0", "double_payment", 200}},
		{"an invoice paid in another way closes its intent", func(s *story) {
			s.add(paid, payment("in_1"), s.captured("100"), related("pi_1")).add(event.PaymentClosed, payment("pi_1"))
		}, seen{event.StatusPaid, "100", "0", "0", "", 100}},
		{"two invoices and their intents, not known to be theirs, one given back", func(s *story) {
			s.add(paid, payment("in_1"), s.captured("100")).add100(paid, payment("pi_1")).add(paid, payment("in_2"), s.captured("100"))
			s.add100(paid, payment("pi_2")).add100(succeeded, payment("pi_2"))
		}, seen{event.StatusPartiallyRefunded, "200", "100", "0", "", 100}},

		// What could not be read.
		{"an unreadable customer is missing", func(s *story) {
			s.add100(paid, leftOut(event.LeftOutCustomerRef))
		}, seen{event.StatusPaid, "100", "0", "0", "unreadable", 100}},
		{"until something else tells it", func(s *story) {
			s.add100(paid, leftOut(event.LeftOutCustomerRef)).add(event.PaymentPending, customer("c1"))
		}, seen{event.StatusPaid, "100", "0", "0", "", 100}},
		{"an unreadable method is nobody's concern", func(s *story) {
			s.add100(paid, leftOut(event.LeftOutMethod))
		}, seen{event.StatusPaid, "100", "0", "0", "", 100}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := tell(t)
			tc.tell(s)
			tc.want.check(t, s.order())
		})
	}
}

func leftOut(fields ...string) detail {
	return func(e *event.Event) { e.LeftOut = fields }
}

// TestPointsOfASharedPaymentCountOnce: an order leaves out what counts for another one.
func TestPointsOfASharedPaymentCountOnce(t *testing.T) {
	s := tell(t)
	s.add100(event.PaymentSucceeded, payment("in_1"), related("pi_1"))
	s.add100(event.PaymentSucceeded, payment("pi_2"))
	s.add(event.RefundSucceeded, payment("pi_1"), s.amount("30", "CNY"))
	s.add(event.RefundSucceeded, payment("pi_2"), refund("re_2"), s.amount("10", "CNY"))
	o := s.order()
	if got := event.Worth(o, onePointPerUnit); got != 160 {
		t.Errorf("worth %d before, want 160", got)
	}
	for _, ref := range []string{"in_1", "pi_1", "pi_2"} {
		if !o.HasMoney("main", ref) {
			t.Errorf("no money of %s", ref)
		}
	}
	if o.HasMoney("main", "pi_3") || o.HasMoney("other", "pi_2") {
		t.Error("money of a payment that nobody told of")
	}
	o.CountElsewhere("main", "pi_1")
	seen{event.StatusPartiallyRefunded, "200", "40", "0", "double_payment", 90}.check(t, o)
	total := tell(t)
	total.add(event.PaymentSucceeded, payment(""), total.captured("100")).add100(event.PaymentSucceeded)
	whole := total.order()
	whole.CountElsewhere("main", "pay_1")
	if got := event.Worth(whole, onePointPerUnit); got != 0 {
		t.Errorf("a total that may be of the shared payment is worth %d", got)
	}
	again := o.Clone()
	again.CountElsewhere("main", "pi_1")
	same(t, "told twice", again, o)
}

// TestLongReferences: bounds count characters, as providers do, and bytes, as databases.
func TestLongReferences(t *testing.T) {
	for ref, ok := range map[string]bool{
		strings.Repeat("单", 492): true, strings.Repeat("x", 512): true, strings.Repeat("x", 513): false,
		strings.Repeat("𝄞", 512): true, strings.Repeat("单", 513): false, "a\x00b": false, "": true,
	} {
		if err := event.CheckRef(ref); (err == nil) != ok {
			t.Errorf("%d bytes: %v", len(ref), err)
		}
	}
	s := tell(t)
	s.add100(event.PaymentSucceeded, customer(strings.Repeat("客", 492)), payment(strings.Repeat("单", 492)))
	o := s.order()
	if o.CustomerRef() != strings.Repeat("客", 492) || slices.Contains(o.Conflicts(), event.ConflictCap) {
		t.Errorf("customer of %d bytes, %v", len(o.CustomerRef()), o.Conflicts())
	}
}
