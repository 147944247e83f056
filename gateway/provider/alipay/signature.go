package alipay

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // only where an account's sign_types allow it
	"crypto/sha256"
	"encoding/base64"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/paybell/paybell/gateway/provider"
)

// decodeSign decodes a signature. Line breaks, which encoding/base64 forgives,
// and loose trailing bits are refused: a signature has one spelling.
func decodeSign(text string) ([]byte, error) {
	if text == "" {
		return nil, provider.Refuse(provider.ReasonMissingSignature, "parameter sign is missing or empty")
	}
	if strings.ContainsAny(text, "\r\n") {
		return nil, provider.Refuse(provider.ReasonMalformedSignature, "parameter sign has a line break in it")
	}
	sign, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, provider.Refuse(provider.ReasonMalformedSignature, "parameter sign is not base64")
	}
	return sign, nil
}

// hash is the digest the signature is made over. The notice names one; whether
// it is good enough is the account's to say.
func (n *notice) hash(allowed []string) (crypto.Hash, error) {
	signType := n.form.Value(paramSignType)
	if signType == "" {
		signType = RSA2
	}
	if !slices.Contains(allowed, signType) {
		return 0, provider.Refuse(provider.ReasonUnsupported, "sign_type is not one this account accepts")
	}
	if signType == RSA {
		return crypto.SHA1, nil
	}
	return crypto.SHA256, nil
}

// verify accepts the notice if its signature is over any of its canonical forms
// by any of the keys that is valid now.
func (n *notice) verify(now time.Time, hash crypto.Hash, keys []provider.RSAKey) (keyID string, err error) {
	valid := func(k provider.RSAKey) bool { return k.ValidAt(now) }
	if !slices.ContainsFunc(keys, valid) {
		return "", provider.Refuse(provider.ReasonNoKey, "none of %d keys is valid now", len(keys))
	}
	c, ok := canonicals.Get().(*canonical)
	if !ok {
		c = new(canonical)
	}
	defer c.free()
	c.pairs = append(c.pairs, n.form.Pairs()...)
	sortPairs(c.pairs)
	forms := variants(c.pairs)
	var said [][]byte
	for i, v := range forms {
		c.text = v.join(c.text[:0], c.pairs)
		digest := c.sum(hash)
		if i == 1 && len(forms) > 2 {
			said = signedDigests(keys, n.sign, hash.Size())
		}
		for j, k := range keys {
			if !valid(k) || said != nil && !bytes.Equal(said[j], digest) {
				continue
			}
			if rsa.VerifyPKCS1v15(k.Public, hash, digest, n.sign) == nil {
				return k.Name, nil
			}
		}
	}
	return "", errMismatch
}

// signedDigests are what the signature was made over if it was made with one key or
// another, so that a forger who asks for eight forms pays for one look at the signature
// and not for eight. They believe nothing: that is crypto/rsa's.
func signedDigests(keys []provider.RSAKey, sign []byte, size int) [][]byte {
	out := make([][]byte, len(keys))
	for i, k := range keys {
		s := new(big.Int).SetBytes(sign)
		if len(sign) != k.Public.Size() || s.Cmp(k.Public.N) >= 0 {
			continue // no signature of this key, and no digest is empty
		}
		s.Exp(s, big.NewInt(int64(k.Public.E)), k.Public.N)
		encoded := s.FillBytes(make([]byte, len(sign)))
		out[i] = encoded[len(encoded)-size:]
	}
	return out
}

// errMismatch is made once: a flood of forgeries should cost little.
var errMismatch = provider.Refuse(provider.ReasonMismatch, "the signature matches no key")

// canonical is room to make a notice's canonical forms in.
type canonical struct {
	pairs  []provider.FormPair
	text   []byte
	digest [sha256.Size]byte
}

// canonicals are those that nobody uses now.
var canonicals sync.Pool

// maxPooledText is the longest text whose room is kept; ordinary notices have 2 KiB.
const maxPooledText = 16 << 10

func (c *canonical) free() {
	if cap(c.text) > maxPooledText {
		c.text = nil
	}
	clear(c.pairs) // they would keep a body
	c.pairs = c.pairs[:0]
	canonicals.Put(c)
}

// sum returns the digest of the text. It is c's own.
func (c *canonical) sum(hash crypto.Hash) []byte {
	if hash == crypto.SHA1 {
		digest := sha1.Sum(c.text) //nolint:gosec // only where an account's sign_types allow it
		return append(c.digest[:0], digest[:]...)
	}
	c.digest = sha256.Sum256(c.text)
	return c.digest[:]
}

// variant is one of the canonical forms that Alipay is known to sign. All of them
// cover every parameter that is read.
type variant struct {
	// signType keeps sign_type (V2, messages to the application gateway); trade
	// notices (V1) leave it out.
	signType bool
	// empties keeps parameters without a value, as some of Alipay's SDKs do.
	empties bool
	// certSN keeps alipay_cert_sn, of which no document says what becomes of it.
	certSN bool
}

// variants are the forms in the order of likelihood, without those that would be
// the same as an earlier one. A notice has one unless it carries what they differ
// in: a forger makes us check eight at most.
func variants(pairs []provider.FormPair) []variant {
	var signType, empties, certSN bool
	for _, p := range pairs {
		switch {
		case p.Key == paramSign:
		case p.Value == "":
			empties = true
		case p.Key == paramSignType:
			signType = true
		case p.Key == paramCertSN:
			certSN = true
		}
	}
	out := []variant{{}}
	double := func(apply bool, set func(*variant)) {
		if !apply {
			return
		}
		for _, v := range out { // what is appended below is not gone through
			set(&v)
			out = append(out, v)
		}
	}
	double(signType, func(v *variant) { v.signType = true })
	double(empties, func(v *variant) { v.empties = true })
	double(certSN, func(v *variant) { v.certSN = true })
	return out
}

// join appends the canonical form: k=v joined by &, values as they were decoded.
func (v variant) join(buf []byte, sorted []provider.FormPair) []byte {
	for _, p := range sorted {
		switch {
		case p.Key == paramSign,
			p.Key == paramSignType && !v.signType,
			p.Key == paramCertSN && !v.certSN,
			p.Value == "" && !v.empties:
			continue
		}
		if len(buf) > 0 {
			buf = append(buf, '&')
		}
		buf = append(append(append(buf, p.Key...), '='), p.Value...)
	}
	return buf
}

// sortPairs sorts the parameters by name. Sorting the joined pairs instead would put
// coupon_id_10 before coupon_id_1.
func sortPairs(pairs []provider.FormPair) {
	slices.SortFunc(pairs, func(a, b provider.FormPair) int { return strings.Compare(a.Key, b.Key) })
}

// readsOneWay refuses a notice whose signed text can be cut into parameters in
// another way that matters. The text k=v&k=v escapes nothing, so that a subject of
// "x&total_amount=9999.00&tp=" signs the same as an amount would: whoever chooses
// a value that is signed and gets to see the signature could have it read as
// parameters of its own, or hide a parameter in the value before it. No honest
// value spells out one of these.
func (n *notice) readsOneWay(customerRef string) error {
	for _, p := range n.form.Pairs() {
		if p.Key == paramSign || strings.IndexByte(p.Value, '&') < 0 {
			continue
		}
		for _, name := range decisive {
			if embeds(p.Value, name) {
				return provider.Refuse(provider.ReasonAmbiguous, "parameter %s spells out parameter %s", p.Key, name)
			}
		}
		if customerRef != "" && embeds(p.Value, customerRef) {
			return provider.Refuse(provider.ReasonAmbiguous, "parameter %s spells out the customer reference", p.Key)
		}
	}
	return nil
}

func embeds(value, name string) bool {
	for rest := []byte(value); ; {
		i := bytes.IndexByte(rest, '&')
		if i < 0 {
			return false
		}
		rest = rest[i+1:]
		if len(rest) > len(name) && rest[len(name)] == '=' && string(rest[:len(name)]) == name {
			return true
		}
	}
}
