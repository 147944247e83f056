package event_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/paybell/paybell/streams/event"
)

// TestStatus has every row of the visible status, and every consequence that is
// drawn from it, in every order of arrival.
func TestStatus(t *testing.T) {
	for _, tc := range []struct {
		name string
		tell func(s *story)
		want event.Status
	}{
		// The rows, first match wins.
		{"1 lost over all of it", func(s *story) { s.add100(event.PaymentSucceeded).add100(event.DisputeLost) }, event.StatusChargedBack},
		{"1 lost over more", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.DisputeLost, s.amount("115.00", "CNY"))
		}, event.StatusChargedBack},
		{"1 lost over a part", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.DisputeLost, s.amount("99.99", "CNY"))
		}, event.StatusPartiallyRefunded},
		{"1 lost over an untold amount", func(s *story) { s.add100(event.PaymentSucceeded).add(event.DisputeLost) }, event.StatusChargedBack},
		{"1 lost in another currency", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.DisputeLost, s.amount("14.00", "USD"))
		}, event.StatusChargedBack},
		{"1 lost before the payment is known", func(s *story) { s.add100(event.DisputeLost) }, event.StatusChargedBack},
		{"1 before 2", func(s *story) {
			s.add100(event.PaymentSucceeded).add100(event.DisputeLost).add100(event.DisputeOpened, dispute("dp_2"))
		}, event.StatusChargedBack},
		{"2 opened", func(s *story) { s.add100(event.PaymentSucceeded).add100(event.DisputeOpened) }, event.StatusDisputed},
		{"2 updated", func(s *story) { s.add100(event.PaymentSucceeded).add100(event.DisputeUpdated) }, event.StatusDisputed},
		{"2 before 3", func(s *story) {
			s.add100(event.PaymentSucceeded).add100(event.RefundSucceeded).add100(event.DisputeOpened)
		}, event.StatusDisputed},
		{"2 no more once won", func(s *story) {
			s.add100(event.PaymentSucceeded).add100(event.DisputeOpened).add100(event.DisputeWon)
		}, event.StatusPaid},
		{"2 no more once closed", func(s *story) {
			s.add100(event.PaymentSucceeded).add100(event.DisputeOpened).add100(event.DisputeClosed)
		}, event.StatusPaid},
		{"2 not again by a late update", func(s *story) {
			s.add100(event.PaymentSucceeded).add100(event.DisputeWon).add100(event.DisputeUpdated)
		}, event.StatusPaid},
		{"3 refunded", func(s *story) { s.add100(event.PaymentSucceeded).add100(event.RefundSucceeded) }, event.StatusRefunded},
		{"3 refunded in parts", func(s *story) {
			s.add100(event.PaymentSucceeded)
			s.add(event.RefundSucceeded, s.amount("40", "CNY")).add(event.RefundSucceeded, refund("re_2"), s.amount("60", "CNY"))
		}, event.StatusRefunded},
		{"3 refunded by a total", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.RefundSucceeded, refund(""), s.refunded("100"))
		}, event.StatusRefunded},
		{"4 partially refunded", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.RefundSucceeded, s.amount("99.99", "CNY"))
		}, event.StatusPartiallyRefunded},
		{"4 one refund told twice is one", func(s *story) {
			s.add100(event.PaymentSucceeded)
			s.add(event.RefundSucceeded, s.amount("50", "CNY")).add(event.RefundSucceeded, s.amount("50", "CNY"))
		}, event.StatusPartiallyRefunded},
		{"4 totals do not add up", func(s *story) {
			s.add100(event.PaymentSucceeded)
			s.add(event.RefundSucceeded, refund(""), s.refunded("30")).add(event.RefundSucceeded, refund(""), s.refunded("80"))
		}, event.StatusPartiallyRefunded},
		{"5 paid", func(s *story) { s.add100(event.PaymentSucceeded) }, event.StatusPaid},
		{"5 paid, no amount told", func(s *story) { s.add(event.PaymentSucceeded) }, event.StatusPaid},
		{"5 refund pending", func(s *story) { s.add100(event.PaymentSucceeded).add100(event.RefundPending) }, event.StatusPaid},
		{"5 refund failed", func(s *story) { s.add100(event.PaymentSucceeded).add100(event.RefundFailed) }, event.StatusPaid},
		{"6 closed", func(s *story) { s.add(event.PaymentPending).add(event.PaymentClosed) }, event.StatusClosed},
		{"6 before 7", func(s *story) { s.add(event.PaymentAuthorized).add(event.PaymentClosed) }, event.StatusClosed},
		{"7 authorized", func(s *story) { s.add(event.PaymentAuthorized) }, event.StatusAuthorized},
		{"7 before 8", func(s *story) { s.add(event.PaymentAuthorized).add(event.PaymentFailed) }, event.StatusAuthorized},
		{"8 failed", func(s *story) { s.add(event.PaymentFailed) }, event.StatusFailed},
		{"8 failed after pending", func(s *story) { s.add(event.PaymentPending).add(event.PaymentFailed) }, event.StatusFailed},
		{"8 at one moment the greater ID", func(s *story) { s.add(event.PaymentPending).add(event.PaymentFailed, at(0)) }, event.StatusFailed},
		{"9 pending", func(s *story) { s.add(event.PaymentPending) }, event.StatusPending},
		{"9 action required", func(s *story) { s.add(event.PaymentActionRequired) }, event.StatusPending},
		{"9 tried again after a failure", func(s *story) { s.add(event.PaymentFailed).add(event.PaymentPending) }, event.StatusPending},
		{"9 payer asked again after a failure", func(s *story) { s.add(event.PaymentFailed).add(event.PaymentActionRequired) }, event.StatusPending},
		{"9 a failure of unknown time is no later one", func(s *story) { s.add(event.PaymentPending).add(event.PaymentFailed, at(-1)) }, event.StatusPending},
		{"unknown", func(*story) {}, event.StatusUnknown},
		{"a refund alone is no status", func(s *story) { s.add100(event.RefundSucceeded) }, event.StatusUnknown},

		// The consequences.
		{"paid beats failed", func(s *story) { s.add(event.PaymentFailed).add100(event.PaymentSucceeded) }, event.StatusPaid},
		{"paid beats a later failure", func(s *story) { s.add100(event.PaymentSucceeded).add(event.PaymentFailed) }, event.StatusPaid},
		{"paid beats closed", func(s *story) { s.add100(event.PaymentSucceeded).add(event.PaymentClosed) }, event.StatusPaid},
		{"paid never returns to pending", func(s *story) { s.add100(event.PaymentSucceeded).add(event.PaymentPending) }, event.StatusPaid},
		{"alipay closes after payment: a refund", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.RefundSucceeded, refund(""), s.refunded("100"))
		}, event.StatusRefunded},
		{"a refund known before its payment", func(s *story) { s.add100(event.RefundSucceeded).add(event.PaymentPending) }, event.StatusPending},

		// Two-way tops.
		{"a refund that failed in the end", func(s *story) {
			s.add100(event.PaymentSucceeded).add100(event.RefundSucceeded).add100(event.RefundFailed)
		}, event.StatusPaid},
		{"a refund that succeeded in the end", func(s *story) {
			s.add100(event.PaymentSucceeded).add100(event.RefundFailed).add100(event.RefundSucceeded)
		}, event.StatusRefunded},
		{"at one moment the refund succeeded", func(s *story) {
			s.add100(event.PaymentSucceeded).add100(event.RefundSucceeded, at(5)).add100(event.RefundFailed, at(5))
		}, event.StatusRefunded},
		{"at one moment the refund succeeded, whatever the amounts", func(s *story) {
			s.add100(event.PaymentSucceeded).add100(event.RefundPending)
			s.add(event.RefundSucceeded, at(5)).add100(event.RefundFailed, at(5))
		}, event.StatusRefunded},
		{"a sequence beats the time", func(s *story) {
			s.add100(event.PaymentSucceeded).add100(event.RefundFailed, sequence(2)).add100(event.RefundSucceeded, sequence(1))
		}, event.StatusPaid},
		{"a sequence beats none", func(s *story) {
			s.add100(event.PaymentSucceeded).add100(event.RefundFailed, sequence(0)).add100(event.RefundSucceeded)
		}, event.StatusPaid},
		{"a refund that lags behind its end", func(s *story) {
			s.add100(event.PaymentSucceeded).add100(event.RefundSucceeded).add100(event.RefundPending)
		}, event.StatusRefunded},
		{"a second chargeback", func(s *story) {
			s.add100(event.PaymentSucceeded).add100(event.DisputeWon).add100(event.DisputeLost)
		}, event.StatusChargedBack},
		{"at one moment the dispute is won", func(s *story) {
			s.add100(event.PaymentSucceeded).add100(event.DisputeWon, at(5)).add100(event.DisputeLost, at(5))
		}, event.StatusPaid},
		{"at one moment lost beats closed", func(s *story) {
			s.add100(event.PaymentSucceeded).add100(event.DisputeLost, at(5)).add100(event.DisputeClosed, at(5))
		}, event.StatusChargedBack},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := tell(t)
			tc.tell(s)
			if got := s.order().Status(); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
}

func TestSums(t *testing.T) {
	none := ""
	for _, tc := range []struct {
		name               string
		tell               func(s *story)
		captured, refunded string
	}{
		{"nothing known", func(*story) {}, none, none},
		{"paid without an amount", func(s *story) { s.add(event.PaymentSucceeded) }, none, none},
		{"one capture", func(s *story) { s.add100(event.PaymentSucceeded) }, "100.00 CNY", "0.00 CNY"},
		{"one capture told twice", func(s *story) { s.add100(event.PaymentSucceeded).add100(event.PaymentSucceeded) }, "100.00 CNY", "0.00 CNY"},
		{"two captures", func(s *story) {
			s.add100(event.PaymentSucceeded).add100(event.PaymentSucceeded, payment("pay_2"))
		}, "200.00 CNY", "0.00 CNY"},
		{"captures without a reference are one each", func(s *story) {
			s.add100(event.PaymentSucceeded, payment("")).add100(event.PaymentSucceeded, payment(""))
		}, "200.00 CNY", "0.00 CNY"},
		{"a capture that disagrees: the largest", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.PaymentSucceeded, s.amount("90", "CNY"))
		}, "100.00 CNY", "0.00 CNY"},
		{"the largest total", func(s *story) {
			s.add(event.PaymentSucceeded, s.captured("40")).add(event.PaymentSucceeded, s.captured("100"))
		}, "100.00 CNY", "0.00 CNY"},
		{"a total holds the captures", func(s *story) {
			s.add(event.PaymentSucceeded, s.captured("100")).add(event.PaymentSucceeded, s.amount("60", "CNY"))
		}, "100.00 CNY", "0.00 CNY"},
		{"captures beyond the total", func(s *story) {
			s.add(event.PaymentSucceeded, s.captured("40")).add100(event.PaymentSucceeded)
		}, "100.00 CNY", "0.00 CNY"},
		{"a total beats the amount beside it", func(s *story) { s.add100(event.PaymentSucceeded, s.captured("70")) }, "70.00 CNY", "0.00 CNY"},
		{"totals of two payments add up", func(s *story) {
			s.add(event.PaymentSucceeded, s.captured("40")).add(event.PaymentSucceeded, payment("pay_2"), s.captured("100"))
		}, "140.00 CNY", "0.00 CNY"},
		{"a total of the whole order", func(s *story) {
			s.add(event.PaymentSucceeded, s.captured("40")).add(event.PaymentSucceeded, payment(""), s.captured("100"))
		}, "100.00 CNY", "0.00 CNY"},
		{"one reference in two accounts is two", func(s *story) {
			s.add100(event.PaymentSucceeded).add100(event.PaymentSucceeded, account("other"))
		}, "200.00 CNY", "0.00 CNY"},
		{"exponents that differ", func(s *story) {
			s.add(event.PaymentSucceeded, func(e *event.Event) { e.Payment.Amount = moneyExp(s.t, "500.00", 2, "ISK") })
			s.add(event.PaymentSucceeded, payment("pay_2"), s.amount("500", "ISK"))
			s.add(event.RefundSucceeded, s.amount("1", "ISK"))
		}, "1000 ISK", "1 ISK"},
		{"finer than ISO", func(s *story) {
			s.add(event.PaymentSucceeded, func(e *event.Event) { e.Payment.Amount = moneyExp(s.t, "500.25", 2, "ISK") })
		}, "500.25 ISK", "0 ISK"},
		{"coarser than ISO", func(s *story) {
			s.add(event.PaymentSucceeded, func(e *event.Event) { e.Payment.Amount = moneyExp(s.t, "5000", 0, "IDR") })
		}, "5000.00 IDR", "0.00 IDR"},
		{"refunds and a total", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.RefundSucceeded, s.amount("30", "CNY"))
			s.add(event.RefundSucceeded, refund(""), s.refunded("50"))
		}, "100.00 CNY", "50.00 CNY"},
		{"refunds beyond a total", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.RefundSucceeded, s.amount("70", "CNY"))
			s.add(event.RefundSucceeded, refund(""), s.refunded("50"))
		}, "100.00 CNY", "70.00 CNY"},
		{"a total beside the refund's own amount", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.RefundSucceeded, s.amount("30", "CNY"), s.refunded("50"))
		}, "100.00 CNY", "50.00 CNY"},
		{"a total of a refund that failed", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.RefundFailed, refund(""), s.refunded("50"))
		}, "100.00 CNY", "0.00 CNY"},
		{"the amount told while it was pending", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.RefundPending, s.amount("30", "CNY")).add(event.RefundSucceeded)
		}, "100.00 CNY", "30.00 CNY"},
		{"the amount it succeeded with", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.RefundPending, s.amount("30", "CNY")).add(event.RefundSucceeded, s.amount("20", "CNY"))
		}, "100.00 CNY", "20.00 CNY"},
		{"at one moment the larger refund", func(s *story) {
			s.add100(event.PaymentSucceeded)
			s.add(event.RefundSucceeded, s.amount("30", "CNY"), at(5)).add(event.RefundSucceeded, s.amount("40", "CNY"), at(5))
		}, "100.00 CNY", "40.00 CNY"},
		{"the currency of the earliest capture", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.PaymentSucceeded, payment("pay_2"), s.amount("5", "AUD"))
			s.add(event.RefundSucceeded, s.amount("7", "AUD"))
		}, "100.00 CNY", "0.00 CNY"},
		{"a refund's currency before any capture", func(s *story) {
			s.add(event.RefundSucceeded, s.amount("7", "USD")).add(event.RefundSucceeded, refund("re_2"), s.amount("5", "AUD"))
		}, "0.00 AUD", "5.00 AUD"},
		{"money below zero does not count", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.PaymentSucceeded, payment("pay_2"), s.amount("-5", "CNY"))
		}, "100.00 CNY", "0.00 CNY"},
		{"money whose parts disagree does not count", func(s *story) {
			s.add(event.PaymentSucceeded, func(e *event.Event) {
				e.Payment.Amount = &event.Money{Value: "1.00", Minor: 10000, Exponent: 2, Currency: "CNY"}
			})
		}, none, none},
		{"beyond int64", func(s *story) {
			s.add(event.PaymentSucceeded, s.amount("92233720368547758.07", "CNY"))
			s.add(event.PaymentSucceeded, payment("pay_2"), s.amount("0.01", "CNY"))
			s.add(event.RefundSucceeded, s.amount("92233720368547758.07", "CNY"))
		}, "92233720368547758.07 CNY", "92233720368547758.07 CNY"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := tell(t)
			tc.tell(s)
			o := s.order()
			for _, sum := range []struct {
				name string
				got  event.Money
				want string
			}{{"captured", o.Captured(), tc.captured}, {"refunded", o.Refunded(), tc.refunded}} {
				if sum.want == none {
					if !sum.got.IsZero() {
						t.Errorf("%s %+v, want none", sum.name, sum.got)
					}
					continue
				}
				if sum.got.String() != sum.want {
					t.Errorf("%s %s, want %s", sum.name, sum.got, sum.want)
				}
				if err := sum.got.Validate(); err != nil {
					t.Errorf("%s %+v: %v", sum.name, sum.got, err)
				}
			}
		})
	}
}

// TestPartsBeyondInt64StayExact: what does not fit is shown cut, and compared whole.
func TestPartsBeyondInt64StayExact(t *testing.T) {
	s := tell(t)
	s.add(event.PaymentSucceeded, s.amount("92233720368547758.07", "CNY"))
	s.add(event.PaymentSucceeded, payment("pay_2"), s.amount("0.01", "CNY"))
	s.add(event.RefundSucceeded, s.amount("92233720368547758.07", "CNY"))
	if o := s.order(); o.Status() != event.StatusPartiallyRefunded || o.Captured() != o.Refunded() {
		t.Errorf("%s, captured %s, refunded %s", o.Status(), o.Captured(), o.Refunded())
	}
}

func TestConflicts(t *testing.T) {
	for _, tc := range []struct {
		name string
		tell func(s *story)
		want string
	}{
		{"nothing known", func(*story) {}, ""},
		{"a plain life", func(s *story) {
			s.add(event.PaymentFailed, customer("c1")).add100(event.PaymentSucceeded, customer("c1")).add100(event.RefundPending).add100(event.RefundSucceeded)
		}, ""},
		{"a dispute won", func(s *story) {
			s.add100(event.PaymentSucceeded).add100(event.DisputeOpened).add(event.DisputeUpdated, s.amount("90", "CNY")).add100(event.DisputeWon)
		}, ""},
		{"refund both ways at one moment", func(s *story) {
			s.add100(event.PaymentSucceeded).add100(event.RefundSucceeded, at(5)).add100(event.RefundFailed, at(5))
		}, "two_way"},
		{"refund both ways, no time told", func(s *story) {
			s.add100(event.PaymentSucceeded).add100(event.RefundSucceeded, at(-1)).add100(event.RefundFailed, at(-1))
		}, "two_way"},
		{"refund both ways, told by a total, at one moment", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.RefundSucceeded, s.refunded("100"), at(5)).add100(event.RefundFailed, at(5))
		}, "two_way"},
		{"a refund that fails after it succeeded", func(s *story) {
			s.add100(event.PaymentSucceeded).add100(event.RefundSucceeded).add100(event.RefundFailed)
		}, ""},
		{"a refund that succeeds after it failed", func(s *story) {
			s.add100(event.PaymentSucceeded).add100(event.RefundFailed).add100(event.RefundSucceeded)
		}, ""},
		{"a refund both ways, in sequence at one moment", func(s *story) {
			s.add100(event.PaymentSucceeded).add100(event.RefundSucceeded, at(5), sequence(1)).add100(event.RefundFailed, at(5), sequence(2))
		}, ""},
		{"dispute both ways at one moment", func(s *story) {
			s.add100(event.PaymentSucceeded).add100(event.DisputeWon, at(5)).add100(event.DisputeLost, at(5))
		}, "two_way"},
		{"a dispute lost, then won", func(s *story) {
			s.add100(event.PaymentSucceeded).add100(event.DisputeLost).add100(event.DisputeWon)
		}, ""},
		{"two refunds, one each way", func(s *story) {
			s.add100(event.PaymentSucceeded).add100(event.RefundSucceeded).add100(event.RefundFailed, refund("re_2"))
		}, ""},
		{"paid and closed", func(s *story) { s.add100(event.PaymentSucceeded).add(event.PaymentClosed) }, "paid_and_closed"},
		{"paid and closed, refund failed", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.PaymentClosed).add100(event.RefundFailed)
		}, "paid_and_closed"},
		{"paid and closed, refund under way", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.PaymentClosed).add100(event.RefundPending)
		}, ""},
		{"paid and closed, refunded by a total", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.PaymentClosed).add(event.RefundSucceeded, refund(""), s.refunded("100"))
		}, ""},
		{"closed, not paid", func(s *story) { s.add(event.PaymentAuthorized).add(event.PaymentClosed) }, ""},
		{"currency of captures", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.PaymentSucceeded, payment("pay_2"), s.amount("14", "USD"))
		}, "currency double_payment"},
		{"currency of one capture", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.PaymentSucceeded, s.amount("14", "USD"))
		}, "currency"},
		{"currency of a refund", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.RefundSucceeded, s.amount("14", "USD"))
		}, "currency"},
		{"currency of a dispute", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.DisputeOpened, s.amount("14", "USD"))
		}, "currency"},
		{"currency of a total", func(s *story) {
			s.add(event.PaymentSucceeded, s.amount("14", "USD")).add(event.RefundSucceeded, refund(""), s.refunded("5"))
		}, "currency"},
		{"amount of a capture", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.PaymentSucceeded, s.amount("90", "CNY"))
		}, "amount"},
		{"amount of a refund", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.RefundPending, s.amount("30", "CNY")).add(event.RefundSucceeded, s.amount("20", "CNY"))
		}, "amount"},
		{"the same amount, counted otherwise", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.PaymentSucceeded, func(e *event.Event) { e.Payment.Amount = moneyExp(s.t, "100", 0, "CNY") })
		}, ""},
		{"no amount captured", func(s *story) { s.add(event.PaymentSucceeded) }, "missing_amount"},
		{"the amount came by another event", func(s *story) { s.add(event.PaymentSucceeded).add100(event.PaymentSucceeded) }, ""},
		{"the amount came as a total", func(s *story) { s.add(event.PaymentSucceeded).add(event.PaymentSucceeded, s.captured("100")) }, ""},
		{"no amount refunded", func(s *story) { s.add100(event.PaymentSucceeded).add(event.RefundSucceeded) }, "missing_amount"},
		{"no amount of a pending refund", func(s *story) { s.add100(event.PaymentSucceeded).add(event.RefundPending) }, ""},
		{"the refund's amount came as a total", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.RefundSucceeded).add(event.RefundSucceeded, s.refunded("50"))
		}, ""},
		{"below zero", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.RefundPending, s.amount("-5", "CNY"))
		}, "negative_amount"},
		{"over-refunded", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.RefundSucceeded, s.amount("100.01", "CNY"))
		}, "over_refunded"},
		{"over-refunded until the second capture is known", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.RefundSucceeded, s.amount("150", "CNY")).add100(event.PaymentSucceeded, payment("pay_2"))
		}, ""},
		{"paid in two accounts", func(s *story) {
			s.add100(event.PaymentSucceeded).add100(event.PaymentSucceeded, account("other"))
		}, "double_payment"},
		{"paid in two accounts, by a total", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.PaymentSucceeded, account("other"), s.captured("1"))
		}, "double_payment"},
		{"tried in one account, paid in another", func(s *story) {
			s.add(event.PaymentFailed, account("other")).add100(event.PaymentSucceeded).add100(event.RefundSucceeded, account("other"))
		}, ""},
		{"two customers", func(s *story) {
			s.add100(event.PaymentSucceeded, customer("c1")).add(event.PaymentPending, customer("c2"))
		}, "customer"},
		{"overflow", func(s *story) {
			s.add(event.PaymentSucceeded, s.amount("92233720368547758.07", "CNY"))
			s.add(event.PaymentSucceeded, payment("pay_2"), s.amount("0.01", "CNY"))
		}, "double_payment overflow"},
		{"several at once", func(s *story) {
			s.add100(event.PaymentSucceeded).add100(event.PaymentSucceeded, account("other")).add(event.PaymentClosed)
		}, "double_payment paid_and_closed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := tell(t)
			tc.tell(s)
			got := s.order().Conflicts()
			names := make([]string, len(got))
			for i, c := range got {
				names[i] = string(c)
			}
			if strings.Join(names, " ") != tc.want {
				t.Errorf("%v, want [%s]", names, tc.want)
			}
		})
	}
}

// TestChange follows what each arrival is called. It may depend on the order.
func TestChange(t *testing.T) {
	for _, tc := range []struct {
		name string
		tell func(s *story)
		want []event.Change
	}{
		{"a plain life", func(s *story) {
			s.add(event.PaymentPending).add(event.PaymentFailed).add(event.PaymentAuthorized).add100(event.PaymentSucceeded).add100(event.RefundSucceeded)
		}, []event.Change{"applied", "applied", "applied", "applied", "applied"}},
		{"a late pending is stale", func(s *story) {
			s.add100(event.PaymentSucceeded, at(9)).add(event.PaymentPending)
		}, []event.Change{"applied", "stale"}},
		{"a late failure is stale", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.PaymentFailed)
		}, []event.Change{"applied", "stale"}},
		{"an earlier pending is stale", func(s *story) {
			s.add(event.PaymentPending, at(9)).add(event.PaymentPending)
		}, []event.Change{"applied", "stale"}},
		{"a smaller total is stale", func(s *story) {
			s.add(event.PaymentSucceeded, s.captured("100")).add(event.PaymentSucceeded, s.captured("40"))
		}, []event.Change{"applied", "stale"}},
		{"an earlier word of the same customer is stale", func(s *story) {
			s.add100(event.PaymentSucceeded, customer("c1"), at(9)).add(event.PaymentPending, customer("c1"))
		}, []event.Change{"applied", "stale"}},
		{"an earlier word of another customer decides", func(s *story) {
			s.add100(event.PaymentSucceeded, customer("c1"), at(7)).add(event.PaymentPending, customer("c2"), at(8))
			s.add(event.PaymentPending, customer("c2"), at(6))
		}, []event.Change{"applied", "conflict", "applied"}},
		{"closed after paid", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.PaymentClosed).add100(event.RefundSucceeded)
		}, []event.Change{"applied", "conflict", "applied"}},
		{"both ways", func(s *story) {
			s.add100(event.PaymentSucceeded).add100(event.RefundSucceeded).add100(event.RefundFailed, at(1)).add100(event.RefundFailed)
		}, []event.Change{"applied", "applied", "conflict", "applied"}},
		{"not complete", func(s *story) {
			s.add100(event.PaymentSucceeded, func(e *event.Event) { e.Completeness = event.NeedsFetch })
		}, []event.Change{"needs-fetch"}},
		{"not authenticated", func(s *story) {
			s.add100(event.PaymentSucceeded, func(e *event.Event) { e.Authenticity = event.SignaturePartial })
		}, []event.Change{"needs-fetch"}},
		{"a reference to fetch", func(s *story) {
			s.add(event.PaymentReference, func(e *event.Event) { e.Completeness = event.NeedsFetch })
		}, []event.Change{"needs-fetch"}},
		{"does not fold", func(s *story) {
			s.add(event.OrderShipped).add(event.Unmapped).add(event.Conflict).add(event.PayoutUpdated)
		}, []event.Change{"stale", "stale", "stale", "stale"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := tell(t)
			tc.tell(s)
			o := new(event.Order)
			var got []event.Change
			for i := range s.events {
				before := state(t, o)
				c := o.Apply(&s.events[i])
				if c == event.ChangeNeedsFetch && state(t, o) != before {
					t.Error("an event that may not move money changed the order")
				}
				got = append(got, c)
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}

func TestWhatElseAnOrderKnows(t *testing.T) {
	s := tell(t)
	s.add(event.PaymentPending, customer(""), at(0))
	s.add100(event.PaymentSucceeded, customer("late"), at(5), account("b"))
	s.add100(event.PaymentSucceeded, customer("unknown time"), at(-1), account("a"))
	s.add(event.PaymentClosed, customer("early"), at(3), func(e *event.Event) {
		e.ProviderEvent.Type, e.Payment.Final = "session.expired", true
	})
	s.add(event.PaymentFailed, customer(strings.Repeat("x", 513)), at(1))
	o := s.order()
	if got := o.CustomerRef(); got != "early" {
		t.Errorf("customer %q", got)
	}
	if words, closed := o.Closed(); !closed || words != "session.expired" {
		t.Errorf("closed %v: %q", closed, words)
	}
	if !o.Final() {
		t.Error("not final")
	}
	if got := o.PaidBy(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("paid by %v", got)
	}
	var none event.Order
	if _, closed := none.Closed(); closed || none.Final() || none.CustomerRef() != "" || none.PaidBy() != nil {
		t.Error("an empty order knows something")
	}
}

// TestOrderJSONIsGolden freezes the stored form: old rows must stay readable.
func TestOrderJSONIsGolden(t *testing.T) {
	s := tell(t)
	s.add(event.PaymentPending, customer("c1"))
	s.add(event.PaymentFailed)
	s.add100(event.PaymentSucceeded, func(e *event.Event) { e.Payment.Final = true })
	s.add(event.PaymentSucceeded, payment("pay_2"))
	s.add(event.PaymentSucceeded, account("other"), s.captured("12.50"))
	s.add100(event.RefundPending, at(-1))
	s.add(event.RefundSucceeded, s.amount("30.05", "CNY"), sequence(3))
	s.add(event.RefundSucceeded, account("other"), refund(""), s.refunded("2.5"))
	s.add(event.DisputeOpened, s.amount("0", "CNY"))
	s.add(event.PaymentClosed, func(e *event.Event) { e.ProviderEvent.Type = "expired" })
	s.add(event.RefundFailed, refund(strings.Repeat("long", 40)), s.amount("-1", "CNY"))
	o := fold(s.events...)
	golden(t, "order", state(t, o)+"\n"+face(o)+"\n")
	stored := new(event.Order)
	if err := json.Unmarshal([]byte(state(t, o)), stored); err != nil {
		t.Fatal(err)
	}
	same(t, "stored", stored, o)
}

func TestOrderJSONRefuses(t *testing.T) {
	for _, text := range []string{
		`{"v":2}`, `{"v":-1}`, `[]`, `{"stage":"shipped"}`, `{"stage":3}`,
		`{"accounts":{"a":{"captures":{"c":{"CNY":["1e2"]}}}}}`,
		`{"accounts":{"a":{"captures":{"c":{"CNY":["0.0000000000000000001"]}}}}}`,
		`{"accounts":{"a":{"refunds":{"r":[{"value":"perhaps"}]}}}}`,
		`{"accounts":{"a":{"refunds":{"r":[{"value":7}]}}}}`,
		`{"accounts":{"a":{"refunds":{"r":[{}]}}}}`, `{"accounts":{"a":{"refunds":{"r":[null]}}}}`,
	} {
		if err := json.Unmarshal([]byte(text), new(event.Order)); !errors.Is(err, event.ErrOrder) {
			t.Errorf("%s: error %v", text, err)
		}
	}
	var o event.Order
	for _, text := range []string{`{}`, `null`, `{"v":1}`, `{"v":1,"later":true}`} {
		if err := json.Unmarshal([]byte(text), &o); err != nil || state(t, &o) != `{"v":1}` {
			t.Errorf("%s: %s, %v", text, state(t, &o), err)
		}
	}
}

// TestUnmarshalReplaces: an Order that held something else holds nothing of it.
func TestUnmarshalReplaces(t *testing.T) {
	o := fold(succeeded())
	if err := json.Unmarshal([]byte(`{"v":1}`), o); err != nil {
		t.Fatal(err)
	}
	if got := state(t, o); got != `{"v":1}` {
		t.Errorf("state %s", got)
	}
}

// TestCloneSharesNothing grows a clone in every part.
func TestCloneSharesNothing(t *testing.T) {
	s := tell(t)
	s.add100(event.PaymentSucceeded, customer("c1")).add(event.PaymentSucceeded, payment("p"), s.captured("1"))
	s.add100(event.RefundPending).add(event.RefundSucceeded, refund(""), s.refunded("1")).add100(event.DisputeOpened)
	o := fold(s.events...)
	before := state(t, o)
	c := o.Clone()
	same(t, "clone", c, o)
	s.add100(event.PaymentSucceeded, customer("c0"), at(-1)).add(event.PaymentSucceeded, s.amount("7", "CNY"))
	s.add(event.PaymentSucceeded, payment("p"), s.captured("9")).add100(event.RefundSucceeded).add100(event.DisputeLost)
	s.add(event.RefundSucceeded, refund(""), s.refunded("9")).add(event.PaymentClosed)
	for i := range s.events {
		c.Apply(&s.events[i])
	}
	if state(t, c) == before {
		t.Fatal("the clone did not grow")
	}
	if state(t, o) != before {
		t.Errorf("the original changed:\n got %s\nwant %s", state(t, o), before)
	}
}
