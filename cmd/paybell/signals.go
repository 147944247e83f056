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
// with the reader of its output, until what it returns is called.
func outlive(ctx context.Context, log *slog.Logger) (stop func()) {
	signal.Ignore(syscall.SIGPIPE)
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	ended := make(chan struct{})
	go func() {
		for {
			select {
			case <-hangups:
				log.InfoContext(ctx, "hangup ignored: keys, secrets and certificates are read when the process starts, the password of redis with each connection")
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
