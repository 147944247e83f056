package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/loadtest/faults/judge"
)

const prefix = "paybell"

// caughtUp waits until the journals are empty and the groups are done with everything
// that was in the streams then, and, with all, with everything that comes meanwhile or
// is parked too; it returns how long that took.
func (c *course) caughtUp(ctx context.Context, all bool) (time.Duration, error) {
	began := time.Now()
	var last map[string]string
	for {
		open := ""
		var err error
		if all || last == nil {
			if open = c.journals(ctx); open == "" {
				last, err = c.lastEntries(ctx)
			}
		}
		if open == "" && err == nil {
			open, err = c.open(ctx, last, all)
		}
		if err != nil {
			return 0, err
		}
		if open == "" {
			break
		}
		if c.o.variant != "" && time.Since(began) > brokenCatchUp {
			break // what is broken may never get there; the judge will tell
		}
		if time.Since(began) > catchUp {
			return 0, fmt.Errorf("the groups did not catch up within %v: %s", catchUp, open)
		}
		if !pause(ctx, 100*time.Millisecond) {
			return 0, ctx.Err()
		}
	}
	return time.Since(began), nil
}

// lastEntries are the highest ids of the streams, by key.
func (c *course) lastEntries(ctx context.Context) (map[string]string, error) {
	keys, err := c.direct.Keys(ctx, prefix+":*:events").Result()
	if err != nil {
		return nil, err
	}
	last := make(map[string]string, len(keys))
	for _, key := range keys {
		info, err := c.direct.XInfoStream(ctx, key).Result()
		if err != nil {
			return nil, err
		}
		last[key] = info.LastGeneratedID
	}
	return last, nil
}

// open names something that the groups are not done with; "" when there is nothing.
func (c *course) open(ctx context.Context, last map[string]string, all bool) (string, error) {
	for key, id := range last {
		infos, err := c.direct.XInfoGroups(ctx, key).Result()
		if err != nil {
			return "", err
		}
		groups := builtin
		if all {
			groups = append(slices.Clone(builtin), judge.Group)
		}
		for _, group := range groups {
			i := slices.IndexFunc(infos, func(g redis.XInfoGroup) bool { return g.Name == group })
			if i < 0 {
				return group + " is not in " + key, nil
			}
			if infos[i].Pending > 0 {
				p, err := c.direct.XPending(ctx, key, group).Result()
				if err != nil {
					return "", err
				}
				if p.Count > 0 && !later(p.Lower, id) {
					return fmt.Sprintf("%s has %d pending in %s", group, p.Count, key), nil
				}
			}
			if later(id, infos[i].LastDeliveredID) {
				return group + " has not read all of " + key, nil
			}
			if !all {
				continue
			}
			n, err := c.direct.ZCard(ctx, strings.TrimSuffix(key, "events")+"parked:"+group).Result()
			if err != nil || n > 0 {
				return fmt.Sprintf("%s has %d parked beside %s", group, n, key), err
			}
		}
	}
	return "", nil
}

// later reports whether an entry id is higher than another.
func later(a, b string) bool {
	am, as := halves(a)
	bm, bs := halves(b)
	return am > bm || am == bm && as > bs
}

func halves(id string) (ms, seq uint64) {
	left, right, _ := strings.Cut(id, "-")
	ms, _ = strconv.ParseUint(left, 10, 64) // Redis gave it
	seq, _ = strconv.ParseUint(right, 10, 64)
	return ms, seq
}
