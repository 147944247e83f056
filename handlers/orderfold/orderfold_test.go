package orderfold_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
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
		return f.Fold(ctx, tx, effects.Events(ds), func(orderfold.Step) error { return nil })
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
	err := s.Query(tb.Context(), func(rows *sql.Rows) error {
		var key string
		var ref sql.NullString
		var r row
		err := rows.Scan(&key, &r.Status, &ref, &r.Conflicts, &r.Shared, &r.State)
		r.Ref = ref.String
		out[key] = r
		return err
	}, `SELECT order_key, status, order_ref, conflicts, shared_reference, state FROM orders WHERE namespace = $1`, namespace)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// model says what the rows have to be, from the set of events alone: which events
// reach an order, and the join of those.
func model(tb testing.TB, events []event.Event) map[string]row {
	tb.Helper()
	type ref struct{ account, ref string }
	own := map[string][]*event.Event{}   // Order reference → its own events.
	told := map[ref][]*event.Event{}     // Reference → events that name no order.
	claimed := map[ref]map[string]bool{} // Reference → orders that claim it.
	lone := map[string][]*event.Event{}  // Key → events that name nothing.
	for i := range events {
		e := &events[i]
		original := e.Payment.ParentRef
		if original == "" {
			original = e.Payment.ProviderRef
		}
		switch {
		case !e.MovesMoney():
		case e.Payment.OrderRef != "":
			own[e.Payment.OrderRef] = append(own[e.Payment.OrderRef], e)
			for _, text := range []string{e.Payment.ProviderRef, e.Payment.ParentRef} {
				if text != "" {
					r := ref{e.Account, text}
					if claimed[r] == nil {
						claimed[r] = map[string]bool{}
					}
					claimed[r][e.Payment.OrderRef] = true
				}
			}
		case original != "":
			r := ref{e.Account, original}
			told[r] = append(told[r], e)
		default:
			lone["event/"+e.ID] = []*event.Event{e}
		}
	}
	out := map[string]row{}
	put := func(key, ref string, shared bool, events []*event.Event) {
		var o event.Order
		for _, e := range events {
			o.Apply(e)
		}
		text, err := json.Marshal(o)
		if err != nil {
			tb.Fatal(err)
		}
		conflicts := o.Conflicts()
		if shared {
			conflicts = append(conflicts, orderfold.SharedReference)
		}
		slices.Sort(conflicts)
		line := ""
		for _, c := range conflicts {
			line += " " + string(c)
		}
		out[key] = row{o.Status(), ref, line[min(1, len(line)):], shared, string(text)}
	}
	for orderRef, events := range own {
		shared := false
		for r, by := range claimed {
			if by[orderRef] {
				events = append(slices.Clip(events), told[r]...)
				shared = shared || len(by) > 1 && len(told[r]) > 0
			}
		}
		put("order/"+orderRef, orderRef, shared, events)
	}
	for r, events := range told {
		if len(claimed[r]) == 0 {
			put("ref/"+r.account+"/"+r.ref, "", false, events)
		}
	}
	for key, events := range lone {
		put(key, "", false, events)
	}
	return out
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
			return f.Fold(ctx, tx, effects.Events(ds), func(st orderfold.Step) error {
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
