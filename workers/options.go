package workers

import (
	"errors"
	"fmt"
	"time"
)

// Options is how one group is run. The zero value is not usable: start from
// DefaultOptions.
type Options struct {
	// Batch is the most deliveries one call of a BatchHandler gets, and the most
	// entries one read takes.
	Batch int `yaml:"batch"`
	// Concurrency is how many ordering keys of one partition a Handler is called
	// for at once. A BatchHandler is called for one batch of a partition at a time.
	Concurrency int `yaml:"concurrency"`
	// Prefetch is the most entries of one partition that are held in memory,
	// whether ready, running, waiting for a retry or for being settled. At the
	// bound nothing more is read until something is settled.
	Prefetch int `yaml:"prefetch"`
	// PrefetchBytes bounds the callback bytes of those entries. One read may
	// overshoot it, by what its entries are larger than the ones before them.
	PrefetchBytes int64 `yaml:"prefetch_bytes"`
	// Attempts is how often an event is tried before it becomes a dead letter, at least
	// twice: of an attempt that a crash ended nobody knows whose fault the crash was.
	Attempts int `yaml:"attempts"`
	// MaxAge makes an event a dead letter when an attempt fails and the next one
	// would start later than this after the callback arrived; 0 means no limit.
	// Every event is tried at least once, however old it is.
	MaxAge time.Duration `yaml:"max_age"`
	// Backoff is the pause between attempts.
	Backoff Backoff `yaml:"backoff"`
	// ParkAfter is how long a failing event may stay in its partition's stream, and
	// in memory. When its next attempt would start later than this after its first
	// failure there, it is parked: moved out of the stream until it is due, and the
	// later events of its order with it, so that it pins nothing.
	ParkAfter time.Duration `yaml:"park_after"`
	// Parked bounds what is parked.
	Parked Parked `yaml:"parked"`
	// Timeout ends the context of an attempt. Its slot stays taken until the
	// handler has returned.
	Timeout time.Duration `yaml:"timeout"`
	// Grace is how long a stop lets running attempts finish before their contexts
	// end.
	Grace time.Duration `yaml:"grace"`
}

// Backoff is the pause before attempt n+1: a random time between 0 and
// Initial doubled n-1 times, at most Max.
type Backoff struct {
	// Initial bounds the first pause.
	Initial time.Duration `yaml:"initial"`
	// Max bounds every pause. A handler that asks by RetryAfter may exceed it.
	Max time.Duration `yaml:"max"`
}

// Parked bounds what a group keeps outside the streams. Each partition may have its
// equal share of Entries and Bytes.
type Parked struct {
	// PerOrder is how many events of one order may be parked; one more becomes a
	// dead letter of reason cap.
	PerOrder int `yaml:"per_order"`
	// Entries is how many deliveries the whole group may have parked. A partition that
	// has its share reads no new entries, and parks no further order, until some of
	// it is settled: nothing is given up for want of room.
	Entries int `yaml:"entries"`
	// Bytes is how large all of them may be, with the same consequence.
	Bytes int64 `yaml:"bytes"`
}

// share is the bound of one of n partitions.
func (k Parked) share(n int) Parked {
	k.Entries, k.Bytes = max(1, k.Entries/n), k.Bytes/int64(n)
	return k
}

// DefaultOptions returns what suits handlers that write to a database nearby.
func DefaultOptions() Options {
	return Options{
		Batch:         256,
		Concurrency:   16,
		Prefetch:      1024,
		PrefetchBytes: 8 << 20,
		Attempts:      12,
		Backoff:       Backoff{Initial: 200 * time.Millisecond, Max: 30 * time.Second},
		ParkAfter:     10 * time.Second,
		Parked:        Parked{PerOrder: 1000, Entries: 160_000, Bytes: 1 << 30},
		Timeout:       30 * time.Second,
		Grace:         20 * time.Second,
	}
}

// Validate returns every problem, each beginning with the path of its field.
func (o Options) Validate() error {
	var errs []error
	check := func(ok bool, path, want string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s: must be %s", path, want))
		}
	}
	check(o.Batch >= 1 && o.Batch <= 1000, "batch", "between 1 and 1000")
	check(o.Concurrency >= 1 && o.Concurrency <= 1024, "concurrency", "between 1 and 1024")
	check(o.Prefetch >= max(o.Batch, o.Concurrency) && o.Prefetch <= 100_000, "prefetch",
		"at least batch and concurrency, and at most 100000")
	check(o.PrefetchBytes >= 64<<10 && o.PrefetchBytes <= 1<<30, "prefetch_bytes", "between 65536 and 1073741824")
	check(o.Attempts >= 2 && o.Attempts <= 1000, "attempts", "between 2 and 1000")
	check(o.MaxAge >= 0, "max_age", "0 for no limit, or a duration")
	check(o.Backoff.Initial >= time.Millisecond && o.Backoff.Initial <= time.Hour, "backoff.initial", "between 1ms and 1h")
	check(o.Backoff.Max >= o.Backoff.Initial && o.Backoff.Max <= time.Hour, "backoff.max",
		"at least backoff.initial and at most 1h")
	check(o.ParkAfter >= time.Millisecond && o.ParkAfter <= time.Hour, "park_after", "between 1ms and 1h")
	check(o.Parked.PerOrder >= 1 && o.Parked.PerOrder <= 100_000, "parked.per_order", "between 1 and 100000")
	check(o.Parked.Entries >= 1 && o.Parked.Entries <= 10_000_000, "parked.entries", "between 1 and 10000000")
	check(o.Parked.Bytes >= 1<<20 && o.Parked.Bytes <= 1<<40, "parked.bytes", "between 1048576 and 1099511627776")
	check(o.Timeout >= time.Millisecond && o.Timeout <= time.Hour, "timeout", "between 1ms and 1h")
	check(o.Grace >= 0 && o.Grace <= time.Hour, "grace", "between 0s and 1h")
	return errors.Join(errs...)
}
