package wechatpay

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/paybell/paybell/configs/secret"
	"github.com/paybell/paybell/gateway/provider"
)

// apiv3KeySize is the size of an APIv3 key, of which every byte is a character.
const apiv3KeySize = 32

// errRepeated is a serial number or key id that is configured twice.
var errRepeated = errors.New("wechatpay: the same serial number is configured before")

// keyring holds what callbacks are verified with, by the serial number they name.
type keyring struct {
	bySerial map[string][]provider.RSAKey
	// serials are the keys of the map in the order of the options.
	serials []string
}

// readKeys reads every public key and certificate. Errors name the place in the
// options and the file, and never a part of a key.
func readKeys(o Options) (keyring, error) {
	ring := keyring{bySerial: make(map[string][]provider.RSAKey)}
	var errs []error
	for i, k := range o.PublicKeys {
		text, source, err := readRef(k.Key)
		if err == nil {
			err = ring.addKey(k.ID, text)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("public_keys[%d] (%s): %w", i, source, err))
		}
	}
	for i, ref := range o.PlatformCertificates {
		text, source, err := readRef(ref)
		if err == nil {
			err = ring.addCertificate(text)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("platform_certificates[%d] (%s): %w", i, source, err))
		}
	}
	return ring, errors.Join(errs...)
}

func (r *keyring) addKey(id string, text []byte) error {
	key, err := provider.ParseRSAPublicKey(text)
	if err != nil {
		return err
	}
	return r.add(provider.RSAKey{Name: id, Public: key})
}

func (r *keyring) addCertificate(text []byte) error {
	cert, err := provider.ParseCertificate(text)
	if err != nil {
		return err
	}
	key, err := provider.CertificateRSA(cert)
	if err != nil {
		return err
	}
	return r.add(provider.RSAKey{Name: Serial(cert), Public: key, NotBefore: cert.NotBefore, NotAfter: cert.NotAfter})
}

func (r *keyring) add(k provider.RSAKey) error {
	if _, ok := r.bySerial[k.Name]; ok {
		return errRepeated
	}
	r.bySerial[k.Name] = []provider.RSAKey{k}
	r.serials = append(r.serials, k.Name)
	return nil
}

// digests identify the keys for provider.Identity.
func (r *keyring) digests() [][sha256.Size]byte {
	var out [][sha256.Size]byte
	for _, serial := range r.serials {
		out = append(out, r.bySerial[serial][0].Digest())
	}
	return out
}

// periods are when each of the keys may be used.
func (r *keyring) periods() []provider.Period {
	var out []provider.Period
	for _, serial := range r.serials {
		out = append(out, r.bySerial[serial][0].Period())
	}
	return out
}

// Serial is how callbacks name a platform certificate: its serial number in
// upper-case hex, two digits a byte.
func Serial(cert *x509.Certificate) string { return fmt.Sprintf("%X", cert.SerialNumber.Bytes()) }

// opener is one APIv3 key, ready for use. It stands behind a pointer, where no
// print verb reaches it.
type opener struct {
	name                string
	aead                cipher.AEAD
	notBefore, notAfter time.Time
}

func (k *opener) validAt(t time.Time) bool {
	return (k.notBefore.IsZero() || !t.Before(k.notBefore)) && (k.notAfter.IsZero() || t.Before(k.notAfter))
}

// readOpeners reads the APIv3 keys.
func readOpeners(slot secret.Slot) ([]*opener, error) {
	out := make([]*opener, 0, len(slot))
	var errs []error
	for i, source := range slot {
		k, err := readOpener(source)
		if err != nil {
			errs = append(errs, fmt.Errorf("apiv3_keys[%d]: %w", i, err))
			continue
		}
		out = append(out, k)
	}
	return out, errors.Join(errs...)
}

func readOpener(source secret.Source) (*opener, error) {
	s, err := source.Read()
	if err != nil {
		return nil, err
	}
	key := []byte(s.Value.Reveal())
	if len(key) != apiv3KeySize {
		return nil, fmt.Errorf("%s: has %d bytes, an APIv3 key has %d", s.Name, len(key), apiv3KeySize)
	}
	k, err := newOpener(s.Name, key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	k.notBefore, k.notAfter = s.NotBefore, s.NotAfter
	return k, nil
}

// newOpener leaves the size of the key to its caller: the one published vector
// has a short one.
func newOpener(name string, key []byte) (*opener, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &opener{name: name, aead: aead}, nil
}

// readRef returns the text of a key or certificate, and what to call its source.
func readRef(ref string) (text []byte, source string, err error) {
	path, ok := strings.CutPrefix(ref, fileScheme)
	if !ok {
		return []byte(ref), "inline", nil
	}
	text, err = secret.ReadFile(path)
	return text, fileScheme + filepath.Base(path), err
}
