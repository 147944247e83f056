package event

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"strconv"
	"strings"
)

// separator stands between the parts that an ID is made from. Configured names
// cannot contain it, and the provider's key comes last, so no two different
// lists of parts read the same.
const separator = 0x1F

// idLen is how many base32 digits of the digest an ID keeps: 130 bits.
const idLen = 26

// NewID is the ID of the event that the provider's key names: deterministic, so
// that a resend, at whichever replica it arrives, is the same event. The key must
// be an id or a composite that the signature covers.
func NewID(provider, account, key string) string {
	return digestID(join(provider, account, key))
}

// NewBodyID is the ID of an event that nothing signed names: the key is the
// SHA-256 of the verified raw body, as lower-case hex, with the event's index in it.
func NewBodyID(provider, account string, sha256 [32]byte, index int) string {
	return digestID(join(provider, account, hex.EncodeToString(sha256[:]), strconv.Itoa(index)))
}

// ConflictID is the ID under which a callback is kept that reused id for other
// facts. The same conflict, sent again, has the same ID. It starts from an empty
// part, which no provider's name is, and so meets no ID of NewID.
func ConflictID(id string, facts Facts) string {
	return digestID(join("", "conflict", id, facts.String()))
}

// AsConflict returns a copy of e as the conflict it is when other facts are
// already known under its ID.
func (e Event) AsConflict() Event {
	e.ID, e.ConflictOf = ConflictID(e.ID, e.Facts()), e.ID
	e.Type = Conflict
	return e
}

func join(parts ...string) []byte {
	n := len(parts)
	for _, p := range parts {
		n += len(p)
	}
	b := make([]byte, 0, n)
	for i, p := range parts {
		if i > 0 {
			b = append(b, separator)
		}
		b = append(b, p...)
	}
	return b
}

func digestID(b []byte) string {
	sum := sha256.Sum256(b)
	return "evt_" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:idLen])
}
