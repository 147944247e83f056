package standardwebhooks

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/paybell/paybell/gateway/provider"
)

// headerNames are the three headers that are signed or sign, in the form net/http keeps
// them.
type headerNames struct{ id, timestamp, signature string }

var (
	standardNames = headerNames{"Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"}
	// svixNames are those of senders that use Svix: it signs the same text in the same
	// way (docs.svix.com/receiving/verifying-payloads/how-manual).
	svixNames = headerNames{"Svix-Id", "Svix-Timestamp", "Svix-Signature"}
)

func (n headerNames) any(h http.Header) bool {
	return len(h[n.id])+len(h[n.timestamp])+len(h[n.signature]) > 0
}

// namesOf tells which headers a callback uses. One that has some of both is refused:
// which of them were verified would depend on who reads it.
func namesOf(h http.Header) (headerNames, error) {
	svix := svixNames.any(h)
	if svix && standardNames.any(h) {
		return headerNames{}, provider.Refuse(provider.ReasonAmbiguous, "there are both webhook-* and svix-* headers")
	}
	if svix {
		return svixNames, nil
	}
	return standardNames, nil
}

// Signature schemes.
const (
	schemeHMAC    = "v1"
	schemeEd25519 = "v1a"
)

const (
	// maxSignatures bounds the work one header can ask for; a sender signs with the
	// keys that are valid, which are two while one is being rotated.
	maxSignatures = 16
	maxIDLength   = 256
)

// checkID refuses ids that could make another signed text: with a full stop in
// the id, "a.1" at time 2 and "a" at time "1.2" would be signed alike.
func checkID(id string) error {
	if len(id) > maxIDLength {
		return provider.Refuse(provider.ReasonMalformedSignature, "id is longer than %d bytes", maxIDLength)
	}
	for i := range len(id) {
		if c := id[i]; c == '.' || c <= ' ' || c > '~' {
			return provider.Refuse(provider.ReasonMalformedSignature, "id has a character that must not be in it")
		}
	}
	return nil
}

// signatures are the decoded entries of one header.
type signatures struct {
	v1, v1a [][]byte
}

// parseSignatures reads "v1,<base64> v1a,<base64> …". An entry that is no pair
// spoils the header; unknown schemes, and values that are no signature of their
// scheme, are passed over as in the official libraries.
func parseSignatures(header string) (signatures, error) {
	var s signatures
	known := false
	for n, rest, more := 0, header, true; more; n++ {
		var entry string
		entry, rest, more = strings.Cut(rest, " ")
		if n == maxSignatures {
			return signatures{}, provider.Refuse(provider.ReasonMalformedSignature, "header has more than %d signatures", maxSignatures)
		}
		scheme, value, ok := strings.Cut(entry, ",")
		if !ok {
			return signatures{}, provider.Refuse(provider.ReasonMalformedSignature, "header is not a list of scheme,signature pairs")
		}
		switch scheme {
		case schemeHMAC:
			known = true
			s.v1 = add(s.v1, value, sha256.Size)
		case schemeEd25519:
			known = true
			s.v1a = add(s.v1a, value, ed25519.SignatureSize)
		}
	}
	switch {
	case !known:
		return signatures{}, provider.Refuse(provider.ReasonMissingSignature, "header has no signature of scheme %s or %s", schemeHMAC, schemeEd25519)
	case len(s.v1) == 0 && len(s.v1a) == 0:
		return signatures{}, provider.Refuse(provider.ReasonMalformedSignature, "no signature is base64 of the right length")
	}
	return s, nil
}

func add(list [][]byte, value string, size int) [][]byte {
	sig, err := base64.StdEncoding.Strict().DecodeString(value)
	if err != nil || len(sig) != size {
		return list
	}
	return append(list, sig)
}

// signedPrefix is what stands in front of the body in the signed text. It leaves
// no room behind it, so that appending to it copies.
func signedPrefix(id, timestamp string) []byte {
	b := make([]byte, 0, len(id)+len(timestamp)+2)
	b = append(append(b, id...), '.')
	return append(append(b, timestamp...), '.')
}
