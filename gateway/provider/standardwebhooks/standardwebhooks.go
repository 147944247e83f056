// Package standardwebhooks verifies and decodes callbacks that are signed by the
// Standard Webhooks specification (standardwebhooks.com, spec 1.0.0): those of the
// merchant's own systems, and of any provider that follows it. What the JSON of
// the body means is configuration: rules map it to canonical events, and a default
// mapping reads a natural shape without any. A callback that cannot be verified is
// refused, whatever the cause.
package standardwebhooks

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"net/http"
	"time"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

// Name is the provider's name in configurations, events and event IDs.
const Name = "standardwebhooks"

// Redelivery is how long the specification's example schedule keeps sending:
// ten attempts in 75 h 35 min 5 s.
const Redelivery = 75*time.Hour + 35*time.Minute + 5*time.Second

// Provider is one sender.
type Provider struct {
	window provider.Window
	hmac   *provider.HMAC
	keys   []publicKey
	live   *bool
	rules  []Rule
}

var _ provider.Provider = (*Provider)(nil)

// New reads the secrets and keys and returns the provider. Its errors name the
// sources and never what is in them.
func New(o Options, now func() time.Time) (*Provider, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("standardwebhooks: %w", err)
	}
	mac, err := openSecrets(o)
	if err != nil {
		return nil, err
	}
	keys, err := readPublicKeys(o.PublicKeys)
	if err != nil {
		return nil, fmt.Errorf("standardwebhooks: %w", err)
	}
	return &Provider{
		window: provider.Window{Tolerance: o.Tolerance, Now: now},
		hmac:   mac,
		keys:   keys,
		live:   o.Live,
		rules:  o.rules(),
	}, nil
}

func openSecrets(o Options) (*provider.HMAC, error) {
	secrets, err := o.Secrets.Read()
	if err != nil {
		return nil, fmt.Errorf("standardwebhooks: secrets: %w", err)
	}
	mac, err := provider.NewHMAC(sha256.New, secrets, decodeSecret)
	if err != nil {
		return nil, fmt.Errorf("standardwebhooks: %w", err)
	}
	return mac, nil
}

// Verify implements provider.Provider. The signature is judged before its time,
// so that "stale" always means an authentic callback that came late.
func (p *Provider) Verify(cb *provider.Callback) (*provider.Verified, error) {
	names, err := namesOf(cb.Header)
	if err != nil {
		return nil, err
	}
	id, err := provider.SingleHeader(cb.Header, names.id)
	if err != nil {
		return nil, err
	}
	if err := checkID(id); err != nil {
		return nil, err
	}
	timestamp, err := provider.SingleHeader(cb.Header, names.timestamp)
	if err != nil {
		return nil, err
	}
	if _, err := provider.ParseTimestamp(timestamp); err != nil {
		return nil, err
	}
	header, err := provider.SingleHeader(cb.Header, names.signature)
	if err != nil {
		return nil, err
	}
	sigs, err := parseSignatures(header)
	if err != nil {
		return nil, err
	}
	keyID, err := p.match(sigs, id, timestamp, cb.Body)
	if err != nil {
		return nil, err
	}
	signedAt, err := p.window.Check(timestamp)
	if err != nil {
		return nil, err
	}
	return &provider.Verified{Evidence: event.Evidence{
		KeyID:    keyID,
		SignedAt: signedAt,
		Headers:  provider.EvidenceHeaders(cb.Header, names.id, names.timestamp, names.signature),
	}}, nil
}

// match tries each signature with the keys of its own scheme and with no others:
// a public key must never serve as a shared secret.
func (p *Provider) match(sigs signatures, id, timestamp string, body []byte) (keyID string, err error) {
	prefix := signedPrefix(id, timestamp)
	tried := false
	if len(sigs.v1) > 0 && p.hmac.Len() > 0 {
		tried = true
		if keyID, err = p.hmac.Verify(p.window.Now(), sigs.v1, prefix, body); err == nil {
			return keyID, nil
		}
	}
	if len(sigs.v1a) > 0 && len(p.keys) > 0 {
		tried = true
		message := append(prefix, body...)
		for _, k := range p.keys {
			for _, sig := range sigs.v1a {
				if ed25519.Verify(k.key, message, sig) {
					return k.name, nil
				}
			}
		}
		err = provider.Refuse(provider.ReasonMismatch, "no signature matches any key")
	}
	switch {
	case tried:
		return "", err
	case p.hmac.Len() == 0 && len(p.keys) == 0:
		return "", provider.Refuse(provider.ReasonNoKey, "there is neither a secret nor a public key")
	default:
		return "", provider.Refuse(provider.ReasonUnsupported, "the callback is signed in a scheme there is no key for")
	}
}

// Decode implements provider.Provider.
func (p *Provider) Decode(cb *provider.Callback, _ *provider.Verified) ([]provider.Decoded, error) {
	names, err := namesOf(cb.Header)
	if err != nil {
		return nil, err
	}
	id := cb.Header.Get(names.id)
	if id == "" {
		return nil, fmt.Errorf("%w: no %s", provider.ErrMalformed, names.id)
	}
	doc, err := provider.ParseJSON(cb.Body)
	if err != nil {
		return nil, err
	}
	defer doc.Free()
	e := event.Event{
		Type:          event.Unmapped,
		Live:          p.live,
		ProviderEvent: event.ProviderEvent{ID: id, IDAuthenticated: true, Type: doc.At("/type").TextOr("")},
		Authenticity:  event.Signature,
		Completeness:  event.Full,
	}
	for i := range p.rules {
		r := &p.rules[i]
		if !r.matches(doc) {
			continue
		}
		e.ProviderEvent.Type = r.When.Equals
		if err := r.read(doc, &e); err != nil {
			return nil, err
		}
		break
	}
	return []provider.Decoded{{Event: e, Key: id}}, nil
}

// Identity implements provider.Provider.
func (p *Provider) Identity() provider.Identity {
	keys, periods := p.hmac.Digests(), p.hmac.Periods()
	for _, k := range p.keys {
		keys, periods = append(keys, sha256.Sum256(k.key)), append(periods, provider.Period{Name: k.name})
	}
	return provider.Identity{Keys: keys, Periods: periods}
}

// The replies. Senders read the status alone; the bodies are for people.
var (
	refused   = []byte(`{"error":"signature verification failed"}`)
	malformed = []byte(`{"error":"malformed callback"}`)
	retry     = []byte(`{"error":"temporarily unavailable"}`)
)

// Reply implements provider.Provider. Any 2xx is success to the specification;
// 200 with no body is the one that senders written in a hurry understand as well.
// 410, which makes a sender disable the endpoint, is never used.
func (p *Provider) Reply(o provider.Outcome) provider.Reply {
	r := provider.Reply{ContentType: "application/json"}
	switch o {
	case provider.Accepted:
		return provider.Reply{Status: http.StatusOK}
	case provider.Refused:
		r.Status, r.Body = http.StatusUnauthorized, refused
	case provider.Malformed:
		r.Status, r.Body = http.StatusBadRequest, malformed
	case provider.Retry:
		fallthrough
	default:
		r.Status, r.Body = http.StatusServiceUnavailable, retry
	}
	return r
}
