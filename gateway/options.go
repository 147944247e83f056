package gateway

import (
	"errors"
	"fmt"
	"net"
	"time"
)

// Options are the limits of the public door.
type Options struct {
	// Address is the host:port that callbacks are received at.
	Address string `yaml:"address"`
	// MaxBody is the largest body accepted, in bytes.
	MaxBody int `yaml:"max_body"`
	// BodyMemory is how many bytes all bodies being read or handled may hold
	// together; only bodies beyond 16 KiB count. A body that finds no room waits a second,
	// then its callback is asked to come again. 0 is a sixteenth of the memory that the
	// process may use, at most 64 MiB.
	BodyMemory int `yaml:"body_memory"`
	// MaxHeader is the largest request line and header block accepted, in bytes.
	MaxHeader int `yaml:"max_header"`
	// MaxConnections is how many connections are open at once, or fewer where the process
	// may not open so many files, or has not 64 KiB of memory for each in a quarter of what
	// it may use. At the limit one is closed for each that comes: first those that never
	// sent anything, then those that send too slowly, then idle ones; and further ones wait
	// in the kernel's queue.
	MaxConnections int `yaml:"max_connections"`
	// MaxInFlight is how many callbacks are verified and appended at once. A callback
	// that has not been read whole does not count.
	MaxInFlight int `yaml:"max_in_flight"`
	// HeaderTimeout is how long a request line and its headers may take to arrive.
	HeaderTimeout time.Duration `yaml:"header_timeout"`
	// ReadTimeout is how long a whole request may take to arrive.
	ReadTimeout time.Duration `yaml:"read_timeout"`
	// AppendTimeout is how long a callback's events may take to become durable before
	// the provider is asked to send it again; most providers wait 5 s for a reply.
	AppendTimeout time.Duration `yaml:"append_timeout"`
	// IdleTimeout is how long a connection without a request stays open.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	// DrainDelay is how long the door stays open after /readyz has begun to say that it
	// closes, so that balancers turn to another gateway first; every reply then ends its
	// connection. With the embedded engine nobody can stand in, and there is no delay.
	DrainDelay time.Duration `yaml:"drain_delay"`
	// DrainTimeout is how long callbacks under way may take to end when the door closes.
	DrainTimeout time.Duration `yaml:"drain_timeout"`
	// RetryAfter is what a provider that is asked to send again is told to wait.
	RetryAfter time.Duration `yaml:"retry_after"`
}

// DefaultOptions are limits that fit the callbacks of every provider we know.
func DefaultOptions() Options {
	return Options{
		Address:        "127.0.0.1:8080",
		MaxBody:        256 << 10,
		MaxHeader:      32 << 10,
		MaxConnections: 4096,
		MaxInFlight:    1024,
		HeaderTimeout:  5 * time.Second,
		ReadTimeout:    10 * time.Second,
		AppendTimeout:  3 * time.Second,
		IdleTimeout:    75 * time.Second,
		DrainDelay:     5 * time.Second,
		DrainTimeout:   10 * time.Second,
		RetryAfter:     10 * time.Second,
	}
}

// Validate reports every problem at once.
func (o Options) Validate() error {
	var errs []error
	if _, _, err := net.SplitHostPort(o.Address); err != nil {
		errs = append(errs, errors.New("address: must be host:port"))
	}
	number := func(path string, value, low, high int) {
		if value < low || value > high {
			errs = append(errs, fmt.Errorf("%s: must be between %d and %d", path, low, high))
		}
	}
	number("max_body", o.MaxBody, 1<<10, 16<<20)
	if o.BodyMemory != 0 {
		number("body_memory", o.BodyMemory, max(o.MaxBody, 1<<20), 64<<30)
	}
	number("max_header", o.MaxHeader, 4<<10, 1<<20)
	number("max_connections", o.MaxConnections, 1, 1<<20)
	number("max_in_flight", o.MaxInFlight, 1, 1<<20)

	duration := func(path string, value, low, high time.Duration) {
		if value < low || value > high {
			errs = append(errs, fmt.Errorf("%s: must be between %s and %s", path, low, high))
		}
	}
	duration("header_timeout", o.HeaderTimeout, 100*time.Millisecond, time.Minute)
	duration("read_timeout", o.ReadTimeout, 100*time.Millisecond, 5*time.Minute)
	duration("append_timeout", o.AppendTimeout, 10*time.Millisecond, time.Minute)
	duration("idle_timeout", o.IdleTimeout, time.Second, time.Hour)
	duration("drain_delay", o.DrainDelay, 0, 10*time.Minute)
	duration("drain_timeout", o.DrainTimeout, 0, 10*time.Minute)
	duration("retry_after", o.RetryAfter, time.Second, 24*time.Hour)
	if o.HeaderTimeout > o.ReadTimeout {
		errs = append(errs, errors.New("header_timeout: must not be longer than read_timeout, which includes it"))
	}
	return errors.Join(errs...)
}
