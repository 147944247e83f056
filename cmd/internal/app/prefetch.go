package app

import "github.com/paybell/paybell/cmd/internal/limits"

const (
	// prefetchShare is the part of the process's memory that entries may take: handlers
	// and the database's driver make several copies of what they are given, and the
	// collector needs room.
	prefetchShare = 5
	// mostPrefetch is what is of use: more only waits.
	mostPrefetch = 256 << 20
	// feedShare is the part of it that the feed has, the groups have the rest.
	feedShare = 4
)

// prefetchBytes is about how many bytes of entries the process holds, where configured is 0.
func prefetchBytes(configured, memory int64) int64 {
	if configured > 0 {
		return configured
	}
	return min(memory/prefetchShare, mostPrefetch)
}

// memory is how much the process may use.
func (a *App) memory() int64 {
	bound, _ := limits.Memory(a.cfg.MemoryLimit) // TuneMemory has said what is unknown
	return bound.Bytes
}
