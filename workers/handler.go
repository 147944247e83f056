// Package workers runs handlers on the events of a consumer group: at least
// once, one order's events one after another in append order, with retries,
// dead letters and a stop that loses nothing. It knows no gateway and no SQL.
package workers

import (
	"context"

	"github.com/paybell/paybell/streams/event"
)

// Delivery is an event owed to a group. It is read-only.
type Delivery struct {
	event.Record
	// Group is the consumer group; Partition and EntryID are where the entry stands.
	Group     string
	Partition int
	EntryID   string
	// Attempt counts handler calls for this entry, this one included, from 1.
	Attempt int
	// Epoch is that of the lease under which the entry was taken. It grows with
	// every change of owner of the (group, partition); an effect store that keeps
	// the highest seen can refuse an owner that was replaced while it stood still.
	Epoch int64
}

// Handler handles one delivery. nil settles it; any other error is retried on
// the group's policy, unless it is made by Reject or RetryAfter. It is called
// from several goroutines at once, never for two events of one ordering key.
// It must return when ctx ends.
type Handler interface {
	Handle(ctx context.Context, d Delivery) error
}

// BatchHandler handles many deliveries in one call, for handlers that pay by
// the transaction. It returns one outcome per delivery, in order: nil settles,
// an error as for Handler. Deliveries of one ordering key stand in append
// order and must be applied in that order; where one fails, the later ones of
// its key must not be applied and are given ErrHeld, which charges no attempt.
type BatchHandler interface {
	HandleBatch(ctx context.Context, ds []Delivery) []error
}

// HandlerFunc is a function as a Handler.
type HandlerFunc func(ctx context.Context, d Delivery) error

// Handle implements Handler.
func (f HandlerFunc) Handle(ctx context.Context, d Delivery) error { return f(ctx, d) }
