package workers

import (
	"context"
	"time"

	"github.com/paybell/paybell/streams"
)

// Log is the consumer group a Pool reads. *streams.Group is the one there is;
// the interface exists so that the lanes can be tested step by step.
//
// Every call that names a Lease is fenced: it does nothing and returns
// streams.ErrLeaseLost when another owner, or nobody, holds the partition.
type Log interface {
	// Name is the group's name; Partitions is how many partitions it has.
	Name() string
	Partitions() int
	// Ensure creates the group, at the start of the stream, wherever it is missing.
	// A call that finds the group missing later on creates it again likewise.
	Ensure(ctx context.Context) error
	// Heartbeat announces this consumer as a member and returns how many members
	// are alive, itself included; Leave takes the announcement back.
	Heartbeat(ctx context.Context) (members int, err error)
	Leave(ctx context.Context) error
	// Acquire takes or renews the lease of a partition; ok is false while another
	// owner holds it. A renewed lease keeps its epoch.
	Acquire(ctx context.Context, partition int) (l streams.Lease, ok bool, err error)
	Release(ctx context.Context, l streams.Lease) error
	// Surpass makes the next new lease of a partition have an epoch above a given one.
	Surpass(partition int, epoch int64)
	// LeaseTTL is how long a lease lives without being renewed.
	LeaseTTL() time.Duration
	// Adopt makes every pending entry of the partition this consumer's own.
	Adopt(ctx context.Context, l streams.Lease) error
	// Backlog reads this consumer's own pending entries after the entry id "after"
	// ("" from the first), oldest first.
	Backlog(ctx context.Context, l streams.Lease, after string, max int) ([]streams.Entry, error)
	// Take reads at most max new entries; none is no error.
	Take(ctx context.Context, l streams.Lease, max int) ([]streams.Entry, error)
	// Wait returns when the partition may have entries after the entry id "after",
	// or after a second or two, or when ctx ends. It moves nothing.
	Wait(ctx context.Context, partition int, after string) error
	// Charge counts one attempt for each entry and returns the counts, in order.
	Charge(ctx context.Context, l streams.Lease, ids []string) ([]int, error)
	// Settle ends deliveries, parked or not, and takes back attempts, in one step.
	Settle(ctx context.Context, l streams.Lease, s streams.Settlement) error
	// Park moves pending deliveries out of the stream until they are due, or gives
	// parked ones another time. It returns those that the group does not have.
	Park(ctx context.Context, l streams.Lease, ps []streams.Parking) (without []string, err error)
	// Parked tells what is parked, page by page; Unpack reads the entries of some.
	// They stay parked until they are settled.
	Parked(ctx context.Context, l streams.Lease, first, max int) ([]streams.Parked, error)
	Unpack(ctx context.Context, l streams.Lease, ids []string) ([]streams.Entry, error)
	// Replays is how many dead letters were replayed into a partition, as far as the
	// last Take has heard.
	Replays(partition int) int64
}

// The guard stands here because only workers sees both sides.
var _ Log = (*streams.Group)(nil)
