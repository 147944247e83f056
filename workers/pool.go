package workers

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Pool runs handlers on groups, each on its own log. It starts nothing before Run.
type Pool struct {
	logger  *slog.Logger
	metrics *metrics
	now     func() time.Time
	// guard is held by the one run of the pool that is suspected of killing the
	// process again and again. See group.guard.
	guard chan struct{}
	// budget is what all groups may hold in memory.
	budget *budget

	mu      sync.Mutex
	groups  []*group
	started bool
}

// group is what the parts of one group share. None of it changes once Run has begun,
// save what is safe for all of them.
type group struct {
	name    string
	log     Log
	handler BatchHandler
	options Options
	// slots is how many runs of one partition there may be at once, perRun how many
	// deliveries each may hold.
	slots, perRun int
	// rounds are the calls of a BatchHandler; nil for a Handler, whose deliveries each
	// have their own.
	rounds *rounds

	logger  *slog.Logger
	metrics *groupMetrics
	now     func() time.Time
	// guard has room for one. Whoever suspects an entry whose attempts are half used
	// up holds it while that entry runs, so that of several suspects only the killer
	// is charged for the next crash and reaches the end of its attempts.
	guard chan struct{}
	// budget is the pool's.
	budget *budget

	// watch is nil where nothing is compared.
	watch *Watch

	redisAway, handlerAway, deadRefused, parkedFull outage
	// listeners are the waits for new entries.
	listeners sync.WaitGroup
}

// NewPool returns an empty pool. reg may be nil. now is asked wherever time decides;
// as with time.Now, its times should carry a monotonic reading, because the age of a
// lease is measured with it.
func NewPool(logger *slog.Logger, reg prometheus.Registerer, now func() time.Time) *Pool {
	return &Pool{logger: logger, metrics: newMetrics(reg), now: now, guard: make(chan struct{}, 1), budget: newBudget(reg)}
}

// Bound sets about how many bytes of entries all groups may hold in memory together; 0, the
// default, does not bound it. A call of a BatchHandler holds a sixteenth of it at most. What
// a partition holds nothing beside may be larger: one entry is always read and always run.
// It is set before Run.
func (p *Pool) Bound(bytes int64) { p.budget.bound(bytes) }

// Add runs h on a group: deliveries of up to Options.Concurrency ordering keys of a
// partition at once.
func (p *Pool) Add(log Log, h Handler, o Options) error {
	return p.add(log, single{h}, nil, o, o.Concurrency, 1)
}

// AddBatch runs h on a group: a batch holds what is ready in all partitions that this
// process owns. Of one partition there is one batch at a time.
func (p *Pool) AddBatch(log Log, h BatchHandler, o Options) error {
	return p.add(log, h, nil, o, 1, o.Batch)
}

// AddEffects is AddBatch for a handler whose effects are in a store that is compared with
// Redis.
func (p *Pool) AddEffects(log Log, h BatchHandler, w Watch, o Options) error {
	return p.add(log, h, &w, o, 1, o.Batch)
}

func (p *Pool) add(log Log, h BatchHandler, watch *Watch, o Options, slots, perRun int) error {
	name := log.Name()
	if err := o.Validate(); err != nil {
		return fmt.Errorf("workers: options of group %q: %w", name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started {
		return ErrRunning
	}
	taken := name == ""
	for _, g := range p.groups {
		taken = taken || g.name == name
	}
	if taken {
		return fmt.Errorf("%w: %q", ErrGroup, name)
	}
	g := &group{
		name: name, log: log, handler: h, watch: watch, options: o, slots: slots, perRun: perRun,
		logger: p.logger, metrics: p.metrics.of(name), now: p.now, guard: p.guard,
		budget: p.budget,
	}
	if _, one := h.(single); !one {
		g.rounds = newRounds(g)
	}
	g.redisAway.init(g, "redis")
	g.handlerAway.init(g, "handler")
	g.deadRefused.init(g, "dead_letters")
	g.parkedFull.init(g, "parked")
	p.groups = append(p.groups, g)
	return nil
}

// Run runs every group until ctx ends, and returns when everything it started has
// ended: nothing new is taken, what runs may finish within the grace of its group,
// then its context ends; what is not settled by then stays pending for the next
// owner. A handler that ignores its context holds Run up. Redis being away is no
// reason to return, and the end of ctx is no error.
func (p *Pool) Run(ctx context.Context) error {
	p.mu.Lock()
	if p.started {
		p.mu.Unlock()
		return ErrRunning
	}
	p.started = true
	groups := p.groups
	p.mu.Unlock()

	var running sync.WaitGroup
	for _, g := range groups {
		running.Go(func() { newConsumer(g).run(ctx) })
	}
	<-ctx.Done()
	running.Wait()
	return nil
}

// Paused tells which groups wait for something in this process, and for what, with the
// last error. A group that runs is not named.
func (p *Pool) Paused() map[string][]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string][]string{}
	for _, g := range p.groups {
		for _, o := range []*outage{&g.redisAway, &g.handlerAway, &g.deadRefused, &g.parkedFull} {
			if text := o.told(); text != "" {
				out[g.name] = append(out[g.name], text)
			}
		}
	}
	return out
}
