package points_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/effects/effectstest"
	"github.com/paybell/paybell/handlers/orderfold"
	"github.com/paybell/paybell/handlers/points"
	"github.com/paybell/paybell/streams/event"
)

func TestMain(m *testing.M) { effectstest.Main(m) }

const group = "points"

func open(tb testing.TB, s *effects.Store, perYuan int64) *points.Handler {
	tb.Helper()
	h, err := points.New(s, group, points.Options{Rules: map[string]points.Rule{"CNY": {Points: perYuan, Per: "1.00"}}})
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

func handle(t *testing.T, h *points.Handler, events ...event.Event) {
	t.Helper()
	if err := errors.Join(h.HandleBatch(t.Context(), effectstest.Deliveries(group, events...))...); err != nil {
		t.Fatal(err)
	}
}

func payment(n int, orderRef, customer string, minor int64) event.Event {
	e := effectstest.Event(n, event.PaymentSucceeded, orderRef, "pi_"+orderRef, effectstest.CNY(minor))
	e.Merchant.CustomerRef = customer
	return e
}

// refund names the payment of an order and not the order.
func refund(n int, orderRef string, minor int64) event.Event {
	amount := effectstest.CNY(minor)
	e := effectstest.Event(n, event.RefundSucceeded, "", "", amount)
	e.Payment = &event.Payment{ParentRef: "pi_" + orderRef}
	e.Refund = &event.Refund{ProviderRef: fmt.Sprintf("re_%d", n), Amount: &amount}
	return e
}

func wantBalance(t *testing.T, s *effects.Store, customer string, want int64) {
	t.Helper()
	got, err := points.NewReader(s).Balance(t.Context(), "shop", customer)
	if err != nil || got != want {
		t.Errorf("balance of %s = %d, %v, want %d", customer, got, err, want)
	}
}

func wantLedger(t *testing.T, s *effects.Store, orderRef string, want ...int64) {
	t.Helper()
	reader, key := points.NewReader(s), orderfold.OrderKey("shop", orderRef)
	entries, err := reader.Ledger(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	var got []int64
	var sum int64
	for _, e := range entries {
		got = append(got, e.Points)
		sum += e.Points
	}
	if !slices.Equal(got, want) {
		t.Errorf("ledger of %s = %v, want %v", orderRef, got, want)
	}
	if held, err := reader.ForOrders(t.Context(), []orderfold.Key{key, {Namespace: "shop", Order: "order/none"}}); err != nil || held[key] != sum || len(held) > 1 {
		t.Errorf("points of %s = %v, %v, want %d", orderRef, held, err, sum)
	}
}

// TestG6PointsForOnePaymentOfTwoOrdersAreGivenOnce: a payer can have a second order claim
// a payment. Points go to the first by name, whichever is told first.
func TestG6PointsForOnePaymentOfTwoOrdersAreGivenOnce(t *testing.T) {
	effectstest.Each(t, func(t *testing.T, s *effects.Store) {
		h := open(t, s, 1)
		claim := func(n int, orderRef string) event.Event {
			e := effectstest.Event(n, event.PaymentSucceeded, orderRef, "pi_1", effectstest.CNY(1000))
			e.Merchant.CustomerRef = "eve"
			return e
		}
		handle(t, h, claim(1, "B"))
		wantBalance(t, s, "eve", 10)
		handle(t, h, claim(2, "A"))
		wantBalance(t, s, "eve", 10)
		wantLedger(t, s, "A", 10)
		wantLedger(t, s, "B", 10, -10)
		handle(t, h, claim(3, "C"), claim(4, "B"))
		wantBalance(t, s, "eve", 10)
		other := effectstest.Event(5, event.PaymentSucceeded, "B", "pi_2", effectstest.CNY(500))
		other.Merchant.CustomerRef = "eve"
		handle(t, h, other)
		wantBalance(t, s, "eve", 15)
	})
}

// TestLostDisputesTakePoints, and a dispute that is won later gives them back.
func TestLostDisputesTakePoints(t *testing.T) {
	effectstest.Each(t, func(t *testing.T, s *effects.Store) {
		h := open(t, s, 1)
		dispute := func(n int, typ event.Type) event.Event {
			amount := effectstest.CNY(500)
			e := effectstest.Event(n, typ, "", "", amount)
			e.Payment = &event.Payment{ParentRef: "pi_A1"}
			e.Dispute = &event.Dispute{ProviderRef: "dp_1", Amount: &amount}
			return e
		}
		handle(t, h, payment(1, "A1", "ada", 1000), dispute(2, event.DisputeLost))
		wantBalance(t, s, "ada", 5)
		handle(t, h, dispute(3, event.DisputeWon))
		wantBalance(t, s, "ada", 10)
	})
}

// TestG6FullRefundEndsAtZero pays, refunds in odd parts, and in the end all of it.
func TestG6FullRefundEndsAtZero(t *testing.T) {
	effectstest.Each(t, func(t *testing.T, s *effects.Store) {
		h := open(t, s, 1)
		handle(t, h, payment(1, "A1", "ada", 1000))
		wantBalance(t, s, "ada", 10)
		handle(t, h, refund(2, "A1", 333), refund(3, "A1", 333))
		wantBalance(t, s, "ada", 4) // 10 − ⌊10 × 6.66 ÷ 10.00⌋
		handle(t, h, refund(4, "A1", 334))
		wantBalance(t, s, "ada", 0)
		wantLedger(t, s, "A1", 10, -3, -3, -4)
		lost := effectstest.Event(5, event.DisputeLost, "A1", "pi_A1", effectstest.CNY(0))
		lost.Dispute = &event.Dispute{ProviderRef: "dp_1"}
		handle(t, h, lost)
		wantLedger(t, s, "A1", 10, -3, -3, -4)
	})
}

// TestPointsFollowTheCustomer: they stand on the order until it names one.
func TestPointsFollowTheCustomer(t *testing.T) {
	effectstest.Each(t, func(t *testing.T, s *effects.Store) {
		h := open(t, s, 1)
		handle(t, h, payment(5, "A1", "", 1000))
		wantLedger(t, s, "A1", 10)
		wantBalance(t, s, "", 0)
		named := effectstest.Event(4, event.PaymentPending, "A1", "pi_A1", effectstest.CNY(1000))
		named.Merchant.CustomerRef = "ada"
		handle(t, h, named)
		wantLedger(t, s, "A1", 10, -10, 10)
		wantBalance(t, s, "ada", 10)
		earlier := effectstest.Event(3, event.PaymentPending, "A1", "pi_A1", effectstest.CNY(1000))
		earlier.Merchant.CustomerRef = "bob"
		handle(t, h, earlier)
		wantBalance(t, s, "ada", 0)
		wantBalance(t, s, "bob", 10)
	})
}

// TestPaymentBeforeItsOrderIsKnown: what stands on the payment alone moves to the
// order when that is known, less the refund that came before both.
func TestPaymentBeforeItsOrderIsKnown(t *testing.T) {
	effectstest.Each(t, func(t *testing.T, s *effects.Store) {
		h := open(t, s, 1)
		lone := payment(1, "A1", "ada", 1000)
		lone.Payment.OrderRef = ""
		handle(t, h, refund(2, "A1", 400), lone)
		wantBalance(t, s, "ada", 6)
		wantLedger(t, s, "A1")
		handle(t, h, effectstest.Event(3, event.PaymentPending, "A1", "pi_A1", effectstest.CNY(1000)))
		wantBalance(t, s, "ada", 6)
		wantLedger(t, s, "A1", 6)
		held, err := points.NewReader(s).ForOrders(t.Context(), []orderfold.Key{orderfold.Named("shop", "ref/alipay-main/pi_A1")})
		if err != nil || len(held) != 1 || held[orderfold.Named("shop", "ref/alipay-main/pi_A1")] != 0 {
			t.Errorf("the payment still holds %v, %v, want 0", held, err)
		}
	})
}

func TestNewRulesCountFromTheNextEvent(t *testing.T) {
	effectstest.Each(t, func(t *testing.T, s *effects.Store) {
		handle(t, open(t, s, 1), payment(1, "A1", "ada", 1000), payment(2, "B2", "ada", 1000))
		tripled := open(t, s, 3)
		wantBalance(t, s, "ada", 20)
		handle(t, tripled, effectstest.Event(3, event.PaymentPending, "A1", "pi_A1", effectstest.CNY(1000)))
		wantBalance(t, s, "ada", 40)
	})
}

// TestOverflowHoldsOneOrder: an order worth more than can be counted is the fault of
// its own event.
func TestOverflowHoldsOneOrder(t *testing.T) {
	effectstest.Each(t, func(t *testing.T, s *effects.Store) {
		h := open(t, s, 1<<62)
		out := h.HandleBatch(t.Context(), effectstest.Deliveries(group, payment(1, "A1", "ada", 1000), payment(2, "B2", "ada", 100)))
		if !errors.Is(out[0], points.ErrOverflow) || out[1] != nil {
			t.Errorf("outcomes = %v, want an overflow and nil", out)
		}
		wantBalance(t, s, "ada", 1<<62)
		// The balance would not fit: nothing is counted in part.
		out = h.HandleBatch(t.Context(), effectstest.Deliveries(group, payment(3, "C3", "ada", 100)))
		if out[0] == nil {
			t.Error("a balance beyond int64 was settled")
		}
		wantBalance(t, s, "ada", 1<<62)
	})
}

// TestG6SameBalances delivers each drawn history twice, in two drawn orders, into two
// namespaces, and compares ledgers, orders and balances with each other.
func TestG6SameBalances(t *testing.T) {
	effectstest.Each(t, func(t *testing.T, s *effects.Store) {
		h := open(t, s, 7)
		var runs atomic.Int64
		rapid.Check(t, func(rt *rapid.T) {
			namespace := fmt.Sprintf("n%d", runs.Add(1))
			events := effectstest.Histories(namespace).Draw(rt, "events")
			again := slices.Clone(events)
			for i := range again {
				again[i].ID, again[i].Namespace = "again_"+again[i].ID, namespace+"b"
			}
			effectstest.Shuffled(rt, t, h, group, events)
			effectstest.Shuffled(rt, t, h, group, again)
			first, second := balances(rt, t, s, namespace), balances(rt, t, s, namespace+"b")
			if !maps.Equal(first, second) {
				rt.Errorf("balances %v and %v", first, second)
			}
		})
	})
}

// balances reads the balances and compares them with the ledger, and the ledger
// with what the folded orders are worth.
func balances(rt *rapid.T, tb testing.TB, s *effects.Store, namespace string) map[string]int64 {
	read := func(query string) map[string]int64 {
		out := map[string]int64{}
		err := s.Query(tb.Context(), func(row effects.Row) error {
			var key string
			var n int64
			err := row.Scan(&key, &n)
			if n != 0 {
				out[key] = n
			}
			return err
		}, query, namespace)
		if err != nil {
			rt.Fatal(err)
		}
		return out
	}
	stored := read(`SELECT customer_ref, balance FROM points_balances WHERE namespace = $1`)
	if ledger := read(`SELECT customer_ref, CAST(SUM(delta) AS bigint) FROM points_ledger
		WHERE namespace = $1 AND customer_ref IS NOT NULL GROUP BY customer_ref`); !maps.Equal(stored, ledger) {
		rt.Errorf("balances %v, the ledger says %v", stored, ledger)
	}
	held := read(`SELECT order_key || ' ' || COALESCE(customer_ref, ''), CAST(SUM(delta) AS bigint)
		FROM points_ledger WHERE namespace = $1 GROUP BY order_key, customer_ref`)
	worth := map[string]int64{}
	err := s.Query(tb.Context(), func(row effects.Row) error {
		var key, state string
		if err := row.Scan(&key, &state); err != nil {
			return err
		}
		var o event.Order
		if err := o.UnmarshalJSON([]byte(state)); err != nil {
			return err
		}
		if n := event.Worth(&o, func(m event.Money) int64 { return 7 * (m.Minor / 100) }); n != 0 {
			worth[key+" "+o.CustomerRef()] = n
		}
		return nil
	}, `SELECT order_key, state FROM points_orders WHERE namespace = $1`, namespace)
	if err != nil {
		rt.Fatal(err)
	}
	if !maps.Equal(held, worth) {
		rt.Errorf("the ledger holds %v, the orders are worth %v", held, worth)
	}
	return stored
}
