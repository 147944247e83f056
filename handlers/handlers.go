// Package handlers knows the built-in handlers by the names of their groups.
package handlers

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/eventlog"
	"github.com/paybell/paybell/handlers/orderstatus"
	"github.com/paybell/paybell/handlers/points"
	"github.com/paybell/paybell/workers"
)

// The names of the built-in groups. Each is also the name of its dedup keys: it
// never changes.
const (
	OrderStatus = "orderstatus"
	Points      = "points"
	EventLog    = "eventlog"
)

// ErrUnknown is returned for a name that no built-in handler has.
var ErrUnknown = errors.New("handlers: no such built-in handler")

// Names lists the built-in groups.
func Names() []string { return []string{OrderStatus, Points, EventLog} }

// Deps are what the built-in handlers are made of.
type Deps struct {
	Store      *effects.Store
	Points     points.Options
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Step, where it is set, is called at each step of every transaction.
	Step func(effects.Step) error
}

// Handler is a built-in handler, and the store that its effects are kept in.
type Handler interface {
	workers.BatchHandler
	workers.EffectStore
}

// Builtin returns the built-in handler of a group.
func Builtin(name string, d Deps) (Handler, error) {
	steps := effects.WithSteps(d.Step)
	switch name {
	case OrderStatus:
		return orderstatus.New(d.Store, name, orderstatus.Deps{Logger: d.Logger, Registerer: d.Registerer}, steps)
	case Points:
		return points.New(d.Store, name, d.Points, steps)
	case EventLog:
		return eventlog.New(d.Store, name, steps), nil
	default:
		return nil, fmt.Errorf("%w: %q", ErrUnknown, name)
	}
}
