// Package wechatpay speaks the notices of WeChat Pay's API v3: signed in the
// headers with the platform's RSA key, their content encrypted with the merchant's
// APIv3 key.
//
// Both kinds of platform key stand side by side, certificates and the public key
// that replaces them, because callbacks come under either while a merchant moves.
// Keys come from the configuration; nothing a callback names is ever fetched.
package wechatpay

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

// Name is what the catalog and events call this provider.
const Name = "wechatpay"

// Redelivery is the span over which WeChat Pay sends a notice again: fifteen times
// from 15 seconds to 6 hours apart, 24 hours and 4 minutes in all.
const Redelivery = 24*time.Hour + 4*time.Minute

// Headers that take part in verification.
const (
	headerTimestamp = "Wechatpay-Timestamp"
	headerNonce     = "Wechatpay-Nonce"
	headerSignature = "Wechatpay-Signature"
	headerSerial    = "Wechatpay-Serial"
	headerType      = "Wechatpay-Signature-Type"
)

// signatureType is the only one; a missing header means it. The other that exists
// is of merchants who use SM2.
const signatureType = "WECHATPAY2-SHA256-RSA2048"

// probePrefix begins the signatures that WeChat Pay makes wrong on purpose, to see
// whether we look at them. It is base64 as any signature is.
const probePrefix = "WECHATPAY/SIGNTEST/"

// maxNonce bounds the nonce; WeChat Pay's have 32 characters.
const maxNonce = 128

// Provider is one merchant's notices.
type Provider struct {
	options Options
	keys    keyring
	openers []*opener
	window  provider.Window
}

var _ provider.Provider = (*Provider)(nil)

// New reads the keys, certificates and secrets. Its errors begin with the path in
// the options. An account without any keys refuses every notice as missing_secret.
func New(o Options, now func() time.Time) (*Provider, error) {
	openers, err := readOpeners(o.APIv3Keys)
	p, keysErr := open(o, now, openers)
	if err := errors.Join(keysErr, err); err != nil {
		return nil, err
	}
	return p, nil
}

func open(o Options, now func() time.Time, openers []*opener) (*Provider, error) {
	keys, err := readKeys(o)
	if err != nil {
		return nil, err
	}
	return &Provider{
		options: o, keys: keys, openers: openers,
		window: provider.Window{Tolerance: o.Tolerance, Now: now},
	}, nil
}

// Verify implements provider.Provider. The signature is judged before its time, so
// that stale always means an authentic callback that came late.
func (p *Provider) Verify(cb *provider.Callback) (*provider.Verified, error) {
	h, err := readHeaders(cb.Header)
	if err != nil {
		return nil, err
	}
	if len(p.keys.serials) == 0 {
		return nil, provider.Refuse(provider.ReasonNoKey, "no platform certificate or public key is configured")
	}
	keys, ok := p.keys.bySerial[h.serial]
	if !ok {
		return nil, provider.Refuse(provider.ReasonUnknownKey, "%s is of no configured key", headerSerial)
	}
	seconds, err := provider.ParseTimestamp(h.timestamp)
	if err != nil {
		return nil, err
	}
	keyID, err := p.verifySignature(h, keys, cb.Body)
	// A probe is refused by its wrong signature like any other forgery; only what it
	// is called is special.
	if err != nil && strings.HasPrefix(h.signature, probePrefix) && !isReason(err, provider.ReasonNoKey) {
		return nil, provider.Refuse(provider.ReasonProbe, "the platform tests whether signatures are verified")
	}
	if err != nil {
		return nil, err
	}
	signedAt := time.Unix(seconds, 0).UTC()
	if err := p.window.CheckTime(signedAt); err != nil {
		return nil, err
	}
	return &provider.Verified{Evidence: event.Evidence{
		KeyID:    keyID,
		SignedAt: signedAt,
		Headers:  provider.EvidenceHeaders(cb.Header, headerTimestamp, headerNonce, headerSignature, headerSerial, headerType),
	}}, nil
}

// verifySignature checks the signature over timestamp, nonce and body, each ended
// by a line feed, the last one too.
func (p *Provider) verifySignature(h headers, keys []provider.RSAKey, body []byte) (keyID string, err error) {
	signature, err := base64.StdEncoding.Strict().DecodeString(h.signature)
	if err != nil || strings.ContainsAny(h.signature, "\r\n") {
		return "", provider.Refuse(provider.ReasonMalformedSignature, "%s is not base64", headerSignature)
	}
	return provider.VerifyRSA(p.window.Now(), keys, signature, []byte(h.timestamp), lf, []byte(h.nonce), lf, body, lf)
}

var lf = []byte{'\n'}

// headers are the texts that take part in verification, as they were received.
type headers struct{ timestamp, nonce, signature, serial string }

func readHeaders(h http.Header) (headers, error) {
	var out headers
	for _, name := range [...]string{headerSignature, headerTimestamp, headerNonce, headerSerial} {
		value, err := provider.SingleHeader(h, name)
		if err != nil {
			return headers{}, err
		}
		switch name {
		case headerSignature:
			out.signature = value
		case headerTimestamp:
			out.timestamp = value
		case headerNonce:
			out.nonce = value
		case headerSerial:
			out.serial = value
		}
	}
	kind, ok, err := provider.OptionalHeader(h, headerType)
	if err != nil {
		return headers{}, err
	}
	if ok && kind != signatureType {
		return headers{}, provider.Refuse(provider.ReasonUnsupported, "%s is not %s", headerType, signatureType)
	}
	if len(out.nonce) > maxNonce || strings.ContainsFunc(out.nonce, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return headers{}, provider.Refuse(provider.ReasonMalformedSignature, "%s is not 1 to %d visible characters", headerNonce, maxNonce)
	}
	return out, nil
}

func isReason(err error, reason provider.Reason) bool {
	var r *provider.Refusal
	return errors.As(err, &r) && r.Reason == reason
}

// Reply implements provider.Provider. Everything outside 200 and 204 makes WeChat
// Pay send the notice again.
func (p *Provider) Reply(o provider.Outcome) provider.Reply {
	switch o {
	case provider.Accepted:
		return provider.Reply{Status: http.StatusNoContent}
	case provider.Refused:
		return fail(http.StatusUnauthorized, "not authenticated")
	case provider.Malformed:
		return fail(http.StatusBadRequest, "not readable")
	default:
		return fail(http.StatusServiceUnavailable, "try again later")
	}
}

func fail(status int, message string) provider.Reply {
	return provider.Reply{
		Status: status, ContentType: "application/json",
		Body: []byte(`{"code":"FAIL","message":"` + message + `"}`),
	}
}

// Identity implements provider.Provider.
func (p *Provider) Identity() provider.Identity {
	periods := p.keys.periods()
	for _, k := range p.openers {
		periods = append(periods, provider.Period{Name: k.name, NotBefore: k.notBefore, NotAfter: k.notAfter, Decrypts: true})
	}
	return provider.Identity{Keys: p.keys.digests(), Merchant: p.options.MchID, Periods: periods}
}
