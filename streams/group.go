package streams

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// GroupOptions are the settings of a Group; Options.Group fills them.
type GroupOptions struct {
	// LeaseTTL is how long a lease lives without being renewed, and a member
	// without a sign of life.
	LeaseTTL time.Duration
	// ConsumerIdle is how long a consumer that owes nothing stays in the group.
	ConsumerIdle time.Duration
	// TakeBytes is about how many bytes one Take may bring, whatever its caller allows;
	// zero does not bound it.
	TakeBytes int
	// Now is the clock by which pending entries of others are looked for;
	// time.Now when nil.
	Now func() time.Time
}

// Group reads the partitions for one consumer group. Its calls are safe for
// concurrent use.
type Group struct {
	write *runner
	// leases runs what keeps leases and membership.
	leases         *runner
	feed           *Feed
	layout         Layout
	name, consumer string
	// owner differs with every Group, so that a restarted process, which has its
	// old consumer name, does not pass for the one that was killed.
	owner string
	o     GroupOptions
	log   *slog.Logger
	m     *groupMetrics
	parts []part
	// uncreated: the group could not be created in some partition.
	uncreated atomic.Bool
}

// part is what a Group remembers of a partition between leases.
type part struct {
	mu sync.Mutex
	// above is an epoch that a new lease has to be above, held the last lease.
	above int64
	held  *Lease
}

// NewGroup returns the group called name, read as consumer: a name that is
// stable over restarts and unique in the group. It talks to nobody yet. The
// caller keeps the client (NewWriteClient) and the feed, which the groups of a process
// share, and ends what uses the Group before them.
func NewGroup(write Client, feed *Feed, layout Layout, name, consumer string, o GroupOptions, log *slog.Logger, reg prometheus.Registerer) (*Group, error) {
	for what, text := range map[string]string{"group": name, "consumer": consumer} {
		if !groupForm.MatchString(text) {
			return nil, fmt.Errorf("streams: %s %q: must be 1 to 64 letters, digits or any of . _ -", what, text)
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	run := newRunner(write)
	return &Group{
		write: run, leases: run, feed: feed, layout: layout, name: name, consumer: consumer,
		owner: consumer + "/" + rand.Text(),
		o:     o, log: log.With("group", name, "consumer", consumer), m: newGroupMetrics(reg, name),
		parts: make([]part, layout.Partitions()),
	}, nil
}

// takeBytes is how many bytes one read may bring; 0 is no bound.
func (g *Group) takeBytes(asked int64) int {
	bytes := int64(g.o.TakeBytes)
	if asked > 0 && (bytes == 0 || asked < bytes) {
		bytes = asked
	}
	return int(bytes)
}

// LeaseBy has leases taken, renewed and released, and the membership kept, over the
// connections of another client (NewLeaseClient): they do not wait for one behind reads
// and settlements. It is called before the Group is used.
func (g *Group) LeaseBy(rdb Client) { g.leases = newRunner(rdb) }

// Name is the group's name.
func (g *Group) Name() string { return g.name }

// Partitions is how many partitions the group has.
func (g *Group) Partitions() int { return g.layout.Partitions() }

// LeaseTTL is how long a lease lives without being renewed.
func (g *Group) LeaseTTL() time.Duration { return g.o.LeaseTTL }

// Ensure creates the group wherever it is missing, at the start of the stream:
// a group gets the events from before its time too. What keeps it from one partition does
// not keep it from the others. It is counted and told once, until all could be created.
func (g *Group) Ensure(ctx context.Context) error {
	missing, err := missingGroup(ctx, g.write, g.layout, g.name)
	if err != nil {
		return err
	}
	err = createGroups(ctx, g.write, g.layout, missing, g.name)
	if err != nil {
		g.m.uncreated.Inc()
	}
	if told := g.uncreated.Swap(err != nil); err != nil && !told {
		g.log.Error("the group cannot be created in every partition: it is tried again", "err", err)
	}
	return err
}

// DeclareGroup creates a group in every partition where it is missing, at the
// start of the stream, for a process that will not read it itself.
func DeclareGroup(ctx context.Context, rdb Client, layout Layout, name string) error {
	if !groupForm.MatchString(name) {
		return fmt.Errorf("streams: group %q: must be 1 to 64 letters, digits or any of . _ -", name)
	}
	run := newRunner(rdb)
	missing, err := missingGroup(ctx, run, layout, name)
	if err != nil {
		return err
	}
	return createGroups(ctx, run, layout, missing, name)
}

// missingGroup are the partitions in which a group is missing. Only there it is created: a
// server that has no memory left refuses to create, and a group that is there can be worked
// off all the same.
func missingGroup(ctx context.Context, run *runner, layout Layout, name string) ([]int, error) {
	pipe := run.rdb.Pipeline()
	infos := make([]*redis.XInfoGroupsCmd, layout.Partitions())
	for i := range infos {
		infos[i] = pipe.XInfoGroups(ctx, layout.Events(i))
	}
	_, _ = pipe.Exec(ctx) // each command is looked at
	var missing []int
	for i, info := range infos {
		// A stream that is not there, or is none, is an answer of the server.
		if _, answered := errors.AsType[redis.Error](info.Err()); info.Err() != nil && !answered {
			return nil, unavailable("streams: find group "+name, info.Err())
		}
		if !slices.ContainsFunc(info.Val(), func(g redis.XInfoGroup) bool { return g.Name == name }) {
			missing = append(missing, i)
		}
	}
	return missing, nil
}

// createGroups creates a group in partitions; what fails in one does not stop the others.
func createGroups(ctx context.Context, run *runner, layout Layout, partitions []int, name string) error {
	var errs []error
	for _, i := range partitions {
		if _, err := createGroup(ctx, run, layout, i, name); err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// createGroup creates a group in a partition, where it is missing, and begins its
// account there.
func createGroup(ctx context.Context, run *runner, layout Layout, partition int, name string) (created bool, err error) {
	reply, err := run.run(ctx, createScript, []string{
		layout.Events(partition), layout.Ledger(partition), layout.Counts(partition, name),
		layout.Parked(partition, name), layout.Dead(partition, name),
	}, name)
	if err != nil {
		return false, fmt.Errorf("create group %s in partition %d: %w", name, partition, err)
	}
	return number(at(reply, 0)) == 1, nil
}

// Appended is when the last entry of a partition was appended, by Redis's clock; zero where
// none was.
func (g *Group) Appended(ctx context.Context, partition int) (time.Time, error) {
	info, err := g.write.rdb.XInfoStream(ctx, g.layout.Events(partition)).Result()
	if err != nil {
		return time.Time{}, unavailable("streams: ask for the last entry", err)
	}
	return timeOf(info.LastGeneratedID), nil
}

// Advance makes the entries that follow in a partition later than a time, also where
// Redis's clock is behind it (XSETID). Of a stream whose last entry is later it changes
// nothing.
func (g *Group) Advance(ctx context.Context, partition int, beyond time.Time) error {
	newest, err := g.Appended(ctx, partition)
	if err != nil || !beyond.After(newest) {
		return err
	}
	id := strconv.FormatInt(beyond.UnixMilli(), 10) + "-0"
	// One that was appended meanwhile is later.
	err = g.write.rdb.Do(ctx, "xsetid", g.layout.Events(partition), id).Err()
	if err != nil && !strings.Contains(err.Error(), "smaller than the target stream top item") {
		return unavailable("streams: advance a partition", err)
	}
	return nil
}

// Heartbeat announces this process as a member of the group and returns how many
// members are alive, itself included. Processes of one consumer name count as several,
// because each gets its share of the partitions.
func (g *Group) Heartbeat(ctx context.Context) (int, error) {
	reply, err := g.leases.run(ctx, heartbeatScript, []string{g.layout.Members(g.name)},
		g.owner, g.o.LeaseTTL.Milliseconds())
	if err != nil {
		return 0, err
	}
	n, _ := at(reply, 0).(int64) // the script has no other answer
	return max(1, int(n)), nil
}

// Leave takes the announcement back.
func (g *Group) Leave(ctx context.Context) error {
	if err := g.leases.rdb.ZRem(ctx, g.layout.Members(g.name), g.owner).Err(); err != nil {
		return unavailable("streams: leave group "+g.name, err)
	}
	return nil
}
