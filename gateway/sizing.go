package gateway

import "fmt"

const (
	// connMemory is what a connection costs at most beside its headers: net/http's buffers,
	// the stack, and a body of up to smallBody.
	connMemory = 32 << 10
	// connShare is the part of the process's memory that connections may take.
	connShare = 4
	// bodyShare is the part that larger bodies may take. While a callback is taken its body
	// is there up to three times: as it came, as the provider read it or as the journal's
	// record, and as garbage of either; and the writer's and the journal's queues hold as
	// much again when callers have given up.
	bodyShare = 16
	// defaultBodyMemory is the most that is taken without being asked for: what waits longer
	// in a queue than its sender does is written for nothing.
	defaultBodyMemory = 64 << 20
	// leastConnections are let in whatever there is.
	leastConnections = 16
)

// Within fits the options to a process that may use memory bytes and have files
// connections open. What was not given becomes a share of the memory; what is more than
// there is becomes less, and is told in notes.
func (o Options) Within(memory int64, files int) (fitted Options, notes []string) {
	if o.BodyMemory == 0 {
		o.BodyMemory = max(QueueBytes(memory), o.MaxBody)
	}
	lower := func(most int, why string) {
		if most = max(most, leastConnections); o.MaxConnections > most {
			notes = append(notes, fmt.Sprintf("max_connections: %d, not %d: %s", most, o.MaxConnections, why))
			o.MaxConnections = most
		}
	}
	lower(files, "the process may not open more files (ulimit -n)")
	each := int64(connMemory + o.MaxHeader)
	lower(int(min(memory/connShare/each, 1<<30)), fmt.Sprintf("each may take %d KiB of a quarter of %d MiB", each>>10, memory>>20))
	return o, notes
}

// QueueBytes is how many bytes of callbacks a queue behind the door may hold in a process
// that may use memory bytes.
func QueueBytes(memory int64) int {
	return int(min(max(memory/bodyShare, 1<<20), defaultBodyMemory))
}
