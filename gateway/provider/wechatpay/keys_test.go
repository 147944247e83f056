package wechatpay_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/paybell/paybell/configs/secret"
	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/gateway/provider/providertest"
	"github.com/paybell/paybell/gateway/provider/wechatpay"
	"github.com/paybell/paybell/streams/event"
)

// now is a time at which the certificates of these tests are valid.
var now = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func clock() time.Time { return now }

// apiv3Key is the APIv3 key of these tests.
const apiv3Key = "0123456789abcdefghijABCDEFGHIJ-+"

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

// publicKey is a key in public-key mode.
func publicKey(tb testing.TB, name string) wechatpay.PublicKey {
	tb.Helper()
	der, err := x509.MarshalPKIXPublicKey(&keyNamed(tb, name).PublicKey)
	if err != nil {
		tb.Fatal(err)
	}
	return wechatpay.PublicKey{
		ID:  fmt.Sprintf("PUB_KEY_ID_%x", name),
		Key: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
	}
}

// certificate is a key in certificate mode. Its serial number follows from the
// key's name, so that it stays whatever its validity is.
func certificate(tb testing.TB, k providertest.Key) string {
	tb.Helper()
	key := keyNamed(tb, k.Name)
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes([]byte("\x05 serial of " + k.Name)),
		Subject:      pkix.Name{CommonName: "Tenpay.com sign"},
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

// file keeps a secret in a file of the test.
func file(tb testing.TB, content string) secret.Source {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		tb.Fatal(err)
	}
	return secret.Source{File: path}
}

func privateFile(tb testing.TB, name string) secret.Source {
	tb.Helper()
	der := x509.MarshalPKCS1PrivateKey(keyNamed(tb, name))
	return file(tb, string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: der})))
}

// options are those of an account in public-key mode that signs for itself.
func options(tb testing.TB) wechatpay.Options {
	tb.Helper()
	o := wechatpay.DefaultOptions()
	o.MchID, o.AppID, o.CustomerRef = "1900000001", "wx0000000000000001", "/attach"
	o.PublicKeys = []wechatpay.PublicKey{publicKey(tb, "usual")}
	o.APIv3Keys = secret.Slot{file(tb, apiv3Key+"\n")}
	o.SigningKey = privateFile(tb, "usual")
	return o
}

// account opens options, with a signer when they have a signing key.
func account(tb testing.TB, o wechatpay.Options) (*wechatpay.Provider, *wechatpay.Signer) {
	tb.Helper()
	p, err := wechatpay.New(o, clock)
	if err != nil {
		tb.Fatal(err)
	}
	if o.SigningKey.IsZero() {
		return p, nil
	}
	s, err := wechatpay.NewSigner(o, clock)
	if err != nil {
		tb.Fatal(err)
	}
	return p, s
}

type object = map[string]any

// envelope encrypts a notice as WeChat Pay does.
func envelope(tb testing.TB, eventType string, plain object) object {
	tb.Helper()
	text, err := json.Marshal(plain)
	if err != nil {
		tb.Fatal(err)
	}
	return object{
		"id": "e-1", "create_time": "2026-03-04T13:06:05+08:00", "resource_type": "encrypt-resource",
		"event_type": eventType, "summary": "test", "resource": sealed(tb, apiv3Key, text, "transaction"),
	}
}

func sealed(tb testing.TB, key string, plain []byte, associated string) object {
	tb.Helper()
	const nonce = "abcdefghijkl"
	return object{
		"algorithm": "AEAD_AES_256_GCM", "original_type": "transaction", "nonce": nonce, "associated_data": associated,
		"ciphertext": base64.StdEncoding.EncodeToString(gcm(tb, key).Seal(nil, []byte(nonce), plain, []byte(associated))), //nolint:gosec // A vector is the same every time.
	}
}

// callback signs a body with the account's signer.
func callback(tb testing.TB, s *wechatpay.Signer, body any) *provider.Callback {
	tb.Helper()
	text, ok := body.([]byte)
	if !ok {
		var err error
		if text, err = json.Marshal(body); err != nil {
			tb.Fatal(err)
		}
	}
	cb, err := s.Sign(provider.Sample{Body: text})
	if err != nil {
		tb.Fatal(err)
	}
	return cb
}

// believed verifies and decodes a callback.
func believed(tb testing.TB, p *wechatpay.Provider, cb *provider.Callback) []provider.Decoded {
	tb.Helper()
	v, err := p.Verify(cb)
	if err != nil {
		tb.Fatalf("Verify: %v", err)
	}
	ds, err := p.Decode(cb, v)
	if err != nil {
		tb.Fatalf("Decode: %v", err)
	}
	return ds
}

// failure verifies and decodes what must not pass.
func failure(p *wechatpay.Provider, cb *provider.Callback) error {
	v, err := p.Verify(cb)
	if err == nil {
		_, err = p.Decode(cb, v)
	}
	return err
}

func refused(tb testing.TB, p *wechatpay.Provider, cb *provider.Callback, want provider.Reason) {
	tb.Helper()
	err := failure(p, cb)
	var r *provider.Refusal
	if !errors.As(err, &r) || r.Reason != want {
		tb.Errorf("%v, want a refusal for %s", err, want)
	}
}

func malformed(tb testing.TB, p *wechatpay.Provider, cb *provider.Callback) {
	tb.Helper()
	if err := failure(p, cb); !errors.Is(err, provider.ErrMalformed) {
		tb.Errorf("%v, want ErrMalformed", err)
	}
}

func holds(tb testing.TB, e event.Event, text string) bool {
	tb.Helper()
	wire, err := json.Marshal(e)
	if err != nil {
		tb.Fatal(err)
	}
	return strings.Contains(string(wire), text)
}
