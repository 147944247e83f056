package main

import (
	"fmt"
	"os"
	"time"

	"github.com/paybell/paybell/cmd/internal/app"
	"github.com/paybell/paybell/configs"
)

// configCmd looks at the configuration.
type configCmd struct {
	Check     configCheckCmd     `cmd:"" help:"Load everything, secrets and keys too, and list every problem."`
	Print     configPrintCmd     `cmd:"" help:"Print the configuration in force; secrets are named, never shown."`
	Reference configReferenceCmd `cmd:"" help:"Print every key with its meaning and default."`
}

// configCheckCmd checks without running anything.
type configCheckCmd struct{}

// Run implements the command.
func (configCheckCmd) Run(g *globals) error {
	c, err := g.load()
	if err != nil {
		return err
	}
	accounts, err := app.Accounts(c, time.Now)
	if err != nil {
		return badConfig(err)
	}
	_, err = fmt.Fprintf(os.Stdout, "configuration is good: %d accounts\n", len(accounts))
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
