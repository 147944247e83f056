package main

import (
	"context"
	"os"

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
	defer outlive(ctx, log)()
	app.TuneMemory(log)
	streams.LogDriver(log)
	a, err := app.New(ctx, c, role, log, version)
	if err != nil {
		return startError(err)
	}
	if err := a.Export(g.stderr.Collector()); err != nil {
		return err
	}
	stdout := lines.New(os.Stdout)
	go stdout.Run()
	defer stdout.Close(lastWords)
	greet(stdout, a, c, g)
	return a.Run(ctx)
}
