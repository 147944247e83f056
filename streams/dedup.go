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

// seenWidth is how wide a bucket is, in milliseconds.
func seenWidth(window time.Duration) int64 {
	return max(1, (window.Milliseconds()+1)/2)
}

func mark(id string, facts event.Facts) []byte {
	sum := sha256.Sum256([]byte(id))
	b := make([]byte, 0, markSize)
	b = append(b, sum[:digestSize]...)
	return binary.BigEndian.AppendUint64(b, uint64(facts))
}

// seenKeys remembers the keys of marks as arguments of a command: they are the
// same for every event of a partition and a window.
type seenKeys struct {
	layout Layout
	mu     sync.RWMutex
	known  map[seenPlace][]any
}

type seenPlace struct {
	partition int
	window    time.Duration
}

func (k *seenKeys) of(partition int, window time.Duration) []any {
	at := seenPlace{partition, window}
	k.mu.RLock()
	args := k.known[at]
	k.mu.RUnlock()
	if args != nil {
		return args
	}
	args = anys(nil, k.layout.Seen(partition, window))
	k.mu.Lock()
	defer k.mu.Unlock()
	k.known[at] = args
	return args
}
