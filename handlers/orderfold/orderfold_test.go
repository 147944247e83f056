package orderfold_test

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/effects/effectstest"
	"github.com/paybell/paybell/handlers/orderfold"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/workers"
)

func TestMain(m *testing.M) { effectstest.Main(m) }

// handler folds and does nothing else.
func handler(s *effects.Store) workers.BatchHandler {
	f := orderfold.New("orders", "order_refs")
	return s.Handler("fold", func(ctx context.Context, tx *effects.Tx, ds []workers.Delivery) error {
		return f.Fold(ctx, tx, effects.Events(ds), nil, func(orderfold.Step) error { return nil })
	})
}

// row is what has to be the same after any permutation.
type row struct {
	Status    event.Status
	Ref       string
	Conflicts string
	Shared    bool
	State     string
}

func rows(tb testing.TB, s *effects.Store, namespace string) map[string]row {
	tb.Helper()
	out := map[string]row{}
	err := s.Query(tb.Context(), func(in effects.Row) error {
		var key string
		var ref sql.NullString
		var r row
		err := in.Scan(&key, &r.Status, &ref, &r.Conflicts, &r.Shared, &r.State)
		r.Ref = ref.String
		out[key] = r
		return err
	}, `SELECT order_key, status, order_ref, conflicts, shared_reference, state FROM orders WHERE namespace = $1`, namespace)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// pay is a provider's reference of a payment, as the model has it.
type pay struct{ account, ref string }

// model says what the rows have to be, from the set of events alone: which references
// are of one payment, which orders claim it, which events reach an order, and the join
// of those.
func model(tb testing.TB, events []event.Event) map[string]row {
	tb.Helper()
	m := payments{of: map[pay]pay{}}
	own := map[string][]*event.Event{}  // Order reference → its own events.
	told := map[pay][]*event.Event{}    // Reference → events that name no order.
	claims := map[pay]map[string]bool{} // Reference → orders that claim it.
	lone := map[string][]*event.Event{} // Key → events that name nothing.
	for i := range events {
		e := &events[i]
		if !e.MovesMoney() {
			continue
		}
		p := e.Payment
		original := cmp.Or(p.ParentRef, p.ProviderRef)
		if original != "" {
			others := p.RelatedRefs
			if strings.HasPrefix(string(e.Type), "payment.") && p.ProviderRef != "" {
				others = append(slices.Clip(others), p.ProviderRef)
			}
			for _, other := range others {
				m.join(pay{e.Account, original}, pay{e.Account, other})
			}
		}
		switch {
		case p.OrderRef != "":
			own[p.OrderRef] = append(own[p.OrderRef], e)
			for _, text := range append([]string{p.ProviderRef, p.ParentRef}, p.RelatedRefs...) {
				if text != "" {
					r := pay{e.Account, text}
					m.join(r, r)
					if claims[r] == nil {
						claims[r] = map[string]bool{}
					}
					claims[r][p.OrderRef] = true
				}
			}
		case original != "":
			r := pay{e.Account, original}
			m.join(r, r)
			told[r] = append(told[r], e)
		default:
			lone["event/"+e.ID] = []*event.Event{e}
		}
	}
	orders := map[string]*event.Order{}
	shared := map[string]bool{}
	for orderRef, events := range own {
		orders["order/"+orderRef] = folded(events)
	}
	for key, events := range lone {
		orders[key] = folded(events)
	}
	for _, refs := range m.all() {
		owners := map[string]bool{}
		var first string
		var toldOfIt []*event.Event
		for _, r := range refs {
			maps.Copy(owners, claims[r])
			toldOfIt = append(toldOfIt, told[r]...)
			if len(told[r]) > 0 && first == "" {
				first = "ref/" + r.account + "/" + r.ref
			}
		}
		switch {
		case len(owners) > 0:
			for orderRef := range owners {
				orders["order/"+orderRef].Merge(folded(toldOfIt))
			}
		case len(toldOfIt) > 0:
			orders[first] = folded(toldOfIt)
		}
	}
	for _, refs := range m.all() { // Now that all orders are whole.
		owners := map[string]bool{}
		for _, r := range refs {
			for orderRef := range claims[r] {
				o := orders["order/"+orderRef]
				if slices.ContainsFunc(refs, func(r pay) bool { return o.HasMoney(r.account, r.ref) }) {
					owners["order/"+orderRef] = true
				}
			}
		}
		for n, key := range slices.Sorted(maps.Keys(owners)) {
			if len(owners) > 1 {
				shared[key] = true
			}
			for _, r := range refs {
				if n > 0 {
					orders[key].CountElsewhere(r.account, r.ref)
				}
			}
		}
	}
	out := map[string]row{}
	for key, o := range orders {
		text, err := json.Marshal(o)
		if err != nil {
			tb.Fatal(err)
		}
		conflicts := o.Conflicts()
		if shared[key] {
			conflicts = append(conflicts, orderfold.SharedReference)
		}
		slices.Sort(conflicts)
		line := ""
		for _, c := range conflicts {
			line += " " + string(c)
		}
		ref, named := strings.CutPrefix(key, "order/")
		if !named {
			ref = ""
		}
		out[key] = row{o.Status(), ref, line[min(1, len(line)):], shared[key], string(text)}
	}
	return out
}

func folded(events []*event.Event) *event.Order {
	o := new(event.Order)
	for _, e := range events {
		o.Apply(e)
	}
	return o
}

// payments are sets of references that are of one payment: of maps each to a member of
// its set, and one member to itself.
type payments struct{ of map[pay]pay }

func (m *payments) find(r pay) pay {
	if _, ok := m.of[r]; !ok {
		m.of[r] = r
	}
	for m.of[r] != r {
		r = m.of[r]
	}
	return r
}

func (m *payments) join(r, s pay) { m.of[m.find(r)] = m.find(s) }

// all returns the sets, each sorted.
func (m *payments) all() map[pay][]pay {
	sets := map[pay][]pay{}
	for r := range m.of {
		root := m.find(r)
		sets[root] = append(sets[root], r)
	}
	for _, set := range sets {
		slices.SortFunc(set, func(r, s pay) int { return cmp.Compare(r.ref, s.ref) })
	}
	return sets
}

// TestG6AnyPermutation delivers drawn histories in drawn orders, with duplicates,
// from several partitions at once, and compares every row with the model.
func TestG6AnyPermutation(t *testing.T) {
	effectstest.Each(t, func(t *testing.T, s *effects.Store) {
		h := handler(s)
		var runs atomic.Int64
		rapid.Check(t, func(rt *rapid.T) {
			namespace := fmt.Sprintf("n%d", runs.Add(1))
			events := effectstest.Histories(namespace).Draw(rt, "events")
			effectstest.Shuffled(rt, t, h, "fold", events)
			got, want := rows(t, s, namespace), model(t, events)
			if !reflect.DeepEqual(got, want) {
				for _, key := range slices.Sorted(maps.Keys(want)) {
					rt.Errorf("%s\n got %+v\nwant %+v", key, got[key], want[key])
				}
				rt.Errorf("rows %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
			}
		})
	})
}

// refund is an event that names only the payment it gives back.
func refund(n int, ref string, amount int64) event.Event {
	money := effectstest.CNY(amount)
	e := effectstest.Event(n, event.RefundSucceeded, "", "", money)
	e.Payment = &event.Payment{ParentRef: ref}
	e.Refund = &event.Refund{ProviderRef: fmt.Sprintf("re_%d", n), Amount: &money}
	return e
}

// TestG6RefundFindsItsOrder walks through what happens to a reference: told of
// first, then claimed, then claimed again by another order.
func TestG6RefundFindsItsOrder(t *testing.T) {
	effectstest.Each(t, func(t *testing.T, s *effects.Store) {
		var steps []string
		f := orderfold.New("orders", "order_refs")
		h := s.Handler("fold", func(ctx context.Context, tx *effects.Tx, ds []workers.Delivery) error {
			return f.Fold(ctx, tx, effects.Events(ds), nil, func(st orderfold.Step) error {
				line := fmt.Sprintf("%s %s→%s %s", st.Order.Key.Name(), st.Before, st.After, st.Change)
				for _, o := range st.Also {
					line += fmt.Sprintf(" +%s absorbed=%t", o.Key.Name(), o.Absorbed)
				}
				steps = append(steps, line)
				return nil
			})
		})
		events := []event.Event{
			refund(1, "pi_1", 300),
			effectstest.Event(2, event.PaymentPending, "A1", "", effectstest.CNY(1000)),
			effectstest.Event(3, event.PaymentSucceeded, "A1", "pi_1", effectstest.CNY(1000)),
			refund(4, "pi_1", 700),
			effectstest.Event(5, event.PaymentFailed, "A2", "pi_1", effectstest.CNY(1000)),
		}
		for _, d := range effectstest.Deliveries("fold", events...) {
			if err := errors.Join(h.HandleBatch(t.Context(), []workers.Delivery{d})...); err != nil {
				t.Fatal(err)
			}
		}
		want := []string{
			"ref/alipay-main/pi_1 unknown→unknown applied",
			"A1 unknown→pending applied",
			"A1 pending→partially_refunded applied +ref/alipay-main/pi_1 absorbed=true",
			"A1 partially_refunded→refunded applied",
			"A2 unknown→failed conflict +A1 absorbed=false",
		}
		if !slices.Equal(steps, want) {
			t.Errorf("steps:\n%q\nwant:\n%q", steps, want)
		}
		if got, want := rows(t, s, "shop"), model(t, events); !reflect.DeepEqual(got, want) {
			t.Errorf("rows\n%v\nwant\n%v", got, want)
		}
	})
}

// conflicts delivers the events one by one and returns the conflicts of every order.
func conflicts(t *testing.T, s *effects.Store, events ...event.Event) map[string]string {
	t.Helper()
	for _, d := range effectstest.Deliveries("fold", events...) {
		if err := errors.Join(handler(s).HandleBatch(t.Context(), []workers.Delivery{d})...); err != nil {
			t.Fatal(err)
		}
	}
	out := map[string]string{}
	for key, r := range rows(t, s, "shop") {
		out[key] = fmt.Sprintf("%s %s", r.Status, r.Conflicts)
	}
	return out
}

// TestG6OnePaymentOfTwoOrders: orders are told as soon as both have its money, and not
// before.
func TestG6OnePaymentOfTwoOrders(t *testing.T) {
	effectstest.Each(t, func(t *testing.T, s *effects.Store) {
		got := conflicts(t, s,
			effectstest.Event(1, event.PaymentPending, "cart", "pi_1", effectstest.CNY(1000)),
			effectstest.Event(2, event.PaymentSucceeded, "A1", "pi_1", effectstest.CNY(1000)),
		)
		if want := map[string]string{"order/cart": "pending ", "order/A1": "paid "}; !maps.Equal(got, want) {
			t.Errorf("a payment that was given to another order: %v, want %v", got, want)
		}
		got = conflicts(t, s, effectstest.Event(3, event.PaymentSucceeded, "A2", "pi_1", effectstest.CNY(1000)))
		if want := map[string]string{
			"order/cart": "pending ", "order/A1": "paid shared_reference", "order/A2": "paid shared_reference",
		}; !maps.Equal(got, want) {
			t.Errorf("two orders with its money: %v, want %v", got, want)
		}
	})
}

// TestG6InvoiceAndItsIntent: what is told under one name of a payment reaches the order
// that claims the other, in every order of arrival.
func TestG6InvoiceAndItsIntent(t *testing.T) {
	invoice := effectstest.Event(1, event.PaymentSucceeded, "S1", "in_1", effectstest.CNY(2000))
	intent := effectstest.Event(2, event.PaymentSucceeded, "", "pi_1", effectstest.CNY(2000))
	link := effectstest.Event(3, event.PaymentSucceeded, "", "pi_1", effectstest.CNY(2000))
	link.Payment.RelatedRefs = []string{"in_1"}
	invoice.Payment.Captured, invoice.Payment.Amount = invoice.Payment.Amount, nil
	refunded := refund(4, "pi_1", 2000)
	events := []event.Event{invoice, intent, link, refunded}
	effectstest.Each(t, func(t *testing.T, s *effects.Store) {
		var n int
		permute(len(events), func(order []int) {
			n++
			namespace := fmt.Sprintf("n%d", n)
			var told []event.Event
			for _, i := range order {
				e := events[i]
				e.Namespace, e.ID = namespace, fmt.Sprintf("%s-%d", e.ID, n)
				told = append(told, e)
			}
			conflicts(t, s, told...)
			got := rows(t, s, namespace)
			if r := got["order/S1"]; len(got) != 1 || r.Status != event.StatusRefunded || r.Conflicts != "" {
				t.Errorf("%v: %+v", order, got)
			}
		})
	})
}

// permute visits every order of n things.
func permute(n int, visit func([]int)) {
	var walk func(head, rest []int)
	walk = func(head, rest []int) {
		if len(rest) == 0 {
			visit(head)
		}
		for i := range rest {
			walk(append(slices.Clip(head), rest[i]), slices.Concat(rest[:i], rest[i+1:]))
		}
	}
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	walk(nil, all)
}

// TestReferencesAreLocked: a batch writes nothing to a reference that stays as it is, and
// holds it all the same, also against a version that locks it by a SELECT.
func TestReferencesAreLocked(t *testing.T) {
	s := effectstest.Open(t, effectstest.Postgres(t), effects.Deps{})
	e := effectstest.Event(1, event.PaymentSucceeded, "A1", "p1", effectstest.CNY(100))
	f := orderfold.New("orders", "order_refs")
	for _, known := range []bool{false, true} {
		err := s.Update(t.Context(), func(ctx context.Context, tx *effects.Tx) error {
			err := f.Fold(ctx, tx, []*event.Event{&e}, nil, func(orderfold.Step) error { return nil })
			if err != nil || !known {
				return err
			}
			for _, table := range []string{"order_refs", "orders"} {
				err := s.Query(ctx, func(effects.Row) error { return nil }, `SELECT 1 FROM `+table+` FOR UPDATE NOWAIT`)
				var db *effects.DatabaseError
				if !errors.As(err, &db) || db.Code != "55P03" {
					t.Errorf("%s: %v, want the row locked (55P03)", table, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
