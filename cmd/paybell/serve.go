package main

import (
	"context"

	"github.com/paybell/paybell/cmd/internal/app"
	"github.com/paybell/paybell/streams"
)

// serveCmd runs gateway and workers in one process.
type serveCmd struct{}

// Run implements the command.
func (serveCmd) Run(ctx context.Context, g *globals) error {
	return runApp(ctx, g, app.Role{Gateway: true, Workers: true})
}

// gatewayCmd runs the public door alone.
type gatewayCmd struct{}

// Run implements the command.
func (gatewayCmd) Run(ctx context.Context, g *globals) error {
	return runApp(ctx, g, app.Role{Gateway: true})
}

// workerCmd runs the consumer groups alone.
type workerCmd struct{}

// Run implements the command.
func (workerCmd) Run(ctx context.Context, g *globals) error {
	return runApp(ctx, g, app.Role{Workers: true})
}

func runApp(ctx context.Context, g *globals, role app.Role) error {
	c, err := g.load()
	if err != nil {
		return err
	}
	if err := app.AddSandbox(c, true); err != nil {
		return err
	}
	log := newLogger(c)
	streams.LogDriver(log)
	a, err := app.New(ctx, c, role, log, version)
	if err != nil {
		return startError(err)
	}
	if err := greet(a, c, g); err != nil {
		return err
	}
	return a.Run(ctx)
}
