package alipay

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"path/filepath"

	"github.com/paybell/paybell/configs/secret"
	"github.com/paybell/paybell/gateway/provider"
)

// Names under which a sandbox's keys are kept.
const (
	sandboxPrivate = "alipay-private-key.pem"
	sandboxPublic  = "alipay-public-key.pem"
)

// Sandbox returns the options of an account to try things out with. Its keys are
// generated under dir the first time and kept there.
func Sandbox(dir string) (Options, error) {
	private, public := filepath.Join(dir, sandboxPrivate), filepath.Join(dir, sandboxPublic)
	err := provider.KeepFile(private, func() ([]byte, error) {
		key, err := rsa.GenerateKey(rand.Reader, provider.MinRSABits)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
	})
	if err != nil {
		return Options{}, fmt.Errorf("alipay: sandbox: %w", err)
	}
	// The public key is made from the private one that was kept, which another
	// process may have made.
	err = provider.KeepFile(public, func() ([]byte, error) {
		text, err := secret.ReadFile(private)
		if err != nil {
			return nil, err
		}
		key, err := provider.ParseRSAPrivateKey(text)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		if err != nil {
			return nil, err
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
	})
	if err != nil {
		return Options{}, fmt.Errorf("alipay: sandbox: %w", err)
	}
	live := false
	o := DefaultOptions()
	o.AppID = "2021000000000000"
	o.SellerID = sampleSeller
	o.PublicKeys = []string{fileScheme + public}
	o.CustomerRef = paramPassback
	o.Live = &live
	o.SigningKey = secret.Source{File: private}
	return o, nil
}
