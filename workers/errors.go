package workers

import (
	"errors"
	"fmt"
	"time"
)

// ErrHeld is the outcome of a delivery that was not run because an earlier one
// of its ordering key failed. It stays owed and is charged no attempt.
var ErrHeld = errors.New("workers: held behind an earlier event of its order")

// rejectError asks for a dead letter now.
type rejectError struct{ err error }

func (r rejectError) Error() string { return r.err.Error() }
func (r rejectError) Unwrap() error { return r.err }

// Reject wraps an error that no retry can cure: the delivery becomes a dead
// letter at once.
func Reject(err error) error { return rejectError{err} }

// Rejected reports whether err asks for a dead letter now.
func Rejected(err error) bool {
	var r rejectError
	return errors.As(err, &r)
}

// retryError names the time of the next attempt.
type retryError struct {
	after time.Duration
	err   error
}

func (r retryError) Error() string { return r.err.Error() }
func (r retryError) Unwrap() error { return r.err }

// RetryAfter wraps an error whose next attempt shall come after d instead of
// after the policy's backoff. The policy's limits still hold.
func RetryAfter(d time.Duration, err error) error { return retryError{d, err} }

// RetryDelay returns the delay that RetryAfter asked for.
func RetryDelay(err error) (time.Duration, bool) {
	var r retryError
	ok := errors.As(err, &r)
	return r.after, ok
}

// unavailableError says that the fault is not the event's.
type unavailableError struct{ err error }

func (u unavailableError) Error() string { return u.err.Error() }
func (u unavailableError) Unwrap() error { return u.err }

// Unavailable wraps an error that says nothing about the event: what the handler
// needs, its database for instance, is away. The delivery is charged no attempt,
// and the whole partition pauses with a growing backoff before it is tried again,
// so that an outage makes no dead letters. Never use it for what one event
// causes: it would hold every order of the partition for as long as it stands.
func Unavailable(err error) error { return unavailableError{err} }

// IsUnavailable reports whether err was made by Unavailable.
func IsUnavailable(err error) bool {
	var u unavailableError
	return errors.As(err, &u)
}

// ErrReplaced is the outcome of a delivery whose effect store has seen a newer owner
// of the partition. The delivery is charged no attempt, and the partition is let go
// of: whoever takes it next, this process or another, gets a newer epoch.
var ErrReplaced = errors.New("workers: a newer owner of the partition has been seen")

// ReplacedError is an ErrReplaced that tells the epoch that was seen: the next lease
// this process takes is above it. Redis alone does not see to that, once its clock was
// set back and its memory lost.
type ReplacedError struct{ Epoch int64 }

// Error implements error.
func (e *ReplacedError) Error() string {
	return fmt.Sprintf("%v: its epoch is %d", ErrReplaced, e.Epoch)
}

// Unwrap returns ErrReplaced.
func (e *ReplacedError) Unwrap() error { return ErrReplaced }

// Errors of a handler that breaks its contract, and of a Pool.
var (
	// ErrOutcomes is the error of every delivery of a batch when the handler did
	// not return one outcome per delivery.
	ErrOutcomes = errors.New("workers: handler did not return one outcome per delivery")
	// ErrExited is the error of an attempt whose goroutine ended without returning.
	ErrExited = errors.New("workers: handler ended its goroutine")
	// ErrGroup is the error of adding a group twice, or one without a name.
	ErrGroup = errors.New("workers: a group needs a name of its own")
	// ErrRunning is the error of adding to, or running, a Pool that has been started.
	ErrRunning = errors.New("workers: pool was started before")
	// ErrStopping is the cause of an attempt's context that ended because the
	// grace of a stop had passed.
	ErrStopping = errors.New("workers: stopping")
)

// PanicError is the error of an attempt that panicked.
type PanicError struct {
	// Value is what the handler panicked with.
	Value any
	// Stack is the stack of the panic.
	Stack []byte
}

// Error tells the value only where it is text already: printing a structure
// could carry an event's personal data into a log.
func (e *PanicError) Error() string {
	switch v := e.Value.(type) {
	case error:
		return "workers: handler panicked: " + v.Error()
	case string:
		return "workers: handler panicked: " + v
	default:
		return fmt.Sprintf("workers: handler panicked with a %T", v)
	}
}
