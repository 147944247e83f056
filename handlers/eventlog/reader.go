package eventlog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/streams/event"
)

// ErrNoEvent is returned for an event ID that is not in the log.
var ErrNoEvent = errors.New("eventlog: no such event")

// Entry is the evidence of one event. It holds personal data: hand it to nobody but
// the auditor who asked.
type Entry struct {
	event.Record
	// Facts is the fingerprint under which it was kept.
	Facts string
	// Partition and EntryID are where its entry stood in the stream.
	Partition int
	EntryID   string
	// AppendedAt is when it was written here.
	AppendedAt time.Time
}

// Reader reads what the handler keeps.
type Reader struct{ store *effects.Store }

// NewReader returns a reader of a store.
func NewReader(store *effects.Store) *Reader { return &Reader{store} }

const columns = `SELECT event, facts, raw, item, headers, key_id, signed_at, part, entry_id, appended_at FROM event_log `

// Get returns the evidence under an event ID, the facts that came first first: more
// than one entry means that the ID was used for different facts.
func (r *Reader) Get(ctx context.Context, eventID string) ([]Entry, error) {
	out, err := r.read(ctx, columns+`WHERE event_id = $1 ORDER BY seq`, eventID)
	if err == nil && len(out) == 0 {
		return nil, ErrNoEvent
	}
	return out, err
}

// ByOrder returns the evidence of the events that carry an order reference, oldest
// first, at most limit of them.
func (r *Reader) ByOrder(ctx context.Context, namespace, orderRef string, limit int) ([]Entry, error) {
	return r.read(ctx, columns+`WHERE order_ref = $1 AND namespace = $2 ORDER BY seq LIMIT $3`, orderRef, namespace, limit)
}

// ByCallback returns the evidence of all events of one callback, in its order.
func (r *Reader) ByCallback(ctx context.Context, callbackID string) ([]Entry, error) {
	return r.read(ctx, columns+`WHERE callback_id = $1 ORDER BY callback_part, seq`, callbackID)
}

func (r *Reader) read(ctx context.Context, query string, args ...any) ([]Entry, error) {
	var out []Entry
	err := r.store.Query(ctx, func(row effects.Row) error {
		var e Entry
		var text string
		var headers, keyID sql.NullString
		var signed, appended effects.Time
		err := row.Scan(&text, &e.Facts, &e.Raw, &e.Item, &headers, &keyID, &signed, &e.Partition, &e.EntryID, &appended)
		if err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(text), &e.Event); err != nil {
			return err
		}
		if headers.Valid {
			if err := json.Unmarshal([]byte(headers.String), &e.Evidence.Headers); err != nil {
				return err
			}
		}
		e.Evidence.KeyID, e.Evidence.SignedAt, e.AppendedAt = keyID.String, signed.Time, appended.Time
		out = append(out, e)
		return nil
	}, query, args...)
	if err != nil {
		return nil, fmt.Errorf("eventlog: read: %w", err)
	}
	return out, nil
}
