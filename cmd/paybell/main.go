// Command paybell is the payment-callback gateway: its door, its workers and the
// tools of those who run it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/paybell/paybell/cmd/internal/lines"
)

// Exit codes.
const (
	exitFailed = 1
	exitConfig = 2
)

// errConfig marks an error that the caller cures by correcting configuration or arguments.
var errConfig = errors.New("configuration")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, func() {
		// A person who interrupts again does not want to wait. An orchestrator that asks
		// again does.
		signal.Ignore(syscall.SIGTERM)
		stop()
	})
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string) int {
	stderr := lines.New(os.Stderr)
	go stderr.Run()
	defer stderr.Close(lastWords)
	c := cli{globals: globals{stderr: stderr}}
	code := -1
	parser, err := kong.New(&c,
		kong.Name("paybell"),
		kong.Description("Payment-callback gateway: verifies, keeps, answers and fans out what payment companies tell you."),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Exit(func(n int) { code = n }),
	)
	if err != nil {
		fmt.Fprintln(stderr, "paybell:", err)
		return exitFailed
	}
	k, err := parser.Parse(args)
	if code >= 0 {
		return code // help was printed
	}
	if err == nil {
		err = refuseEmpty(k)
	}
	if err != nil {
		fmt.Fprintln(stderr, "paybell:", err)
		return exitConfig
	}
	err = k.Run(&c.globals)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errConfig):
		fmt.Fprintln(stderr, "paybell:", err)
		return exitConfig
	default:
		fmt.Fprintln(stderr, "paybell:", err)
		return exitFailed
	}
}
