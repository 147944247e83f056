package providertest_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/gateway/provider/providertest"
	"github.com/paybell/paybell/streams/event"
)

// recorder is a testing.TB that notes that a test failed instead of failing.
type recorder struct {
	testing.TB
	mu       sync.Mutex
	failures []string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// failed runs the named checks, all without names, and returns which of them
// failed and why. A fake that modifies callbacks races with itself where they are
// shared, so a broken promise is shown to its own check alone.
func failed(t *testing.T, s providertest.Suite, only ...string) (names, failures []string) {
	t.Helper()
	for _, c := range providertest.Checks() {
		if len(only) > 0 && !slices.Contains(only, c.Name) {
			continue
		}
		r := &recorder{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			// A panic is a failure as well; without this it would end the test binary.
			defer func() {
				if p := recover(); p != nil {
					r.Errorf("panic: %v", p)
				}
			}()
			c.Run(r, s)
		}()
		<-done
		if len(r.failures) > 0 {
			names, failures = append(names, c.Name), append(failures, r.failures...)
		}
	}
	return names, failures
}

// fake is a provider that keeps every promise, with a place to break each.
type fake struct {
	keys  []providertest.Key
	now   func() time.Time
	bad   breaks
	calls *atomic.Int64
}

// breaks are promises to break.
type breaks struct {
	believesEverything, believesUnsigned, unsignedTime, ignoresBody, ignoresStale, ignoresFuture, looseEdge, narrowEdge,
	takesFirstHeader, missingIsAmbiguous, onlyNewestKey, ignoresNotAfter, ignoresNotBefore, noKeyIsMismatch, oneKeyName,
	noEvidence, plainError, quotesSignature, quotesBody, quotesSecret, modifiesBody, modifiesHeader,
	wrongType, wrongOrder, wrongAmount, wrongMoney, noCustomer, noPaymentRef, silent, malformedIsUnnamed, panics,
	fillsAccount, localTime, partial, randomKey, sameKey, unknownType,
	replyChanges, retryIs4xx, refusalIs2xx, zeroIs2xx,
	noIdentity, sharedIdentity, printsSecret, races,
	tamperIsGood, unknownTamper, makesAnyType, dropsEventID bool
}

type body struct {
	ID, Type, Order, Payment, Customer, Amount, Currency string
	At                                                   int64
}

func secretOf(name string) string { return "secret-text-of-" + name }

func mac(key, timestamp string, text []byte) string {
	m := hmac.New(sha256.New, []byte(secretOf(key)))
	m.Write([]byte(timestamp + "."))
	m.Write(text)
	return hex.EncodeToString(m.Sum(nil))
}

func (f *fake) Verify(cb *provider.Callback) (*provider.Verified, error) {
	if f.bad.modifiesBody && len(cb.Body) > 0 {
		cb.Body[0] ^= 0x80
		defer func() { cb.Body[len(cb.Body)-1] = 'x' }()
	}
	if f.bad.modifiesHeader {
		cb.Header.Set("X-Seen", "1")
	}
	evidence := event.Evidence{KeyID: "none", SignedAt: f.now(), Headers: provider.EvidenceHeaders(cb.Header, "X-Signature", "X-Time")}
	if f.bad.believesEverything {
		return &provider.Verified{Evidence: evidence}, nil
	}
	if f.bad.believesUnsigned && cb.Header.Get("X-Signature") == "" {
		return &provider.Verified{Evidence: evidence}, nil
	}
	single := provider.SingleHeader
	if f.bad.takesFirstHeader {
		single = func(h http.Header, name string) (string, error) {
			if h.Get(name) == "" {
				return "", provider.Refuse(provider.ReasonMissingSignature, "missing")
			}
			return h.Get(name), nil
		}
	}
	sig, err := single(cb.Header, "X-Signature")
	if err != nil {
		if f.bad.missingIsAmbiguous {
			return nil, provider.Refuse(provider.ReasonAmbiguous, "missing")
		}
		return nil, err
	}
	timestamp, err := single(cb.Header, "X-Time")
	if err != nil {
		return nil, err
	}
	keyID, err := f.match(sig, timestamp, cb.Body)
	if err != nil {
		return nil, err
	}
	w := provider.Window{Tolerance: time.Minute, Now: f.now}
	switch {
	case f.bad.looseEdge:
		w.Tolerance += time.Second
	case f.bad.narrowEdge:
		w.Tolerance -= time.Nanosecond
	}
	signedAt, err := w.Check(timestamp)
	if r, ok := errors.AsType[*provider.Refusal](err); ok &&
		(r.Reason == provider.ReasonStale && f.bad.ignoresStale || r.Reason == provider.ReasonFuture && f.bad.ignoresFuture) {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	evidence.KeyID, evidence.SignedAt = keyID, signedAt
	if f.bad.oneKeyName {
		evidence.KeyID = "key"
	}
	if f.bad.noEvidence {
		evidence = event.Evidence{}
	}
	return &provider.Verified{Evidence: evidence}, nil
}

func (f *fake) match(sig, timestamp string, text []byte) (string, error) {
	if f.bad.ignoresBody {
		text = nil
	}
	if f.bad.unsignedTime {
		timestamp = ""
	}
	usable := false
	for i, k := range f.keys {
		if i > 0 && f.bad.onlyNewestKey {
			break
		}
		if !k.NotAfter.IsZero() && !f.now().Before(k.NotAfter) && !f.bad.ignoresNotAfter {
			continue
		}
		if !k.NotBefore.IsZero() && f.now().Before(k.NotBefore) && !f.bad.ignoresNotBefore {
			continue
		}
		usable = true
		if hmac.Equal([]byte(mac(k.Name, timestamp, text)), []byte(sig)) {
			return k.Name, nil
		}
	}
	switch {
	case !usable && !f.bad.noKeyIsMismatch:
		return "", provider.Refuse(provider.ReasonNoKey, "no key")
	case f.bad.plainError:
		return "", errors.New("mismatch")
	case f.bad.quotesSignature:
		return "", provider.Refuse(provider.ReasonMismatch, "%s is wrong", sig)
	case f.bad.quotesBody:
		return "", provider.Refuse(provider.ReasonMismatch, "%s is wrong", text)
	case f.bad.quotesSecret && len(f.keys) > 0:
		return "", provider.Refuse(provider.ReasonMismatch, "not made with %s", secretOf(f.keys[0].Name))
	}
	return "", provider.Refuse(provider.ReasonMismatch, "mismatch")
}

func (f *fake) Decode(cb *provider.Callback, _ *provider.Verified) ([]provider.Decoded, error) {
	var b body
	n := f.calls.Add(1)
	if f.bad.silent {
		return nil, nil
	}
	if err := json.Unmarshal(cb.Body, &b); err != nil || b.ID == "" {
		switch {
		case f.bad.panics:
			panic("no id")
		case f.bad.malformedIsUnnamed:
			return nil, errors.New("cannot read it")
		}
		return nil, fmt.Errorf("%w: no id", provider.ErrMalformed)
	}
	m, err := event.ParseDecimal(b.Amount, b.Currency)
	if err != nil {
		return nil, fmt.Errorf("%w: amount", provider.ErrMalformed)
	}
	e := event.Event{
		Type: event.Type(b.Type), OccurredAt: time.Unix(b.At, 0).UTC(),
		ProviderEvent: event.ProviderEvent{ID: b.ID, IDAuthenticated: true, Type: b.Type},
		Merchant:      event.Merchant{CustomerRef: b.Customer},
		Payment:       &event.Payment{OrderRef: b.Order, ProviderRef: b.Payment, Amount: &m},
		Authenticity:  event.Signature, Completeness: event.Full,
	}
	if e.Type == event.RefundSucceeded {
		e.Refund = &event.Refund{Amount: &m}
		e.Payment.Amount = nil
	}
	if f.bad.unsignedTime {
		if seconds, err := provider.ParseTimestamp(cb.Header.Get("X-Time")); err == nil {
			e.OccurredAt = time.Unix(seconds, 0).UTC()
		}
	}
	key := b.ID
	f.spoil(&e, &key, n)
	return []provider.Decoded{{Event: e, Key: key}}, nil
}

// spoil breaks what was decoded.
func (f *fake) spoil(e *event.Event, key *string, n int64) {
	switch {
	case f.bad.wrongType:
		e.Type = event.PaymentPending
	case f.bad.unknownType:
		e.Type = "payment.maybe"
	case f.bad.wrongOrder:
		e.Payment.OrderRef = strings.TrimSpace(e.Payment.OrderRef) + " "
	case f.bad.wrongAmount && e.Payment.Amount != nil:
		e.Payment.Amount = &event.Money{Value: "1.00", Minor: 100, Exponent: 2, Currency: e.Payment.Amount.Currency}
	case f.bad.wrongMoney && e.Payment.Amount != nil:
		e.Payment.Amount.Minor++
	case f.bad.noCustomer:
		e.Merchant.CustomerRef = ""
	case f.bad.noPaymentRef:
		e.Payment.ProviderRef = ""
	case f.bad.fillsAccount:
		e.Account = "a"
	case f.bad.localTime:
		e.OccurredAt = e.OccurredAt.In(time.FixedZone("here", 3600))
	case f.bad.partial:
		e.Completeness = event.NeedsFetch
	case f.bad.randomKey:
		*key += strconv.FormatInt(n, 10)
	case f.bad.sameKey:
		*key = "key"
	case f.bad.races:
		e.Payment.Method = strconv.FormatInt(n%2, 10)
	}
}

func (f *fake) Reply(o provider.Outcome) provider.Reply {
	if f.bad.replyChanges {
		return provider.Reply{Status: 200, Body: []byte(strconv.FormatInt(f.calls.Add(1), 10))}
	}
	r := provider.Reply{Status: map[provider.Outcome]int{provider.Accepted: 200, provider.Refused: 401, provider.Malformed: 400}[o]}
	switch {
	case o == provider.Retry && f.bad.retryIs4xx:
		r.Status = 429
	case o == provider.Refused && f.bad.refusalIs2xx, o == 0 && f.bad.zeroIs2xx:
		r.Status = 200
	case r.Status == 0:
		r.Status = 503
	}
	return r
}

func (f *fake) Identity() provider.Identity {
	var id provider.Identity
	if f.bad.noIdentity {
		return id
	}
	for _, k := range f.keys {
		name := k.Name
		if f.bad.sharedIdentity {
			name = "key"
		}
		id.Keys = append(id.Keys, sha256.Sum256([]byte(name)))
	}
	return id
}

// String is where a careless provider tells everything.
func (f *fake) String() string {
	if f.bad.printsSecret && len(f.keys) > 0 {
		return fmt.Sprintf("fake with %d", []byte(secretOf(f.keys[0].Name)))
	}
	return "fake"
}

type fakeSigner struct {
	key string
	bad breaks
}

var types = []event.Type{event.PaymentSucceeded, event.PaymentPending, event.RefundSucceeded}

func (s *fakeSigner) Sign(sample provider.Sample) (*provider.Callback, error) {
	if sample.Type == "" {
		sample.Type = event.PaymentSucceeded
	}
	if !slices.Contains(types, sample.Type) && !s.bad.makesAnyType {
		return nil, provider.ErrNoSample
	}
	if sample.EventID == "" || s.bad.dropsEventID {
		sample.EventID = provider.MadeID(string(sample.Type), sample.OrderRef)
	}
	text := sample.Body
	if text == nil {
		var err error
		text, err = json.Marshal(body{
			sample.EventID, string(sample.Type), sample.OrderRef, sample.ProviderRef, sample.CustomerRef,
			sample.Amount.Value, sample.Amount.Currency, sample.At.Unix(),
		})
		if err != nil {
			return nil, err
		}
	}
	timestamp := strconv.FormatInt(sample.At.Unix(), 10)
	signed := text
	if s.bad.ignoresBody {
		signed = nil
	}
	signedTime := timestamp
	if s.bad.unsignedTime {
		signedTime = ""
	}
	cb := &provider.Callback{Body: text, Header: http.Header{"X-Signature": {mac(s.key, signedTime, signed)}, "X-Time": {timestamp}}}
	if s.bad.tamperIsGood {
		return cb, nil
	}
	switch sample.Tamper {
	case provider.TamperNone:
	case provider.TamperBody:
		cb.Body = append(bytes.Clone(text), ' ')
	case provider.TamperSignature:
		cb.Header.Set("X-Signature", strings.Repeat("0", 64))
	case provider.TamperTimestamp:
		cb.Header.Set("X-Time", timestamp+"0")
	case provider.TamperDrop:
		cb.Header.Del("X-Signature")
	default:
		if !s.bad.unknownTamper {
			return nil, provider.ErrNoSample
		}
	}
	return cb, nil
}

func suite(bad breaks) providertest.Suite {
	return providertest.Suite{
		Open: func(_ testing.TB, now func() time.Time, keys ...providertest.Key) providertest.Account {
			a := providertest.Account{Provider: &fake{keys: keys, now: now, bad: bad, calls: new(atomic.Int64)}, Options: "options"}
			for _, k := range keys {
				a.Secrets = append(a.Secrets, secretOf(k.Name))
			}
			if len(keys) > 0 {
				a.Signer = &fakeSigner{key: keys[0].Name, bad: bad}
			}
			return a
		},
		Types:            types,
		Amount:           event.Money{Value: "88.05", Minor: 8805, Exponent: 2, Currency: "EUR"},
		SignatureHeaders: []string{"x-signature", "x-time"},
		Tolerance:        time.Minute,
		Replies: map[provider.Outcome]provider.Reply{
			provider.Accepted: {Status: 200}, provider.Refused: {Status: 401}, provider.Malformed: {Status: 400}, provider.Retry: {Status: 503},
		},
		Refused: []providertest.Refused{{Name: "no time", Reason: provider.ReasonMissingSignature, Spoil: func(_ testing.TB, cb *provider.Callback) {
			cb.Header.Del("X-Time")
		}}},
	}
}

func TestKeptPromisesPass(t *testing.T) { providertest.Run(t, suite(breaks{})) }

// TestBrokenPromisesFail breaks one promise at a time and names a check that has
// to notice.
func TestBrokenPromisesFail(t *testing.T) {
	broken := map[string]bool{}
	for _, c := range []struct {
		name, check string
		bad         breaks
	}{
		{"believes everything", "every changed byte of the body is refused", breaks{believesEverything: true}},
		{"believes everything, so any key", "wrong key is refused", breaks{believesEverything: true}},
		{"believes everything, so any time", "stale and future are refused", breaks{believesEverything: true}},
		{"believes everything, so any tampering", "tampered samples are refused", breaks{believesEverything: true}},
		{"believes everything, so no key", "an empty slot refuses", breaks{believesEverything: true}},
		{"believes everything, so further callbacks", "further callbacks are refused", breaks{believesEverything: true}},
		{"believes what is not signed", "missing empty and doubled headers are refused", breaks{believesUnsigned: true}},
		{"does not sign the body", "every changed byte of the body is refused", breaks{ignoresBody: true}},
		{"does not sign the body, concurrently", "concurrent use", breaks{ignoresBody: true}},
		{"takes the time from a header it does not sign", "every changed byte of the signature is refused", breaks{unsignedTime: true}},
		{"refuses a changed signature with any error", "every changed byte of the signature is refused", breaks{plainError: true}},
		{"ignores stale", "stale and future are refused", breaks{ignoresStale: true}},
		{"ignores future", "stale and future are refused", breaks{ignoresFuture: true}},
		{"tolerates a second too much", "stale and future are refused", breaks{looseEdge: true}},
		{"tolerates a moment too little", "stale and future are refused", breaks{narrowEdge: true}},
		{"takes the first of two headers", "missing empty and doubled headers are refused", breaks{takesFirstHeader: true}},
		{"gives another reason", "missing empty and doubled headers are refused", breaks{missingIsAmbiguous: true}},
		{"knows the newest key alone", "keys rotate", breaks{onlyNewestKey: true}},
		{"ignores not_after", "keys rotate", breaks{ignoresNotAfter: true}},
		{"ignores not_before", "keys rotate", breaks{ignoresNotBefore: true}},
		{"gives both keys one name", "keys rotate", breaks{oneKeyName: true}},
		{"takes no key for a mismatch", "an empty slot refuses", breaks{noKeyIsMismatch: true}},
		{"has no evidence", "samples are verified and decoded", breaks{noEvidence: true}},
		{"refuses with any error", "wrong key is refused", breaks{plainError: true}},
		{"quotes the signature", "wrong key is refused", breaks{quotesSignature: true}},
		{"quotes the body", "every changed byte of the body is refused", breaks{quotesBody: true}},
		{"quotes the secret", "wrong key is refused", breaks{quotesSecret: true}},
		{"modifies the body", "wrong key is refused", breaks{modifiesBody: true}},
		{"modifies the headers", "samples are verified and decoded", breaks{modifiesHeader: true}},
		{"decodes another type", "samples are verified and decoded", breaks{wrongType: true}},
		{"decodes a type of its own", "samples are verified and decoded", breaks{unknownType: true}},
		{"changes the order reference", "samples are verified and decoded", breaks{wrongOrder: true}},
		{"decodes another amount", "samples are verified and decoded", breaks{wrongAmount: true}},
		{"makes money that disagrees", "samples are verified and decoded", breaks{wrongMoney: true}},
		{"loses the customer", "samples are verified and decoded", breaks{noCustomer: true}},
		{"loses the payment", "samples are verified and decoded", breaks{noPaymentRef: true}},
		{"fills in the account", "samples are verified and decoded", breaks{fillsAccount: true}},
		{"tells local time", "samples are verified and decoded", breaks{localTime: true}},
		{"cannot move money", "samples are verified and decoded", breaks{partial: true}},
		{"drops events in silence", "samples are verified and decoded", breaks{silent: true}},
		{"has another key each time", "redelivery has the same key and facts", breaks{randomKey: true}},
		{"has one key for all", "redelivery has the same key and facts", breaks{sameKey: true}},
		{"forgets the sample's event id", "redelivery has the same key and facts", breaks{dropsEventID: true}},
		{"does not name what is malformed", "unreadable bodies do no harm", breaks{malformedIsUnnamed: true}},
		{"panics", "unreadable bodies do no harm", breaks{panics: true}},
		{"has a reply that changes", "replies are exact", breaks{replyChanges: true}},
		{"blames the sender for our failure", "replies are exact", breaks{retryIs4xx: true}},
		{"thanks for a forgery", "replies are exact", breaks{refusalIs2xx: true}},
		{"thanks for nothing", "replies are exact", breaks{zeroIs2xx: true}},
		{"has no identity", "identity tells keys apart", breaks{noIdentity: true}},
		{"shares its identity", "identity tells keys apart", breaks{sharedIdentity: true}},
		{"prints its secret", "no secret shows", breaks{printsSecret: true}},
		{"keeps state", "concurrent use", breaks{races: true}},
		{"does not tamper", "tampered samples are refused", breaks{tamperIsGood: true}},
		{"tampers in unknown ways", "tampered samples are refused", breaks{unknownTamper: true}},
		{"makes types it does not name", "no sample of other types", breaks{makesAnyType: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if names, _ := failed(t, suite(c.bad), c.check); !slices.Contains(names, c.check) {
				t.Errorf("%q did not fail", c.check)
			}
			broken[c.check] = true
		})
	}
	// A check that nothing here breaks is not known to be able to fail. The first
	// one is about the suite itself, and has a test of its own.
	for _, c := range providertest.Checks()[1:] {
		if !broken[c.Name] {
			t.Errorf("no broken promise makes %q fail", c.Name)
		}
	}
}

// TestSuiteHasToBeComplete leaves out what the suite cannot do without.
func TestSuiteHasToBeComplete(t *testing.T) {
	for name, change := range map[string]func(*providertest.Suite){
		"no account":              func(s *providertest.Suite) { s.Open = nil },
		"no payment.succeeded":    func(s *providertest.Suite) { s.Types = []event.Type{event.PaymentPending} },
		"no amount":               func(s *providertest.Suite) { s.Amount = event.Money{} },
		"nothing that is signed":  func(s *providertest.Suite) { s.SignatureHeaders = nil },
		"a reply that is missing": func(s *providertest.Suite) { delete(s.Replies, provider.Retry) },
	} {
		t.Run(name, func(t *testing.T) {
			s := suite(breaks{})
			change(&s)
			if names, _ := failed(t, s); len(names) == 0 {
				t.Errorf("the suite passes")
			}
		})
	}
}
