//go:build faults

package faults

import (
	"context"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/streams"
)

// Redis sees every command of a client: first comes the one that writes and settles.
func (f *Faults) Redis(c streams.Client) streams.Client {
	if f.rdb == nil { // the next ones are for leases
		f.rdb = c
	}
	c.AddHook(&hook{f: f, rdb: c})
	return c
}

type hook struct {
	f   *Faults
	rdb streams.Client
}

// DialHook implements redis.Hook.
func (h *hook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessPipelineHook implements redis.Hook.
func (h *hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if h.f.broken == "lease" {
			for _, cmd := range cmds {
				h.unfence(ctx, cmd)
			}
		}
		return next(ctx, cmds)
	}
}

// ProcessHook implements redis.Hook.
func (h *hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if h.f.broken == "lease" {
			h.unfence(ctx, cmd)
		}
		err := next(ctx, cmd)
		if err == nil && isTrim(cmd) {
			h.f.pass(Trimmed)
		}
		return err
	}
}

// Scripts are known by their first key and number of keys:
// EVALSHA sha numkeys key... argument...
func key(cmd redis.Cmder, i int) string {
	args := cmd.Args()
	if name := strings.ToLower(cmd.Name()); name != "evalsha" && name != "eval" || len(args) <= 3+i {
		return ""
	}
	text, _ := args[3+i].(string)
	return text
}

func isTrim(cmd redis.Cmder) bool {
	return strings.HasSuffix(key(cmd, 1), ":trim") && strings.HasSuffix(key(cmd, 0), ":events")
}

// unfence makes a fenced script believe its caller, whoever holds the lease.
func (h *hook) unfence(ctx context.Context, cmd redis.Cmder) {
	lease := key(cmd, 0)
	args := cmd.Args()
	keys, ok := args[min(2, len(args)-1)].(int)
	if !strings.Contains(lease, ":lease:") || strings.Contains(key(cmd, 1), ":epoch:") || !ok || keys < 2 || len(args) < 3+keys+2 {
		return
	}
	// KEYS lease, events, counts: a read, which says what its caller believes was the last
	// entry (the fifth argument), and what it has found behind it. One without fencing is
	// believed.
	if keys == 3 && strings.Contains(key(cmd, 2), ":counts:") && len(args) > 3+keys+5 {
		if groups, err := h.rdb.XInfoGroups(ctx, key(cmd, 1)).Result(); err == nil {
			for _, g := range groups {
				if g.Name == args[3+keys+2] {
					args[3+keys+4] = g.LastDeliveredID
				}
			}
		}
	}
	held, err := h.rdb.HMGet(ctx, lease, "owner", "epoch").Result()
	if err != nil || held[0] == nil {
		h.rdb.HSet(ctx, lease, "owner", args[3+keys], "epoch", args[4+keys])
		return
	}
	args[3+keys], args[4+keys] = held[0], held[1]
}
