//go:build faults

package faults

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/workers"
)

// Handler fails for orders whose reference says so, and passes on the others: one
// that contains "poison" for good, in the group points, with "first" only on
// payment.pending; one that contains "limp" twice, in every group. Poison is an error,
// or what follows it: "poison-panic", "poison-hang", "poison-kill". Where leases are not
// fenced it takes the epochs away, too.
func (f *Faults) Handler(h workers.BatchHandler) workers.BatchHandler {
	if f.broken == "lease" {
		h = epochless{h}
	}
	return troubled{h}
}

type troubled struct{ workers.BatchHandler }

var errTrouble = errors.New("faults: this order is in trouble")

// HandleBatch implements workers.BatchHandler.
func (h troubled) HandleBatch(ctx context.Context, ds []workers.Delivery) []error {
	out := make([]error, len(ds))
	var well []workers.Delivery
	var places []int
	failed := map[string]bool{}
	for i := range ds {
		key := ds[i].Event.OrderingKey()
		if failed[key] {
			continue
		}
		if out[i] = trouble(ctx, &ds[i]); out[i] != nil {
			failed[key] = true
			continue
		}
		well, places = append(well, ds[i]), append(places, i)
	}
	if len(well) > 0 {
		for n, err := range h.BatchHandler.HandleBatch(ctx, well) {
			out[places[n]] = err
		}
	}
	// Behind the first of an order that fails, the others of it are held.
	clear(failed)
	for i := range ds {
		key := ds[i].Event.OrderingKey()
		if failed[key] {
			out[i] = workers.ErrHeld
		}
		failed[key] = failed[key] || out[i] != nil
	}
	return out
}

func trouble(ctx context.Context, d *workers.Delivery) error {
	ref := d.Event.OrderRef()
	switch {
	case d.Group == "points" && poisoned(ref, d):
		return workers.RetryAfter(300*time.Millisecond, poison(ctx, ref))
	case strings.Contains(ref, "limp") && d.Attempt < 3:
		return workers.RetryAfter(1200*time.Millisecond, errTrouble)
	default:
		return nil
	}
}

func poisoned(ref string, d *workers.Delivery) bool {
	return strings.Contains(ref, "poison") && (d.Event.Type == event.PaymentPending || !strings.Contains(ref, "first"))
}

// poison fails in the way of an order's reference.
func poison(ctx context.Context, ref string) error {
	switch {
	case strings.Contains(ref, "poison-panic"):
		panic(errTrouble)
	case strings.Contains(ref, "poison-kill"):
		die("poison")
	case strings.Contains(ref, "poison-hang"):
		<-ctx.Done()
		return ctx.Err()
	}
	return errTrouble
}
