package alipay

import (
	"crypto/md5" //nolint:gosec // Alipay names certificates by MD5; nothing is secured by it.
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/paybell/paybell/configs/secret"
	"github.com/paybell/paybell/gateway/provider"
)

// keyring holds what notices are verified with.
type keyring struct {
	// public are the keys of public_keys, certified those of certificates.
	public, certified []provider.RSAKey
	// serials are the certificates' SNs, at the index of their key.
	serials []string
}

// readKeys reads every key and certificate. Errors name the place in the options
// and the file, and never a part of a key.
func readKeys(o Options) (keyring, error) {
	var ring keyring
	var errs []error
	for i, ref := range o.PublicKeys {
		text, source, err := readRef(ref)
		if err == nil {
			key, keyErr := provider.ParseRSAPublicKey(text)
			if keyErr == nil {
				k := provider.RSAKey{Public: key}
				digest := k.Digest()
				k.Name = "sha256:" + hex.EncodeToString(digest[:8])
				ring.public = append(ring.public, k)
				continue
			}
			err = keyErr
		}
		errs = append(errs, fmt.Errorf("public_keys[%d] (%s): %w", i, source, err))
	}
	for i, ref := range o.Certificates {
		text, source, err := readRef(ref)
		if err == nil {
			err = ring.addCertificate(text)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("certificates[%d] (%s): %w", i, source, err))
		}
	}
	return ring, errors.Join(errs...)
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
	sn, err := CertificateSN(cert)
	if err != nil {
		return err
	}
	r.certified = append(r.certified, provider.RSAKey{
		Name: "cert:" + sn, Public: key, NotBefore: cert.NotBefore, NotAfter: cert.NotAfter,
	})
	r.serials = append(r.serials, sn)
	return nil
}

// candidates are the keys a notice may be verified with. The serial number it
// names only ever narrows the choice among what is configured.
func (r *keyring) candidates(serial string) ([]provider.RSAKey, error) {
	if serial == "" || len(r.certified) == 0 {
		return r.all(), nil
	}
	for i, sn := range r.serials {
		if sn == serial {
			return r.certified[i : i+1], nil
		}
	}
	if len(r.public) > 0 {
		return r.public, nil
	}
	return nil, provider.Refuse(provider.ReasonUnknownKey, "alipay_cert_sn is of none of the configured certificates")
}

// all returns every key, public keys first.
func (r *keyring) all() []provider.RSAKey {
	if len(r.certified) == 0 {
		return r.public
	}
	return append(append(make([]provider.RSAKey, 0, len(r.public)+len(r.certified)), r.public...), r.certified...)
}

// digests identify the keys for provider.Identity.
func (r *keyring) digests() [][sha256.Size]byte {
	var out [][sha256.Size]byte
	for _, k := range r.all() {
		out = append(out, k.Digest())
	}
	return out
}

// periods are when each of the keys may be used.
func (r *keyring) periods() []provider.Period {
	var out []provider.Period
	for _, k := range r.all() {
		out = append(out, k.Period())
	}
	return out
}

// CertificateSN is the name Alipay gives a certificate: the MD5 of the issuer's
// distinguished name, most specific part first, followed by the decimal serial
// number, as 32 lower-case hex digits.
func CertificateSN(cert *x509.Certificate) (string, error) {
	var issuer pkix.RDNSequence
	if rest, err := asn1.Unmarshal(cert.RawIssuer, &issuer); err != nil || len(rest) != 0 {
		return "", fmt.Errorf("%w: issuer of the certificate", provider.ErrBadKey)
	}
	sum := md5.Sum([]byte(issuer.String() + cert.SerialNumber.String())) //nolint:gosec // As above.
	return hex.EncodeToString(sum[:]), nil
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
