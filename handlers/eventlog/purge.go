package eventlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/handlers/effects"
)

const (
	// purgeEvery is how often expired evidence is removed; purgeSoon, while a run has
	// left some over.
	purgeEvery = time.Hour
	purgeSoon  = time.Minute
	// purgeMost is how many rows a run deletes at most: what is deleted for a wrong
	// reason leaves time to notice.
	purgeMost = 50_000
	// purgeStep is how many rows one transaction deletes: few enough that the handlers do
	// not wait long for it.
	purgeStep = 500
)

// clockBound is how far two clocks may be apart for evidence to be deleted by them.
const clockBound = 5 * time.Minute

// ErrClocks is returned while the clocks that evidence would be deleted by do not agree.
var ErrClocks = errors.New("eventlog: clocks disagree, so nothing is deleted: set the wrong one right (NTP), and the next run goes on")

// PurgerDeps are what a Purger is given.
type PurgerDeps struct {
	Logger *slog.Logger
	// Registerer takes the metrics; nil keeps them unregistered.
	Registerer prometheus.Registerer
	// Clocks, by the names of the servers that tell them, are compared with the process's
	// as the database's is. One that cannot be asked is as bad as one that disagrees.
	Clocks map[string]func(context.Context) (time.Time, error)
}

// Purger removes the evidence whose retention has passed, together with its dedup keys.
//
// It trusts no clock alone. Age is told by the database's, which all processes share, and
// counts back from the newest evidence where that is older; nothing is deleted while the
// process, the database and Deps.Clocks disagree. What it cannot tell from time that has
// passed is a clock that is wrong everywhere, once callbacks have been kept under it; a
// run then deletes its bounded number of rows.
type Purger struct {
	store     *effects.Store
	retention time.Duration
	most      int64
	log       *slog.Logger
	clocks    map[string]func(context.Context) (time.Time, error)
	metrics   *purgeMetrics
}

// NewPurger returns a purger of a store. It starts nothing.
func NewPurger(store *effects.Store, o Options, d PurgerDeps) (*Purger, error) {
	p := &Purger{store: store, retention: o.Retention, most: purgeMost, log: d.Logger, clocks: map[string]func(context.Context) (time.Time, error){}}
	maps.Copy(p.clocks, d.Clocks)
	p.clocks["database"] = store.Clock
	var err error
	p.metrics, err = newPurgeMetrics(d.Registerer)
	return p, err
}

// Run purges now and every hour, and soon again where a run has left some over, until ctx
// ends.
func (p *Purger) Run(ctx context.Context) error {
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
		}
		wait := purgeEvery
		n, err := p.Purge(ctx)
		if err != nil && ctx.Err() == nil {
			p.log.Error("purge the event log", "events", n, "err", err)
		} else if n > 0 {
			if n >= p.most {
				wait = purgeSoon
			}
			p.log.Info("event log purged", "events", n, "next", wait)
		}
		next.Reset(wait)
	}
}

// Purge runs once and returns how many rows it removed. It works in short transactions,
// may be ended at any time, and may run in several processes at once.
func (p *Purger) Purge(ctx context.Context) (int64, error) {
	if p.retention == 0 {
		return 0, nil
	}
	before, err := p.expired(ctx)
	if errors.Is(err, ErrClocks) {
		p.metrics.refused.Inc()
		return 0, err
	}
	var purged int64
	for err == nil && purged < p.most {
		step := min(purgeStep, p.most-purged)
		var n int64
		n, err = p.remove(ctx, before, step)
		purged += n
		if n < step {
			break
		}
	}
	p.metrics.purged.Add(float64(purged))
	if err != nil {
		return purged, fmt.Errorf("eventlog: purge: %w", err)
	}
	return purged, nil
}

// expired is the time before which evidence was received whose retention has passed.
func (p *Purger) expired(ctx context.Context) (time.Time, error) {
	var apart []string
	now := time.Time{}
	for _, name := range slices.Sorted(maps.Keys(p.clocks)) {
		told, ahead, err := p.compare(ctx, p.clocks[name])
		if err != nil {
			return time.Time{}, fmt.Errorf("ask for the time of %s: %w", name, err)
		}
		if name == "database" {
			now = told
		}
		p.metrics.difference.WithLabelValues(name).Set(ahead.Seconds())
		if ahead.Abs() > clockBound {
			apart = append(apart, fmt.Sprintf("%s says %s, this process %s", name, told.UTC().Format(time.RFC3339), told.Add(ahead).UTC().Format(time.RFC3339)))
		}
	}
	if len(apart) > 0 {
		return time.Time{}, fmt.Errorf("%w: %s", ErrClocks, strings.Join(apart, "; "))
	}
	var newest effects.Time
	err := p.store.Query(ctx, func(row effects.Row) error { return row.Scan(&newest) }, `SELECT max(received_at) FROM event_log`)
	if newest.Before(now) {
		now = newest.Time
	}
	return now.Add(-p.retention), err
}

// compare asks a clock and tells how far the process's is ahead of it. The time that
// asking took counts for neither.
func (p *Purger) compare(ctx context.Context, clock func(context.Context) (time.Time, error)) (told time.Time, ahead time.Duration, err error) {
	asked := p.store.Now()
	told, err = clock(ctx)
	answered := p.store.Now()
	switch {
	case told.Before(asked):
		ahead = asked.Sub(told)
	case told.After(answered):
		ahead = answered.Sub(told)
	}
	return told, ahead, err
}

// remove deletes at most limit rows of events that were received before a time.
func (p *Purger) remove(ctx context.Context, before time.Time, limit int64) (int64, error) {
	var removed int64
	err := p.store.Update(ctx, func(ctx context.Context, tx *effects.Tx) error {
		removed = 0
		ids := map[string][]string{}
		err := tx.Query(ctx, func(row effects.Row) error {
			var group, id string
			err := row.Scan(&group, &id)
			ids[group] = append(ids[group], id)
			removed++
			return err
		}, `DELETE FROM event_log WHERE (event_id, facts) IN
				(SELECT event_id, facts FROM event_log WHERE received_at < $1 ORDER BY received_at LIMIT $2)
			RETURNING grp, event_id`, before, limit)
		if err != nil {
			return err
		}
		for _, group := range slices.Sorted(maps.Keys(ids)) {
			if err := tx.Forget(ctx, group, ids[group]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return removed, nil
}
