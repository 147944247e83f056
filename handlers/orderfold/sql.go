package orderfold

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/streams/event"
)

// statements are the SQL of one pair of tables.
type statements struct {
	readRefs, addRefs, saveRefs                            string
	readOrders, insertOrders, updateOrders, absorbedOrders string
}

// newStatements puts the tables' names, which are constants of the handlers, where
// a statement cannot take a parameter.
func newStatements(orders, refs string) statements {
	named := strings.NewReplacer("{orders}", orders, "{refs}", refs).Replace
	return statements{
		readRefs: named(`
			SELECT r.namespace, r.account, r.ref, r.claims, r.related, r.state
			FROM input JOIN {refs} r ON r.namespace = input.namespace AND r.account = input.account AND r.ref = input.ref
			ORDER BY r.namespace, r.account, r.ref`),
		// The update changes nothing: it takes the lock of a row that somebody else made
		// meanwhile.
		addRefs: named(`
			INSERT INTO {refs} AS r (namespace, account, ref, claims, state)
			SELECT namespace, account, ref, claims, '' FROM input WHERE true
			ON CONFLICT (namespace, account, ref) DO UPDATE SET claims = r.claims
			RETURNING namespace, account, ref, claims, related, state`),
		saveRefs: named(`
			UPDATE {refs} AS r SET claims = input.claims, related = input.related, state = input.state
			FROM input WHERE r.namespace = input.namespace AND r.account = input.account AND r.ref = input.ref`),
		readOrders: named(`
			SELECT o.namespace, o.order_key, o.shared_reference, o.state
			FROM input JOIN {orders} o ON o.namespace = input.namespace AND o.order_key = input.order_key
			ORDER BY o.namespace, o.order_key`),
		insertOrders: named(`
			INSERT INTO {orders} (namespace, order_key, order_ref, status, currency, captured_minor, captured_value,
				refunded_minor, refunded_value, lost_minor, lost_value, customer_ref, conflicts, shared_reference, state, created_at, updated_at)
			SELECT namespace, order_key, order_ref, status, currency, captured_minor, captured_value,
				refunded_minor, refunded_value, lost_minor, lost_value, customer_ref, conflicts, shared_reference, state, now, now
			FROM input WHERE true
			ON CONFLICT (namespace, order_key) DO NOTHING`),
		updateOrders: named(`
			UPDATE {orders} AS o SET status = input.status, currency = input.currency,
				captured_minor = input.captured_minor, captured_value = input.captured_value,
				refunded_minor = input.refunded_minor, refunded_value = input.refunded_value,
				lost_minor = input.lost_minor, lost_value = input.lost_value,
				customer_ref = input.customer_ref, conflicts = input.conflicts,
				shared_reference = input.shared_reference, state = input.state, updated_at = input.now
			FROM input WHERE o.namespace = input.namespace AND o.order_key = input.order_key`),
		absorbedOrders: named(`
			DELETE FROM {orders} WHERE (namespace, order_key) IN (SELECT namespace, order_key FROM input)`),
	}
}

// loadRefs reads the references and holds those that may change.
// loadRefs locks and reads the references that the batch touches and those that are
// related to them, and makes rows for those that are new. It notes the orders that
// claim them.
func (b *folding) loadRefs(ctx context.Context) error {
	for {
		wanted := b.missing()
		if len(wanted) == 0 {
			break
		}
		if err := b.holdRefs(ctx, wanted); err != nil {
			return err
		}
		for _, r := range wanted {
			for _, other := range b.refs[r].relatives() {
				b.row(other)
			}
		}
	}
	for r, row := range b.refs {
		if row.told && len(row.claims) == 0 {
			b.order(r.key())
		}
		for _, key := range row.claims {
			b.order(Key{r.Namespace, key})
		}
	}
	return nil
}

// missing are the references that are not held yet, sorted.
func (b *folding) missing() []ref {
	var out []ref
	for r, row := range b.refs {
		if !row.here {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, ref.compare)
	return out
}

func (b *folding) holdRefs(ctx context.Context, wanted []ref) error {
	in := effects.NewRows(effects.Text("namespace"), effects.Text("account"), effects.Text("ref"))
	for _, r := range wanted {
		in.Add(r.Namespace, r.Account, r.Ref)
	}
	if err := b.tx.QueryRows(ctx, in, b.sql.readRefs+b.tx.ForUpdate("r"), b.scanRef); err != nil {
		return err
	}
	added := effects.NewRows(effects.Text("namespace"), effects.Text("account"), effects.Text("ref"), effects.Text("claims"))
	for _, r := range wanted {
		if row := b.refs[r]; !row.here {
			// A reference that is new has nothing to be joined: it is born claimed.
			claims, err := setText(slices.Compact(slices.Sorted(slices.Values(row.wantClaims))))
			if err != nil {
				return err
			}
			added.Add(r.Namespace, r.Account, r.Ref, claims)
		}
	}
	return b.tx.QueryRows(ctx, added, b.sql.addRefs, b.scanRef)
}

// setText is how a row holds a set.
func setText(set []string) (string, error) {
	if len(set) == 0 {
		return "[]", nil
	}
	text, err := json.Marshal(set)
	return string(text), err
}

func (b *folding) scanRef(rows *sql.Rows) error {
	var r ref
	var claims, related, state string
	if err := rows.Scan(&r.Namespace, &r.Account, &r.Ref, &claims, &related, &state); err != nil {
		return err
	}
	row := b.refs[r]
	row.here, row.claimsInRow, row.relatedInRow, row.inRow = true, claims, related, state
	if err := json.Unmarshal([]byte(claims), &row.claims); err != nil {
		return fmt.Errorf("claims: %w", err)
	}
	if err := json.Unmarshal([]byte(related), &row.related); err != nil {
		return fmt.Errorf("related: %w", err)
	}
	if row.told = state != ""; row.told {
		return row.state.UnmarshalJSON([]byte(state))
	}
	return nil
}

func (b *folding) loadOrders(ctx context.Context) error {
	in := effects.NewRows(effects.Text("namespace"), effects.Text("order_key"))
	for _, k := range slices.SortedFunc(maps.Keys(b.orders), Key.compare) {
		in.Add(k.Namespace, k.Order)
	}
	return b.tx.QueryRows(ctx, in, b.sql.readOrders+b.tx.ForUpdate("o"), func(rows *sql.Rows) error {
		var k Key
		var shared bool
		var state string
		if err := rows.Scan(&k.Namespace, &k.Order, &shared, &state); err != nil {
			return err
		}
		o := b.orders[k]
		o.inRow, o.sharedInRow, o.shared = state, shared, shared
		return o.State.UnmarshalJSON([]byte(state))
	})
}

func (b *folding) saveRefs(ctx context.Context) error {
	in := effects.NewRows(effects.Text("namespace"), effects.Text("account"), effects.Text("ref"),
		effects.Text("claims"), effects.Text("related"), effects.Text("state"))
	for _, r := range slices.SortedFunc(maps.Keys(b.refs), ref.compare) {
		row := b.refs[r]
		claims, err := setText(row.claims)
		if err != nil {
			return err
		}
		related, err := setText(row.related)
		if err != nil {
			return err
		}
		state := ""
		if row.told {
			text, err := json.Marshal(row.state)
			if err != nil {
				return err
			}
			state = string(text)
		}
		if claims != row.claimsInRow || related != row.relatedInRow || state != row.inRow {
			in.Add(r.Namespace, r.Account, r.Ref, claims, related, state)
		}
	}
	_, err := b.tx.ExecRows(ctx, in, b.sql.saveRefs)
	return err
}

func (b *folding) saveOrders(ctx context.Context) error {
	added, changed := b.orderRows(), b.orderRows()
	absorbed := effects.NewRows(effects.Text("namespace"), effects.Text("order_key"))
	for _, k := range slices.SortedFunc(maps.Keys(b.orders), Key.compare) {
		o := b.orders[k]
		if o.Absorbed {
			if o.inRow != "" {
				absorbed.Add(k.Namespace, k.Order)
			}
			continue
		}
		if !o.folded && o.inRow == "" {
			continue
		}
		text, err := json.Marshal(o.State)
		if err != nil {
			return err
		}
		switch {
		case o.inRow == "":
			addOrder(added, o, string(text))
		case o.inRow != string(text) || o.shared != o.sharedInRow:
			addOrder(changed, o, string(text))
		}
	}
	n, err := b.tx.ExecRows(ctx, added, b.sql.insertOrders)
	if err != nil {
		return err
	}
	if n != int64(added.Len()) {
		return fmt.Errorf("new orders: %w", effects.ErrRace)
	}
	if _, err := b.tx.ExecRows(ctx, changed, b.sql.updateOrders); err != nil {
		return err
	}
	_, err = b.tx.ExecRows(ctx, absorbed, b.sql.absorbedOrders)
	return err
}

func (b *folding) orderRows() *effects.Rows {
	return effects.NewRows(
		effects.Text("namespace"), effects.Text("order_key"), effects.Text("order_ref"), effects.Text("status"),
		effects.Text("currency"), effects.Integer("captured_minor"), effects.Text("captured_value"),
		effects.Integer("refunded_minor"), effects.Text("refunded_value"),
		effects.Integer("lost_minor"), effects.Text("lost_value"), effects.Text("customer_ref"),
		effects.Text("conflicts"), effects.Boolean("shared_reference"), effects.Text("state"),
		effects.Timestamp("now").Same(b.tx.Now()),
	)
}

func addOrder(rows *effects.Rows, o *Order, state string) {
	captured := o.State.Captured()
	capturedMinor, capturedValue := amount(captured)
	refundedMinor, refundedValue := amount(o.State.Refunded())
	lostMinor, lostValue := amount(o.State.Lost())
	rows.Add(o.Key.Namespace, o.Key.Order, effects.TextOrNull(o.OrderRef()), string(o.State.Status()),
		effects.TextOrNull(captured.Currency), capturedMinor, capturedValue, refundedMinor, refundedValue, lostMinor, lostValue,
		effects.TextOrNull(o.State.CustomerRef()), conflictText(o.Conflicts()), o.shared, state)
}

// amount is NULL while no amount is known.
func amount(m event.Money) (minor, value any) {
	if m.Currency == "" {
		return nil, nil
	}
	return m.Minor, m.Value
}

// conflictText lists disagreements the way they are read best in a table.
func conflictText(list []event.Disagreement) string {
	words := make([]string, len(list))
	for i, d := range list {
		words[i] = string(d)
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}
