package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// lastWords is how long the end of the process waits for whoever reads what it wrote.
const lastWords = time.Second

// outlive keeps a process that serves from ending with the terminal it was started at, or
// with the reader of its output, until what it returns is called. A hangup has it reload.
func outlive(ctx context.Context, log *slog.Logger, reload func() error) (stop func()) {
	signal.Ignore(syscall.SIGPIPE)
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	ended := make(chan struct{})
	go func() {
		for {
			select {
			case <-hangups:
				if err := reload(); err != nil {
					log.ErrorContext(ctx, "hangup: keys and secrets stay as they were", "err", err)
				}
			case <-ended:
				return
			}
		}
	}()
	return func() {
		signal.Stop(hangups)
		close(ended)
	}
}
