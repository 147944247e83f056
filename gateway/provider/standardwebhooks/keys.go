package standardwebhooks

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"filippo.io/edwards25519"

	"github.com/paybell/paybell/configs/secret"
)

// Prefixes that the specification puts in front of keys.
const (
	prefixSecret     = "whsec_"
	prefixPrivateKey = "whsk_"
	prefixPublicKey  = "whpk_"
)

// Sizes of a shared secret in bytes, as the specification has them.
const (
	minSecret = 24
	maxSecret = 64
)

// Errors of keys. None of them holds a part of the key.
var (
	// ErrSecret: not a shared secret.
	ErrSecret = fmt.Errorf("standardwebhooks: a secret is base64 of %d to %d bytes, with or without %s in front", minSecret, maxSecret, prefixSecret)
	// ErrPublicKey: not a public key.
	ErrPublicKey = fmt.Errorf("standardwebhooks: a public key is base64 of %d bytes, with or without %s in front", ed25519.PublicKeySize, prefixPublicKey)
	// ErrOffCurve: 32 bytes that are no point of the curve.
	ErrOffCurve = errors.New("standardwebhooks: a public key of 32 bytes, but no ed25519 key; copy it from the sender again")
	// ErrSmallOrder: a point of small order, under which anybody can forge a signature.
	ErrSmallOrder = errors.New("standardwebhooks: this public key lets anybody forge a callback (a point of small order, such as 32 zero bytes); get the sender's real key")
	// ErrPrivateKey: not a private key.
	ErrPrivateKey = fmt.Errorf("standardwebhooks: a signing key is base64 of an ed25519 seed of %d bytes, with or without %s in front", ed25519.SeedSize, prefixPrivateKey)
	// ErrPrivatePublic: a private key where a public one belongs.
	ErrPrivatePublic = errors.New("standardwebhooks: this is a private key (whsk_), a public key (whpk_) is wanted")
)

func decodeSecret(text string) ([]byte, error) {
	key, err := base64.StdEncoding.Strict().DecodeString(strings.TrimPrefix(text, prefixSecret))
	if err != nil || len(key) < minSecret || len(key) > maxSecret {
		return nil, ErrSecret // without the cause, which quotes the text
	}
	return key, nil
}

// publicKey is one of the sender's keys.
type publicKey struct {
	name string
	key  ed25519.PublicKey
}

func readPublicKeys(texts []string) ([]publicKey, error) {
	keys := make([]publicKey, 0, len(texts))
	var errs []error
	for i, text := range texts {
		k, err := readPublicKey(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("public_keys[%d]: %w", i, err))
			continue
		}
		keys = append(keys, k)
	}
	return keys, errors.Join(errs...)
}

func readPublicKey(text string) (publicKey, error) {
	name := ""
	if path, ok := strings.CutPrefix(text, fileScheme); ok {
		content, err := secret.ReadFile(path)
		if err != nil {
			return publicKey{}, fmt.Errorf("read public key: %w", err)
		}
		name, text = fileScheme+filepath.Base(path), strings.TrimSpace(string(content))
	}
	key, err := parsePublicKey(text)
	if err != nil {
		return publicKey{}, err
	}
	if name == "" {
		sum := sha256.Sum256(key)
		name = prefixPublicKey + hex.EncodeToString(sum[:4])
	}
	return publicKey{name: name, key: key}, nil
}

func parsePublicKey(text string) (ed25519.PublicKey, error) {
	if strings.HasPrefix(text, prefixPrivateKey) {
		return nil, ErrPrivatePublic
	}
	key, err := base64.StdEncoding.Strict().DecodeString(strings.TrimPrefix(text, prefixPublicKey))
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, ErrPublicKey
	}
	return key, checkPoint(key)
}

// checkPoint refuses keys for which crypto/ed25519 accepts signatures that nobody
// signed: it decodes a point and does not look at its order (RFC 8032, section 5.1.7,
// leaves that out as well).
func checkPoint(key ed25519.PublicKey) error {
	point, err := new(edwards25519.Point).SetBytes(key)
	if err != nil {
		return ErrOffCurve
	}
	if new(edwards25519.Point).MultByCofactor(point).Equal(edwards25519.NewIdentityPoint()) == 1 {
		return ErrSmallOrder
	}
	return nil
}

func readSigningKey(src secret.Source) (ed25519.PrivateKey, error) {
	s, err := src.Read()
	if err != nil {
		return nil, err
	}
	seed, err := base64.StdEncoding.Strict().DecodeString(strings.TrimPrefix(s.Value.Reveal(), prefixPrivateKey))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("%s: %w", s.Name, ErrPrivateKey)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}
