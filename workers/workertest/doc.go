// Package workertest helps to test handlers and what embeds a pool. Handle and
// HandleBatch run a handler on events and hold it to its contract. Group is a
// consumer group in memory, with the leases, epochs, pending entries and attempts
// of the real one, and with faults on demand, so that crashes, outages and
// handovers can be tested step by step. It is imported by tests alone.
package workertest
