// Package providertest is the conformance suite of providers: what every one of
// them has to do, tested with callbacks its own Signer makes. A new provider
// describes itself in a Suite and gets the whole of it for free:
//
//	func TestConformance(t *testing.T) { providertest.Run(t, suite()) }
//	func FuzzVerify(f *testing.F)      { providertest.FuzzVerify(f, suite()) }
//	func FuzzDecode(f *testing.F)      { providertest.FuzzDecode(f, suite()) }
//
// It knows nothing of any protocol. What only one protocol has, its own package
// tests beside this.
package providertest

import (
	"testing"
	"time"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

// Suite describes a provider.
type Suite struct {
	// Open makes an account that accepts the given keys, newest first, and a
	// signer that signs with the first of them. No keys make an account whose slot
	// is empty; its signer may be nil.
	Open func(tb testing.TB, now func() time.Time, keys ...Key) Account
	// Types are the sample types the signer makes. Every other type must give
	// provider.ErrNoSample. PaymentSucceeded must be among them.
	Types []event.Type
	// Amount is the amount of the samples; it must have cents where its currency
	// has them.
	Amount event.Money
	// NoCustomerRef says that the protocol has no place for a customer reference.
	NoCustomerRef bool
	// SignatureHeaders are the headers without which a callback is not believed.
	// Empty when the signature is in the body.
	SignatureHeaders []string
	// LooseBody says that the signature covers a decoded form of the body, so that
	// some other bytes say the same and verify as well. They must then decode to
	// the same events.
	LooseBody bool
	// Tolerance is how far a signed time may be from now, inclusive; 0 where no
	// time is signed.
	Tolerance time.Duration
	// NoKeyValidity says that keys of this provider have no time of validity.
	NoKeyValidity bool
	// NoTamper are the ways to spoil a callback that this protocol has no place
	// for; the signer must answer them with provider.ErrNoSample.
	NoTamper []provider.Tamper
	// Stride tests every n-th byte of the body instead of each, for signatures
	// that are slow to verify; 0 means 1.
	Stride int
	// Replies are the exact replies. Each of the four outcomes must be there.
	Replies map[provider.Outcome]provider.Reply
	// Refused are further callbacks that must be refused.
	Refused []Refused
}

// Account is one configured account under test.
type Account struct {
	Provider provider.Provider
	Signer   provider.Signer
	// Options is what the account was made from. It is printed in every way to see
	// that no secret shows.
	Options any
	// Secrets are the texts that must never show anywhere.
	Secrets []string
}

// Key stands for a verification key. Equal names are equal keys.
type Key struct {
	Name                string
	NotBefore, NotAfter time.Time
}

// Refused is a callback that must be refused, made from a good one.
type Refused struct {
	Name string
	// Spoil changes a callback that is otherwise valid; it owns it.
	Spoil func(tb testing.TB, cb *provider.Callback)
	// Reason is the expected reason; "" accepts any.
	Reason provider.Reason
}

// now is when the suite's callbacks arrive. It stands on a whole second, because
// that is what protocols sign: so the edges of the tolerance can be met exactly.
var now = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// Run tests a provider.
func Run(t *testing.T, s Suite) {
	t.Helper()
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) { c.run(t, s) })
	}
}

// check is one promise. It takes a testing.TB and makes no subtests, so that the
// suite's own tests can watch it fail.
type check struct {
	name string
	run  func(tb testing.TB, s Suite)
}

var checks = []check{
	{"suite is complete", checkSuite},
	{"samples are verified and decoded", checkSamples},
	{"no sample of other types", checkOtherTypes},
	{"redelivery has the same key and facts", checkRedelivery},
	{"every changed byte of the body is refused", checkBody},
	{"every changed byte of the signature is refused", checkSignature},
	{"missing empty and doubled headers are refused", checkHeaders},
	{"stale and future are refused", checkTime},
	{"tampered samples are refused", checkTamper},
	{"further callbacks are refused", checkRefused},
	{"wrong key is refused", checkWrongKey},
	{"keys rotate", checkRotation},
	{"an empty slot refuses", checkNoKey},
	{"unreadable bodies do no harm", checkUnreadable},
	{"replies are exact", checkReplies},
	{"no secret shows", checkSecrets},
	{"identity tells keys apart", checkIdentity},
	{"concurrent use", checkConcurrency},
}
