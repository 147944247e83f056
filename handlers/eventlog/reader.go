package eventlog

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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

// appendedBefore is how long before it was appended a callback may have been received: the
// gateway's journal may have had it that long.
const appendedBefore = 24 * time.Hour

// Appended returns the ids of the events whose entries stood in a partition, appended
// later than since and not later than until by Redis's clock, in their order there.
func (r *Reader) Appended(ctx context.Context, partition int, since, until time.Time) ([]string, error) {
	return r.appended(ctx, since, until, `part = $2`, partition)
}

// AppendedOf is Appended of a partition and of those that its number of partitions has not,
// each of which falls to one that it has: there were more before, or in what Redis lost.
func (r *Reader) AppendedOf(ctx context.Context, partition, partitions int, since, until time.Time) ([]string, error) {
	return r.appended(ctx, since, until, `(part = $2 OR part >= $3 AND part % $3 = $2)`, partition, partitions)
}

func (r *Reader) appended(ctx context.Context, since, until time.Time, where string, args ...any) ([]string, error) {
	type place struct {
		id      string
		ms, seq uint64
	}
	var found []place
	err := r.store.Query(ctx, func(row effects.Row) error {
		var p place
		var entryID string
		if err := row.Scan(&p.id, &entryID); err != nil {
			return err
		}
		n, _ := fmt.Sscanf(entryID, "%d-%d", &p.ms, &p.seq)                                   // what is no entry's id is left out
		if at := time.UnixMilli(int64(p.ms)); n == 2 && at.After(since) && !at.After(until) { //nolint:gosec // no time is that late
			found = append(found, p)
		}
		return nil
	}, `SELECT event_id, entry_id FROM event_log WHERE received_at >= $1 AND `+where, append([]any{since.Add(-appendedBefore)}, args...)...)
	if err != nil {
		return nil, fmt.Errorf("eventlog: what was appended: %w", err)
	}
	slices.SortFunc(found, func(a, b place) int { return cmp.Or(cmp.Compare(a.ms, b.ms), cmp.Compare(a.seq, b.seq)) })
	ids := make([]string, 0, len(found))
	for _, p := range found {
		ids = append(ids, p.id)
	}
	return ids, nil
}

// Entries returns the evidence of events in the order of the ids. One that is not there any
// more is left out; of one whose id was used for different facts, the facts that came first.
func (r *Reader) Entries(ctx context.Context, eventIDs []string) ([]Entry, error) {
	out := make([]Entry, 0, len(eventIDs))
	for _, id := range eventIDs {
		entries, err := r.Get(ctx, id)
		if errors.Is(err, ErrNoEvent) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, entries[0])
	}
	return out, nil
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
