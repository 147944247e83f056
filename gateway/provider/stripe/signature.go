package stripe

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/paybell/paybell/gateway/provider"
)

const (
	signatureHeader = "Stripe-Signature"
	timestampKey    = "t"
	// schemeV1 is the only scheme that counts. v0 is a fake one that Stripe adds to
	// test-mode callbacks so that verifiers which take any scheme show themselves.
	schemeV1 = "v1"
	// maxSignatures bounds the work one header can ask for; Stripe sends one
	// signature per secret that is valid.
	maxSignatures = 16
)

var dot = []byte{'.'}

// signature is a parsed Stripe-Signature header. It holds what it decodes, so
// that it can stay on the stack.
type signature struct {
	timestamp string
	digests   [maxSignatures][sha256.Size]byte
	n         int
}

// parse reads "t=1495999758,v1=<hex>,v1=<hex>,v0=<hex>". A pair that does not
// split in two spoils the header, as in Stripe's own library; unknown schemes and
// v1 values that are no SHA-256 in hex are passed over.
func (s *signature) parse(header string) error {
	seen := false
	for rest, more := header, true; more; {
		var pair string
		pair, rest, more = strings.Cut(rest, ",")
		key, value, ok := strings.Cut(pair, "=")
		if !ok || strings.IndexByte(value, '=') >= 0 {
			return provider.Refuse(provider.ReasonMalformedSignature, "header is not a list of key=value pairs")
		}
		switch key {
		case timestampKey:
			if s.timestamp != "" {
				return provider.Refuse(provider.ReasonAmbiguous, "header has two timestamps")
			}
			if _, err := provider.ParseTimestamp(value); err != nil {
				return err
			}
			s.timestamp = value
		case schemeV1:
			seen = true
			if s.n == maxSignatures {
				return provider.Refuse(provider.ReasonMalformedSignature, "header has more than %d signatures", maxSignatures)
			}
			s.add(value)
		}
	}
	switch {
	case s.timestamp == "":
		return provider.Refuse(provider.ReasonMalformedSignature, "header has no timestamp")
	case !seen:
		return provider.Refuse(provider.ReasonMissingSignature, "header has no signature of scheme %s", schemeV1)
	case s.n == 0:
		return provider.Refuse(provider.ReasonMalformedSignature, "no signature of scheme %s is a SHA-256 in hexadecimal", schemeV1)
	}
	return nil
}

// add keeps a signature. Hex of both cases is one and the same signature.
func (s *signature) add(value string) {
	if len(value) != hex.EncodedLen(sha256.Size) {
		return
	}
	digest := s.digests[s.n][:]
	if _, err := hex.Decode(digest, []byte(value)); err != nil {
		return
	}
	s.n++
}
