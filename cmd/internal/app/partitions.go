package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/configs"
	"github.com/paybell/paybell/handlers"
	"github.com/paybell/paybell/streams"
)

// partitionsError is why nothing can be appended although Redis is there.
type partitionsError struct {
	// words may be said in public. restart is true where only a restart cures it.
	words   string
	restart bool
}

// Error implements error.
func (p *partitionsError) Error() string { return p.words }

// partitionsEvery is how often a process looks whether the number of partitions is another
// one. That its gate is closed an append finds out by itself; this says it.
const partitionsEvery = time.Second

// watchPartitions tells when the number of partitions is being changed, or was, and opens
// the gates that a change has left closed whose command was killed.
func (a *App) watchPartitions() error {
	if a.embedded {
		return nil
	}
	gauge := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "paybell_partitions_changing",
		Help: "1 while the number of partitions is being changed (state changing), or since it is another one than this process has (state restart).",
	}, []string{"state"})
	if err := a.reg.Register(gauge); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	changing, restart := gauge.WithLabelValues("changing"), gauge.WithLabelValues("restart")
	client, err := streams.NewWriteClient(a.cfg.Streams) // which refuses no connection
	if err != nil {
		return err
	}
	a.closeLast("partitions", client.Close)
	a.add("partitions", func(ctx context.Context) error {
		t := time.NewTicker(partitionsEvery)
		defer t.Stop()
		for {
			// What cannot be asked is as it was.
			p, err := streams.ReadPartitions(ctx, client, a.cfg.Streams.Prefix)
			if err == nil {
				a.remind(ctx, client, p)
			}
			if err == nil && p.Number != 0 {
				if p.Unfinished && p.Number == a.layout.Partitions() {
					a.reopen(ctx, client, p)
				}
				problem := a.checkPartitions(p)
				changing.Set(oneIf(problem != nil && !problem.restart))
				restart.Set(oneIf(problem != nil && problem.restart))
				a.tellPartitions(problem)
			}
			select {
			case <-ctx.Done():
				return nil
			case <-t.C:
			}
		}
	})
	return nil
}

// remind gives a Redis that lost its record, with everything else, back what stood there,
// before somebody who knows less makes another: connections that stand do not ask for it.
// A gateway knows no database; what that is worker processes tell.
func (a *App) remind(ctx context.Context, client streams.Client, p streams.Partitions) {
	select {
	case <-a.identified:
	default:
		return // awaitIdentity does it
	}
	if p.Number != 0 {
		if !a.role.Workers || p.Number != a.layout.Partitions() {
			return
		}
		if id, err := a.deployment.Database(ctx, client); err != nil || id != "" {
			return
		}
	}
	if err := a.agree(ctx); err != nil {
		if err.Error() != a.reminded {
			a.log.Error("redis has lost the record of the deployment, and cannot be given it again", "err", err)
		}
		a.reminded = err.Error()
		return
	}
	a.reminded = ""
	a.log.Warn("redis had lost the record of the deployment, and was given it again")
}

func oneIf(cond bool) float64 {
	if cond {
		return 1
	}
	return 0
}

func (a *App) reopen(ctx context.Context, client streams.Client, p streams.Partitions) {
	if err := streams.Reopen(ctx, client, a.cfg.Streams.Prefix, p); err == nil {
		a.log.Warn("a change of the number of partitions was left unfinished: appends go on with the old number", "partitions", p.Number, "to", p.Becomes)
	}
}

func (a *App) checkPartitions(p streams.Partitions) *partitionsError {
	switch mine := a.layout.Partitions(); {
	case p.Number != mine:
		return &partitionsError{fmt.Sprintf("the deployment has %d partitions now, and this process %d: restart it with streams.partitions %d", p.Number, mine, p.Number), true}
	case p.Becomes != 0 && !p.Unfinished:
		return &partitionsError{fmt.Sprintf("the number of partitions is being changed from %d to %d", p.Number, p.Becomes), false}
	default:
		return nil
	}
}

// tellPartitions logs when the answer changes.
func (a *App) tellPartitions(problem *partitionsError) {
	before := a.partitions.Swap(problem)
	switch {
	case problem == nil && before != nil:
		a.log.Info("appends go on", "partitions", a.layout.Partitions())
	case problem == nil || before != nil && *before == *problem:
	case problem.restart:
		a.log.Error("nothing is appended or processed any more", "why", problem.words)
	default:
		a.log.Warn("nothing is appended for a while", "why", problem.words)
	}
}

// ChangePartitions changes the number of partitions of the configured Redis to change.To,
// and then closes the connections of all processes, which have to be restarted. The
// configured number does not matter. It returns how many there were, and how many
// connections it closed, -1 where the server does not let it.
func ChangePartitions(ctx context.Context, c *configs.Config, change *streams.Change, log *slog.Logger) (from, told int, err error) {
	if c.EmbeddedRedis() {
		return 0, 0, &ConfigError{errors.New("streams.redis.address: must be set: the embedded engine has nothing to change")}
	}
	rdb, err := streams.NewWriteClient(c.Streams)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, rdb.Close()) }()
	say, stepped := change.Passed, newSeams().change
	change.Passed = func(step streams.ChangeStep) {
		if say != nil {
			say(step)
		}
		stepped(step)
	}
	change.Prefix, change.Keep = c.Streams.Prefix, c.Streams.Keep.Age
	change.Groups = append([]string(nil), c.Streams.DeclaredGroups...)
	for name, enabled := range map[string]bool{
		handlers.OrderStatus: c.Groups.OrderStatus.Enabled, handlers.Points: c.Groups.Points.Enabled, handlers.EventLog: c.Groups.EventLog.Enabled,
	} {
		if enabled {
			change.Groups = append(change.Groups, name)
		}
	}
	if from, err = change.Run(ctx, rdb); err != nil {
		return from, 0, err
	}
	// Also where the number is that already: the command may have been killed before.
	if told, err = streams.ForgetConnections(ctx, rdb); err != nil {
		log.Warn("connections of processes with the old number could not be closed: restart all of them", "err", err)
		return from, -1, nil
	}
	change.Passed(streams.ChangeTold)
	return from, told, nil
}

// followPartitions makes the number of partitions what the deployment says, where the
// configuration leaves it to that. A Redis that is away, and says another number when it
// is back, is refused like that of any other configuration.
func followPartitions(ctx context.Context, c *configs.Config, log *slog.Logger) error {
	if c.Streams.Partitions != 0 {
		return nil
	}
	c.Streams.Partitions = streams.DefaultOptions().Partitions
	if c.EmbeddedRedis() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	p, err := ReadPartitions(ctx, c)
	switch {
	case errors.Is(err, streams.ErrUnavailable):
		log.Warn("redis does not say how many partitions there are", "taken_for", c.Streams.Partitions, "err", err)
	case mismatch(err):
		return &ConfigError{err}
	case err != nil:
		return err
	case p.Number != 0:
		c.Streams.Partitions = p.Number
	}
	return nil
}

// ReadPartitions asks the configured Redis.
func ReadPartitions(ctx context.Context, c *configs.Config) (p streams.Partitions, err error) {
	if c.EmbeddedRedis() {
		return p, &ConfigError{errors.New("streams.redis.address: must be set: the embedded engine has nothing to change")}
	}
	rdb, err := streams.NewWriteClient(c.Streams)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, rdb.Close()) }()
	return streams.ReadPartitions(ctx, rdb, c.Streams.Prefix)
}
