package app

import (
	"context"
	"time"

	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/gateway/journal"
	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/workers"
)

// seams are the joints between the parts. In the build that is shipped each hands on
// what it is given; the one for the fault suite (build tag faults) stands in between
// and stops the process there.
type seams struct {
	now      func() time.Time
	redis    func(streams.Client) streams.Client
	provider func(provider.Provider) provider.Provider
	// door is what callbacks are appended to, stream what the journal is drained to.
	door, stream func(gateway.Appender) gateway.Appender
	disk         func(journal.Disk) journal.Disk
	log          func(workers.Log) workers.Log
	handler      func(workers.BatchHandler) workers.BatchHandler
	step         func(effects.Step) error
	change       func(streams.ChangeStep)
	trimmer      func(run func(context.Context) error, rdb streams.Client, layout streams.Layout) func(context.Context) error
}

func (s *seams) accounts(in []gateway.Account) []gateway.Account {
	for i := range in {
		in[i].Provider = s.provider(in[i].Provider)
	}
	return in
}
