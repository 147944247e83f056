package provider

import (
	"errors"
	"fmt"
)

// Reason is why a callback was refused. The list is closed: it is a metric label.
type Reason string

// Reasons of refusal.
const (
	ReasonMissingSignature   Reason = "missing_signature"
	ReasonMalformedSignature Reason = "malformed_signature"
	// ReasonAmbiguous: a header or form key that must be single came twice.
	ReasonAmbiguous  Reason = "ambiguous"
	ReasonMismatch   Reason = "signature_mismatch"
	ReasonUnknownKey Reason = "unknown_key"
	// ReasonNoKey: nothing is configured, or nothing is valid now, to verify with.
	ReasonNoKey Reason = "missing_secret"
	// ReasonStale and ReasonFuture: authentic but for the signed time, which is outside of
	// the tolerance. What is not authentic is refused for that, whatever its time.
	ReasonStale  Reason = "stale"
	ReasonFuture Reason = "future"
	// ReasonProbe: the provider sent a wrong signature on purpose, to test us.
	ReasonProbe Reason = "probe"
	// ReasonIdentity: authentic, but for another merchant or application.
	ReasonIdentity Reason = "identity"
	// ReasonUnsupported: an algorithm or form this account does not accept.
	ReasonUnsupported Reason = "unsupported"
	// ReasonMalformedBody: the signed part cannot be found in the body.
	ReasonMalformedBody Reason = "malformed_body"
)

// Refusal is a callback that is not believed. Its text never holds a secret, a
// signature or a part of the body.
type Refusal struct { //nolint:errname // a refusal is what it is called everywhere else: metrics, docs and replies
	Reason Reason
	Err    error
}

// Error implements error.
func (r *Refusal) Error() string {
	if r.Err == nil {
		return "provider: " + string(r.Reason)
	}
	return "provider: " + string(r.Reason) + ": " + r.Err.Error()
}

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Err }

// Refuse returns a Refusal; the format's arguments must not hold secrets,
// signatures or parts of the body.
func Refuse(reason Reason, format string, args ...any) error {
	return &Refusal{Reason: reason, Err: fmt.Errorf(format, args...)}
}

// Refusals of forged callbacks, made once: a flood of them should cost little.
var (
	errHMACMismatch = Refuse(ReasonMismatch, "no signature matches any secret")
	errRSAMismatch  = Refuse(ReasonMismatch, "the signature matches no key")
)

// Errors of providers.
var (
	// ErrMalformed is wrapped by Decode when an authentic callback cannot be read.
	ErrMalformed = errors.New("provider: authentic but malformed")
	// ErrNoSample is returned by a Signer that cannot make what it was asked for.
	ErrNoSample = errors.New("provider: no sample of that kind")
	// ErrCannotSign is returned where only the provider has the signing key.
	ErrCannotSign = errors.New("provider: only the provider has the signing key")
)
