package app

import (
	"fmt"

	"github.com/paybell/paybell/cmd/internal/limits"
	"github.com/paybell/paybell/configs"
	"github.com/paybell/paybell/gateway"
)

// ownFiles are those that a process has open beside its connections: listeners, the
// journal's segments, a SQLite file, what the runtime needs, and the operator's door.
const ownFiles = 64

// Size makes of every bound that was not given a share of what the process may use, and
// lowers what is more than that. The notes say what was lowered, each with its path.
func Size(c *configs.Config, role Role) (notes []string, err error) {
	memory, _ := limits.Memory(c.MemoryLimit) // TuneMemory says what cannot be asked
	files, err := limits.Files()
	if err != nil {
		return nil, err
	}
	return size(c, role, memory.Bytes, files), nil
}

func size(c *configs.Config, role Role, memory int64, files int) (notes []string) {
	if most := memory / prefetchShare; role.Workers && c.Groups.PrefetchBytes > most {
		notes = append(notes, fmt.Sprintf("groups.prefetch_bytes: %d, not %d: a fifth of %d MiB", most, c.Groups.PrefetchBytes, memory>>20))
		c.Groups.PrefetchBytes = most
	}
	if !role.Gateway {
		return notes
	}
	fitted, lowered := c.Gateway.Within(memory, files-otherFiles(c, role))
	c.Gateway = fitted
	for _, n := range lowered {
		notes = append(notes, "gateway."+n)
	}
	// What a caller has given up waits on, without a part in the budget of bodies.
	if most := gateway.QueueBytes(memory); c.Streams.Writer.QueueBytes > most {
		notes = append(notes, fmt.Sprintf("streams.writer.queue_bytes: %d, not %d: a sixteenth of %d MiB", most, c.Streams.Writer.QueueBytes, memory>>20))
		c.Streams.Writer.QueueBytes = most
	}
	return notes
}

// otherFiles is how many files the process may have open beside callbacks' connections.
func otherFiles(c *configs.Config, role Role) int {
	redis := c.Streams.Redis.Connections + c.Streams.Partitions + 4 // those that wait, see streams.NewReadClient
	if c.EmbeddedRedis() {
		redis *= 2 // the other ends are here too
	}
	n := ownFiles + redis
	if role.Workers {
		n += c.Database.MaxConnections + c.Database.ReadConnections
	}
	return n
}
