package workers

import (
	"errors"
	"time"
)

// ErrHeld is the outcome of a delivery that was not run because an earlier one
// of its ordering key failed. It stays owed and is charged no attempt.
var ErrHeld = errors.New("workers: held behind an earlier event of its order")

// rejection asks for a dead letter now.
type rejection struct{ err error }

func (r rejection) Error() string { return r.err.Error() }
func (r rejection) Unwrap() error { return r.err }

// Reject wraps an error that no retry can cure: the delivery becomes a dead
// letter at once.
func Reject(err error) error { return rejection{err} }

// Rejected reports whether err asks for a dead letter now.
func Rejected(err error) bool {
	var r rejection
	return errors.As(err, &r)
}

// retryAfter names the time of the next attempt.
type retryAfter struct {
	after time.Duration
	err   error
}

func (r retryAfter) Error() string { return r.err.Error() }
func (r retryAfter) Unwrap() error { return r.err }

// RetryAfter wraps an error whose next attempt shall come after d instead of
// after the policy's backoff. The policy's limits still hold.
func RetryAfter(d time.Duration, err error) error { return retryAfter{d, err} }

// RetryDelay returns the delay that RetryAfter asked for.
func RetryDelay(err error) (time.Duration, bool) {
	var r retryAfter
	ok := errors.As(err, &r)
	return r.after, ok
}
