package app

import (
	"context"
	"fmt"
	"time"

	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/streams"
)

// buildGateway opens the public door and the writer behind it. The door comes last
// of all parts, so it closes first.
func (a *App) buildGateway(ctx context.Context) error {
	writer := streams.NewWriter(a.redis, a.layout, a.cfg.Streams.Writer, a.reg)
	a.add("writer", writer.Run)
	door, err := gateway.New(a.cfg.Gateway, a.accounts, writer, gateway.Deps{
		Logger: a.log, Registerer: a.reg, Now: time.Now, Ready: a.ready,
	})
	if err != nil {
		return err
	}
	if a.public, err = gateway.Listen(ctx, a.cfg.Gateway); err != nil {
		return fmt.Errorf("gateway.address: %w", err)
	}
	a.add("gateway", func(ctx context.Context) error { return door.Serve(ctx, a.public) })
	return nil
}
