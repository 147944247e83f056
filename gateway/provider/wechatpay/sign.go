package wechatpay

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

// Signer plays WeChat Pay: it makes notices that are signed with a sandbox's key
// and encrypted with its APIv3 key. As with the real one, a redelivery is encrypted
// anew and has other bytes.
type Signer struct {
	options Options
	// key is a function, because print verbs reach into pointers and not into
	// functions.
	key     func() *rsa.PrivateKey
	serial  string
	openers []*opener
	now     func() time.Time
}

var _ provider.Signer = (*Signer)(nil)

// NewSigner returns ErrCannotSign when the account has no signing key: then only
// WeChat Pay can sign.
func NewSigner(o Options, now func() time.Time) (*Signer, error) {
	if o.SigningKey.IsZero() {
		return nil, fmt.Errorf("wechatpay: signing_key: %w", provider.ErrCannotSign)
	}
	text, err := o.SigningKey.Read()
	if err != nil {
		return nil, fmt.Errorf("wechatpay: signing_key: %w", err)
	}
	key, err := provider.ParseRSAPrivateKey([]byte(text.Value.Reveal()))
	if err != nil {
		return nil, fmt.Errorf("wechatpay: signing_key (%s): %w", text.Name, err)
	}
	ring, err := readKeys(o)
	if err != nil {
		return nil, fmt.Errorf("wechatpay: %w", err)
	}
	openers, err := readOpeners(o.APIv3Keys)
	if err != nil {
		return nil, fmt.Errorf("wechatpay: %w", err)
	}
	if len(openers) == 0 {
		return nil, fmt.Errorf("wechatpay: apiv3_keys: %w", provider.ErrCannotSign)
	}
	for _, serial := range ring.serials {
		if ring.bySerial[serial][0].Public.Equal(&key.PublicKey) {
			return &Signer{
				options: o, key: func() *rsa.PrivateKey { return key }, serial: serial, openers: openers, now: now,
			}, nil
		}
	}
	return nil, fmt.Errorf("wechatpay: signing_key (%s) belongs to none of the configured keys", text.Name)
}

// Sign implements provider.Signer.
func (s *Signer) Sign(sm provider.Sample) (*provider.Callback, error) {
	at := sm.At
	if at.IsZero() {
		at = s.now()
	}
	body := sm.Body
	if body == nil {
		var err error
		if body, err = s.notice(sm, at); err != nil {
			return nil, err
		}
	}
	timestamp, nonce := strconv.FormatInt(at.Unix(), 10), rand.Text()
	signature, err := provider.SignRSA(s.key(), []byte(timestamp), lf, []byte(nonce), lf, body, lf)
	if err != nil {
		return nil, fmt.Errorf("wechatpay: sign: %w", err)
	}
	h := http.Header{}
	h.Set("Content-Type", "application/json")
	h.Set(headerTimestamp, timestamp)
	h.Set(headerNonce, nonce)
	h.Set(headerSerial, s.serial)
	h.Set(headerType, signatureType)
	switch sm.Tamper {
	case provider.TamperNone, provider.TamperDrop:
	case provider.TamperSignature:
		signature[len(signature)/2] ^= 1
	case provider.TamperBody:
		body = append(bytes.Clone(body), ' ')
	case provider.TamperTimestamp:
		h.Set(headerTimestamp, strconv.FormatInt(at.Unix()+1, 10))
	default:
		return nil, fmt.Errorf("wechatpay: tamper with %q: %w", sm.Tamper, provider.ErrNoSample)
	}
	if sm.Tamper != provider.TamperDrop {
		h.Set(headerSignature, base64.StdEncoding.EncodeToString(signature))
	}
	return &provider.Callback{Method: http.MethodPost, Header: h, Body: body, ReceivedAt: at}, nil
}

// notice makes the envelope with its encrypted resource.
func (s *Signer) notice(sm provider.Sample, at time.Time) ([]byte, error) {
	words, original, doc, err := s.resource(sm, at)
	if err != nil {
		return nil, err
	}
	plain, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("wechatpay: make sample: %w", err)
	}
	var k *opener
	for _, o := range s.openers {
		if o.validAt(at) {
			k = o
			break
		}
	}
	if k == nil {
		return nil, fmt.Errorf("wechatpay: no APIv3 key is valid: %w", provider.ErrCannotSign)
	}
	nonce := rand.Text()[:k.aead.NonceSize()]
	ciphertext := k.aead.Seal(nil, []byte(nonce), plain, []byte(original))
	id := sm.EventID
	if id == "" {
		id = provider.MadeID(words, sm.OrderRef, sm.ProviderRef, sm.CustomerRef, sm.Amount.Value, sm.Amount.Currency, at.UTC().String())
	}
	body, err := json.Marshal(map[string]any{
		"id":            id,
		"create_time":   at.In(chinaTime).Format(time.RFC3339),
		"resource_type": "encrypt-resource",
		"event_type":    words,
		"summary":       "paybell sample",
		"resource": map[string]string{
			"original_type":   original,
			"algorithm":       algorithm,
			"ciphertext":      base64.StdEncoding.EncodeToString(ciphertext),
			"associated_data": original,
			"nonce":           nonce,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("wechatpay: make sample: %w", err)
	}
	return body, nil
}

// chinaTime is the zone WeChat Pay writes its times in.
var chinaTime = time.FixedZone("UTC+8", 8*60*60)

// resource makes what a notice says once it is decrypted.
func (s *Signer) resource(sm provider.Sample, at time.Time) (words, original string, doc map[string]any, err error) {
	code, minor := sm.Amount.Currency, sm.Amount.Minor
	if sm.Amount.IsZero() {
		code, minor = currency, 1
	}
	transaction := sm.ProviderRef
	if transaction == "" {
		transaction = "42" + provider.MadeID("transaction", sm.OrderRef)
	}
	date := at.In(chinaTime).Format(time.RFC3339)
	doc = map[string]any{"mchid": s.options.MchID, "out_trade_no": sm.OrderRef, "transaction_id": transaction}
	if s.options.SubMchID != "" {
		delete(doc, "mchid")
		doc["sp_mchid"], doc["sub_mchid"] = s.options.MchID, s.options.SubMchID
	}
	if sm.CustomerRef != "" {
		place := s.options.CustomerRef
		if place == "" {
			place = "/attach"
		}
		if err := provider.Place(doc, place, sm.CustomerRef); err != nil {
			return "", "", nil, fmt.Errorf("wechatpay: customer reference: %w", err)
		}
	}
	switch sm.Type {
	case "", event.PaymentSucceeded:
		words, doc["trade_state"], doc["success_time"] = "TRANSACTION.SUCCESS", "SUCCESS", date
	case event.PaymentFailed:
		words, doc["trade_state"], doc["trade_state_desc"] = "TRANSACTION.FAIL", "PAYERROR", "sample failure"
	case event.RefundSucceeded:
		if code != currency {
			return "", "", nil, fmt.Errorf("wechatpay: refund in %s: %w", code, provider.ErrNoSample)
		}
		words, doc["refund_status"], doc["success_time"] = "REFUND.SUCCESS", "SUCCESS", date
		doc["out_refund_no"], doc["refund_id"] = sm.OrderRef+"-refund", "50"+provider.MadeID("refund", sm.OrderRef, transaction, sm.Amount.Value)
		doc["amount"] = map[string]any{"total": minor, "refund": minor, "payer_total": minor, "payer_refund": minor}
		return words, "refund", doc, nil
	default:
		return "", "", nil, fmt.Errorf("wechatpay: %s: %w", sm.Type, provider.ErrNoSample)
	}
	app := "appid"
	if s.options.SubMchID != "" {
		app = "sp_appid"
	}
	doc[app] = s.options.AppID
	doc["trade_type"] = "NATIVE"
	doc["amount"] = map[string]any{"total": minor, "payer_total": minor, "currency": code, "payer_currency": code}
	return words, "transaction", doc, nil
}
