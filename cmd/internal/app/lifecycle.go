package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
)

// part is something that runs for as long as the process does. run returns when
// its context ends and everything it started has ended; an earlier return is a
// failure that stops the process.
type part struct {
	name string
	run  func(ctx context.Context) error
}

// cleanup is undone at the very end, last first.
type cleanup struct {
	name string
	do   func() error
}

// runParts runs the parts until ctx ends or one of them fails, then stops them one
// at a time, last first, so that what others depend on ends after them.
func runParts(ctx context.Context, log *slog.Logger, parts []part) error {
	type running struct {
		part
		stop context.CancelFunc
		done chan error
	}
	failed := make(chan struct{}, len(parts))
	started := make([]running, 0, len(parts))
	for _, p := range parts {
		// A part must outlive ctx until its turn to stop has come.
		pctx, stop := context.WithCancel(context.WithoutCancel(ctx))
		r := running{part: p, stop: stop, done: make(chan error, 1)}
		go func() {
			r.done <- r.run(pctx)
			failed <- struct{}{}
		}()
		started = append(started, r)
	}
	select {
	case <-ctx.Done():
		log.Info("stopping")
	case <-failed:
	}
	var errs []error
	for _, r := range slices.Backward(started) {
		r.stop()
		if err := <-r.done; err != nil && !errors.Is(err, context.Canceled) {
			errs = append(errs, fmt.Errorf("%s: %w", r.name, err))
		}
		log.Debug("stopped", "part", r.name)
	}
	return errors.Join(errs...)
}

// runCleanups runs every cleanup, last first, whatever the others return.
func runCleanups(cs []cleanup) error {
	var errs []error
	for _, c := range slices.Backward(cs) {
		if err := c.do(); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", c.name, err))
		}
	}
	return errors.Join(errs...)
}
