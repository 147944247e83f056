// Noop is a worker that does nothing with what it is given: it measures what the
// library itself costs a delivery.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/workers"
)

func main() {
	o := streams.DefaultOptions()
	flag.StringVar(&o.Redis.Address, "redis", "", "host:port of the Redis")
	flag.IntVar(&o.Partitions, "partitions", o.Partitions, "how many partitions there are")
	flag.DurationVar(&o.LeaseTTL, "lease-ttl", o.LeaseTTL, "how long a partition stays with an owner that was killed")
	name := flag.String("group", "noop", "consumer group")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, *name); err != nil {
		fmt.Fprintln(os.Stderr, "noop:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o streams.Options, name string) (err error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	layout, err := streams.NewLayout(o.Prefix, o.Partitions)
	if err != nil {
		return err
	}
	write, err := streams.NewWriteClient(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, write.Close()) }()
	read, err := streams.NewReadClient(o)
	if err != nil {
		return err
	}
	feed := streams.NewFeed(read, layout, o.Block)
	group, err := streams.NewGroup(write, feed, layout, name, "bench", o.Group(), log, prometheus.NewRegistry())
	if err != nil {
		return errors.Join(err, read.Close())
	}
	defer func() {
		err = errors.Join(err, read.Close())
		feed.Close()
	}()
	pool := workers.NewPool(log, nil, time.Now)
	if err := pool.AddBatch(workers.On(group), noop{}, workers.DefaultOptions()); err != nil {
		return err
	}
	return pool.Run(ctx)
}

// noop settles every delivery.
type noop struct{}

// HandleBatch implements workers.BatchHandler.
func (noop) HandleBatch(_ context.Context, ds []workers.Delivery) []error {
	return make([]error, len(ds))
}
