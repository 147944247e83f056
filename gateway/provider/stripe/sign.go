package stripe

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/paybell/paybell/configs/secret"
	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

// Sandbox returns options of a sandbox endpoint whose secret stands in a file of
// dir. The file is made when it is not there and kept when it is.
func Sandbox(dir string) (Options, error) {
	path := filepath.Join(dir, "stripe-webhook-secret")
	err := provider.KeepFile(path, func() ([]byte, error) {
		return []byte("whsec_" + strings.ToLower(rand.Text()) + "\n"), nil
	})
	if err != nil {
		return Options{}, fmt.Errorf("stripe: sandbox: %w", err)
	}
	o := DefaultOptions()
	o.Secrets = secret.Slot{{File: path}}
	o.CustomerRef = "/data/object/metadata/customer_id"
	return o, nil
}

// Signer makes callbacks as Stripe would. Whoever has the endpoint's secret can,
// which is why Stripe's signatures prove nothing to third parties.
type Signer struct {
	options Options
	now     func() time.Time
	hmac    *provider.HMAC
}

var _ provider.Signer = (*Signer)(nil)

// NewSigner reads the secrets; the newest one signs.
func NewSigner(o Options, now func() time.Time) (*Signer, error) {
	mac, err := open(o)
	if err != nil {
		return nil, err
	}
	if mac.Len() == 0 {
		return nil, fmt.Errorf("stripe: no secret to sign with: %w", provider.ErrCannotSign)
	}
	return &Signer{options: o, now: now, hmac: mac}, nil
}

// Sign implements provider.Signer.
func (s *Signer) Sign(sample provider.Sample) (*provider.Callback, error) {
	if sample.At.IsZero() {
		sample.At = s.now()
	}
	body := sample.Body
	if body == nil {
		var err error
		if body, err = s.body(sample); err != nil {
			return nil, err
		}
	}
	timestamp := strconv.FormatInt(sample.At.Unix(), 10)
	mac, err := s.hmac.Sign([]byte(timestamp), dot, body)
	if err != nil {
		return nil, err
	}
	cb := &provider.Callback{
		Method: http.MethodPost,
		Header: http.Header{"Content-Type": {"application/json; charset=utf-8"}},
		Body:   body,
	}
	digest := hex.EncodeToString(mac)
	switch sample.Tamper {
	case provider.TamperNone:
	case provider.TamperBody:
		cb.Body = append(bytes.Clone(body), ' ')
	case provider.TamperSignature:
		mac[0] ^= 1
		digest = hex.EncodeToString(mac)
	case provider.TamperTimestamp:
		timestamp = strconv.FormatInt(sample.At.Unix()+1, 10)
	case provider.TamperDrop:
		return cb, nil
	default:
		return nil, fmt.Errorf("%w: tamper %q", provider.ErrNoSample, sample.Tamper)
	}
	cb.Header.Set(signatureHeader, "t="+timestamp+",v1="+digest)
	return cb, nil
}

// body makes the event of a sample.
func (s *Signer) body(sample provider.Sample) ([]byte, error) {
	minor, currency, err := wire(sample.Amount)
	if err != nil {
		return nil, err
	}
	ref := sample.ProviderRef
	if ref == "" {
		ref = "pi_" + provider.MadeID(sample.OrderRef)
	}
	var word string
	object := map[string]any{"id": ref, "object": "payment_intent", "amount": minor, "currency": currency, "metadata": map[string]any{}}
	switch sample.Type {
	case event.PaymentSucceeded, "":
		sample.Type, word = event.PaymentSucceeded, "payment_intent.succeeded"
		object["status"], object["amount_received"] = "succeeded", minor
	case event.PaymentPending:
		word, object["status"] = "payment_intent.processing", "processing"
	case event.PaymentFailed:
		word, object["status"] = "payment_intent.payment_failed", "requires_payment_method"
		object["last_payment_error"] = map[string]any{"code": "card_declined", "message": "Your card was declined.", "type": "card_error"}
	case event.PaymentClosed:
		word, object["status"] = "payment_intent.canceled", "canceled"
		object["cancellation_reason"] = "abandoned"
	case event.RefundSucceeded:
		word, object["status"] = "refund.updated", "succeeded"
		object["id"], object["object"], object["payment_intent"] = "re_"+provider.MadeID(sample.OrderRef, ref, sample.Amount.Value), "refund", ref
	default:
		return nil, fmt.Errorf("%w: stripe has none of type %s", provider.ErrNoSample, sample.Type)
	}
	id := sample.EventID
	if id == "" {
		id = "evt_" + provider.MadeID(string(sample.Type), sample.OrderRef, ref, sample.CustomerRef, sample.Amount.String(), sample.At.UTC().Format(time.RFC3339))
	}
	root := map[string]any{
		"id": id, "object": objectEvent, "type": word, "api_version": "2025-03-31.basil", "created": sample.At.Unix(),
		"livemode": s.options.Live != nil && *s.options.Live, "pending_webhooks": 1, "data": map[string]any{"object": object},
	}
	if s.options.Account != "" {
		root["account"] = s.options.Account
	}
	if len(s.options.OrderRef) > 0 {
		if err := provider.Place(root, s.options.OrderRef[0], sample.OrderRef); err != nil {
			return nil, err
		}
	}
	if s.options.CustomerRef != "" && sample.CustomerRef != "" {
		if err := provider.Place(root, s.options.CustomerRef, sample.CustomerRef); err != nil {
			return nil, err
		}
	}
	return json.Marshal(root)
}
