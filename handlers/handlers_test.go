package handlers_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/handlers"
	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/effects/effectstest"
	"github.com/paybell/paybell/handlers/points"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/workers"
)

// workerEnv makes this test binary a worker, which is there to be killed.
const workerEnv = "PAYBELL_HANDLERS_TEST_WORKER"

func TestMain(m *testing.M) {
	if where := os.Getenv(workerEnv); where != "" {
		tell(worker(context.Background(), where))
		return
	}
	effectstest.Main(m)
}

const (
	orders    = 250
	perOrder  = 4
	batchSize = 20
)

// story is what happens to every order: it is paid, and three tenths are given back
// by a callback that names the payment alone.
func story() []event.Event {
	var out []event.Event
	for part := range perOrder {
		for o := range orders {
			n := o*perOrder + part
			ref := fmt.Sprintf("pi_%d", o)
			money := effectstest.CNY(1000)
			e := effectstest.Event(n, event.PaymentSucceeded, fmt.Sprintf("A%d", o), ref, money)
			e.Merchant.CustomerRef = fmt.Sprintf("customer-%d", o%10)
			switch part {
			case 0:
				back := effectstest.CNY(300)
				e = effectstest.Event(n, event.RefundSucceeded, "", "", back)
				e.Payment = &event.Payment{ParentRef: ref}
				e.Refund = &event.Refund{ProviderRef: "re_" + ref, Amount: &back}
			case 2:
				e.Type = event.PaymentPending
			case 3:
				e.Type = event.PaymentFailed
			}
			out = append(out, e)
		}
	}
	return out
}

// worker hands every event to every built-in handler, and says after each batch
// how far it has come.
func worker(ctx context.Context, where string) error {
	o := effects.DefaultOptions()
	if err := json.Unmarshal([]byte(where), &o); err != nil {
		return err
	}
	s, err := effects.Open(ctx, o, effects.Deps{})
	if err != nil {
		return err
	}
	events := story()
	for from := 0; from < len(events); from += batchSize {
		for _, name := range handlers.Names() {
			h, err := handlers.Builtin(name, handlers.Deps{Store: s, Points: points.DefaultOptions()})
			if err != nil {
				return err
			}
			if err := errors.Join(h.HandleBatch(ctx, effectstest.Deliveries(name, events[from:from+batchSize]...))...); err != nil {
				return err
			}
			tell(name, from)
		}
	}
	return errors.Join(s.Close(), errDone)
}

// tell reports to the process that started this one; if that is gone there is nobody
// to tell.
func tell(what ...any) { _, _ = fmt.Fprintln(os.Stdout, what...) }

var errDone = errors.New("done")

// TestG4KilledWorker kills a worker with SIGKILL again and again, each time a little
// later, and starts it from the first event each time. When one has come to the end,
// every effect is there exactly once.
func TestG4KilledWorker(t *testing.T) {
	effectstest.EachOptions(t, func(t *testing.T, o effects.Options) {
		s := effectstest.Open(t, o, effects.Deps{})
		where, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		kills := 0
		for after := 3; !runWorker(t, string(where), after); after += 29 {
			kills++
		}
		if kills < 4 {
			t.Fatalf("the worker was killed %d times, want more", kills)
		}
		for query, want := range map[string]int64{
			`SELECT count(*) FROM effects`:                                                    3 * orders * perOrder,
			`SELECT count(*) FROM effect_conflicts`:                                           0,
			`SELECT count(*) FROM orders`:                                                     orders,
			`SELECT count(*) FROM orders WHERE status = 'partially_refunded'`:                 orders,
			`SELECT CAST(SUM(captured_minor - refunded_minor) AS bigint) FROM orders`:         700 * orders,
			`SELECT count(*) FROM order_history`:                                              orders * perOrder,
			`SELECT count(*) FROM event_log`:                                                  orders * perOrder,
			`SELECT CAST(SUM(delta) AS bigint) FROM points_ledger`:                            7 * orders,
			`SELECT CAST(SUM(balance) AS bigint) FROM points_balances`:                        7 * orders,
			`SELECT count(*) FROM points_balances WHERE balance = 175`:                        10,
			`SELECT count(*) FROM order_refs`:                                                 orders,
			`SELECT count(*) FROM order_history h JOIN orders o ON h.order_key = o.order_key`: orders * perOrder,
		} {
			var got int64
			if err := s.Query(t.Context(), func(row effects.Row) error { return row.Scan(&got) }, query); err != nil || got != want {
				t.Errorf("%s = %d, %v, want %d", query, got, err, want)
			}
		}
	})
}

// runWorker starts a worker, kills it after so many batches, and reports whether it
// had come to the end.
func runWorker(t *testing.T, where string, batches int) (ended bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0]) //nolint:gosec // This test binary again.
	cmd.Env = append(os.Environ(), workerEnv+"="+where)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last := ""
	for lines := bufio.NewScanner(out); lines.Scan(); {
		last = lines.Text()
		if batches--; batches == 0 {
			// Between this line and the signal the worker has gone on, to anywhere.
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	err = cmd.Wait()
	if batches > 0 && last != errDone.Error() {
		t.Fatalf("the worker ended with %v, %q", err, last)
	}
	return last == errDone.Error()
}

func TestBuiltin(t *testing.T) {
	s := effectstest.Open(t, effectstest.SQLite(t), effects.Deps{})
	reg := prometheus.NewPedanticRegistry()
	for _, name := range handlers.Names() {
		h, err := handlers.Builtin(name, handlers.Deps{Store: s, Points: points.DefaultOptions(), Registerer: reg})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if out := h.HandleBatch(t.Context(), []workers.Delivery{}); len(out) != 0 {
			t.Errorf("%s: %d outcomes of no deliveries", name, len(out))
		}
	}
	if _, err := handlers.Builtin("shipping", handlers.Deps{Store: s}); !errors.Is(err, handlers.ErrUnknown) {
		t.Errorf("unknown name: %v, want ErrUnknown", err)
	}
}

// TestLongestReferencesAreStored: what an event may carry, both databases can index,
// in the text that compresses worst.
func TestLongestReferencesAreStored(t *testing.T) {
	effectstest.Each(t, func(t *testing.T, s *effects.Store) {
		long := func() string {
			return strings.ToLower(rand.Text() + strings.Repeat(rand.Text(), event.MaxRef))[:event.MaxRef]
		}
		noise := func() string {
			var b strings.Builder
			for b.Len() < event.MaxRef {
				b.WriteString(rand.Text())
			}
			return b.String()[:event.MaxRef]
		}
		for i, ref := range []func() string{long, noise} {
			e := effectstest.Event(i, event.PaymentSucceeded, ref(), ref(), effectstest.CNY(8800))
			e.Payment.ParentRef, e.Merchant.CustomerRef, e.ProviderEvent.Type = ref(), ref(), ref()
			for _, name := range handlers.Names() {
				h, err := handlers.Builtin(name, handlers.Deps{Store: s, Points: points.DefaultOptions()})
				if err != nil {
					t.Fatal(err)
				}
				if err := h.HandleBatch(t.Context(), effectstest.Deliveries(name, e))[0]; err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	})
}
