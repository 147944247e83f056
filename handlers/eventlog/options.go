package eventlog

import (
	"errors"
	"time"
)

// Options say how long evidence is kept.
type Options struct {
	// Retention is how long evidence is kept after its callback was received; 0 keeps
	// it for ever. Keep it longer than any provider lets a payment be disputed.
	Retention time.Duration `yaml:"retention"`
}

// DefaultOptions keep evidence for 400 days: a year, and the weeks in which last
// year's books are closed.
func DefaultOptions() Options { return Options{Retention: 400 * 24 * time.Hour} }

// Validate reports every problem.
func (o Options) Validate() error {
	if o.Retention != 0 && o.Retention < 24*time.Hour {
		return errors.New("retention: must be 0 (for ever) or at least 24h")
	}
	return nil
}
