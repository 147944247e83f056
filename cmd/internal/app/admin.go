package app

import (
	"context"
	"fmt"

	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/gateway/admin"
	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/orderstatus"
	"github.com/paybell/paybell/handlers/points"
	"github.com/paybell/paybell/streams"
)

// buildAdmin opens the operator's door over whatever this process has.
func (a *App) buildAdmin(ctx context.Context, store *effects.Store) error {
	d := admin.Deps{
		Logger: a.log, Gatherer: a.reg, Registerer: a.reg, Now: a.seams.now, Version: a.version,
		Durability:  a.askDurability,
		Stats:       streams.NewStats(a.redis, a.layout),
		DeadLetters: streams.NewDeadLetters(a.redis, a.layout),
	}
	for _, acc := range a.accounts {
		d.Accounts = append(d.Accounts, admin.Account{
			Name: acc.Name, Provider: acc.ProviderName, Namespace: acc.Namespace, DedupWindow: acc.Window.String(),
		})
	}
	var own []string
	for _, g := range a.enabledGroups() {
		own = append(own, g.name)
	}
	if len(own)+len(a.cfg.Streams.DeclaredGroups) > 0 {
		a.ledger = streams.NewLedger(a.redis, a.layout, own, a.log, a.reg)
		a.ledger.Subscribers(a.cfg.Streams.DeclaredGroups)
		d.Ledger = a.ledger
	}
	// The parts that these ask are built after the door and before it opens.
	if a.role.Workers {
		d.Paused = a.paused
	}
	if a.role.Gateway {
		d.Ready = a.ready
	}
	if a.role.Gateway && a.cfg.Journal.Mode != gateway.JournalRefuse {
		d.Journal = func() admin.JournalStatus {
			events, bytes := a.keeper.Holds()
			return admin.JournalStatus{Mode: string(a.cfg.Journal.Mode), Events: int64(events), Bytes: bytes}
		}
	}
	if store != nil {
		d.Orders, d.Points = ordersView{orderstatus.NewReader(store)}, pointsView{points.NewReader(store)}
	}
	var err error
	if a.admin, err = admin.New(a.cfg.Admin, d); err != nil {
		return err
	}
	if a.operator, err = admin.Listen(ctx, a.cfg.Admin); err != nil {
		return fmt.Errorf("admin.address: %w", err)
	}
	a.closeListener("admin", a.operator)
	a.add("admin", func(ctx context.Context) error { return a.admin.Serve(ctx, a.operator) })
	return nil
}

// askDurability also tells what is wrong with the number of partitions: the status shows it.
func (a *App) askDurability(ctx context.Context) (streams.Durability, error) {
	d, err := streams.Check(ctx, a.redis)
	problem := a.partitions.Load()
	switch {
	case problem == nil:
	case err != nil: // as a client whose connections are refused is told
		err = problem
	default:
		d.Problems = append(d.Problems, problem.words)
	}
	return d, err
}
