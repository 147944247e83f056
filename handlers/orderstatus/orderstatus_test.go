package orderstatus_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/effects/effectstest"
	"github.com/paybell/paybell/handlers/orderstatus"
	"github.com/paybell/paybell/streams/event"
)

func TestMain(m *testing.M) { effectstest.Main(m) }

const group = "orderstatus"

func open(t *testing.T, s *effects.Store) (*orderstatus.Handler, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	h, err := orderstatus.New(s, group, orderstatus.Deps{Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	return h, reg
}

func handle(t *testing.T, h *orderstatus.Handler, events ...event.Event) {
	t.Helper()
	if err := errors.Join(h.HandleBatch(t.Context(), effectstest.Deliveries(group, events...))...); err != nil {
		t.Fatal(err)
	}
}

// TestLifeOfAnOrder is what status --order prints: a failure, a payment that beats
// it, a late pending, a refund that names only the payment, and what may not count.
func TestLifeOfAnOrder(t *testing.T) {
	effectstest.Each(t, func(t *testing.T, s *effects.Store) {
		h, reg := open(t, s)
		refunded := effectstest.CNY(8800)
		refund := effectstest.Event(4, event.RefundSucceeded, "", "", refunded)
		refund.Payment = &event.Payment{ParentRef: "2019-1"}
		refund.Refund = &event.Refund{ProviderRef: "re_1", Amount: &refunded}
		forged := effectstest.Event(5, event.PaymentSucceeded, "A1001", "2019-2", effectstest.CNY(1))
		forged.Authenticity = event.Unverified
		thin := effectstest.Event(6, event.PaymentReference, "A1001", "2019-2", effectstest.CNY(1))
		thin.Completeness = event.NeedsFetch
		other := effectstest.Event(2, event.PaymentSucceeded, "A1001", "2019-1", effectstest.CNY(9900))
		handle(t, h,
			refund,
			effectstest.Event(1, event.PaymentFailed, "A1001", "2019-0", effectstest.CNY(8800)),
			effectstest.Event(2, event.PaymentSucceeded, "A1001", "2019-1", effectstest.CNY(8800)),
			effectstest.Event(3, event.PaymentPending, "A1001", "2019-1", effectstest.CNY(8800)),
			forged, thin, other.AsConflict(),
			effectstest.Event(7, event.OrderShipped, "A1001", "", effectstest.CNY(0)),
			effectstest.Event(8, event.PaymentPending, "B2", "2019-9", effectstest.CNY(100)),
		)
		reader := orderstatus.NewReader(s)
		order, history, err := reader.Get(t.Context(), "shop", "A1001")
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(order)
		if err != nil {
			t.Fatal(err)
		}
		if want := `"order_ref":"A1001","status":"refunded","captured":{"value":"88.00","minor":8800,"exponent":2,"currency":"CNY"},` +
			`"refunded":{"value":"88.00","minor":8800,"exponent":2,"currency":"CNY"},"created_at"`; !strings.Contains(string(text), want) {
			t.Errorf("order = %s\nwant it to hold %s", text, want)
		}
		var lines []string
		for _, e := range history {
			lines = append(lines, fmt.Sprintf("%s %s %s→%s", e.Type, e.Outcome, e.Before, e.After))
		}
		if want := []string{
			"refund.succeeded applied unknown→unknown",
			"payment.failed applied unknown→failed",
			"payment.succeeded applied failed→refunded",
			"payment.pending stale refunded→refunded",
			"payment.succeeded needs-fetch →",
			"payment.reference needs-fetch →",
			"conflict conflict →",
		}; !slices.Equal(lines, want) {
			t.Errorf("history:\n%s\nwant:\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
		}
		if got := effectstest.Counted(t, reg, "paybell_orderstatus_events_total"); got != 8 {
			t.Errorf("%v events counted, want 8", got)
		}
	})
}

// TestHistoryFollowsAnOrderThatIsAbsorbedTwice: in one batch, a reference becomes part
// of another payment, and that one of an order. What was told under the reference
// before stands in the order's history, not under a name that nobody has any more.
func TestHistoryFollowsAnOrderThatIsAbsorbedTwice(t *testing.T) {
	effectstest.Each(t, func(t *testing.T, s *effects.Store) {
		h, _ := open(t, s)
		refund := effectstest.Event(1, event.RefundSucceeded, "", "p2", effectstest.CNY(100))
		pending := effectstest.Event(2, event.PaymentPending, "", "p1", effectstest.CNY(100))
		relating := effectstest.Event(3, event.PaymentPending, "", "p1", effectstest.CNY(100))
		relating.Payment.RelatedRefs = []string{"p2"}
		claiming := effectstest.Event(4, event.PaymentSucceeded, "A1", "p1", effectstest.CNY(100))
		handle(t, h, refund, pending)
		handle(t, h, relating, claiming)
		_, history, err := orderstatus.NewReader(s).Get(t.Context(), "shop", "A1")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range history {
			got = append(got, e.EventID)
		}
		if want := []string{refund.ID, pending.ID, relating.ID, claiming.ID}; !slices.Equal(got, want) {
			t.Errorf("history of the order: %q, want %q", got, want)
		}
	})
}

func TestReader(t *testing.T) {
	effectstest.Each(t, func(t *testing.T, s *effects.Store) {
		h, _ := open(t, s)
		lone := effectstest.Event(1, event.PaymentSucceeded, "", "pi_1", effectstest.CNY(500))
		elsewhere := effectstest.Event(2, event.PaymentSucceeded, "A1", "pi_2", effectstest.CNY(500))
		elsewhere.Namespace = "other"
		unmoved := effectstest.Event(4, event.PaymentReference, "C3", "pi_4", effectstest.CNY(500))
		handle(t, h, lone, elsewhere, effectstest.Event(3, event.PaymentPending, "A1", "pi_3", effectstest.CNY(500)), unmoved)
		reader := orderstatus.NewReader(s)
		for name, c := range map[string]struct {
			query orderstatus.Query
			want  []string
		}{
			"all":              {orderstatus.Query{Limit: 10}, []string{"other A1 paid", "shop A1 pending", "shop ref/alipay-main/pi_1 paid"}},
			"limit":            {orderstatus.Query{Limit: 1}, []string{"other A1 paid"}},
			"name":             {orderstatus.Query{Name: "A1", Limit: 10}, []string{"other A1 paid", "shop A1 pending"}},
			"name and space":   {orderstatus.Query{Name: "A1", Namespace: "shop", Limit: 10}, []string{"shop A1 pending"}},
			"without an order": {orderstatus.Query{Name: "ref/alipay-main/pi_1", Limit: 10}, []string{"shop ref/alipay-main/pi_1 paid"}},
			"unknown":          {orderstatus.Query{Name: "Z", Limit: 10}, nil},
		} {
			t.Run(name, func(t *testing.T) {
				orders, err := reader.Find(t.Context(), c.query)
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, o := range orders {
					got = append(got, o.Namespace+" "+o.Name+" "+string(o.Status))
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("found %q, want %q", got, c.want)
				}
			})
		}
		if o, history, err := reader.Get(t.Context(), "shop", "ref/alipay-main/pi_1"); err != nil || len(history) != 1 || o.Status != event.StatusPaid {
			t.Errorf("order without a reference = %+v, %d entries, %v", o, len(history), err)
		}
		if o, history, err := reader.Get(t.Context(), "shop", "C3"); err != nil || len(history) != 1 || o.Status != event.StatusUnknown {
			t.Errorf("order of which nothing is certain = %+v, %d entries, %v", o, len(history), err)
		}
		if _, _, err := reader.Get(t.Context(), "shop", "Z"); !errors.Is(err, orderstatus.ErrNoOrder) {
			t.Errorf("unknown order: %v, want ErrNoOrder", err)
		}
	})
}

// TestG4OneRowOfHistoryForEachEvent draws histories and looks for the row of each
// event under the orders there are in the end. How it runs on PostgreSQL is tested
// in orderfold; what is looked at here does not differ.
func TestG4OneRowOfHistoryForEachEvent(t *testing.T) {
	s := effectstest.Open(t, effectstest.SQLite(t), effects.Deps{})
	h, _ := open(t, s)
	reader := orderstatus.NewReader(s)
	var runs atomic.Int64
	rapid.Check(t, func(rt *rapid.T) {
		namespace := fmt.Sprintf("n%d", runs.Add(1))
		events := effectstest.Histories(namespace).Draw(rt, "events")
		effectstest.Shuffled(rt, t, h, group, events)
		want := map[string]bool{}
		for i := range events {
			if events[i].MovesMoney() {
				want[events[i].ID] = true
			}
		}
		orders, err := reader.Find(t.Context(), orderstatus.Query{Namespace: namespace, Limit: 100})
		if err != nil {
			rt.Fatal(err)
		}
		for _, o := range orders {
			_, history, err := reader.Get(t.Context(), namespace, o.Name)
			if err != nil {
				rt.Fatal(err)
			}
			for _, e := range history {
				if e.Outcome != event.ChangeNeedsFetch && !want[e.EventID] {
					rt.Errorf("event %s has a second row, or should have none", e.EventID)
				}
				delete(want, e.EventID)
			}
		}
		if len(want) > 0 {
			rt.Errorf("events without a row under any order: %v", want)
		}
	})
}
