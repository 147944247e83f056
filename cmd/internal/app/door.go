package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/cmd/internal/limits"
	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/gateway/journal"
	"github.com/paybell/paybell/streams"
)

// buildGateway opens the public door, and behind it the journal. The door comes last of
// all parts, so it closes first.
func (a *App) buildGateway(ctx context.Context) error {
	deps := gateway.Deps{Logger: a.log, Registerer: a.reg, Now: a.seams.now, Ready: a.ready, Clock: a.redisTime}
	stream := a.seams.stream(a.writer)
	appender := stream
	if a.cfg.Journal.Mode != gateway.JournalRefuse {
		memory, err := limits.Memory(a.cfg.MemoryLimit)
		if err != nil {
			a.log.Debug("a bound is a share of the machine's memory", "err", err)
		}
		if a.keeper, err = openKeeper(a.cfg.Journal, gateway.QueueBytes(memory.Bytes), a.layout, a.redis, stream, a.groupNames(), a.log, a.reg, a.seams); err != nil {
			return err
		}
		a.closeLast("journal", a.keeper.Close)
		a.add("journal", a.keeper.Run)
		appender, deps.Keeps = a.keeper, a.keeps
	}
	options := a.cfg.Gateway
	if a.embedded {
		options.DrainDelay = 0 // no other gateway stands on this engine
	}
	var err error
	if a.door, err = gateway.New(options, a.accounts, a.seams.door(appender), deps); err != nil {
		return err
	}
	if a.public, err = gateway.Listen(ctx, options); err != nil {
		return fmt.Errorf("gateway.address: %w", err)
	}
	a.closeListener("gateway", a.public)
	a.add("gateway", func(ctx context.Context) error {
		if a.keeper != nil { // who knocks meanwhile waits in the kernel's queue
			select {
			case <-a.keeper.Opened():
			case <-ctx.Done():
				return a.public.Close()
			}
		}
		return a.door.Serve(ctx, a.public)
	})
	return nil
}

// groupNames are the groups whose word a journal record waits for.
func (a *App) groupNames() []string {
	names := slices.Clone(a.cfg.Streams.DeclaredGroups)
	for _, g := range a.enabledGroups() {
		names = append(names, g.name)
	}
	return names
}

// keeps names what keeps a callback now, as /readyz says it.
func (a *App) keeps() string {
	if problem := a.partitions.Load(); problem != nil {
		return "journal: " + problem.words
	}
	if breach, ok := errors.AsType[*streams.BreachError](a.durability.Err()); ok {
		return "journal (" + broken(breach) + ")"
	}
	if a.redisAway.Load() {
		return "journal"
	}
	return a.keeper.Keeps()
}

// OpenKeeper opens a journal in front of a writer. groups are those it waits for in
// the mode always.
func OpenKeeper(o gateway.JournalOptions, layout streams.Layout, rdb streams.Client, writer gateway.Appender, groups []string, log *slog.Logger, reg prometheus.Registerer) (*gateway.Keeper, error) {
	return openKeeper(o, 0, layout, rdb, writer, groups, log, reg, newSeams())
}

func openKeeper(o gateway.JournalOptions, queueBytes int, layout streams.Layout, rdb streams.Client, writer gateway.Appender, groups []string, log *slog.Logger, reg prometheus.Registerer, s seams) (*gateway.Keeper, error) {
	stats := streams.NewStats(rdb, layout)
	k, err := gateway.OpenKeeper(o, gateway.KeeperDeps{
		Logger: log, Registerer: reg, Now: s.now, Disk: s.disk(journal.OS()),
		QueueBytes: int64(queueBytes),
		Stream:     writer, Partitions: layout.Partitions(), Partition: layout.Partition,
		Permanent: func(err error) bool {
			return !errors.Is(err, streams.ErrUnavailable) && !errors.Is(err, streams.ErrOverloaded) && !errors.Is(err, streams.ErrStopped)
		},
		Owed: func(ctx context.Context) (gateway.Owed, error) {
			owed, err := stats.Owed(ctx, groups)
			return gateway.Owed(owed), err
		},
	})
	if err != nil {
		return nil, fmt.Errorf("journal.dir: %w", err)
	}
	return k, nil
}
