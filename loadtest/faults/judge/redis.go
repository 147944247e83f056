package judge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// scan are the keys of a form.
func (c *court) scan(ctx context.Context, form string) ([]string, error) {
	return c.Redis.Keys(ctx, c.Prefix+":"+form).Result()
}

// judgeDead: exactly the events of poisoned orders are dead letters, of the group
// points. Redis tells only while it has its memory.
func (c *court) judgeDead(ctx context.Context) error {
	for _, f := range c.facts {
		if c.poisoned(f) && !c.destroyed(f.event) {
			c.verdict.DeadExpected++
		}
	}
	keys, err := c.scan(ctx, "*:dead:*")
	if err != nil {
		return err
	}
	found := map[string]bool{}
	for _, key := range keys {
		letters, err := c.Redis.XRange(ctx, key, "-", "+").Result()
		if err != nil {
			return err
		}
		for _, m := range letters {
			event, _ := m.Values["id"].(string)
			f := c.facts[event]
			switch {
			case found[event]:
				c.other("%s is a dead letter twice", event)
			case f == nil || !c.poisoned(f) || !strings.HasSuffix(key, ":dead:points"):
				c.other("dead letter in %s that nobody expected: %s, attempts %v, reason %v, %v", key, event, m.Values["attempts"], m.Values["reason"], m.Values["error"])
			case !c.destroyed(event):
				c.verdict.DeadFound++
			}
			found[event] = true
		}
	}
	if !c.AfterFlush && c.verdict.DeadFound != c.verdict.DeadExpected {
		c.other("%d dead letters, want %d", c.verdict.DeadFound, c.verdict.DeadExpected)
	}
	return nil
}

// judgeLedger adds up, for every group and partition, in which state its events are,
// and compares that with how many it was owed: what was appended, and base, what it
// was given again. What was appended is compared with what the tap saw, and what is
// called lost with what was deleted by hand.
func (c *court) judgeLedger(ctx context.Context) error {
	keys, err := c.scan(ctx, "*:events")
	if err != nil {
		return err
	}
	var appended, lost int64
	for _, key := range keys {
		head := strings.TrimSuffix(key, "events")
		field := "appended"
		if c.Redis.HGet(ctx, head+"ledger", field).Val() == "closed" { // the number of partitions was changed
			field = "counted"
		}
		here, err := number(ctx, c.Redis, head+"ledger", field)
		if err != nil {
			return err
		}
		appended += here
		infos, err := c.Redis.XInfoGroups(ctx, key).Result()
		if err != nil {
			return err
		}
		for _, g := range infos {
			if !slices.Contains(groups, g.Name) {
				continue // a subscriber's, of which there is no account
			}
			n, err := c.account(ctx, head, g, here)
			if err != nil {
				return err
			}
			lost += n
		}
	}
	// Entries may have been deleted before the tap saw them; none can be there that
	// was not counted.
	unseen := appended - c.Tap.count()
	if unseen < 0 || unseen > int64(len(c.Destroyed)) {
		c.differ(unseen, "%d entries were counted that the tap did not see, and %d deleted by hand", unseen, len(c.Destroyed))
	}
	// A group may have been done with an entry before it was deleted.
	most := int64(len(groups) * len(c.Destroyed))
	switch {
	case c.AfterFlush:
	case lost < c.missing:
		c.differ(c.missing-lost, "%d effects are missing of events deleted by hand, and only %d counted as lost", c.missing, lost)
	case lost > most:
		c.differ(lost-most, "%d deliveries are counted as lost, and %d entries were deleted by hand", lost, len(c.Destroyed))
	}
	return nil
}

// account adds up one group's account of a partition, and returns how much it calls
// lost.
func (c *court) account(ctx context.Context, head string, g redis.XInfoGroup, appended int64) (lost int64, err error) {
	parked, err := c.Redis.ZCard(ctx, head+"parked:"+g.Name).Result()
	if err != nil {
		return 0, err
	}
	dead, err := c.Redis.XLen(ctx, head+"dead:"+g.Name).Result()
	if err != nil {
		return 0, err
	}
	unread, err := c.Redis.XRange(ctx, head+"events", "("+g.LastDeliveredID, "+").Result()
	if err != nil {
		return 0, err
	}
	if g.Pending > 0 || parked > 0 || len(unread) > 0 {
		c.other("%s has %d unread, %d pending and %d parked at %s when all should be settled", g.Name, len(unread), g.Pending, parked, head)
	}
	counts := map[string]int64{}
	for _, name := range []string{"settled", "dropped", "lost", "base", "again"} {
		if counts[name], err = number(ctx, c.Redis, head+"counts:"+g.Name, name); err != nil {
			return 0, err
		}
	}
	owed := appended + counts["base"]
	found := int64(len(unread)) + g.Pending + parked + dead + counts["settled"] + counts["dropped"] + counts["lost"]
	if owed != found {
		c.differ(owed-found, "%s was owed %d at %s, and %d are found: %v", g.Name, owed, head, found, counts)
	}
	if again := counts["again"]; again != 0 {
		c.differ(again, "%s had %d at %s that it had before, and nobody set it back", g.Name, again, head)
	}
	return counts["lost"], nil
}

// differ counts a difference of the ledger, whichever way it goes, and says what it is.
func (c *court) differ(by int64, format string, args ...any) {
	c.verdict.LedgerDifference += max(by, -by)
	c.verdict.Ledger = append(c.verdict.Ledger, fmt.Sprintf(format, args...))
}

// number reads a counter; one that is not there has counted nothing.
func number(ctx context.Context, rdb *redis.Client, key, field string) (int64, error) {
	n, err := rdb.HGet(ctx, key, field).Int64()
	if errors.Is(err, redis.Nil) {
		return 0, nil
	}
	return n, err
}
