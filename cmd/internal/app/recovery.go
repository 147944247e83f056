package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/paybell/paybell/configs"
	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/handlers/eventlog"
	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/event"
)

// recovery appends again what Redis has lost and the event log still has. What is in the
// streams is found there by its mark, and what had its effect has none again.
type recovery struct {
	log    *slog.Logger
	reader *eventlog.Reader // nil where there is no event log
	stream gateway.Appender
	// windows are how long a redelivery is recognised, by account.
	windows map[string]time.Duration
	// partitions is how many there are.
	partitions int
	// keep is how far back it goes.
	keep time.Duration
	// one partition at a time: three groups may find the same loss.
	mu sync.Mutex
}

func newRecovery(cfg *configs.Config, reader *eventlog.Reader, stream gateway.Appender, log *slog.Logger) *recovery {
	r := &recovery{log: log, reader: reader, stream: stream, windows: map[string]time.Duration{}, partitions: cfg.Streams.Partitions, keep: cfg.Streams.Keep.Age}
	for name, a := range cfg.Accounts {
		r.windows[name] = a.DedupWindow
	}
	return r
}

// recoveryPage is how many events are read at a time: each carries its callback, so these
// are 4 MiB of the largest that are taken by default.
const recoveryPage = 16

// run appends what stood in a partition after since, and not later than until.
func (r *recovery) run(ctx context.Context, partition int, since, until time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if oldest := until.Add(-r.keep); since.Before(oldest) {
		since = oldest
	}
	if r.reader == nil {
		r.log.Error("nothing can be appended again: the group eventlog is not enabled", "partition", partition)
		return nil
	}
	ids, err := r.reader.AppendedOf(ctx, partition, r.partitions, since, until)
	if err != nil {
		return err
	}
	missing := 0
	for len(ids) > 0 {
		n := min(len(ids), recoveryPage)
		entries, err := r.reader.Entries(ctx, ids[:n])
		if err != nil {
			return err
		}
		for i := range entries {
			outcome, err := r.append(ctx, entries[i].Record)
			if err != nil {
				return fmt.Errorf("append event %s again: %w", entries[i].Event.ID, err)
			}
			if outcome == event.New {
				missing++
			}
		}
		ids = ids[n:]
	}
	r.log.Warn("what Redis had lost and the event log has is in the streams again", "partition", partition, "since", since, "until", until, "events", missing)
	return nil
}

func (r *recovery) append(ctx context.Context, record event.Record) (event.Appended, error) {
	window, known := r.windows[record.Event.Account]
	if !known { // the account was removed
		window = configs.DefaultDedupWindow(0)
	}
	for {
		out, err := r.stream.Append(ctx, window, []event.Record{record})
		if err == nil {
			return out[0], nil
		}
		if !errors.Is(err, streams.ErrOverloaded) {
			return 0, err
		}
		// Callbacks that come in now go first.
		if !pause(ctx, 50*time.Millisecond) {
			return 0, context.Cause(ctx)
		}
	}
}

// pause waits, and reports whether ctx still lives.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
