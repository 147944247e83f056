package streams

import (
	"errors"
	"fmt"
)

// Errors that callers ask for with errors.Is.
var (
	// ErrUnavailable is wrapped by every error that comes of Redis not confirming
	// a command: it could not be reached, refused, or its answer did not arrive.
	// The command may have run. All of them may be sent again.
	ErrUnavailable = errors.New("streams: not confirmed by redis")
	// ErrOverloaded says that the writer's queue is full; nothing was sent.
	ErrOverloaded error = overloadError{}
	// ErrStopped says that the writer has stopped; nothing was sent.
	ErrStopped = errors.New("streams: writer stopped")
	// ErrLeaseLost says that the caller does not hold the partition; nothing was done.
	ErrLeaseLost = errors.New("streams: lease lost")
	// ErrDurability says that the server keeps what it confirms less well than the
	// configuration promises.
	ErrDurability = errors.New("streams: durability not kept")
	// ErrLayout says that a server holds events that are laid out otherwise than the
	// configuration says.
	ErrLayout = errors.New("streams: laid out otherwise")
	// ErrClosed says that nothing is appended while the number of partitions is changed, or
	// since it was.
	ErrClosed = errors.New("streams: the number of partitions is being changed, or was changed")
	// ErrDeployment says that what a process was given belongs to two deployments.
	ErrDeployment = errors.New("streams: of two deployments")
	// ErrUnknownGroup says that there is no group of that name.
	ErrUnknownGroup = errors.New("streams: no such group")
	// ErrNoDeadLetter says that a group has no dead letter of that id.
	ErrNoDeadLetter = errors.New("streams: no such dead letter")
	// ErrDeadLetterID says that text is not the id of a dead letter.
	ErrDeadLetterID = errors.New("streams: a dead letter's id reads <partition>-<milliseconds>-<number>")
)

// overloadError tells a door that knows no Redis to shed load.
type overloadError struct{}

// Error implements error.
func (overloadError) Error() string { return "streams: append queue full" }

// Overloaded reports that the append was not tried because too much waits already.
func (overloadError) Overloaded() bool { return true }

// unavailable wraps what was being done, ErrUnavailable and its cause.
func unavailable(doing string, err error) error {
	return fmt.Errorf("%s: %w: %w", doing, ErrUnavailable, err)
}
