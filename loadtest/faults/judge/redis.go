package judge

import (
	"context"
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

// judgeLedger adds up, for every group and partition, where its events are, and
// compares that with how many were appended.
func (c *court) judgeLedger(ctx context.Context) error {
	keys, err := c.scan(ctx, "*:events")
	if err != nil {
		return err
	}
	for _, key := range keys {
		infos, err := c.Redis.XInfoGroups(ctx, key).Result()
		if err != nil {
			return err
		}
		for _, g := range infos {
			if err := c.account(ctx, key, g); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *court) account(ctx context.Context, key string, g redis.XInfoGroup) error {
	parked, err := c.Redis.ZCard(ctx, strings.TrimSuffix(key, "events")+"parked:"+g.Name).Result()
	if err != nil {
		return err
	}
	if g.Pending > 0 || parked > 0 {
		c.other("%s has %d pending and %d parked beside %s when all should be settled", g.Name, g.Pending, parked, key)
	}
	return nil
}
