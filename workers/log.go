package workers

import (
	"context"
	"time"

	"github.com/paybell/paybell/streams"
)

// Log is the consumer group a Pool reads, as one process sees it. On makes one of a
// *streams.Group; the interface exists so that the lanes can be tested step by step.
type Log interface {
	// Name is the group's name; Partitions is how many partitions it has.
	Name() string
	Partitions() int
	// LeaseTTL is how long a lease lives without being renewed.
	LeaseTTL() time.Duration
	// Ensure creates the group, at the start of the stream, wherever it is missing.
	// A call that finds the group missing later on creates it again likewise.
	Ensure(ctx context.Context) error
	// Heartbeat announces this consumer as a member and returns how many members
	// are alive, itself included; Leave takes the announcement back.
	Heartbeat(ctx context.Context) (members int, err error)
	Leave(ctx context.Context) error
	// Acquire takes the lease of a partition; ok is false while another owner holds it.
	Acquire(ctx context.Context, partition int) (l Lease, ok bool, err error)
	// Appended is when the last entry of a partition was appended, by Redis's clock; zero
	// where none was. Advance makes the entries that follow later than a time.
	Appended(ctx context.Context, partition int) (time.Time, error)
	Advance(ctx context.Context, partition int, beyond time.Time) error
}

// Lease is one partition in the hands of one owner. Its calls are fenced: they do nothing
// and return streams.ErrLeaseLost when another owner, or nobody, holds the partition.
type Lease interface {
	Partition() int
	// Epoch rises with every change of owner.
	Epoch() int64
	// Renew prolongs the lease, Release gives it back before it ends.
	Renew(ctx context.Context) error
	Release(ctx context.Context) error
	// Surpass makes the partition's next lease have an epoch above a given one.
	Surpass(epoch int64)
	// Adopt makes every pending entry of the partition this consumer's own.
	Adopt(ctx context.Context) error
	// Backlog reads this consumer's own pending entries after the entry id "after"
	// ("" from the first), oldest first: at most max, of about maxBytes, one at least where
	// there are any and however large it is.
	Backlog(ctx context.Context, after string, max int, maxBytes int64) ([]streams.Entry, error)
	// Take reads new entries, bounded likewise; none is no error.
	Take(ctx context.Context, max int, maxBytes int64) ([]streams.Entry, error)
	// Wait returns when the partition may have entries after the entry id "after",
	// or after a second or two, or when ctx ends. It moves nothing.
	Wait(ctx context.Context, after string) error
	// Charge writes down that runs begin, each by a name of its own: an attempt of each of
	// their entries, which counts if this owner ends before Settle has ended the run.
	Charge(ctx context.Context, runs []streams.Run) error
	// Settle ends deliveries, parked or not, and runs, and sets the attempts of what goes
	// on, in one step.
	Settle(ctx context.Context, s streams.Settlement) error
	// Park moves pending deliveries out of the stream until they are due, or gives
	// parked ones another time. It returns those that the group does not have.
	Park(ctx context.Context, ps []streams.Parking) (without []string, err error)
	// Parked tells what is parked, page by page; Unpack reads the entries of some.
	// They stay parked until they are settled.
	Parked(ctx context.Context, first, max int) ([]streams.Parked, error)
	Unpack(ctx context.Context, ids []string) ([]streams.Entry, error)
	// Position is that of the group's effect store when deliveries were settled last,
	// Newest when the last entry was appended, as far as this owner has heard.
	Position() int64
	Newest() time.Time
	// Rewind has everything that the stream still has delivered again, also what was
	// settled: the effect store is at an earlier position.
	Rewind(ctx context.Context, position int64) (entries int64, since time.Time, err error)
	// Replays is how many dead letters were replayed into the partition, as far as the
	// last Take has heard.
	Replays() int64
}

// On is a group of Redis as a Log.
func On(g *streams.Group) Log { return redisLog{g} }

type redisLog struct{ *streams.Group }

// Acquire implements Log.
func (l redisLog) Acquire(ctx context.Context, partition int) (Lease, bool, error) {
	lease, ok, err := l.Group.Acquire(ctx, partition)
	if !ok || err != nil {
		return nil, false, err
	}
	return lease, true, nil
}
