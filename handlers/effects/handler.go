package effects

import (
	"context"
	"errors"

	"github.com/paybell/paybell/workers"
)

// Handler runs an Apply on batches of deliveries, once for each event.
type Handler struct {
	store     *Store
	group     string
	apply     Apply
	conflicts Apply
	at        func(Step) error
	positions positions
	// slowEvents decide who is charged for time that is over.
	slowEvents slowEvents
}

var _ workers.BatchHandler = (*Handler)(nil)

// HandlerOption changes a Handler.
type HandlerOption func(*Handler)

// WithConflicts also hands over deliveries whose event ID is known in the group
// with other facts, once for each set of facts, in the same transaction. Without
// it they are recorded in effect_conflicts and have no other effect.
func WithConflicts(apply Apply) HandlerOption {
	return func(h *Handler) { h.conflicts = apply }
}

// WithSteps calls at on each step of every transaction. Crash tests stop there.
func WithSteps(at func(Step) error) HandlerOption {
	return func(h *Handler) { h.at = at }
}

// Handler returns the handler that makes the effects of a group with apply. The
// group's name is part of the dedup key: under another name every event has its
// effect again.
func (s *Store) Handler(group string, apply Apply, opts ...HandlerOption) *Handler {
	h := &Handler{store: s, group: group, apply: apply}
	for _, o := range opts {
		o(h)
	}
	return h
}

// batch is what HandleBatch was given, and the outcomes so far.
type batch struct {
	ds []workers.Delivery
	// facts are the fingerprints of the deliveries' events.
	facts []string
	out   []error
}

// HandleBatch implements workers.BatchHandler. The whole batch is one
// transaction when all goes well.
func (h *Handler) HandleBatch(ctx context.Context, ds []workers.Delivery) []error {
	done := h.store.metrics.observe(h.group)
	b := &batch{ds: ds, facts: make([]string, len(ds)), out: make([]error, len(ds))}
	if refused := h.store.refused.Load(); refused != nil {
		b.failAll(b.orders(), workers.Unavailable(*refused))
		done(b.out)
		return b.out
	}
	for i := range ds {
		b.facts[i] = ds[i].Event.Facts().String()
	}
	h.run(ctx, b, b.orders())
	done(b.out)
	return b.out
}

// orders groups the indexes of deliveries by ordering key: keys as they first
// appear, indexes of one key in append order.
func (b *batch) orders() [][]int {
	var out [][]int
	place := make(map[string]int, len(b.ds))
	for i := range b.ds {
		key := b.ds[i].Event.OrderingKey()
		at, ok := place[key]
		if !ok {
			at = len(out)
			place[key] = at
			out = append(out, nil)
		}
		out[at] = append(out[at], i)
	}
	return out
}

// fail gives err to the first of an order's deliveries and holds the others.
func (b *batch) fail(order []int, err error) {
	for n, i := range order {
		b.out[i] = err
		if n > 0 {
			b.out[i] = workers.ErrHeld
		}
	}
}

func (b *batch) failAll(orders [][]int, err error) {
	for _, order := range orders {
		b.fail(order, err)
	}
}

// run makes the effects of whole orders in one transaction. If that fails for a
// reason of one event, it halves the orders until the failing one stands alone,
// so that the others commit in few transactions.
func (h *Handler) run(ctx context.Context, b *batch, orders [][]int) {
	if len(orders) == 0 {
		return
	}
	err := h.attempt(ctx, b, orders)
	var behind *behindError
	switch {
	case err == nil:
	case errors.As(err, &behind):
		b.failBehind(orders, behind)
	case ctx.Err() != nil && !hangs(err):
		b.failAll(orders, h.late(ctx, b, err))
	case ctx.Err() != nil, general(err) && !tooSlow(ctx, err):
		b.failAll(orders, workers.Unavailable(err))
	case len(orders) > 1 && tooSlow(ctx, err):
		h.store.metrics.isolations.WithLabelValues(h.group).Inc()
		h.runSlow(ctx, b, orders, err)
	case len(orders) > 1:
		h.store.metrics.isolations.WithLabelValues(h.group).Inc()
		h.halve(ctx, b, orders)
	case len(orders[0]) > 1:
		h.runOrder(ctx, b, orders[0])
	case tooSlow(ctx, err):
		b.fail(orders[0], h.slow(b, orders[0][0], err))
	default:
		b.fail(orders[0], blame(err))
	}
}

// halve makes the effects of whole orders in two transactions.
func (h *Handler) halve(ctx context.Context, b *batch, orders [][]int) {
	half := len(orders) / 2
	h.run(ctx, b, orders[:half])
	h.run(ctx, b, orders[half:])
}

// late is the outcome of an attempt whose time was over in the middle of its events.
// Deliveries that had company are not charged for it: each will tell alone.
func (h *Handler) late(ctx context.Context, b *batch, err error) error {
	if len(b.ds) > 1 || !tooSlow(ctx, err) {
		return err
	}
	return h.slow(b, 0, err)
}

// runOrder makes the effects of one order event by event, up to the first that
// fails.
func (h *Handler) runOrder(ctx context.Context, b *batch, order []int) {
	for n, i := range order {
		err := h.attempt(ctx, b, [][]int{{i}})
		switch {
		case err == nil && b.out[i] == nil:
			continue
		case errors.Is(err, workers.ErrBehind): // said of its partition
		case err == nil:
			err = b.out[i]
		case ctx.Err() == nil && tooSlow(ctx, err):
			err = h.slow(b, i, err)
		case ctx.Err() == nil && general(err), ctx.Err() != nil && hangs(err):
			err = workers.Unavailable(err)
		case ctx.Err() != nil && !hopeless(err):
			err = h.late(ctx, b, err)
		default:
			err = blame(err)
		}
		b.fail(order[n:], err)
		return
	}
}

// blame is the outcome of the event that failed when it was alone in its transaction.
// Nobody else's failure may become a dead letter.
func blame(err error) error {
	if hopeless(err) {
		return workers.Reject(err)
	}
	return err
}

// hangs reports whether the time of an attempt that is over was spent on the way to the
// events: a database that does not answer, or connections that others hold. Where it
// was spent in the middle of an event, its neighbours tell (Handler.slow).
func hangs(err error) bool {
	_, untouched := errors.AsType[*untouchedError](err)
	return untouched
}

// outcome names an outcome for the metrics.
func outcome(err error) string {
	switch {
	case err == nil:
		return "done"
	case errors.Is(err, workers.ErrHeld):
		return "held"
	case errors.Is(err, ErrStaleOwner):
		return "stale_owner"
	case workers.Rejected(err):
		return "rejected"
	case workers.IsUnavailable(err):
		return "unavailable"
	default:
		return "error"
	}
}
