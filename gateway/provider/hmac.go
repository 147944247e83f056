package provider

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"hash"
	"sync"
	"time"

	"github.com/paybell/paybell/configs/secret"
)

// HMAC verifies keyed digests with every secret of a slot, newest first. It is
// safe for concurrent use.
//
// Keys live inside functions, where no print verb reaches them: fmt follows
// unexported fields and, for a verb that does not fit, pointers as well, without
// asking any String method on the way.
type HMAC struct {
	keys []*hmacKey
}

type hmacKey struct {
	// secret has its name and its time, and no value.
	secret secret.Secret
	digest [sha256.Size]byte
	keyed  func() hash.Hash
	// states are keyed and ready: keying costs two blocks and three allocations,
	// which is most of the price of a short message.
	states sync.Pool
}

// NewHMAC readies the secrets. decode turns the text of a secret into key bytes;
// nil takes the text as it stands. Errors name the secret and never its value.
func NewHMAC(newHash func() hash.Hash, secrets []secret.Secret, decode func(text string) ([]byte, error)) (*HMAC, error) {
	h := &HMAC{keys: make([]*hmacKey, 0, len(secrets))}
	for _, s := range secrets {
		key := []byte(s.Value.Reveal())
		if decode != nil {
			decoded, err := decode(s.Value.Reveal())
			if err != nil {
				return nil, fmt.Errorf("secret %s: %w", s.Name, err)
			}
			key = decoded
		}
		if len(key) == 0 {
			return nil, fmt.Errorf("secret %s: %w", s.Name, secret.ErrEmpty)
		}
		s.Value = secret.String{}
		h.keys = append(h.keys, &hmacKey{
			secret: s,
			digest: sha256.Sum256(key),
			keyed:  func() hash.Hash { return hmac.New(newHash, key) },
		})
	}
	return h, nil
}

// Verify accepts the message, given in parts, if any signature was made with any
// secret that is valid now. It returns the name of that secret. Signatures are
// decoded bytes; they are compared in constant time.
func (h *HMAC) Verify(now time.Time, signatures [][]byte, parts ...[]byte) (keyID string, err error) {
	usable := false
	for _, k := range h.keys {
		if !k.secret.ValidAt(now) {
			continue
		}
		usable = true
		if k.matches(signatures, parts) {
			return k.secret.Name, nil
		}
	}
	if !usable {
		return "", Refuse(ReasonNoKey, "none of %d secrets is valid now", len(h.keys))
	}
	return "", errHMACMismatch
}

// Sign makes the digest with the newest secret. Only signers use it.
func (h *HMAC) Sign(parts ...[]byte) ([]byte, error) {
	if len(h.keys) == 0 {
		return nil, ErrCannotSign
	}
	k := h.keys[0]
	state := k.state()
	defer k.states.Put(state)
	return bytes.Clone(state.of(parts)), nil
}

// Digests returns the SHA-256 of every key, for Identity.
func (h *HMAC) Digests() [][sha256.Size]byte {
	out := make([][sha256.Size]byte, 0, len(h.keys))
	for _, k := range h.keys {
		out = append(out, k.digest)
	}
	return out
}

// Periods returns when each secret may be used, for Identity.
func (h *HMAC) Periods() []Period {
	out := make([]Period, 0, len(h.keys))
	for _, k := range h.keys {
		out = append(out, Period{Name: k.secret.Name, NotBefore: k.secret.NotBefore, NotAfter: k.secret.NotAfter})
	}
	return out
}

// Len returns the number of secrets, valid now or not.
func (h *HMAC) Len() int { return len(h.keys) }

func (k *hmacKey) matches(signatures, parts [][]byte) bool {
	state := k.state()
	defer k.states.Put(state)
	want := state.of(parts)
	matched := false
	for _, got := range signatures {
		// No early exit: every signature is compared, whatever the others said.
		if hmac.Equal(got, want) {
			matched = true
		}
	}
	return matched
}

func (k *hmacKey) state() *hmacState {
	if state, ok := k.states.Get().(*hmacState); ok {
		return state
	}
	return &hmacState{keyed: k.keyed()}
}

// hmacState is a keyed hash with room for what it makes.
type hmacState struct {
	keyed  hash.Hash
	digest [64]byte
}

// of returns the digest of the parts. It is the state's own.
func (s *hmacState) of(parts [][]byte) []byte {
	s.keyed.Reset()
	for _, p := range parts {
		s.keyed.Write(p) // a hash never fails to write
	}
	return s.keyed.Sum(s.digest[:0])
}
