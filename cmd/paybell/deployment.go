package main

import (
	"context"
	"fmt"
	"os"

	"github.com/paybell/paybell/cmd/internal/app"
	"github.com/paybell/paybell/configs"
	"github.com/paybell/paybell/handlers/effects"
)

// deploymentCmd looks after what ties Redis and the database together.
type deploymentCmd struct {
	Show deploymentShowCmd `cmd:"" help:"Show whether Redis and the database name each other."`
	Move deploymentMoveCmd `cmd:"" help:"Make the configured Redis and database name each other, after one was replaced on purpose. Stop the workers first."`
}

type deploymentShowCmd struct{}

// Run implements the command.
func (deploymentShowCmd) Run(ctx context.Context, g *globals) error {
	return withOwnership(ctx, g, func(_ *configs.Config, _ *effects.Store, o app.Ownership) error {
		agreed := "each names the other"
		if !o.Agreed() {
			agreed = "they do not name each other: workers are refused; see paybell deployment move --help"
		}
		_, err := fmt.Fprintf(os.Stdout, "redis     deployment %s, effects are kept by database %s\ndatabase  %s, keeps effects of deployment %s\n%s\n",
			o.Deployment, orNone(o.Keeps), o.Database.Database, orNone(o.Database.Deployment), agreed)
		return err
	})
}

// deploymentMoveCmd is for a database that was copied, or a Redis that was replaced, on
// purpose.
type deploymentMoveCmd struct {
	Yes bool `help:"Do not ask."`
}

// Run implements the command.
func (m deploymentMoveCmd) Run(ctx context.Context, g *globals) error {
	return withOwnership(ctx, g, func(c *configs.Config, store *effects.Store, o app.Ownership) error {
		if o.Agreed() {
			_, err := fmt.Fprintln(os.Stdout, "redis and the database name each other already")
			return err
		}
		if !m.Yes {
			question := fmt.Sprintf("Redis (deployment %s) names database %s; this is database %s, of deployment %s. Shall they name each other? "+
				"What the other database holds of these events is not here, and is not made again.",
				o.Deployment, orNone(o.Keeps), o.Database.Database, orNone(o.Database.Deployment))
			if err := confirm(ctx, question); err != nil {
				return err
			}
		}
		if err := app.MoveOwnership(ctx, c, store); err != nil {
			return err
		}
		_, err := fmt.Fprintln(os.Stdout, "redis and the database name each other now; start the workers again")
		return err
	})
}

func orNone(id string) string {
	if id == "" {
		return "(none)"
	}
	return id
}

func withOwnership(ctx context.Context, g *globals, do func(*configs.Config, *effects.Store, app.Ownership) error) error {
	return withStore(ctx, g, func(c *configs.Config, store *effects.Store) error {
		o, err := app.ReadOwnership(ctx, c, store)
		if err != nil {
			return startError(err)
		}
		return do(c, store, o)
	})
}
