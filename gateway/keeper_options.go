package gateway

import (
	"errors"
	"fmt"
	"time"

	"github.com/paybell/paybell/gateway/journal"
)

// What a journal is used for.
const (
	// JournalFallback keeps in the journal what the stream cannot take, and behind it
	// what must not overtake it.
	JournalFallback = "fallback"
	// JournalRefuse has no journal: the provider is asked to send again.
	JournalRefuse = "refuse"
	// JournalAlways keeps everything in the journal first, because the stream forgets
	// when the process ends.
	JournalAlways = "always"
)

// JournalOptions say how a Keeper uses its journal.
type JournalOptions struct {
	// Mode is fallback, refuse or always. The default is fallback with a Redis server
	// and always with the embedded engine, and there is no other choice for the latter
	// but refuse.
	Mode string `yaml:"mode"`
	// Dir is the journal's directory, on a disk that outlives the process. It belongs
	// to one gateway; the default is "journal" in data_dir, or "embedded-journal" with
	// the embedded engine: what was tried out must not reach a Redis server later.
	Dir string `yaml:"dir"`
	// MaxBytes bounds the journal on disk, the quarantine included. Beyond it a provider
	// is asked to send again.
	MaxBytes int64 `yaml:"max_bytes"`
	// MaxAge is how old the oldest callback in the journal may be before no more are
	// taken: a success reply for what nobody has acted on for so long helps nobody. The
	// mode always does not use it.
	MaxAge time.Duration `yaml:"max_age"`
	// SegmentBytes is about how long one file of the journal grows.
	SegmentBytes int64 `yaml:"segment_bytes"`
	// Queue is how many callbacks may wait for a sync at once.
	Queue int `yaml:"queue"`
}

// DefaultJournalOptions are the settings used where none are given.
func DefaultJournalOptions() JournalOptions {
	o := journal.DefaultOptions()
	return JournalOptions{MaxBytes: o.MaxBytes, MaxAge: o.MaxAge, SegmentBytes: o.SegmentBytes, Queue: o.Queue}
}

// Validate reports every problem, each with the path of its field. The embedded
// default has filled in Mode and Dir by then.
func (o JournalOptions) Validate() error {
	var errs []error
	switch o.Mode {
	case JournalRefuse:
		return nil
	case JournalFallback, JournalAlways:
	default:
		errs = append(errs, fmt.Errorf("mode: %q is not fallback, refuse or always", o.Mode))
	}
	if o.Dir == "" {
		errs = append(errs, errors.New("dir: must not be empty"))
	}
	if o.MaxAge < time.Second {
		errs = append(errs, errors.New("max_age: must be at least 1s"))
	}
	j := o.bounds()
	j.MaxAge = 0 // said above
	return errors.Join(append(errs, j.Validate())...)
}

// bounds are the journal's own options.
func (o JournalOptions) bounds() journal.Options {
	b := journal.Options{MaxBytes: o.MaxBytes, MaxAge: o.MaxAge, SegmentBytes: o.SegmentBytes, Queue: o.Queue}
	if o.Mode == JournalAlways {
		b.MaxAge = 0 // it holds what is old on purpose
	}
	return b
}
