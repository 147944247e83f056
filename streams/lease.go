package streams

// Lease is the right to read one partition of a group, until another owner gets
// it. Its zero value is no lease.
type Lease struct {
	Partition int
	// Epoch rises with every change of owner, also after Redis lost its memory.
	Epoch int64
}
