package streams

import (
	"time"

	"github.com/paybell/paybell/streams/event"
)

// Entry is a record at its position in a partition.
type Entry struct {
	// ID is the entry id that Redis gave.
	ID        string
	Partition int
	Record    event.Record
	// Attempts were charged to the entry before now; more than 0 on a fresh owner
	// means that a handler was running it when its process ended, or failed it.
	Attempts int
	// Err is set, and Record empty, when the entry's fields cannot be read as a
	// record. The owner ends it as a dead letter.
	Err error
	// Buried is true for an entry that became a dead letter of the group before the group
	// was given everything again.
	Buried bool
	// Gone is true for a pending entry whose fields were deleted or trimmed away
	// before it was settled: its event is lost to this group.
	Gone bool
}

// Settlement is what became of a batch of entries of one partition.
type Settlement struct {
	// Done are acknowledged. Gone are, too, and counted as lost: somebody deleted
	// their entry before it was settled.
	Done, Gone []string
	// Dead become dead letters of the group and are acknowledged.
	Dead []DeadLetter
	// Ended are runs that Charge named and that have come to their end.
	Ended []string
	// Counts are what is charged to entries that go on, or 0 for one that is forgotten.
	Counts []Count
	// Position is that of the effect store, which has what is Done at least; 0 where it
	// has none. Redis keeps it, for the next owner to compare.
	Position int64
}

// Count is how many attempts are charged to an entry.
type Count struct {
	EntryID  string
	Attempts int
}

// DeadLetter is a delivery that was given up.
type DeadLetter struct {
	// ID is the dead letter's own id, given by Redis; empty while it is being made.
	ID        string
	Partition int
	Group     string
	EntryID   string
	Record    event.Record
	Attempts  int
	// Reason is "rejected", "attempts", "age", "crash", "unreadable" or "cap".
	Reason string
	// Error is the last error's text, at most 1 KiB.
	Error    string
	Consumer string
	DeadAt   time.Time
	// ReplayOf is the id of the dead letter whose replay this one ended; empty where
	// it is the first.
	ReplayOf string
}
