//go:build !faults

package app

import (
	"context"
	"time"

	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/gateway/journal"
	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/workers"
)

// newSeams puts nothing between the parts.
func newSeams() seams {
	return seams{
		now:   time.Now,
		redis: same[streams.Client], provider: same[provider.Provider],
		door: same[gateway.Appender], stream: same[gateway.Appender], disk: same[journal.Disk],
		log: same[workers.Log], handler: same[workers.BatchHandler],
		change: func(streams.ChangeStep) {},
		trimmer: func(run func(context.Context) error, _ streams.Client, _ streams.Layout) func(context.Context) error {
			return run
		},
	}
}

func same[T any](part T) T { return part }
