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
	logged := map[string]int{}
	err = rows(ctx, c.SQL, `SELECT event_id FROM event_log WHERE conflict_of IS NULL`, func(scan func(...any) error) error {
		var event string
		if err := scan(&event); err != nil {
			return err
		}
		logged[event]++
		return nil
	})
	if err != nil {
		return err
	}
	for id, f := range c.facts {
		if c.destroyed(id) {
			continue
		}
		for _, group := range groups {
			if !c.effects[group+" "+id] && !(group == "points" && c.poisoned(f)) {
				c.lost("%s has no effect of %s (%s, order %s)", group, id, f.Type, f.Order)
			}
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

func (c *court) poisoned(f *fact) bool { return strings.Contains(f.Order, c.Poisoned) }

// whole reports whether all of an order is there to be judged.
func (c *court) whole(order string) bool {
	return !slices.ContainsFunc(c.orders[order], func(f *fact) bool { return c.destroyed(f.event) })
}

// want is what an order's facts come to: canonical-event.md §6.
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

// judgeHistory: order_history.seq rises in the order of the effects, entry_id in that
// of the stream.
func (c *court) judgeHistory(ctx context.Context) error {
	last := map[string]string{}
	return rows(ctx, c.SQL, `SELECT order_key, entry_id, event_id FROM order_history ORDER BY seq`, func(scan func(...any) error) error {
		var order, entry, event string
		if err := scan(&order, &entry, &event); err != nil {
			return err
		}
		// The entry under which an event was applied may be a later one of the same
		// event, when Redis lost its memory in between; the first is what counts.
		if first := c.Tap.first(event); first != "" {
			entry = first
		}
		if before := last[order]; before != "" && later(before, entry) {
			c.verdict.OutOfOrder = append(c.verdict.OutOfOrder, fmt.Sprintf("%s: %s (%s) was applied after entry %s", order, event, entry, before))
		}
		last[order] = entry
		return nil
	})
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
	for order, facts := range c.orders {
		if !c.whole(order) {
			continue
		}
		_, captured, refunded := c.want(order)
		want := max(0, captured-refunded)
		if c.poisoned(facts[0]) {
			want = 0
		}
		switch got := balances[facts[0].Customer]; {
		case got > want:
			c.verdict.Twice = append(c.verdict.Twice, fmt.Sprintf("customer %s has %d points, want %d", facts[0].Customer, got, want))
		case got < want:
			c.lost("customer %s has %d points, want %d", facts[0].Customer, got, want)
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
