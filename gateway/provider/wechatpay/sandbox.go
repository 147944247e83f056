package wechatpay

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
	sandboxPrivate = "wechatpay-private-key.pem"
	sandboxPublic  = "wechatpay-public-key.pem"
	sandboxAPIv3   = "wechatpay-apiv3-key"
)

// Sandbox returns the options of an account to try things out with, in public-key
// mode as new merchants are. Its keys are generated under dir the first time and
// kept there.
func Sandbox(dir string) (Options, error) {
	private, public, apiv3 := filepath.Join(dir, sandboxPrivate), filepath.Join(dir, sandboxPublic), filepath.Join(dir, sandboxAPIv3)
	for _, file := range []struct {
		path     string
		generate func() ([]byte, error)
	}{
		{private, generatePrivate},
		// The public key is made from the private one that was kept, which another
		// process may have made.
		{public, func() ([]byte, error) { return publicOf(private) }},
		{apiv3, func() ([]byte, error) { return []byte((rand.Text() + rand.Text())[:apiv3KeySize] + "\n"), nil }},
	} {
		if err := provider.KeepFile(file.path, file.generate); err != nil {
			return Options{}, fmt.Errorf("wechatpay: sandbox: %w", err)
		}
	}
	live := false
	o := DefaultOptions()
	o.MchID, o.AppID = "1900000001", "wx0000000000000001"
	o.PublicKeys = []PublicKey{{ID: publicKeyPrefix + "0000000000000000000000000001", Key: fileScheme + public}}
	o.APIv3Keys = secret.Slot{{File: apiv3}}
	o.CustomerRef = "/attach"
	o.Live = &live
	o.SigningKey = secret.Source{File: private}
	return o, nil
}

func generatePrivate() ([]byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, provider.MinRSABits)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func publicOf(private string) ([]byte, error) {
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
}
