package orderfold

import (
	"context"
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
	addRefs, readRefs, saveRefs                            string
	readOrders, insertOrders, updateOrders, absorbedOrders string
}

// newStatements puts the tables' names, which are constants of the handlers, where
// a statement cannot take a parameter.
func newStatements(d effects.Dialect, orders, refs string) *statements {
	named := strings.NewReplacer("{orders}", orders, "{refs}", refs).Replace
	foundRefs := effects.Lookup{Table: refs, As: "r", Keys: []string{"namespace", "account", "ref"}}
	foundOrders := effects.Lookup{Table: orders, As: "o", Keys: []string{"namespace", "order_key"}, Lock: true}
	return &statements{
		// A row that is there is not changed: it is locked, whoever made it.
		addRefs: named(`
			INSERT INTO {refs} AS r (namespace, account, ref, claims, state)
			SELECT namespace, account, ref, claims, '' FROM input WHERE true
			ON CONFLICT (namespace, account, ref) DO UPDATE SET claims = excluded.claims WHERE false`),
		// A row that says no more than a new one does need not be sent.
		readRefs: `SELECT r.namespace, r.account, r.ref, r.claims, r.related, r.state ` + foundRefs.From(d) + `
			WHERE r.claims <> input.claims OR r.related <> '[]' OR r.state <> ''`,
		saveRefs: named(`
			INSERT INTO {refs} (namespace, account, ref, claims, related, state)
			SELECT namespace, account, ref, claims, related, state FROM input WHERE true
			ON CONFLICT (namespace, account, ref) DO UPDATE
			SET claims = excluded.claims, related = excluded.related, state = excluded.state`),
		readOrders: `SELECT o.namespace, o.order_key, o.shared_reference, o.state ` + foundOrders.From(d),
		insertOrders: named(`
			INSERT INTO {orders} (` + orderColumns + `, created_at, updated_at)
			SELECT ` + orderColumns + `, now, now FROM input`),
		updateOrders: named(`
			INSERT INTO {orders} (` + orderColumns + `, created_at, updated_at)
			SELECT ` + orderColumns + `, now, now FROM input WHERE true
			ON CONFLICT (namespace, order_key) DO UPDATE
			SET status = excluded.status, currency = excluded.currency,
				captured_minor = excluded.captured_minor, captured_value = excluded.captured_value,
				refunded_minor = excluded.refunded_minor, refunded_value = excluded.refunded_value,
				lost_minor = excluded.lost_minor, lost_value = excluded.lost_value,
				customer_ref = excluded.customer_ref, conflicts = excluded.conflicts,
				shared_reference = excluded.shared_reference, state = excluded.state, updated_at = excluded.updated_at`),
		absorbedOrders: named(`
			DELETE FROM {orders} WHERE (namespace, order_key) IN (SELECT namespace, order_key FROM input)`),
	}
}

const orderColumns = `namespace, order_key, order_ref, status, currency, captured_minor, captured_value,
	refunded_minor, refunded_value, lost_minor, lost_value, customer_ref, conflicts, shared_reference, state`

// load locks and reads the references that the batch touches and those that are related
// to them, makes rows for those that are new, and locks and reads the orders that the
// batch names or that claim the references.
func (b *folding) load(ctx context.Context) error {
	for {
		wanted := b.missing()
		if err := b.queueRefs(wanted); err != nil {
			return err
		}
		if len(wanted) == 0 {
			b.noteOrders()
		}
		b.queueOrders()
		if err := b.tx.Send(ctx); err != nil {
			return err
		}
		if len(wanted) == 0 {
			return nil
		}
		for _, r := range wanted {
			b.refs[r].here = true
			for _, other := range b.refs[r].relatives() {
				b.row(other)
			}
		}
	}
}

// noteOrders notes the orders that claim references, and those that references of which
// something was told are by themselves.
func (b *folding) noteOrders() {
	for r, row := range b.refs {
		if row.told && len(row.claims) == 0 {
			b.order(r.key())
		}
		for _, key := range row.claims {
			b.order(Key{r.Namespace, key})
		}
	}
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

// queueRefs queues what locks the references' rows, makes those that are new, and reads
// those that are not as new. A reference that is new has nothing to be joined: it is
// born claimed.
func (b *folding) queueRefs(wanted []ref) error {
	in := effects.NewRows(effects.Text("namespace"), effects.Text("account"), effects.Text("ref"), effects.Text("claims"))
	for _, r := range wanted {
		row := b.refs[r]
		slices.Sort(row.claims)
		row.claims = slices.Compact(row.claims)
		var err error
		if row.claimsInRow, err = setText(row.claims); err != nil {
			return err
		}
		in.Add(r.Namespace, r.Account, r.Ref, row.claimsInRow)
	}
	b.tx.Queue(in, b.sql.addRefs)
	b.tx.QueueQuery(in, b.sql.readRefs, b.scanRef)
	return nil
}

// emptySet is how a row holds a set without a member.
const emptySet = "[]"

// setText is how a row holds a set.
func setText(set []string) (string, error) {
	if len(set) == 0 {
		return emptySet, nil
	}
	text, err := json.Marshal(set)
	return string(text), err
}

func (b *folding) scanRef(in effects.Row) error {
	var r ref
	var claims, related, state string
	if err := in.Scan(&r.Namespace, &r.Account, &r.Ref, &claims, &related, &state); err != nil {
		return err
	}
	row := b.refs[r]
	row.claims = nil
	row.claimsInRow, row.relatedInRow, row.inRow = claims, related, state
	if err := parseSet(claims, &row.claims); err != nil {
		return fmt.Errorf("claims: %w", err)
	}
	if err := parseSet(related, &row.related); err != nil {
		return fmt.Errorf("related: %w", err)
	}
	if row.told = state != ""; row.told {
		return row.state.UnmarshalJSON([]byte(state))
	}
	return nil
}

func parseSet(text string, into *[]string) error {
	if text == emptySet {
		return nil
	}
	return json.Unmarshal([]byte(text), into)
}

// queueOrders queues what locks and reads the orders that were noted since the last
// time, and what the handler reads beside them.
func (b *folding) queueOrders() {
	in := effects.NewRows(effects.Text("namespace"), effects.Text("order_key"))
	slices.SortFunc(b.noted, Key.compare)
	for _, k := range b.noted {
		in.Add(k.Namespace, k.Order)
	}
	b.noted = nil
	b.tx.QueueQuery(in, b.sql.readOrders, b.scanOrder)
	if b.beside != nil {
		b.beside(in)
	}
}

func (b *folding) scanOrder(in effects.Row) error {
	var k Key
	var shared bool
	var state string
	if err := in.Scan(&k.Namespace, &k.Order, &shared, &state); err != nil {
		return err
	}
	o := b.orders[k]
	o.inRow, o.sharedInRow, o.shared = state, shared, shared
	return o.State.UnmarshalJSON([]byte(state))
}

func (b *folding) saveRefs() error {
	in := effects.NewRows(effects.Text("namespace"), effects.Text("account"), effects.Text("ref"),
		effects.Text("claims"), effects.Text("related"), effects.Text("state"))
	for _, r := range slices.SortedFunc(maps.Keys(b.refs), ref.compare) {
		row := b.refs[r]
		if !row.touched {
			continue
		}
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
			text, err := row.state.MarshalJSON()
			if err != nil {
				return err
			}
			state = string(text)
		}
		if claims != row.claimsInRow || related != row.relatedInRow || state != row.inRow {
			in.Add(r.Namespace, r.Account, r.Ref, claims, related, state)
		}
	}
	b.tx.Queue(in, b.sql.saveRefs)
	return nil
}

func (b *folding) saveOrders() error {
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
		text, err := o.State.MarshalJSON()
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
	b.tx.QueueNew(added, b.sql.insertOrders)
	b.tx.Queue(changed, b.sql.updateOrders)
	b.tx.Queue(absorbed, b.sql.absorbedOrders)
	return nil
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
