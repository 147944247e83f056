// Package oracles asks the providers' own SDKs whether they and we agree: callbacks
// that an SDK signs must be accepted here, callbacks that are signed here must be
// accepted by the SDK, and altered ones by neither. It holds nothing but tests and
// is a module of its own, so that no SDK becomes a dependency of paybell.
//
// The Node SDKs are installed by "npm ci" in this directory.
package oracles
