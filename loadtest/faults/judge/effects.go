package judge

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// groups are the built-in groups, each of which owes every event its effect.
var groups = []string{"orderstatus", "points", "eventlog"}

// readEffects looks for every accepted event in every group.
func (c *court) readEffects(ctx context.Context) error {
	c.effects = map[string]bool{}
	err := rows(ctx, c.SQL, `SELECT grp, event_id FROM effects`, func(scan func(...any) error) error {
		var group, event string
		if err := scan(&group, &event); err != nil {
			return err
		}
		c.effects[group+" "+event] = true
		return nil
	})
	if err != nil {
		return err
	}
	logged, err := c.readLog(ctx)
	if err != nil {
		return err
	}
	for id, f := range c.facts {
		destroyed := c.destroyed(id)
		for _, group := range groups {
			switch {
			case c.effects[group+" "+id], group == "points" && c.poisoned(f):
			case destroyed:
				c.missing++
			default:
				c.lost("%s has no effect of %s (%s, order %s)", group, id, f.Type, f.Order)
			}
		}
		if destroyed {
			continue
		}
		switch n := logged[id]; {
		case n == 0:
			c.lost("the event log has no %s (%s, order %s)", id, f.Type, f.Order)
		case n > 1:
			c.verdict.Twice = append(c.verdict.Twice, fmt.Sprintf("the event log has %s %d times", id, n))
		}
	}
	return nil
}

// readLog counts the rows of the event log by event, and looks for every conflict there.
func (c *court) readLog(ctx context.Context) (map[string]int, error) {
	logged, conflicts := map[string]int{}, map[string]int{}
	err := rows(ctx, c.SQL, `SELECT event_id, COALESCE(conflict_of, ''), COALESCE(order_ref, '') FROM event_log`, func(scan func(...any) error) error {
		var event, of, order string
		if err := scan(&event, &of, &order); err != nil {
			return err
		}
		switch {
		case of != "":
			conflicts[of]++
		case c.facts[event] == nil && !strings.Contains(order, c.Forged):
			c.other("the event log has %s, and nobody was told that it was accepted", event)
		}
		logged[event]++
		return nil
	})
	for of := range c.conflicts {
		switch n := conflicts[of]; {
		case n == 0 && !c.destroyedConflict(of):
			c.lost("the event log has no conflict of %s", of)
		case n > 1:
			c.verdict.Twice = append(c.verdict.Twice, fmt.Sprintf("the event log has %d conflicts of %s", n, of))
		}
		delete(conflicts, of)
	}
	for of := range conflicts {
		c.other("the event log has a conflict of %s, which nobody sent", of)
	}
	return logged, err
}

// keptConflict reports whether an event is a conflict that was sent. The tap is locked.
func (c *court) keptConflict(event string) bool {
	for of := range c.conflicts {
		if slices.Contains(c.Tap.conflicts[of], event) {
			return true
		}
	}
	return false
}

// destroyedConflict reports whether the entry of an event's conflict, or the one it is
// a conflict of, was deleted by hand.
func (c *court) destroyedConflict(of string) bool {
	c.Tap.mu.Lock()
	defer c.Tap.mu.Unlock()
	return slices.ContainsFunc(c.Tap.conflicts[of], c.destroyed)
}

// poisoned reports whether the group points must give a fact up.
func (c *court) poisoned(f *fact) bool {
	return strings.Contains(f.Order, c.Poisoned) && (f.Type == "payment.pending" || !strings.Contains(f.Order, c.FirstOnly))
}

// whole reports whether all of an order is there to be judged.
func (c *court) whole(order string) bool {
	return !slices.ContainsFunc(c.orders[order], func(f *fact) bool { return c.destroyed(f.event) })
}

// want is what an order's facts come to: docs/event.md.
func (c *court) want(order string) (status string, captured, refunded int) {
	stage := map[string]bool{}
	for _, f := range c.orders[order] {
		stage[f.Type] = true
		switch f.Type {
		case "payment.succeeded":
			captured += f.Dollars
		case "refund.succeeded":
			refunded += f.Dollars
		}
	}
	switch {
	case stage["payment.succeeded"] && refunded >= captured:
		status = "refunded"
	case stage["payment.succeeded"] && refunded > 0:
		status = "partially_refunded"
	case stage["payment.succeeded"]:
		status = "paid"
	case stage["payment.authorized"]:
		status = "authorized"
	default:
		status = "pending"
	}
	return status, captured, refunded
}

// judgeOrders compares every order's status and amounts, and the order in which its
// events were applied with that in which they stand in the stream.
func (c *court) judgeOrders(ctx context.Context) error {
	seen := map[string]bool{}
	err := rows(ctx, c.SQL, `SELECT order_ref, status, COALESCE(captured_minor, 0), COALESCE(refunded_minor, 0) FROM orders WHERE order_ref IS NOT NULL`, func(scan func(...any) error) error {
		var order, status string
		var captured, refunded int
		if err := scan(&order, &status, &captured, &refunded); err != nil {
			return err
		}
		seen[order] = true
		if len(c.orders[order]) == 0 {
			if !strings.Contains(order, c.Forged) {
				c.other("order %s is %s, and nobody was told that it was accepted", order, status)
			}
			return nil
		}
		wantStatus, wantCaptured, wantRefunded := c.want(order)
		if !c.whole(order) || status == wantStatus && captured == 100*wantCaptured && refunded == 100*wantRefunded {
			return nil
		}
		text := fmt.Sprintf("order %s is %s with %d captured and %d refunded, want %s, %d, %d", order, status, captured, refunded, wantStatus, 100*wantCaptured, 100*wantRefunded)
		if captured > 100*wantCaptured || refunded > 100*wantRefunded {
			c.verdict.Twice = append(c.verdict.Twice, text)
		} else {
			c.verdict.Lost = append(c.verdict.Lost, text)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for order := range c.orders {
		if !seen[order] && c.whole(order) {
			c.lost("there is no order %s", order)
		}
	}
	return c.judgeHistory(ctx)
}

// judgeHistory compares, for each group, the order in which an order's events were
// applied, which is that of seq, with that in which they stand in the stream.
func (c *court) judgeHistory(ctx context.Context) error {
	for table, query := range map[string]string{
		"order_history": `SELECT order_key, entry_id, event_id FROM order_history WHERE type <> 'conflict' ORDER BY seq`,
		"event_log":     `SELECT order_ref, entry_id, event_id FROM event_log WHERE order_ref IS NOT NULL AND conflict_of IS NULL ORDER BY seq`,
		"points_ledger": `SELECT order_key, '', event_id FROM points_ledger ORDER BY seq`,
	} {
		last := map[string]string{}
		err := rows(ctx, c.SQL, query, func(scan func(...any) error) error {
			var order, entry, event string
			if err := scan(&order, &entry, &event); err != nil {
				return err
			}
			// The entry under which an event was applied may be a later one of the
			// same event, when Redis lost its memory in between; the first is what
			// counts.
			if first := c.Tap.first(event); first != "" {
				entry = first
			}
			if entry == "" {
				return nil // deleted before anyone had seen it
			}
			if c.AfterFlush && c.destroyed(event) {
				return nil // lost by right, and it came again when Redis had forgotten it
			}
			if before := last[order]; before != "" && later(before, entry) {
				c.verdict.OutOfOrder = append(c.verdict.OutOfOrder, fmt.Sprintf("%s: %s: %s (%s) was applied after entry %s", table, order, event, entry, before))
			}
			last[order] = entry
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// judgePoints: every customer has one order, and a point is worth a dollar.
func (c *court) judgePoints(ctx context.Context) error {
	balances := map[string]int{}
	err := rows(ctx, c.SQL, `SELECT customer_ref, balance FROM points_balances`, func(scan func(...any) error) error {
		var customer string
		var balance int
		if err := scan(&customer, &balance); err != nil {
			return err
		}
		balances[customer] = balance
		return nil
	})
	if err != nil {
		return err
	}
	err = rows(ctx, c.SQL, `SELECT event_id, count(*) FROM points_ledger GROUP BY event_id HAVING count(*) > 1`, func(scan func(...any) error) error {
		var event string
		var n int
		if err := scan(&event, &n); err != nil {
			return err
		}
		c.verdict.Twice = append(c.verdict.Twice, fmt.Sprintf("the points ledger has %s %d times", event, n))
		return nil
	})
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for order, facts := range c.orders {
		known[facts[0].Customer] = true
		if !c.whole(order) {
			continue
		}
		_, captured, refunded := c.want(order)
		want := max(0, captured-refunded)
		if slices.ContainsFunc(facts, func(f *fact) bool { return f.Dollars > 0 && c.poisoned(f) }) {
			want = 0 // what it was paid never came to the points
		}
		switch got := balances[facts[0].Customer]; {
		case got > want:
			c.verdict.Twice = append(c.verdict.Twice, fmt.Sprintf("customer %s has %d points, want %d", facts[0].Customer, got, want))
		case got < want:
			c.lost("customer %s has %d points, want %d", facts[0].Customer, got, want)
		}
	}
	for customer, balance := range balances {
		if !known[customer] {
			c.other("customer %s has %d points, and no order", customer, balance)
		}
	}
	// The ledger's lines of an order add up to what the last of them says.
	return rows(ctx, c.SQL, `SELECT order_key, SUM(delta), (array_agg(target ORDER BY seq DESC))[1] FROM points_ledger GROUP BY order_key HAVING SUM(delta) <> (array_agg(target ORDER BY seq DESC))[1]`,
		func(scan func(...any) error) error {
			var order string
			var sum, target int
			if err := scan(&order, &sum, &target); err != nil {
				return err
			}
			c.other("points of %s add up to %d, want %d", order, sum, target)
			return nil
		})
}

// judgeForgeries looks for what nobody signed wherever something is kept.
func (c *court) judgeForgeries(ctx context.Context) error {
	for _, query := range []string{
		`SELECT COALESCE(order_ref, '') FROM orders`, `SELECT COALESCE(order_ref, '') FROM event_log`,
		`SELECT order_key FROM points_ledger`,
	} {
		err := rows(ctx, c.SQL, query, func(scan func(...any) error) error {
			var order string
			if err := scan(&order); err != nil {
				return err
			}
			if strings.Contains(order, c.Forged) {
				c.verdict.ForgedAccepted = append(c.verdict.ForgedAccepted, order+" is in SQL")
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// later reports whether an entry id is higher than another.
func later(a, b string) bool {
	am, as := halves(a)
	bm, bs := halves(b)
	return am > bm || am == bm && as > bs
}

func halves(id string) (ms, seq uint64) {
	left, right, _ := strings.Cut(id, "-")
	ms, _ = strconv.ParseUint(left, 10, 64) // entry ids have this form
	seq, _ = strconv.ParseUint(right, 10, 64)
	return ms, seq
}
