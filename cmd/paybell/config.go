package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/paybell/paybell/cmd/internal/app"
	"github.com/paybell/paybell/configs"
)

// configCmd looks at the configuration.
type configCmd struct {
	Check     configCheckCmd     `cmd:"" help:"Load everything, every secret and key too, and list every problem; nothing is connected to."`
	Print     configPrintCmd     `cmd:"" help:"Print the configuration in force; secrets are named, never shown."`
	Reference configReferenceCmd `cmd:"" help:"Print every key with its meaning and default."`
}

// configCheckCmd checks without running anything.
type configCheckCmd struct {
	For string `enum:"serve,gateway,worker" default:"serve" help:"The command that is to be started with it: serve, gateway or worker. A gateway needs no database."`
}

// Run implements the command.
func (k configCheckCmd) Run(ctx context.Context, g *globals) error {
	c, err := g.load()
	if err != nil {
		return err
	}
	// The sandbox's keys are made at the first start: before it there are none to check.
	if err := app.AddSandbox(c, false); err != nil && !errors.Is(err, app.ErrNoSandbox) {
		return badConfig(err)
	}
	accounts, err := app.Preflight(ctx, c, roles[k.For], time.Now)
	if err != nil {
		return startError(err)
	}
	if roles[k.For].Gateway {
		warnings, err := app.CheckKeys(accounts, time.Now())
		for _, w := range warnings {
			fmt.Fprintf(os.Stderr, "warning: %s\n", w)
		}
		if err != nil {
			return badConfig(err)
		}
	}
	notes, err := app.Size(c, roles[k.For])
	if err != nil {
		return err
	}
	for _, n := range notes {
		fmt.Fprintf(os.Stderr, "warning: %s\n", n)
	}
	_, err = fmt.Fprintf(os.Stdout, "configuration is good for paybell %s: %d accounts\n", k.For, len(accounts))
	return err
}

// configPrintCmd prints what is in force.
type configPrintCmd struct{}

// Run implements the command.
func (configPrintCmd) Run(g *globals) error {
	c, err := g.load()
	if err != nil {
		return err
	}
	b, err := configs.Print(c)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(b)
	return err
}

// configReferenceCmd prints the reference page.
type configReferenceCmd struct{}

// Run implements the command.
func (configReferenceCmd) Run() error {
	_, err := fmt.Fprint(os.Stdout, configs.Reference)
	return err
}
