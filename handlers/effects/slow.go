package effects

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/workers"
)

// What ends a transaction that takes too long, as SQLSTATE: a statement was canceled because
// it took longer than statement_timeout or by somebody, or the transaction took longer than
// transaction_timeout, which PostgreSQL 17 has. PgBouncer says query_timeout in words.
const (
	pgCanceled           = "57014"
	pgTransactionTimeout = "25P04"
	poolerTimeout        = "query_timeout"
)

// tooSlow reports whether a transaction was given up in the middle of its events because
// it took too long: a statement of it by the server, or all of it with the attempt's time.
func tooSlow(ctx context.Context, err error) bool {
	if hangs(err) {
		return false
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && (pg.Code == pgCanceled || pg.Code == pgTransactionTimeout || pg.Message == poolerTimeout) {
		return true
	}
	return errors.Is(ctx.Err(), context.DeadlineExceeded)
}

// runSlow finds out whether it is the database that is slow, after a transaction over
// several orders was. Two of them are tried alone, chosen by chance so that no slow event
// is always among them; where neither commits, the others need not be tried.
func (h *Handler) runSlow(ctx context.Context, b *batch, orders [][]int, err error) {
	rand.Shuffle(len(orders), func(i, j int) { orders[i], orders[j] = orders[j], orders[i] }) //nolint:gosec // A guessable order harms nobody.
	const tried = 2
	for n := range min(tried, len(orders)) {
		h.run(ctx, b, orders[n:n+1])
		if b.out[orders[n][0]] == nil {
			h.halve(ctx, b, orders[n+1:])
			return
		}
	}
	b.failAll(orders[min(tried, len(orders)):], workers.Unavailable(err))
}

// slow is the outcome of event i, which was too slow although it was alone. It is the
// database's the first time, and for as long as no neighbour gets through; then it is the
// event's, so that one that is always slow ends as a dead letter.
func (h *Handler) slow(b *batch, i int, err error) error {
	if h.slowEvents.passed(&b.ds[i].Event) {
		return err
	}
	return workers.Unavailable(err)
}

// maxSlow bounds how many events are remembered as slow. Beyond it all begin anew.
const maxSlow = 4096

// slowEvents remembers the events that were too slow alone, and whether a neighbour was
// applied since: another event of the same type, which uses the same tables.
type slowEvents struct {
	mu     sync.Mutex
	events map[string]*slowEvent
}

type slowEvent struct {
	typ       event.Type
	neighbour bool
}

// passed is told that an event was too slow alone, and reports whether a neighbour was
// applied since it was so before.
func (s *slowEvents) passed(e *event.Event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.events[e.ID]; ok {
		passed := known.neighbour
		known.neighbour = false
		return passed
	}
	if s.events == nil || len(s.events) >= maxSlow {
		s.events = make(map[string]*slowEvent)
	}
	s.events[e.ID] = &slowEvent{typ: e.Type}
	return false
}

// applied is told of the events of a transaction that has committed.
func (s *slowEvents) applied(ds []workers.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.events) == 0 {
		return
	}
	types := make(map[event.Type]bool)
	for i := range ds {
		delete(s.events, ds[i].Event.ID)
		types[ds[i].Event.Type] = true
	}
	for _, known := range s.events {
		known.neighbour = known.neighbour || types[known.typ]
	}
}
