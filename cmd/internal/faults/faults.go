//go:build faults

// Package faults stands between paybell's parts in the build for the fault suite
// (build tag faults; see loadtest/faults) and in no other. It kills the process at a
// named point between two steps, moves its clock, tells what of the journal a power
// loss would leave, and, on demand, breaks a promise so that the suite can show that
// it notices. The environment says what it does:
//
//	PAYBELL_CRASH=<point>:<n>  SIGKILL when the point is passed the n-th time
//	PAYBELL_CRASH=list         print the points, "gateway <point>" or "worker <point>" a line, and exit
//	PAYBELL_CLOCK=<file>       the file holds a Go duration by which the clock is wrong
//	PAYBELL_SYNCED=<dir>       notes there how much of each journal file is synced
//	PAYBELL_BROKEN=<variant>   append, ack, trim, lease or journal
package faults

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/paybell/paybell/streams"
)

// Point is a moment between two steps.
type Point string

// The points that a gateway passes.
const (
	// Verified: the callback is believed and decoded, nothing is appended.
	Verified Point = "verified"
	// Appended: all records are durable, the reply is not on its way.
	Appended Point = "appended"
	// JournalWritten: a write to a journal file has returned, its sync has not begun.
	JournalWritten Point = "journal.written"
	// JournalSynced: the sync has returned, nobody was told.
	JournalSynced Point = "journal.synced"
	// DrainAppended: the stream has records of the journal, which still has them too.
	DrainAppended Point = "drain.appended"
	// JournalCreated: a new journal file has a durable name and nothing in it.
	JournalCreated Point = "journal.created"
)

// The points that a worker passes.
const (
	// Adopted: the pending entries of earlier owners were claimed.
	Adopted Point = "adopted"
	// Taken: new entries were delivered to the group.
	Taken Point = "taken"
	// Charged: attempts are counted, the handler was not called.
	Charged Point = "charged"
	// Fenced, Keyed and Applied are inside the transaction.
	Fenced  Point = "fenced"
	Keyed   Point = "keyed"
	Applied Point = "applied"
	// Committed: the effects are durable, nothing is settled.
	Committed Point = "committed"
	// Settled: the deliveries have ended.
	Settled Point = "settled"
	// Parked: deliveries have left the stream.
	Parked Point = "parked"
	// Unpacked: parked entries that are due were read.
	Unpacked Point = "unpacked"
	// Dead: dead letters were made.
	Dead Point = "dead"
	// Trimmed: a pass of the trimmer is over.
	Trimmed Point = "trimmed"
)

// The points that the command partitions change passes. They are in no list: no suite
// starts it at random.
const (
	// PartitionsClosed: nothing is appended any more.
	PartitionsClosed Point = "partitions.closed"
	// PartitionsChanged: the new number holds, nobody was told.
	PartitionsChanged Point = "partitions.changed"
	// PartitionsTold: the connections of the other processes are closed.
	PartitionsTold Point = "partitions.told"
)

// Change passes the point behind a step of a change of the number of partitions.
func (f *Faults) Change(step streams.ChangeStep) {
	f.pass(map[streams.ChangeStep]Point{
		streams.ChangeClosed: PartitionsClosed, streams.ChangeDone: PartitionsChanged, streams.ChangeTold: PartitionsTold,
	}[step])
}

// Points lists the points of each kind of process.
func Points() (gateway, worker []Point) {
	return []Point{Verified, Appended, JournalCreated, JournalWritten, JournalSynced, DrainAppended},
		[]Point{Adopted, Taken, Charged, Fenced, Keyed, Applied, Committed, Settled, Parked, Unpacked, Dead, Trimmed}
}

// Faults are what one process does to itself.
type Faults struct {
	crash  Point
	left   atomic.Int64
	clock  *skew
	synced string
	broken string
	// rdb is the client that writes and settles.
	rdb streams.Client
}

// FromEnvironment reads what to do; what cannot be read ends the process, because a
// suite that goes on without its faults proves nothing.
func FromEnvironment() *Faults {
	f := &Faults{synced: os.Getenv("PAYBELL_SYNCED"), broken: os.Getenv("PAYBELL_BROKEN")}
	switch text := os.Getenv("PAYBELL_CRASH"); text {
	case "":
	case "list":
		list()
	default:
		name, count, _ := strings.Cut(text, ":")
		n, err := strconv.ParseInt(count, 10, 64)
		if err != nil || n < 1 {
			fmt.Fprintf(os.Stderr, "faults: PAYBELL_CRASH=%s: want <point>:<n>\n", text)
			os.Exit(2) //nolint:forbidigo // see above
		}
		f.crash = Point(name)
		f.left.Store(n)
	}
	if file := os.Getenv("PAYBELL_CLOCK"); file != "" {
		f.clock = &skew{file: file}
	}
	return f
}

func list() {
	gateway, worker := Points()
	for _, p := range gateway {
		fmt.Fprintf(os.Stdout, "gateway %s\n", p)
	}
	for _, p := range worker {
		fmt.Fprintf(os.Stdout, "worker %s\n", p)
	}
	os.Exit(0) //nolint:forbidigo // the list was all that was asked for
}

// pass kills the process where it was told to.
func (f *Faults) pass(p Point) {
	if p == f.crash && f.left.Add(-1) == 0 {
		die(string(p))
	}
}

// die kills the process and says where.
func die(place string) {
	fmt.Fprintf(os.Stderr, "faults: crash at %s\n", place)
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // it does not fail on oneself
	select {}
}

// Now is the time, wrong by what the clock's file says.
func (f *Faults) Now() time.Time {
	if f.clock == nil {
		return time.Now()
	}
	return time.Now().Add(f.clock.by())
}

// skew is how wrong a clock is; the file is looked at every tenth of a second.
type skew struct {
	file   string
	nanos  atomic.Int64
	readAt atomic.Int64
}

func (s *skew) by() time.Duration {
	now := time.Now().UnixMilli()
	if last := s.readAt.Load(); now-last >= 100 && s.readAt.CompareAndSwap(last, now) {
		text, err := os.ReadFile(s.file)
		if d, bad := time.ParseDuration(strings.TrimSpace(string(text))); err == nil && bad == nil {
			s.nanos.Store(int64(d))
		}
	}
	return time.Duration(s.nanos.Load())
}
