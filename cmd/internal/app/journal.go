package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/configs"
	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/streams"
)

// DrainJournal empties the journal of a gateway that does not come back into the
// configured Redis. It takes the directory, so no gateway may hold it. progress is told
// how many events are out. What leaves the journal is on no other disk, so a Redis that
// does not keep the promised durability is refused, and gets nothing while it does not.
func DrainJournal(ctx context.Context, cfg *configs.Config, log *slog.Logger, progress func(drained int)) (err error) {
	if cfg.EmbeddedRedis() {
		return errors.New("streams.redis.address: must be set: there is no other Redis to drain into")
	}
	if err := followPartitions(ctx, cfg, log); err != nil {
		return err
	}
	layout, err := streams.NewLayout(cfg.Streams.Prefix, cfg.Streams.Partitions)
	if err != nil {
		return fmt.Errorf("streams: %w", err)
	}
	reg := prometheus.NewRegistry() // nobody reads it
	watch := streams.NewWatch(cfg.Streams, log, reg)
	deployment := streams.NewDeployment(layout)
	if err := expectMark(deployment, journalMark(cfg.Journal)); err != nil {
		return err
	}
	rdb, err := streams.NewWriteClient(cfg.Streams, watch.Look, deployment.Look)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rdb.Close()) }()
	if err := ask(ctx, deployment, watch, rdb, cfg.Streams, log); err != nil {
		return err
	}
	writer := streams.NewWriter(rdb, layout, cfg.Streams.Writer, reg)
	writer.Guard(watch.Err)
	writer.Belongs(deployment)
	o := cfg.Journal
	o.Mode = gateway.JournalFallback // whatever its gateway's was, it is to be emptied
	keeper, err := OpenKeeper(o, layout, rdb, writer, nil, log, reg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, keeper.Close()) }()
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 2)
	go func() { ended <- writer.Run(running) }()
	go func() { ended <- watch.Run(running, rdb) }()
	err = keeper.Drain(ctx, progress)
	stop()
	return errors.Join(err, <-ended, <-ended)
}
