package alipay_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/paybell/paybell/configs/secret"
	"github.com/paybell/paybell/gateway/provider/alipay"
	"github.com/paybell/paybell/gateway/provider/providertest"
)

// now is a time at which the certificates of these tests are valid.
var now = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func clock() time.Time { return now }

var keys = struct {
	sync.Mutex
	made map[string]*rsa.PrivateKey
}{made: map[string]*rsa.PrivateKey{}}

// keyNamed returns the same key for the same name: making one takes long.
func keyNamed(tb testing.TB, name string) *rsa.PrivateKey {
	tb.Helper()
	keys.Lock()
	defer keys.Unlock()
	if key, ok := keys.made[name]; ok {
		return key
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		tb.Fatal(err)
	}
	keys.made[name] = key
	return key
}

// bare is a public key as Alipay's console shows it.
func bare(tb testing.TB, key *rsa.PrivateKey) string {
	tb.Helper()
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		tb.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

// privateFile keeps a private key in a file of the test.
func privateFile(tb testing.TB, key *rsa.PrivateKey) secret.Source {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "private.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		tb.Fatal(err)
	}
	return secret.Source{File: path}
}

// certificate returns a certificate of the key. Its serial number follows from
// the key's name, so that it has one SN whatever its validity.
func certificate(tb testing.TB, k providertest.Key) string {
	tb.Helper()
	key := keyNamed(tb, k.Name)
	serial := new(big.Int).SetBytes([]byte("serial of " + k.Name))
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{Country: []string{"CN"}, Organization: []string{"Test"}, CommonName: "Alipay(test)-2088"},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(time.Hour),
	}
	if !k.NotBefore.IsZero() {
		template.NotBefore = k.NotBefore
	}
	if !k.NotAfter.IsZero() {
		template.NotAfter = k.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// account opens options, with a signer when they have a signing key.
func account(tb testing.TB, o alipay.Options) (*alipay.Provider, *alipay.Signer) {
	tb.Helper()
	p, err := alipay.New(o, clock)
	if err != nil {
		tb.Fatal(err)
	}
	if o.SigningKey.IsZero() {
		return p, nil
	}
	s, err := alipay.NewSigner(o, clock)
	if err != nil {
		tb.Fatal(err)
	}
	return p, s
}

// options are those of an account that signs for itself.
func options(tb testing.TB) alipay.Options {
	tb.Helper()
	key := keyNamed(tb, "usual")
	o := alipay.DefaultOptions()
	o.AppID, o.SellerID = "2021000000000001", "2088000000000001"
	o.PublicKeys = []string{bare(tb, key)}
	o.CustomerRef = "passback_params"
	o.SigningKey = privateFile(tb, key)
	return o
}
