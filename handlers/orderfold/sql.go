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
	readRefs, holdRefs, saveRefs                           string
	readOrders, insertOrders, updateOrders, absorbedOrders string
}

// newStatements puts the tables' names, which are constants of the handlers, where
// a statement cannot take a parameter.
func newStatements(orders, refs string) statements {
	named := strings.NewReplacer("{orders}", orders, "{refs}", refs).Replace
	return statements{
		readRefs: named(`
			SELECT r.namespace, r.account, r.ref, r.claims, r.state
			FROM input JOIN {refs} r ON r.namespace = input.namespace AND r.account = input.account AND r.ref = input.ref`),
		// The update changes nothing: it takes the row's lock where the row is there.
		holdRefs: named(`
			INSERT INTO {refs} AS r (namespace, account, ref, claims, state)
			SELECT namespace, account, ref, claims, '' FROM input WHERE true
			ON CONFLICT (namespace, account, ref) DO UPDATE SET claims = r.claims
			RETURNING namespace, account, ref, claims, state`),
		saveRefs: named(`
			UPDATE {refs} AS r SET claims = input.claims, state = input.state
			FROM input WHERE r.namespace = input.namespace AND r.account = input.account AND r.ref = input.ref`),
		readOrders: named(`
			SELECT o.namespace, o.order_key, o.shared_reference, o.state
			FROM input JOIN {orders} o ON o.namespace = input.namespace AND o.order_key = input.order_key
			ORDER BY o.namespace, o.order_key`),
		insertOrders: named(`
			INSERT INTO {orders} (namespace, order_key, order_ref, status, currency, captured_minor, captured_value,
				refunded_minor, refunded_value, customer_ref, conflicts, shared_reference, state, created_at, updated_at)
			SELECT namespace, order_key, order_ref, status, currency, captured_minor, captured_value,
				refunded_minor, refunded_value, customer_ref, conflicts, shared_reference, state, now, now
			FROM input WHERE true
			ON CONFLICT (namespace, order_key) DO NOTHING`),
		updateOrders: named(`
			UPDATE {orders} AS o SET status = input.status, currency = input.currency,
				captured_minor = input.captured_minor, captured_value = input.captured_value,
				refunded_minor = input.refunded_minor, refunded_value = input.refunded_value,
				customer_ref = input.customer_ref, conflicts = input.conflicts,
				shared_reference = input.shared_reference, state = input.state, updated_at = input.now
			FROM input WHERE o.namespace = input.namespace AND o.order_key = input.order_key`),
		absorbedOrders: named(`
			DELETE FROM {orders} WHERE (namespace, order_key) IN (SELECT namespace, order_key FROM input)`),
	}
}

// loadRefs reads the references and holds those that may change.
func (b *folding) loadRefs(ctx context.Context) error {
	sorted := slices.SortedFunc(maps.Keys(b.refs), ref.compare)
	in := effects.NewRows(effects.Text("namespace"), effects.Text("account"), effects.Text("ref"))
	for _, r := range sorted {
		in.Add(r.Namespace, r.Account, r.Ref)
	}
	if err := b.tx.QueryRows(ctx, in, b.sql.readRefs, b.scanRef); err != nil {
		return err
	}
	hold := effects.NewRows(effects.Text("namespace"), effects.Text("account"), effects.Text("ref"), effects.Text("claims"))
	for _, r := range sorted {
		if row := b.refs[r]; row.needsLock() {
			// A reference that is new has nothing to be joined: it is born claimed.
			claims, err := claimText(slices.Compact(slices.Sorted(slices.Values(row.wantClaims))))
			if err != nil {
				return err
			}
			hold.Add(r.Namespace, r.Account, r.Ref, claims)
		}
	}
	if err := b.tx.QueryRows(ctx, hold, b.sql.holdRefs, b.scanRef); err != nil {
		return err
	}
	for _, row := range b.refs {
		if row.needsLock() {
			b.reach(row)
		}
	}
	return nil
}

// claimText is a list of claims as it is stored.
func claimText(claims []string) (string, error) {
	if len(claims) == 0 {
		return "[]", nil
	}
	text, err := json.Marshal(claims)
	return string(text), err
}

func (b *folding) scanRef(rows *sql.Rows) error {
	var r ref
	var claims, state string
	if err := rows.Scan(&r.Namespace, &r.Account, &r.Ref, &claims, &state); err != nil {
		return err
	}
	row := b.refs[r]
	row.claims, row.claimsInRow, row.inRow = nil, claims, state
	if err := json.Unmarshal([]byte(claims), &row.claims); err != nil {
		return fmt.Errorf("claims: %w", err)
	}
	if row.told = state != ""; row.told {
		return row.state.UnmarshalJSON([]byte(state))
	}
	return nil
}

// loadOrders reads and locks the orders, in the order of their keys.
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
	in := effects.NewRows(effects.Text("namespace"), effects.Text("account"), effects.Text("ref"), effects.Text("claims"), effects.Text("state"))
	for _, r := range slices.SortedFunc(maps.Keys(b.refs), ref.compare) {
		row := b.refs[r]
		claims, err := claimText(row.claims)
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
		if claims != row.claimsInRow || state != row.inRow {
			in.Add(r.Namespace, r.Account, r.Ref, claims, state)
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
		effects.Integer("refunded_minor"), effects.Text("refunded_value"), effects.Text("customer_ref"),
		effects.Text("conflicts"), effects.Boolean("shared_reference"), effects.Text("state"),
		effects.Timestamp("now").Same(b.tx.Now()),
	)
}

func addOrder(rows *effects.Rows, o *Order, state string) {
	captured, refunded := o.State.Captured(), o.State.Refunded()
	capturedMinor, capturedValue := amount(captured)
	refundedMinor, refundedValue := amount(refunded)
	rows.Add(o.Key.Namespace, o.Key.Order, effects.TextOrNull(o.OrderRef()), string(o.State.Status()),
		effects.TextOrNull(captured.Currency), capturedMinor, capturedValue, refundedMinor, refundedValue,
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
