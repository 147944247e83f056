package gateway

import "errors"

// Errors of taking a callback in. Each has its row in the reply table.
var (
	// ErrBodyTooLarge: the body is longer than Options.MaxBody.
	ErrBodyTooLarge = errors.New("gateway: body too large")
	// ErrEncoding: the body comes in a Content-Encoding. No provider signs a
	// compressed form, and nothing may unpack in front of the verifier.
	ErrEncoding = errors.New("gateway: content encoding")
	// ErrSlowBody: the body had not arrived at the read deadline.
	ErrSlowBody = errors.New("gateway: body not received in time")
	// ErrBrokenBody: the connection or its framing broke inside the body.
	ErrBrokenBody = errors.New("gateway: body broke off")
	// ErrBodyMemory: the bodies under way hold all of Options.BodyMemory.
	ErrBodyMemory = errors.New("gateway: too many large bodies at once")
	// ErrBusy: as many callbacks as Options allow are under way.
	ErrBusy = errors.New("gateway: too many callbacks at once")
	// ErrClock: a signed time is outside of its tolerance, and the clock it was compared with
	// may be wrong.
	ErrClock = errors.New("gateway: the clock may be wrong")
	// ErrPanic: a provider or the appender panicked.
	ErrPanic = errors.New("gateway: panic")
	// ErrMiscounted: the appender did not say of every record that it is durable.
	ErrMiscounted = errors.New("gateway: append did not account for every record")
	// ErrSetAside: Keeper.Drain met events that cannot be brought to the stream. They
	// are in the journal's quarantine.
	ErrSetAside = errors.New("gateway: accepted events are in the journal's quarantine")
)

// overloaded is what an Appender's error may say of itself: the append was not
// tried because too much waits already.
type overloaded interface {
	error
	Overloaded() bool
}
