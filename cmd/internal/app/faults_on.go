//go:build faults

package app

import "github.com/paybell/paybell/cmd/internal/faults"

// newSeams puts the fault suite's hooks between the parts.
func newSeams() seams {
	f := faults.FromEnvironment()
	return seams{
		now: f.Now, redis: f.Redis, provider: f.Provider, door: f.Door, stream: f.Stream,
		disk: f.Disk, log: f.Log, handler: f.Handler, step: f.Step, trimmer: f.Trimmer, change: f.Change,
	}
}
