package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/paybell/paybell/cmd/internal/app"
	"github.com/paybell/paybell/configs"
	"github.com/paybell/paybell/handlers/effects"
)

// migrateCmd brings the schema up to date.
type migrateCmd struct{}

// Run implements the command.
func (migrateCmd) Run(ctx context.Context, g *globals) error {
	return withStore(ctx, g, func(_ *configs.Config, store *effects.Store) error {
		applied, err := store.Migrate(ctx)
		if wrong := effects.Misconfigured(err); wrong != nil {
			return badConfig(wrong)
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(os.Stdout, "schema is up to date: %d migrations applied now\n", len(applied))
		return err
	})
}

// withStore opens the configured database for a command.
func withStore(ctx context.Context, g *globals, do func(*configs.Config, *effects.Store) error) (err error) {
	c, err := g.load()
	if err != nil {
		return err
	}
	if err := app.CheckDatabase(ctx, c); err != nil {
		return startError(err)
	}
	store, err := effects.Open(ctx, c.Database, effects.Deps{Logger: newLogger(c, g.stderr)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return do(c, store)
}
