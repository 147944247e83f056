package admin

import "errors"

// Errors of the operator's door.
var (
	// ErrNoOrder is what an Orders returns for an order that it does not know.
	ErrNoOrder = errors.New("admin: no such order")
	// ErrPanic: a source panicked.
	ErrPanic = errors.New("admin: panic in a source")
	// ErrShortToken: a token that could be guessed.
	ErrShortToken = errors.New("admin: a token must be at least 16 characters")
)
