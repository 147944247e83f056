package gateway

import (
	"context"
	"net"
	"time"

	"github.com/paybell/paybell/streams/event"
)

// Retain is what the mode always does every few seconds.
func (k *Keeper) Retain(ctx context.Context) error { return k.retain(ctx) }

// EncodePayload and DecodePayload are the journal's form of a record.
func EncodePayload(window time.Duration, r *event.Record) ([]byte, error) {
	return encodePayload(window, r)
}

// DecodePayload is EncodePayload's other way.
func DecodePayload(b []byte) (time.Duration, event.Record, error) { return decodePayload(b) }

// PayloadKey is the ordering key in a payload.
func PayloadKey(b []byte) (string, bool) { return payloadKey(b) }

// Deadlines hands out the contexts of calls that take at most after.
func Deadlines(after time.Duration) func(context.Context) context.Context {
	return newDeadlines(after).of
}

// FirstPart hands out contexts of two thirds of a caller's time.
func FirstPart() func(context.Context) context.Context { return new(firstPart).of }

// SetClock gives a listener made by Listen another clock. Nothing is served on it yet.
func SetClock(l net.Listener, now func() time.Time) { l.(*listener).now = now }
