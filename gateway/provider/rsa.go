package provider

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"strings"
	"sync"
	"time"
)

// MinRSABits is the smallest key that is accepted. Providers that sign with
// SHA-256 have never used less.
const MinRSABits = 2048

// MinRSAExponent is the smallest public exponent that is accepted. Every provider's keys
// have it; smaller ones turn mistakes of padding checks into forgeries.
const MinRSAExponent = 65537

// Errors of reading keys. None of them holds a part of the key.
var (
	ErrBadKey   = errors.New("provider: not a readable key")
	ErrNotRSA   = errors.New("provider: not an RSA key")
	ErrShortRSA = fmt.Errorf("provider: RSA key is shorter than %d bits; get a longer one from the provider", MinRSABits)
	// ErrWeakExponent is a public exponent that is small or even.
	ErrWeakExponent = fmt.Errorf("provider: RSA key has a public exponent that is even or below %d; get another key from the provider", MinRSAExponent)
)

// RSAKey is one public key and when it may be used.
type RSAKey struct {
	// Name is what evidence calls the key.
	Name                string
	Public              *rsa.PublicKey
	NotBefore, NotAfter time.Time
}

// ValidAt reports whether the key is accepted at t.
func (k RSAKey) ValidAt(t time.Time) bool { return k.Period().Holds(t) }

// Period is when the key may be used.
func (k RSAKey) Period() Period {
	return Period{Name: k.Name, NotBefore: k.NotBefore, NotAfter: k.NotAfter}
}

// Digest is the SHA-256 of the key's SPKI form, for Identity.
func (k RSAKey) Digest() [sha256.Size]byte {
	der, err := x509.MarshalPKIXPublicKey(k.Public)
	if err != nil {
		// An *rsa.PublicKey always marshals; a nil one has no identity.
		return [sha256.Size]byte{}
	}
	return sha256.Sum256(der)
}

// VerifyRSA accepts the message, given in parts, if the signature (decoded,
// RSASSA-PKCS1-v1_5 with SHA-256) was made with any of the keys that is valid
// now. It returns the name of that key.
func VerifyRSA(now time.Time, keys []RSAKey, signature []byte, parts ...[]byte) (keyID string, err error) {
	digest := sha256Of(parts)
	usable := false
	for _, k := range keys {
		if k.Public == nil || !k.ValidAt(now) {
			continue
		}
		usable = true
		if rsa.VerifyPKCS1v15(k.Public, crypto.SHA256, digest[:], signature) == nil {
			return k.Name, nil
		}
	}
	if !usable {
		return "", Refuse(ReasonNoKey, "none of %d keys is valid now", len(keys))
	}
	return "", errRSAMismatch
}

// SignRSA makes the signature that VerifyRSA accepts. Only signers use it.
func SignRSA(key *rsa.PrivateKey, parts ...[]byte) ([]byte, error) {
	if key == nil {
		return nil, ErrCannotSign
	}
	digest := sha256Of(parts)
	return rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
}

func sha256Of(parts [][]byte) (digest [sha256.Size]byte) {
	h, ok := hashes.Get().(hash.Hash)
	if !ok {
		h = sha256.New()
	}
	defer hashes.Put(h)
	h.Reset()
	for _, p := range parts {
		h.Write(p) // a hash never fails to write
	}
	var room [sha256.Size]byte
	copy(digest[:], h.Sum(room[:0]))
	return digest
}

// hashes are SHA-256 states that nobody uses now.
var hashes sync.Pool

// ParseRSAPublicKey reads a public key however a provider's console hands it
// out: PEM (SPKI, PKCS #1 or a certificate), or the bare base64 of an SPKI,
// broken into lines or not.
func ParseRSAPublicKey(text []byte) (*rsa.PublicKey, error) {
	block, err := keyBlock(text)
	if err != nil {
		return nil, err
	}
	switch block.Type {
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: certificate", ErrBadKey)
		}
		return CertificateRSA(cert)
	case "RSA PUBLIC KEY":
		key, err := x509.ParsePKCS1PublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: PKCS #1 public key", ErrBadKey)
		}
		return key, checkRSA(key)
	case "PUBLIC KEY", "":
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: SPKI public key", ErrBadKey)
		}
		key, ok := parsed.(*rsa.PublicKey)
		if !ok {
			return nil, ErrNotRSA
		}
		return key, checkRSA(key)
	default:
		return nil, fmt.Errorf("%w: PEM block is a %s, a public key or certificate is wanted", ErrBadKey, block.Type)
	}
}

// ParseCertificate reads the first certificate of a PEM file, or a DER one in
// bare base64.
func ParseCertificate(text []byte) (*x509.Certificate, error) {
	block, err := keyBlock(text)
	if err != nil {
		return nil, err
	}
	if block.Type != "CERTIFICATE" && block.Type != "" {
		return nil, fmt.Errorf("%w: PEM block is a %s, a certificate is wanted", ErrBadKey, block.Type)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: certificate", ErrBadKey)
	}
	return cert, nil
}

// CertificateRSA returns the certificate's RSA key.
func CertificateRSA(cert *x509.Certificate) (*rsa.PublicKey, error) {
	key, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, ErrNotRSA
	}
	return key, checkRSA(key)
}

// ParseRSAPrivateKey reads a private key: PEM (PKCS #8 or PKCS #1), or the bare
// base64 of either. Only sandboxes and tests hold one of a provider's.
func ParseRSAPrivateKey(text []byte) (*rsa.PrivateKey, error) {
	block, err := keyBlock(text)
	if err != nil {
		return nil, err
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, checkRSA(&key.PublicKey)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: private key", ErrBadKey)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, ErrNotRSA
	}
	return key, checkRSA(&key.PublicKey)
}

// keyBlock returns the first PEM block, or the bytes of bare base64 as a block
// without a type. The causes are left out of its errors: they would quote the key.
func keyBlock(text []byte) (*pem.Block, error) {
	if block, _ := pem.Decode(text); block != nil {
		return block, nil
	}
	bare := strings.Join(strings.Fields(string(text)), "")
	der, err := base64.StdEncoding.DecodeString(bare)
	if err != nil || len(der) == 0 {
		return nil, fmt.Errorf("%w: neither PEM nor base64", ErrBadKey)
	}
	return &pem.Block{Bytes: der}, nil
}

func checkRSA(key *rsa.PublicKey) error {
	if key.N.BitLen() < MinRSABits {
		return ErrShortRSA
	}
	if key.E < MinRSAExponent || key.E%2 == 0 {
		return ErrWeakExponent
	}
	return nil
}
