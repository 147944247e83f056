package app

import (
	"context"
	"errors"
	"strings"

	"github.com/paybell/paybell/streams"
)

// watchDurability refuses a server that cannot keep what the configuration
// promises, and goes on watching one that can. A server that is away is no reason
// not to start: callbacks go to the journal or get their retryable reply, and it is
// asked again.
func (a *App) watchDurability(ctx context.Context) error {
	a.cfg.Streams.Writer.Connections = a.cfg.Streams.WriterConnections()
	a.durability = streams.NewWatch(a.redis, a.cfg.Streams, a.log, a.reg)
	a.add("durability", a.durability.Run)
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	err := a.durability.Check(ctx)
	if errors.Is(err, streams.ErrDurability) {
		return &ConfigError{err}
	}
	if err != nil {
		a.log.Error("redis is away", "address", a.cfg.Streams.Redis.Address, "err", err)
		return nil
	}
	if d, err := streams.Check(ctx, a.redis); err == nil && len(d.Problems) > 0 && !d.Embedded {
		a.log.Warn("redis may lose what it confirms", "problems", strings.Join(d.Problems, "; "))
	}
	return nil
}
