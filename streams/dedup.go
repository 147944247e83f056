package streams

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"github.com/paybell/paybell/streams/event"
)

// Marks are how a redelivery is recognised: one for each event of the window, in
// buckets of time, so that forgetting is the expiry of one key. A mark is 96 bits
// of the event ID's SHA-256, because two IDs that share it would be one order
// lost, and the 64 bits of the facts' fingerprint.
const (
	digestSize = 12
	markSize   = digestSize + 8
)

// seenBuckets is over how many keys the marks of one window are spread. A bucket
// is half a window wide and lives until a window has passed since its last mark,
// which is when the ring comes round to it; so a mark is known for at least the
// window and at most one and a half.
const seenBuckets = 3

// markOf is the mark of an event.
func markOf(id string, facts event.Facts) (m [markSize]byte) {
	sum := sha256.Sum256([]byte(id))
	copy(m[:digestSize], sum[:])
	binary.BigEndian.PutUint64(m[digestSize:], uint64(facts))
	return m
}

// section is what append.lua is told once for all records of one partition and one
// dedup window.
type section struct {
	// keys are the stream, the ring of buckets, and the ledger; window is in
	// milliseconds. They are ready to be arguments of a command.
	keys   []any
	window any
	lives  time.Duration // the window
}

// sections remembers the sections: there are as many as partitions and windows.
type sections struct {
	layout Layout
	mu     sync.RWMutex
	known  map[seenPlace]*section
}

type seenPlace struct {
	partition int
	window    time.Duration
}

func (k *sections) of(partition int, window time.Duration) *section {
	at := seenPlace{partition, window}
	k.mu.RLock()
	s := k.known[at]
	k.mu.RUnlock()
	if s != nil {
		return s
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if s = k.known[at]; s == nil { // one place has one section: records are told apart by it
		keys := anys([]any{k.layout.Events(partition)}, k.layout.Seen(partition, window))
		s = &section{keys: append(keys, k.layout.Ledger(partition)), window: window.Milliseconds(), lives: window}
		k.known[at] = s
	}
	return s
}
