package main

import (
	"context"
	"errors"
	"os"
	"sync/atomic"

	"github.com/paybell/paybell/cmd/internal/app"
	"github.com/paybell/paybell/cmd/internal/lines"
	"github.com/paybell/paybell/streams"
)

// roles are what the commands run.
var roles = map[string]app.Role{
	"serve":   {Gateway: true, Workers: true},
	"gateway": {Gateway: true},
	"worker":  {Workers: true},
}

// serveCmd runs gateway and workers in one process.
type serveCmd struct{}

// Run implements the command.
func (serveCmd) Run(ctx context.Context, g *globals) error {
	return runApp(ctx, g, roles["serve"])
}

// gatewayCmd runs the public door alone.
type gatewayCmd struct{}

// Run implements the command.
func (gatewayCmd) Run(ctx context.Context, g *globals) error {
	return runApp(ctx, g, roles["gateway"])
}

// workerCmd runs the consumer groups alone.
type workerCmd struct{}

// Run implements the command.
func (workerCmd) Run(ctx context.Context, g *globals) error {
	return runApp(ctx, g, roles["worker"])
}

func runApp(ctx context.Context, g *globals, role app.Role) error {
	c, err := g.load()
	if err != nil {
		return err
	}
	if err := app.AddSandbox(c, true); err != nil {
		return err
	}
	log := newLogger(c, g.stderr)
	var started atomic.Pointer[app.App]
	defer outlive(ctx, log, func() error { return reload(g, started.Load()) })()
	app.TuneMemory(c.MemoryLimit, log)
	streams.LogDriver(log)
	a, err := app.New(ctx, c, role, log, version)
	if err != nil {
		return startError(err)
	}
	started.Store(a)
	if err := a.Export(g.stderr.Collector()); err != nil {
		return errors.Join(err, a.Close())
	}
	stdout := lines.New(os.Stdout)
	go stdout.Run()
	defer stdout.Close(lastWords)
	greet(stdout, a, c, g)
	return a.Run(ctx)
}

// reload reads the configuration again for what has started. Before that, it is just being
// read.
func reload(g *globals, a *app.App) error {
	if a == nil {
		return nil
	}
	next, err := g.load()
	if err != nil {
		return err
	}
	if err := app.AddSandbox(next, false); err != nil {
		return err
	}
	return startError(a.Reload(next))
}
