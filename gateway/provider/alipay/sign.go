package alipay

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

// currency is the only one there is in mainland Alipay.
const currency = "CNY"

// sampleSeller stands for the seller where the account accepts any.
const sampleSeller = "2088000000000000"

// Signer plays Alipay: it makes trade notices that are signed with a sandbox's key.
type Signer struct {
	options Options
	// key is a function, because print verbs reach into pointers and not into
	// functions.
	key func() *rsa.PrivateKey
	now func() time.Time
}

var _ provider.Signer = (*Signer)(nil)

// NewSigner returns ErrCannotSign when the account has no signing key: then only
// Alipay can sign.
func NewSigner(o Options, now func() time.Time) (*Signer, error) {
	if o.SigningKey.IsZero() {
		return nil, fmt.Errorf("alipay: signing_key: %w", provider.ErrCannotSign)
	}
	text, err := o.SigningKey.Read()
	if err != nil {
		return nil, fmt.Errorf("alipay: signing_key: %w", err)
	}
	key, err := provider.ParseRSAPrivateKey([]byte(text.Value.Reveal()))
	if err != nil {
		return nil, fmt.Errorf("alipay: signing_key (%s): %w", text.Name, err)
	}
	ring, err := readKeys(o)
	if err != nil {
		return nil, fmt.Errorf("alipay: %w", err)
	}
	for _, k := range ring.all() {
		if k.Public.Equal(&key.PublicKey) {
			return &Signer{options: o, key: func() *rsa.PrivateKey { return key }, now: now}, nil
		}
	}
	return nil, fmt.Errorf("alipay: signing_key (%s) belongs to none of the configured keys", text.Name)
}

// Sign implements provider.Signer. A refund gives back the whole amount, which is
// how Alipay closes a trade. No certificate is named: Alipay's own SDK would take
// alipay_cert_sn for a signed parameter, other readers leave it out.
func (s *Signer) Sign(sm provider.Sample) (*provider.Callback, error) {
	at := sm.At
	if at.IsZero() {
		at = s.now()
	}
	var pairs []provider.FormPair
	if sm.Body != nil {
		form, err := provider.ParseForm(sm.Body)
		if err != nil {
			return nil, fmt.Errorf("alipay: sign body: %w: not a form", provider.ErrNoSample)
		}
		for _, p := range form.Pairs() {
			if p.Key != paramSign && p.Key != paramSignType {
				pairs = append(pairs, p)
			}
		}
	} else {
		var err error
		if pairs, err = s.trade(sm, at); err != nil {
			return nil, err
		}
	}
	pairs, err := s.seal(pairs, sm.Tamper, at)
	if err != nil {
		return nil, err
	}
	return &provider.Callback{
		Method:     http.MethodPost,
		Header:     http.Header{"Content-Type": {"application/x-www-form-urlencoded; charset=utf-8"}},
		Body:       encode(pairs),
		ReceivedAt: at,
	}, nil
}

// trade makes the parameters of a trade notice.
func (s *Signer) trade(sm provider.Sample, at time.Time) ([]provider.FormPair, error) {
	if sm.Amount.Currency != "" && sm.Amount.Currency != currency {
		return nil, fmt.Errorf("alipay: amount in %s: %w", sm.Amount.Currency, provider.ErrNoSample)
	}
	var word string
	switch sm.Type {
	case "", event.PaymentSucceeded:
		word = "TRADE_SUCCESS"
	case event.PaymentPending:
		word = "WAIT_BUYER_PAY"
	case event.PaymentClosed, event.RefundSucceeded:
		word = "TRADE_CLOSED"
	default:
		return nil, fmt.Errorf("alipay: %s: %w", sm.Type, provider.ErrNoSample)
	}
	seller, tradeNo, notifyID := s.options.SellerID, sm.ProviderRef, sm.EventID
	if seller == "" {
		seller = sampleSeller
	}
	if tradeNo == "" {
		tradeNo = "2026" + digits(24, "trade", sm.OrderRef)
	}
	if notifyID == "" {
		notifyID = "2026" + digits(30, string(sm.Type), sm.OrderRef, tradeNo, sm.CustomerRef, sm.Amount.Value, at.UTC().String())
	}
	amount, date := sm.Amount.Value, at.In(chinaTime).Format(timeLayout)
	if amount == "" {
		amount = "0.01"
	}
	pairs := []provider.FormPair{
		{Key: "gmt_create", Value: date},
		{Key: paramCharset, Value: "utf-8"},
		{Key: "subject", Value: "paybell sample"},
		{Key: paramNotifyID, Value: notifyID},
		{Key: paramNotifyType, Value: tradeNotice},
		{Key: paramStatus, Value: word},
		{Key: paramAppID, Value: s.options.AppID},
		{Key: paramSellerID, Value: seller},
		{Key: paramNotifyTime, Value: date},
		{Key: "version", Value: "1.0"},
		{Key: paramOutTradeNo, Value: sm.OrderRef},
		{Key: paramTotal, Value: amount},
		{Key: paramTradeNo, Value: tradeNo},
		{Key: "auth_app_id", Value: s.options.AppID},
	}
	add := func(name, value string) { pairs = append(pairs, provider.FormPair{Key: name, Value: value}) }
	switch sm.Type {
	case event.PaymentPending:
	case event.PaymentClosed:
		add(paramClosed, date)
	case event.RefundSucceeded:
		add(paramPaid, date)
		add(paramClosed, date)
		add(paramRefunded, date)
		add(paramRefundFee, amount)
		add(paramOutBizNo, sm.OrderRef+"-refund")
	default:
		add(paramPaid, date)
		add("receipt_amount", amount)
		add("buyer_pay_amount", amount)
		add("fund_bill_list", `[{"amount":"`+amount+`","fundChannel":"ALIPAYACCOUNT"}]`)
	}
	if sm.CustomerRef != "" {
		name, value := s.options.CustomerRef, sm.CustomerRef
		if name == "" {
			name = paramPassback
		}
		if s.options.decodesCustomerRef() {
			value = url.QueryEscape(value)
		}
		add(name, value)
	}
	return pairs, nil
}

// seal signs the parameters and spoils them afterwards.
func (s *Signer) seal(pairs []provider.FormPair, tamper provider.Tamper, at time.Time) ([]provider.FormPair, error) {
	signType, hash := RSA2, crypto.SHA256
	if len(s.options.SignTypes) > 0 && s.options.SignTypes[0] == RSA {
		signType, hash = RSA, crypto.SHA1
	}
	pairs = append(pairs, provider.FormPair{Key: paramSignType, Value: signType})
	form, err := provider.ParseForm(encode(pairs))
	if err != nil {
		return nil, fmt.Errorf("alipay: sign: %w", err)
	}
	h := hash.New()
	sorted := slices.Clone(form.Pairs())
	sortPairs(sorted)
	h.Write(variant{}.join(nil, sorted)) // a hash never fails to write
	sign, err := rsa.SignPKCS1v15(nil, s.key(), hash, h.Sum(nil))
	if err != nil {
		return nil, fmt.Errorf("alipay: sign: %w", err)
	}
	switch tamper {
	case provider.TamperNone:
	case provider.TamperDrop:
		return pairs, nil
	case provider.TamperSignature:
		sign[len(sign)/2] ^= 1
	case provider.TamperBody:
		pairs = spoil(pairs, paramTotal, "9"+form.Value(paramTotal))
	case provider.TamperTimestamp:
		pairs = spoil(pairs, paramNotifyTime, at.Add(time.Hour).In(chinaTime).Format(timeLayout))
	default:
		return nil, fmt.Errorf("alipay: tamper with %q: %w", tamper, provider.ErrNoSample)
	}
	return append(pairs, provider.FormPair{Key: paramSign, Value: base64.StdEncoding.EncodeToString(sign)}), nil
}

// spoil gives a parameter another value, or adds it.
func spoil(pairs []provider.FormPair, name, value string) []provider.FormPair {
	for i := range pairs {
		if pairs[i].Key == name {
			pairs[i].Value = value
			return pairs
		}
	}
	return append(pairs, provider.FormPair{Key: name, Value: value})
}

func encode(pairs []provider.FormPair) []byte {
	var buf bytes.Buffer
	for i, p := range pairs {
		if i > 0 {
			buf.WriteByte('&')
		}
		buf.WriteString(url.QueryEscape(p.Key))
		buf.WriteByte('=')
		buf.WriteString(url.QueryEscape(p.Value))
	}
	return buf.Bytes()
}

// digits makes n decimal digits that are the same for the same parts.
func digits(n int, parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x1f")))
	var out strings.Builder
	for i := 0; out.Len() < n; i = (i + 8) % len(sum) {
		out.WriteString(strconv.FormatUint(binary.BigEndian.Uint64(sum[i:]), 10))
	}
	return out.String()[:n]
}
