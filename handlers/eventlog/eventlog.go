// Package eventlog is the built-in handler that keeps the evidence: every accepted
// event as it was appended, the raw body it came in, the headers and the name of the
// key it was believed by, and the times. Rows are only ever added, until their
// retention has passed; nothing is folded, interpreted or left out, conflicts and
// events of unknown type included.
//
// This is the one place where personal data of buyers is kept: it stands in the raw
// bodies. So nothing is redacted here, and nothing of it is shown by the admin API.
//
// An event ID that comes back with other facts gets a second row, with the facts it
// came with: the evidence of a conflict is worth most.
package eventlog

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/workers"
)

// Handler keeps event_log.
type Handler struct{ *effects.Handler }

var _ workers.BatchHandler = (*Handler)(nil)

// New returns the handler of a group on a store.
func New(store *effects.Store, group string, opts ...effects.HandlerOption) *Handler {
	apply := func(_ context.Context, tx *effects.Tx, ds []workers.Delivery) error {
		return write(tx, group, ds)
	}
	return &Handler{store.Handler(group, apply, append(opts, effects.WithConflicts(apply))...)}
}

// write is the effect of a batch.
func write(tx *effects.Tx, group string, ds []workers.Delivery) error {
	rows := effects.NewRows(
		effects.Text("grp").Same(group),
		effects.Text("event_id"), effects.Text("facts"), effects.Text("type"), effects.Text("conflict_of"),
		effects.Text("account"), effects.Text("namespace"), effects.Text("provider"), effects.Text("order_ref"),
		effects.Integer("part"), effects.Text("entry_id"), effects.Text("event"), effects.Text("callback_id"),
		effects.Text("sha256"), effects.Integer("callback_part"), effects.Blob("raw"), effects.Blob("item"),
		effects.Text("headers"), effects.Text("key_id"), effects.Timestamp("signed_at"), effects.Timestamp("occurred_at"),
		effects.Timestamp("received_at"), effects.Timestamp("appended_at").Same(tx.Now()),
	)
	for i := range ds {
		if err := add(rows, &ds[i]); err != nil {
			return fmt.Errorf("eventlog: event %s: %w", ds[i].Event.ID, err)
		}
	}
	tx.Queue(rows, `
		INSERT INTO event_log (grp, event_id, facts, type, conflict_of, account, namespace, provider, order_ref, part, entry_id,
			event, callback_id, sha256, callback_part, raw, item, headers, key_id, signed_at, occurred_at, received_at, appended_at)
		SELECT grp, event_id, facts, type, conflict_of, account, namespace, provider, order_ref, part, entry_id,
			event, callback_id, sha256, callback_part, raw, item, headers, key_id, signed_at, occurred_at, received_at, appended_at
		FROM input WHERE true
		ON CONFLICT (event_id, facts) DO NOTHING`)
	return nil
}

func add(rows *effects.Rows, d *workers.Delivery) error {
	e := &d.Event
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	var headers any
	if len(d.Evidence.Headers) > 0 {
		b, err := json.Marshal(d.Evidence.Headers)
		if err != nil {
			return err
		}
		headers = string(b)
	}
	rows.Add(e.ID, e.Facts().String(), string(e.Type), effects.TextOrNull(e.ConflictOf),
		e.Account, e.Namespace, e.Provider, effects.TextOrNull(e.OrderRef()),
		int64(d.Partition), d.EntryID, string(text), e.Raw.CallbackID,
		e.Raw.SHA256, int64(e.Raw.Index), d.Raw, d.Item,
		headers, effects.TextOrNull(d.Evidence.KeyID), effects.OrNull(d.Evidence.SignedAt), effects.OrNull(e.OccurredAt),
		e.ReceivedAt)
	return nil
}
