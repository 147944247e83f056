// Package stripe verifies, decodes and answers Stripe's webhook events, snapshot
// and thin ones (docs.stripe.com/webhooks). It never asks Stripe anything: a
// thin event, which carries ids alone, becomes a payment.reference that somebody
// else has to fetch. A callback it cannot verify is refused, whatever the cause.
//
// Stripe tells one payment in several events: its payment intent, its charge, its
// checkout session and its invoice each have theirs. All of them may be sent here.
// They name the payment by its intent where the object knows it, and give a total
// instead of a capture where it does not, so that the order that is folded from
// them counts the money once.
package stripe

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

// Name is the provider's name in configurations, events and event IDs.
const Name = "stripe"

// Redelivery is how long Stripe keeps sending an event that is not answered with
// success: three days in live mode.
const Redelivery = 72 * time.Hour

// Provider is one Stripe endpoint.
type Provider struct {
	options Options
	window  provider.Window
	hmac    *provider.HMAC
}

var _ provider.Provider = (*Provider)(nil)

// New reads the secrets and returns the provider. Its errors name the sources
// and never what is in them.
func New(o Options, now func() time.Time) (*Provider, error) {
	mac, err := open(o)
	if err != nil {
		return nil, err
	}
	return &Provider{options: o, window: provider.Window{Tolerance: o.Tolerance, Now: now}, hmac: mac}, nil
}

func open(o Options) (*provider.HMAC, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("stripe: %w", err)
	}
	secrets, err := o.Secrets.Read()
	if err != nil {
		return nil, fmt.Errorf("stripe: secrets: %w", err)
	}
	// The key is the whole text of the secret, "whsec_" included: it is not base64.
	mac, err := provider.NewHMAC(sha256.New, secrets, checkSecret)
	if err != nil {
		return nil, fmt.Errorf("stripe: %w", err)
	}
	return mac, nil
}

// errSpace catches the commonest mistake with Stripe's secrets, which otherwise
// only shows as every signature failing.
var errSpace = errors.New("stripe: the secret has space around it")

func checkSecret(text string) ([]byte, error) {
	for _, c := range []byte{text[0], text[len(text)-1]} {
		if c == ' ' || c == '\t' || c == '\n' || c == '\r' {
			return nil, errSpace
		}
	}
	return []byte(text), nil
}

// Verify implements provider.Provider. The signature is judged before its time,
// so that "stale" always means an authentic callback that came late.
func (p *Provider) Verify(cb *provider.Callback) (*provider.Verified, error) {
	header, err := provider.SingleHeader(cb.Header, signatureHeader)
	if err != nil {
		return nil, err
	}
	var sig signature
	if err := sig.parse(header); err != nil {
		return nil, err
	}
	var v1 [maxSignatures][]byte
	for i := range sig.n {
		v1[i] = sig.digests[i][:]
	}
	keyID, err := p.hmac.Verify(p.window.Now(), v1[:sig.n], []byte(sig.timestamp), dot, cb.Body)
	if err != nil {
		return nil, err
	}
	signedAt, err := p.window.Check(sig.timestamp)
	if err != nil {
		return nil, err
	}
	return &provider.Verified{Evidence: event.Evidence{
		KeyID:    keyID,
		SignedAt: signedAt,
		Headers:  provider.EvidenceHeaders(cb.Header, signatureHeader),
	}}, nil
}

// Identity implements provider.Provider.
func (p *Provider) Identity() provider.Identity {
	return provider.Identity{Keys: p.hmac.Digests(), Merchant: p.options.Account, Periods: p.hmac.Periods()}
}

// The replies. Stripe reads the status alone; the bodies are for people.
var (
	accepted  = []byte(`{"received":true}`)
	refused   = []byte(`{"error":"signature verification failed"}`)
	malformed = []byte(`{"error":"malformed event"}`)
	retry     = []byte(`{"error":"temporarily unavailable"}`)
)

// Reply implements provider.Provider. Refusals are 400, as in Stripe's own
// examples.
func (p *Provider) Reply(o provider.Outcome) provider.Reply {
	r := provider.Reply{ContentType: "application/json"}
	switch o {
	case provider.Accepted:
		r.Status, r.Body = http.StatusOK, accepted
	case provider.Refused:
		r.Status, r.Body = http.StatusBadRequest, refused
	case provider.Malformed:
		r.Status, r.Body = http.StatusBadRequest, malformed
	case provider.Retry:
		fallthrough
	default:
		r.Status, r.Body = http.StatusServiceUnavailable, retry
	}
	return r
}
