package event_test

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/paybell/paybell/streams/event"
)

func TestWorth(t *testing.T) {
	for _, tc := range []struct {
		name string
		tell func(s *story)
		want int64
	}{
		{"nothing known", func(*story) {}, 0},
		{"paid", func(s *story) { s.add100(event.PaymentSucceeded) }, 100},
		{"paid without an amount", func(s *story) { s.add(event.PaymentSucceeded) }, 0},
		{"half refunded", func(s *story) { s.add100(event.PaymentSucceeded).add(event.RefundSucceeded, s.amount("50", "CNY")) }, 50},
		{"what is taken back is rounded down", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.RefundSucceeded, s.amount("0.99", "CNY"))
		}, 100},
		{"all but a cent refunded", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.RefundSucceeded, s.amount("99.99", "CNY"))
		}, 1},
		{"refunded", func(s *story) { s.add100(event.PaymentSucceeded).add100(event.RefundSucceeded) }, 0},
		{"refunded in thirds", func(s *story) {
			s.add100(event.PaymentSucceeded).add(event.RefundSucceeded, s.amount("33.33", "CNY"))
			s.add(event.RefundSucceeded, refund("2"), s.amount("33.33", "CNY")).add(event.RefundSucceeded, refund("3"), s.amount("33.34", "CNY"))
		}, 0},
		{"refunded beyond", func(s *story) { s.add100(event.PaymentSucceeded).add(event.RefundSucceeded, s.amount("500", "CNY")) }, 0},
		{"refund before the payment", func(s *story) { s.add100(event.RefundSucceeded) }, 0},
		{"charged back", func(s *story) { s.add100(event.PaymentSucceeded).add100(event.DisputeLost) }, 0},
		{"disputed", func(s *story) { s.add100(event.PaymentSucceeded).add100(event.DisputeOpened) }, 100},
		{"dispute won", func(s *story) { s.add100(event.PaymentSucceeded).add100(event.DisputeLost).add100(event.DisputeWon) }, 100},
		{"authorized", func(s *story) { s.add100(event.PaymentAuthorized) }, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := tell(t)
			tc.tell(s)
			if got := event.Worth(s.order(), onePointPerUnit); got != tc.want {
				t.Errorf("%d, want %d", got, tc.want)
			}
		})
	}
}

func TestWorthOfExtremes(t *testing.T) {
	s := tell(t)
	s.add(event.PaymentSucceeded, s.amount("92233720368547758.07", "CNY"))
	s.add(event.RefundSucceeded, s.amount("92233720368547758.06", "CNY"))
	o := s.order()
	if got := event.Worth(o, func(event.Money) int64 { return math.MaxInt64 }); got != 1 {
		t.Errorf("%d, want 1", got)
	}
	if got := event.Worth(o, func(event.Money) int64 { return -5 }); got != 0 {
		t.Errorf("a negative award gave %d", got)
	}
}

// TestWorthIsItsFormula compares with the formula written in math/big.
func TestWorthIsItsFormula(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		captured := rapid.Int64Range(1, math.MaxInt64).Draw(t, "captured")
		refunded := rapid.Int64Range(0, captured).Draw(t, "refunded")
		award := rapid.Int64Min(0).Draw(t, "award")
		paid, back := succeeded(), succeeded()
		paid.Payment.Amount, _ = minor(captured)
		back.Type, back.ID = event.RefundSucceeded, "evt_back"
		back.Refund = &event.Refund{}
		back.Refund.Amount, _ = minor(refunded)
		want := new(big.Int).Mul(big.NewInt(award), big.NewInt(refunded))
		want.Div(want, big.NewInt(captured))
		want.Sub(big.NewInt(award), want)
		got := event.Worth(fold(back, paid), func(m event.Money) int64 {
			if m.Minor != captured {
				t.Fatalf("award was asked for %s", m)
			}
			return award
		})
		if !want.IsInt64() || got != want.Int64() {
			t.Fatalf("%d, want %s", got, want)
		}
		if refunded == captured && got != 0 {
			t.Fatalf("a full refund leaves %d", got)
		}
	})
}

func minor(n int64) (*event.Money, error) {
	m, err := event.FromMinor(n, "CNY")
	return &m, err
}
