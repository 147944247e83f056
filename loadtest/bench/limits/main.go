// Limits are the least programs that do one part of what paybell does: what a ratio is
// taken to. They keep none of paybell's promises.
//
//	limits serve   gin, a signature, encoding/json; stores nothing, or one XADD a request
//	limits drain   a consumer group read and acknowledged in pipelines, and nothing else
//	limits upsert  the same, each batch upserted in one statement of one transaction
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "limits:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	commands := map[string]func(context.Context, []string) error{"serve": serve, "drain": drain, "upsert": upsert}
	if len(args) == 0 || commands[args[0]] == nil {
		return fmt.Errorf("the commands are serve, drain and upsert")
	}
	return commands[args[0]](ctx, args[1:])
}
