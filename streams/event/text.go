package event

import (
	"crypto/sha256"
	"encoding/hex"
	"unicode/utf8"
)

// validText returns s with each invalid byte replaced by U+FFFD, as encoding/json
// does it. Whatever is derived from an event (its ordering key, its facts, the
// flat fields) is derived from this text, so that both sides of the wire agree.
func validText(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return string([]rune(s))
}

// maxRefLen bounds a reference inside a folded order.
const maxRefLen = 128

// refKey is a reference as a key of a folded order: itself, or its digest when it
// is so long that it would make the state grow without a bound.
func refKey(s string) string {
	s = validText(s)
	if len(s) <= maxRefLen {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return "sha256:" + hex.EncodeToString(sum[:])
}
