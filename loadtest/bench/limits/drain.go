package main

import (
	"context"
	"errors"
	"flag"
	"time"

	"github.com/redis/go-redis/v9"
)

// batch is how many entries one read brings, as many as paybell's.
const batch = 256

// group reads the stream "bench" as one consumer.
type group struct {
	rdb  *redis.Client
	name string
}

func newGroup(flags *flag.FlagSet, args []string) (*group, error) {
	server := flags.String("redis", "", "host:port of the Redis")
	name := flags.String("group", "limit", "consumer group of the stream bench, which must be there")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	return &group{rdb: redis.NewClient(&redis.Options{Addr: *server}), name: *name}, nil
}

// each hands batch after batch to a function until ctx ends.
func (g *group) each(ctx context.Context, do func([]redis.XMessage) error) error {
	for ctx.Err() == nil {
		got, err := g.rdb.XReadGroup(ctx, &redis.XReadGroupArgs{
			Group: g.name, Consumer: "one", Streams: []string{"bench", ">"}, Count: batch, Block: time.Second,
		}).Result()
		if errors.Is(err, redis.Nil) || ctx.Err() != nil {
			continue
		}
		if err != nil {
			return err
		}
		if err := do(got[0].Messages); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

func drain(ctx context.Context, args []string) error {
	g, err := newGroup(flag.NewFlagSet("drain", flag.ExitOnError), args)
	if err != nil {
		return err
	}
	defer g.rdb.Close()
	return g.each(ctx, func(entries []redis.XMessage) error {
		_, err := g.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, e := range entries {
				p.XAck(ctx, "bench", g.name, e.ID)
			}
			return nil
		})
		return err
	})
}
