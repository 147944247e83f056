// Package provider is the contract between the gateway and the code that knows
// one payment company: it verifies a callback, decodes it to canonical events and
// words the reply. A provider knows no Redis, no SQL and no HTTP server; it is
// given bytes and gives bytes back. Implementations are safe for concurrent use
// and hold no state that a callback can change.
package provider

import (
	"net/http"
	"time"

	"github.com/paybell/paybell/streams/event"
)

// Callback is one request as received. It is untrusted until Verify has
// returned without an error. Implementations must not modify it.
type Callback struct {
	// ID is the gateway's own name for the request ("cb_…").
	ID     string
	Method string
	// RawQuery is the query as received, without the question mark.
	RawQuery string
	Header   http.Header
	// Body is exactly what was sent: never decompressed, trimmed or re-encoded.
	Body       []byte
	ReceivedAt time.Time
}

// Verified is the proof that a callback was made by the provider.
type Verified struct {
	Evidence event.Evidence
	// Parsed is what Verify had to read out of the callback in order to verify it;
	// only Decode of the same provider looks inside.
	Parsed any
}

// Decoded is one event as the provider package knows it. The gateway completes
// it: schema, ID, account, namespace, provider, arrival time and Raw.
type Decoded struct {
	Event event.Event
	// Key is the provider key the event ID is made from (docs/event.md, "Identity"): an
	// id or composite that the signature covers. "" means the digest of the body.
	Key string
	// Item is the event's own part of a callback with many events.
	Item []byte
}

// Live is event.Event's Live for a mode. Events never change, so all of them share it.
func Live(live bool) *bool {
	if live {
		return &livemode
	}
	return &testmode
}

var livemode, testmode = true, false

// Outcome is what a reply has to tell the provider.
type Outcome uint8

// Outcomes of a callback. Every provider words each of them.
const (
	// Accepted: every event is durable, now or from an earlier delivery.
	Accepted Outcome = iota + 1
	// Refused: the callback is not believed; resending it will not help.
	Refused
	// Malformed: the callback cannot be read; resending it will not help.
	Malformed
	// Retry: our own failure or overload; the provider must send it again.
	Retry
)

// Reply is the provider's contract, byte for byte. Retry-After is the
// gateway's to add.
type Reply struct {
	Status      int
	ContentType string
	Body        []byte
}

// Provider is one configured account's protocol.
type Provider interface {
	// Verify believes the callback or returns a *Refusal. Anything else it returns
	// is our failure and makes the provider send the callback again.
	Verify(cb *Callback) (*Verified, error)
	// Decode reads a verified callback. A *Refusal refuses it (a wrong merchant
	// identity); any other error means it is authentic but cannot be read, and the
	// gateway keeps it as one event of type unmapped.
	Decode(cb *Callback, v *Verified) ([]Decoded, error)
	// Reply is pure: one outcome always has the same bytes.
	Reply(o Outcome) Reply
	// Identity tells whether two accounts could believe each other's callbacks.
	Identity() Identity
}

// Identity is what tells two accounts of one provider apart.
type Identity struct {
	// Keys are SHA-256 digests of the verification keys.
	Keys [][32]byte
	// Merchant is an identity that the signature covers and Decode enforces; ""
	// when the account enforces none.
	Merchant string
	// Periods are when each of the keys may be used, in no order.
	Periods []Period
}

// Period is when a key, certificate or secret may be used. A zero time is no bound.
type Period struct {
	// Name is what evidence calls the key.
	Name                string
	NotBefore, NotAfter time.Time
	// Decrypts tells a key that opens callbacks from those that verify them: an account
	// that has such keys needs one of each.
	Decrypts bool
}

// Holds reports whether the key may be used at t.
func (p Period) Holds(t time.Time) bool {
	return (p.NotBefore.IsZero() || !t.Before(p.NotBefore)) && (p.NotAfter.IsZero() || t.Before(p.NotAfter))
}

// Signer makes callbacks as the provider would. The send command, load tests and
// providertest use it; the gateway never does.
type Signer interface {
	// Sign returns a complete callback. Equal samples describe the same fact: a
	// redelivery.
	Sign(s Sample) (*Callback, error)
}

// Sample is what a made-up callback shall say.
type Sample struct {
	// Type is one of PaymentSucceeded (the zero value means this), PaymentPending,
	// PaymentFailed, PaymentClosed, RefundSucceeded, as far as the provider has it;
	// Sign returns ErrNoSample for the others.
	Type event.Type
	// EventID is the provider's own event id; "" makes one from the other fields.
	EventID     string
	OrderRef    string
	ProviderRef string
	CustomerRef string
	Amount      event.Money
	// At is when it happened and when it is signed.
	At time.Time
	// Body replaces the generated body: it is signed as it stands.
	Body []byte
	// Tamper spoils the callback after it was signed.
	Tamper Tamper
}

// Tamper names a way to spoil a signed callback.
type Tamper string

// Ways to spoil a callback. Each must be refused by Verify.
const (
	TamperNone      Tamper = ""
	TamperBody      Tamper = "body"
	TamperSignature Tamper = "signature"
	TamperTimestamp Tamper = "timestamp"
	TamperDrop      Tamper = "drop-signature"
)
