// Package alipay speaks the asynchronous notices of Alipay's open platform: trade
// notices (alipay.trade.*) and the messages it sends to an application's gateway.
//
// A notice is a form whose parameters, sorted and joined, are signed with
// Alipay's RSA key. No time of freshness is signed, so a replay is not refused
// here: it is the same event and ends as a duplicate. The query of the request
// takes no part in anything: a synchronous return_url, which carries a valid
// signature through the buyer's browser, says nothing of the trade's status and
// never becomes a payment.
package alipay

import (
	"net/http"
	"time"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

// Name is what the catalog and events call this provider.
const Name = "alipay"

// Redelivery is the span over which Alipay sends a notice again: eight times
// with gaps of 4 and 10 and 10 minutes, 1, 2, 6 and 15 hours.
const Redelivery = 25 * time.Hour

// Provider is one application's notices.
type Provider struct {
	options Options
	keys    keyring
	now     func() time.Time
}

var _ provider.Provider = (*Provider)(nil)

// New reads the keys and certificates. Its errors begin with the path in the
// options. An account without any keys refuses every notice as missing_secret.
func New(o Options, now func() time.Time) (*Provider, error) {
	keys, err := readKeys(o)
	if err != nil {
		return nil, err
	}
	return &Provider{options: o, keys: keys, now: now}, nil
}

// Verify implements provider.Provider.
func (p *Provider) Verify(cb *provider.Callback) (*provider.Verified, error) {
	n, err := parseNotice(cb.Body)
	if err != nil {
		return nil, err
	}
	hash, err := n.hash(p.options.SignTypes)
	if err != nil {
		return nil, err
	}
	keys, err := p.keys.candidates(n.form.Value(paramCertSN))
	if err != nil {
		return nil, err
	}
	keyID, err := n.verify(p.now(), hash, keys)
	if err != nil {
		return nil, err
	}
	// Only an authentic notice can be ambiguous; a forged one is simply wrong.
	if err := n.readsOneWay(p.options.CustomerRef); err != nil {
		return nil, err
	}
	signedAt, _ := n.time(paramNotifyTime) // Evidence alone: unknown stays unknown.
	evidence := event.Evidence{KeyID: keyID, SignedAt: signedAt}
	return &provider.Verified{Evidence: evidence, Parsed: n}, nil
}

// Reply implements provider.Provider. Everything but the seven bytes of success
// makes Alipay send the notice again.
func (p *Provider) Reply(o provider.Outcome) provider.Reply {
	switch o {
	case provider.Accepted:
		return reply(http.StatusOK, "success")
	case provider.Refused:
		return reply(http.StatusUnauthorized, "fail")
	case provider.Malformed:
		return reply(http.StatusBadRequest, "fail")
	default:
		return reply(http.StatusServiceUnavailable, "fail")
	}
}

func reply(status int, body string) provider.Reply {
	return provider.Reply{Status: status, ContentType: "text/plain", Body: []byte(body)}
}

// Identity implements provider.Provider. The seller is left out: an account that
// names none believes the notices of one that does.
func (p *Provider) Identity() provider.Identity {
	return provider.Identity{Keys: p.keys.digests(), Merchant: p.options.AppID, Periods: p.keys.periods()}
}
