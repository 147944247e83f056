package standardwebhooks

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
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

// Sandbox returns options of a sandbox sender whose shared secret and signing key
// stand in files of dir. Files are made when they are not there and kept when
// they are.
func Sandbox(dir string) (Options, error) {
	secretFile := filepath.Join(dir, "standardwebhooks-secret")
	err := provider.KeepFile(secretFile, func() ([]byte, error) { return randomKey(prefixSecret), nil })
	if err != nil {
		return Options{}, fmt.Errorf("standardwebhooks: sandbox: %w", err)
	}
	keyFile := filepath.Join(dir, "standardwebhooks-signing-key")
	err = provider.KeepFile(keyFile, func() ([]byte, error) { return randomKey(prefixPrivateKey), nil })
	if err != nil {
		return Options{}, fmt.Errorf("standardwebhooks: sandbox: %w", err)
	}
	o := DefaultOptions()
	o.Secrets = secret.Slot{{File: secretFile}}
	o.SigningKey = secret.Source{File: keyFile}
	key, err := readSigningKey(o.SigningKey)
	if err != nil {
		return Options{}, fmt.Errorf("standardwebhooks: sandbox: %w", err)
	}
	o.PublicKeys = []string{prefixPublicKey + base64.StdEncoding.EncodeToString(publicHalf(key))}
	live := false
	o.Live = &live
	return o, nil
}

// randomKey is 32 random bytes, which is a shared secret and an ed25519 seed alike.
func randomKey(prefix string) []byte {
	var b [ed25519.SeedSize]byte
	_, _ = rand.Read(b[:]) // never fails, says its documentation
	return []byte(prefix + base64.StdEncoding.EncodeToString(b[:]) + "\n")
}

func publicHalf(key ed25519.PrivateKey) ed25519.PublicKey {
	return ed25519.PublicKey(key[ed25519.SeedSize:])
}

// Signer makes callbacks as the sender would: with the newest secret, with the
// signing key, or with both, whichever there are.
type Signer struct {
	now   func() time.Time
	hmac  *provider.HMAC
	key   func() ed25519.PrivateKey
	rules []Rule
}

var _ provider.Signer = (*Signer)(nil)

// NewSigner reads the secrets and the signing key.
func NewSigner(o Options, now func() time.Time) (*Signer, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("standardwebhooks: %w", err)
	}
	mac, err := openSecrets(o)
	if err != nil {
		return nil, err
	}
	s := &Signer{now: now, hmac: mac, rules: o.rules()}
	if !o.SigningKey.IsZero() {
		key, err := readSigningKey(o.SigningKey)
		if err != nil {
			return nil, fmt.Errorf("standardwebhooks: signing_key: %w", err)
		}
		// A function, because print verbs reach into slices and not into functions.
		s.key = func() ed25519.PrivateKey { return key }
	}
	if mac.Len() == 0 && s.key == nil {
		return nil, fmt.Errorf("standardwebhooks: neither a secret nor a signing key: %w", provider.ErrCannotSign)
	}
	return s, nil
}

// Sign implements provider.Signer.
func (s *Signer) Sign(sample provider.Sample) (*provider.Callback, error) {
	if sample.At.IsZero() {
		sample.At = s.now()
	}
	if sample.Type == "" {
		sample.Type = event.PaymentSucceeded
	}
	id := sample.EventID
	if id == "" {
		id = "msg_" + provider.MadeID(string(sample.Type), sample.OrderRef, sample.ProviderRef, sample.CustomerRef,
			sample.Amount.String(), sample.At.UTC().Format(time.RFC3339), string(sample.Body))
	}
	body := sample.Body
	if body == nil {
		var err error
		if body, err = s.body(sample); err != nil {
			return nil, err
		}
	}
	timestamp := strconv.FormatInt(sample.At.Unix(), 10)
	list, err := s.signatures(signedPrefix(id, timestamp), body, sample.Tamper == provider.TamperSignature)
	if err != nil {
		return nil, err
	}
	cb := &provider.Callback{Method: http.MethodPost, Header: http.Header{}, Body: body}
	switch sample.Tamper {
	case provider.TamperNone, provider.TamperSignature:
	case provider.TamperBody:
		cb.Body = append(bytes.Clone(body), ' ')
	case provider.TamperTimestamp:
		timestamp = strconv.FormatInt(sample.At.Unix()+1, 10)
	case provider.TamperDrop:
		list = ""
	default:
		return nil, fmt.Errorf("%w: tamper %q", provider.ErrNoSample, sample.Tamper)
	}
	cb.Header.Set("Content-Type", "application/json")
	cb.Header.Set(standardNames.id, id)
	cb.Header.Set(standardNames.timestamp, timestamp)
	if list != "" {
		cb.Header.Set(standardNames.signature, list)
	}
	return cb, nil
}

// signatures makes the list that goes into the header.
func (s *Signer) signatures(prefix, body []byte, spoil bool) (string, error) {
	var list []string
	add := func(scheme string, sig []byte) {
		if spoil {
			sig[0] ^= 1
		}
		list = append(list, scheme+","+base64.StdEncoding.EncodeToString(sig))
	}
	if s.hmac.Len() > 0 {
		mac, err := s.hmac.Sign(prefix, body)
		if err != nil {
			return "", err
		}
		add(schemeHMAC, mac)
	}
	if s.key != nil {
		add(schemeEd25519, ed25519.Sign(s.key(), append(prefix, body...)))
	}
	return strings.Join(list, " "), nil
}

// sampled are the types the signer makes.
var sampled = map[event.Type]bool{
	event.PaymentSucceeded: true, event.PaymentPending: true, event.PaymentFailed: true,
	event.PaymentClosed: true, event.RefundSucceeded: true,
}

// body makes the JSON that the first rule of the type reads back.
func (s *Signer) body(sample provider.Sample) ([]byte, error) {
	for i := range s.rules {
		if s.rules[i].Type == sample.Type && sampled[sample.Type] {
			return s.rules[i].write(sample)
		}
	}
	return nil, fmt.Errorf("%w: no rule makes a %s", provider.ErrNoSample, sample.Type)
}

// placed is a value and where it goes.
type placed struct {
	pointer string
	value   any
}

func (r *Rule) write(sample provider.Sample) ([]byte, error) {
	switch {
	case sample.Amount.IsZero():
		return nil, fmt.Errorf("%w: no amount", provider.ErrNoSample)
	case r.CurrencyFixed != "" && !strings.EqualFold(r.CurrencyFixed, sample.Amount.Currency):
		return nil, fmt.Errorf("%w: the rule's currency is %s", provider.ErrNoSample, r.CurrencyFixed)
	}
	ref := sample.ProviderRef
	if ref == "" {
		ref = "pay_" + provider.MadeID(sample.OrderRef)
	}
	all := []placed{
		{r.OccurredAt, sample.At.UTC().Format(time.RFC3339)},
		{r.OrderRef, sample.OrderRef},
		{r.CustomerRef, sample.CustomerRef},
		{r.ProviderRef, ref},
		{r.ParentRef, ref},
		{r.RefundRef, "ref_" + provider.MadeID(sample.OrderRef, ref, sample.Amount.Value)},
		{r.Currency, sample.Amount.Currency},
		{r.amountPlace(), r.amountText(sample.Amount)},
	}
	for _, c := range append([]Condition{r.When}, r.And...) {
		all = append(all, placed{c.Pointer, c.Equals})
	}
	root := map[string]any{}
	for _, p := range all {
		if p.pointer == "" || p.value == "" {
			continue
		}
		if err := provider.Place(root, p.pointer, p.value); err != nil {
			return nil, err
		}
	}
	return json.Marshal(root)
}

// amountPlace is where the amount goes: its own place, else that of the total.
func (r *Rule) amountPlace() string {
	switch {
	case r.Amount != "":
		return r.Amount
	case groups[r.Type] == ofRefund:
		return r.RefundedTotal
	default:
		return r.Captured
	}
}

func (r *Rule) amountText(m event.Money) any {
	if r.AmountUnit == UnitMinor {
		return m.Minor
	}
	return m.Value
}
