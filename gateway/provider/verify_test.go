package provider_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/paybell/paybell/configs/secret"
	"github.com/paybell/paybell/gateway/provider"
)

var now = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// reason is the reason of a refusal, or what else came instead.
func reason(err error) provider.Reason {
	if r, ok := errors.AsType[*provider.Refusal](err); ok {
		return r.Reason
	}
	if err == nil {
		return ""
	}
	return provider.Reason("no refusal: " + err.Error())
}

func TestWindow(t *testing.T) {
	for _, c := range []struct {
		name, text string
		now        time.Time
		want       provider.Reason
	}{
		{"now", "1772600767", now, ""},
		{"the oldest", "1772600467", now, ""},
		{"a second too old", "1772600466", now, provider.ReasonStale},
		{"a moment too old", "1772600467", now.Add(time.Nanosecond), provider.ReasonStale},
		{"the newest", "1772601067", now, ""},
		{"a second too new", "1772601068", now, provider.ReasonFuture},
		{"long ago", "0", now, provider.ReasonStale},
		{"the end of twelve digits", "999999999999", now, provider.ReasonFuture},
		{"thirteen digits", "1772600767000", now, provider.ReasonMalformedSignature},
		{"nothing", "", now, provider.ReasonMalformedSignature},
		{"a minus", "-1772600767", now, provider.ReasonMalformedSignature},
		{"a plus", "+1772600767", now, provider.ReasonMalformedSignature},
		{"a space", " 1772600767", now, provider.ReasonMalformedSignature},
		{"a fraction", "1772600767.5", now, provider.ReasonMalformedSignature},
		{"an exponent", "17726e5", now, provider.ReasonMalformedSignature},
		{"other digits", "１７７", now, provider.ReasonMalformedSignature},
		{"an underscore", "1_772600767", now, provider.ReasonMalformedSignature},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := provider.Window{Tolerance: 5 * time.Minute, Now: func() time.Time { return c.now }}
			signed, err := w.Check(c.text)
			if got := reason(err); got != c.want {
				t.Fatalf("reason %q, want %q", got, c.want)
			}
			if err == nil && (fmt.Sprint(signed.Unix()) != c.text || signed.Location() != time.UTC) {
				t.Errorf("signed at %v", signed)
			}
		})
	}
}

func TestSingleHeader(t *testing.T) {
	for _, c := range []struct {
		name   string
		values []string
		want   provider.Reason
	}{
		{"one", []string{"x"}, ""},
		{"none", nil, provider.ReasonMissingSignature},
		{"empty", []string{""}, provider.ReasonMissingSignature},
		{"two", []string{"x", "y"}, provider.ReasonAmbiguous},
		{"the same twice", []string{"x", "x"}, provider.ReasonAmbiguous},
		{"an empty one beside it", []string{"", "x"}, provider.ReasonAmbiguous},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := http.Header{"X-Signature": c.values}
			value, err := provider.SingleHeader(h, "x-signature")
			if got := reason(err); got != c.want {
				t.Fatalf("reason %q, want %q", got, c.want)
			}
			if err == nil && value != "x" {
				t.Errorf("value is %q", value)
			}
		})
	}
	if v, ok, err := provider.OptionalHeader(http.Header{}, "x"); v != "" || ok || err != nil {
		t.Errorf("an optional header that is absent is %q, %v, %v", v, ok, err)
	}
	if _, _, err := provider.OptionalHeader(http.Header{"X": {"a", "b"}}, "x"); reason(err) != provider.ReasonAmbiguous {
		t.Errorf("an optional header that comes twice: %v", err)
	}
	if got := provider.EvidenceHeaders(http.Header{"X-A": {"1"}}, "x-a", "x-b"); len(got) != 1 || got["X-A"] != "1" {
		t.Errorf("evidence is %v", got)
	}
}

func keyOf(name, value string) secret.Secret {
	return secret.Secret{Name: name, Value: secret.New(value)}
}

func TestHMAC(t *testing.T) {
	expired, early := keyOf("expired", "old"), keyOf("early", "soon")
	expired.NotAfter, early.NotBefore = now, now.Add(time.Second)
	sum := func(key string) []byte {
		h, err := provider.NewHMAC(sha256.New, []secret.Secret{keyOf("k", key)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		mac, err := h.Sign([]byte("mes"), []byte("sage"))
		if err != nil {
			t.Fatal(err)
		}
		return mac
	}
	for _, c := range []struct {
		name  string
		keys  []secret.Secret
		sigs  [][]byte
		keyID string
		want  provider.Reason
	}{
		{"one key", []secret.Secret{keyOf("a", "A")}, [][]byte{sum("A")}, "a", ""},
		{"the second key", []secret.Secret{keyOf("a", "A"), keyOf("b", "B")}, [][]byte{sum("B")}, "b", ""},
		{"the second signature", []secret.Secret{keyOf("a", "A")}, [][]byte{sum("X"), sum("A"), sum("Y")}, "a", ""},
		{"the newest of two that match", []secret.Secret{keyOf("a", "A"), keyOf("b", "B")}, [][]byte{sum("B"), sum("A")}, "a", ""},
		{"another key", []secret.Secret{keyOf("a", "A")}, [][]byte{sum("B")}, "", provider.ReasonMismatch},
		{"a part of it", []secret.Secret{keyOf("a", "A")}, [][]byte{sum("A")[:31], nil}, "", provider.ReasonMismatch},
		{"no signature", []secret.Secret{keyOf("a", "A")}, nil, "", provider.ReasonMismatch},
		{"no key", nil, [][]byte{sum("A")}, "", provider.ReasonNoKey},
		{"an expired key", []secret.Secret{expired}, [][]byte{sum("old")}, "", provider.ReasonNoKey},
		{"an early key", []secret.Secret{early}, [][]byte{sum("soon")}, "", provider.ReasonNoKey},
		{"an expired key beside another", []secret.Secret{keyOf("a", "A"), expired}, [][]byte{sum("old")}, "", provider.ReasonMismatch},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, err := provider.NewHMAC(sha256.New, c.keys, nil)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // a state that was used before must not remember
				keyID, err := h.Verify(now, c.sigs, []byte("mes"), []byte("sage"))
				if got := reason(err); got != c.want || keyID != c.keyID {
					t.Errorf("key %q, reason %q, want %q and %q", keyID, got, c.keyID, c.want)
				}
			}
			if h.Len() != len(c.keys) || len(h.Digests()) != len(c.keys) {
				t.Errorf("%d keys, %d digests", h.Len(), len(h.Digests()))
			}
		})
	}
}

// TestHMACVector is test case 2 of RFC 4231.
func TestHMACVector(t *testing.T) {
	h, err := provider.NewHMAC(sha256.New, []secret.Secret{keyOf("k", "Jefe")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want, err := hex.DecodeString("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Verify(now, [][]byte{want}, []byte("what do ya want "), []byte("for nothing?")); err != nil {
		t.Error(err)
	}
}

func TestNewHMACRefuses(t *testing.T) {
	bad := errors.New("bad form")
	for name, c := range map[string]struct {
		text   string
		decode func(string) ([]byte, error)
		want   error
	}{
		"an empty secret":          {"", nil, secret.ErrEmpty},
		"one that decodes to none": {"hidden", func(string) ([]byte, error) { return nil, nil }, secret.ErrEmpty},
		"one that does not decode": {"hidden", func(string) ([]byte, error) { return nil, bad }, bad},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := provider.NewHMAC(sha256.New, []secret.Secret{keyOf("env:NAME", c.text)}, c.decode)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), "env:NAME") || strings.Contains(err.Error(), "hidden") {
				t.Errorf("got %v, want %v with the name", err, c.want)
			}
		})
	}
	empty, err := provider.NewHMAC(sha256.New, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := empty.Sign([]byte("x")); !errors.Is(err, provider.ErrCannotSign) {
		t.Errorf("Sign without a key: %v", err)
	}
}

func TestHMACHidesItsKeys(t *testing.T) {
	h, err := provider.NewHMAC(sha256.New, []secret.Secret{keyOf("k", "very-hidden-text")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	holder := struct{ inner *provider.HMAC }{h}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		for _, text := range []string{fmt.Sprintf(verb, h), fmt.Sprintf(verb, *h), fmt.Sprintf(verb, holder)} {
			if strings.Contains(text, "hidden") || strings.Contains(text, hex.EncodeToString([]byte("hidden"))) {
				t.Errorf("%s prints the key", verb)
			}
		}
	}
}

// rsaKey is made once: it takes longer than all the rest.
var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func testKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsaKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestVerifyRSA(t *testing.T) {
	key := testKey(t)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := provider.SignRSA(key, []byte("mes"), []byte("sage"))
	if err != nil {
		t.Fatal(err)
	}
	good, stranger := provider.RSAKey{Name: "good", Public: &key.PublicKey}, provider.RSAKey{Name: "other", Public: &other.PublicKey}
	expired, early := good, good
	expired.NotAfter, early.NotBefore = now, now.Add(1)
	for _, c := range []struct {
		name string
		keys []provider.RSAKey
		sig  []byte
		text string
		want provider.Reason
	}{
		{"one key", []provider.RSAKey{good}, sig, "message", ""},
		{"the second key", []provider.RSAKey{stranger, good}, sig, "message", ""},
		{"another key", []provider.RSAKey{stranger}, sig, "message", provider.ReasonMismatch},
		{"another text", []provider.RSAKey{good}, sig, "massage", provider.ReasonMismatch},
		{"half a signature", []provider.RSAKey{good}, sig[:128], "message", provider.ReasonMismatch},
		{"no signature", []provider.RSAKey{good}, nil, "message", provider.ReasonMismatch},
		{"no key", nil, sig, "message", provider.ReasonNoKey},
		{"a key that is none", []provider.RSAKey{{Name: "nil"}}, sig, "message", provider.ReasonNoKey},
		{"an expired key", []provider.RSAKey{expired}, sig, "message", provider.ReasonNoKey},
		{"an early key", []provider.RSAKey{early}, sig, "message", provider.ReasonNoKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			keyID, err := provider.VerifyRSA(now, c.keys, c.sig, []byte(c.text))
			if got := reason(err); got != c.want || (err == nil && keyID != "good") {
				t.Errorf("key %q, reason %q, want %q", keyID, got, c.want)
			}
		})
	}
	if _, err := provider.SignRSA(nil, []byte("x")); !errors.Is(err, provider.ErrCannotSign) {
		t.Errorf("SignRSA without a key: %v", err)
	}
	if good.Digest() == stranger.Digest() || good.Digest() == [32]byte{} {
		t.Errorf("digests do not tell keys apart")
	}
}

// weakPrivateKey is a key of the right size with the public exponent 257.
func weakPrivateKey(tb testing.TB) *rsa.PrivateKey {
	tb.Helper()
	one, e := big.NewInt(1), big.NewInt(257)
	for { // one key in a hundred has no inverse of 257
		key, err := rsa.GenerateKey(rand.Reader, provider.MinRSABits)
		if err != nil {
			tb.Fatal(err)
		}
		p, q := key.Primes[0], key.Primes[1]
		phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		if d := new(big.Int).ModInverse(e, phi); d != nil {
			weak := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: key.N, E: 257}, D: d, Primes: []*big.Int{p, q}}
			weak.Precompute()
			return weak
		}
	}
}

func TestParseRSA(t *testing.T) {
	key := testKey(t)
	short, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // it is there to be refused
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	must := func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	armour := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	spki := must(x509.MarshalPKIXPublicKey(&key.PublicKey))
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "provider"}}
	cert := must(x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key))
	pkcs8 := must(x509.MarshalPKCS8PrivateKey(key))
	exponent := func(e int) *rsa.PublicKey { return &rsa.PublicKey{N: key.N, E: e} }
	weakCert := must(x509.CreateCertificate(rand.Reader, template, template, exponent(3), key))
	weak := weakPrivateKey(t)
	bare := base64.StdEncoding.EncodeToString(spki)

	for _, c := range []struct {
		name, text string
		want       error
	}{
		{"PEM SPKI", armour("PUBLIC KEY", spki), nil},
		{"PEM PKCS #1", armour("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&key.PublicKey)), nil},
		{"PEM certificate", armour("CERTIFICATE", cert), nil},
		{"bare base64", bare, nil},
		{"bare base64 in lines", "\n" + bare[:64] + "\r\n" + bare[64:] + "\n", nil},
		{"nothing", "", provider.ErrBadKey},
		{"prose", "my secret key", provider.ErrBadKey},
		{"base64 of something", "aGVsbG8=", provider.ErrBadKey},
		{"a private key", armour("PRIVATE KEY", pkcs8), provider.ErrBadKey},
		{"a broken certificate", armour("CERTIFICATE", cert[:100]), provider.ErrBadKey},
		{"a broken PKCS #1 key", armour("RSA PUBLIC KEY", spki), provider.ErrBadKey},
		{"a short key", armour("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(&short.PublicKey))), provider.ErrShortRSA},
		{"a curve", armour("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(&curve.PublicKey))), provider.ErrNotRSA},
		{"exponent 3", armour("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(exponent(3)))), provider.ErrWeakExponent},
		{"exponent 3 in bare base64", base64.StdEncoding.EncodeToString(must(x509.MarshalPKIXPublicKey(exponent(3)))), provider.ErrWeakExponent},
		{"exponent 3 in PKCS #1", armour("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(exponent(3))), provider.ErrWeakExponent},
		{"exponent 3 in a certificate", armour("CERTIFICATE", weakCert), provider.ErrWeakExponent},
		{"exponent just below", armour("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(exponent(65535)))), provider.ErrWeakExponent},
		{"even exponent", armour("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(exponent(65538)))), provider.ErrWeakExponent},
	} {
		t.Run("public: "+c.name, func(t *testing.T) {
			got, err := provider.ParseRSAPublicKey([]byte(c.text))
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err == nil && !got.Equal(&key.PublicKey) {
				t.Errorf("another key")
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("%v quotes the text", err)
			}
		})
	}
	for _, c := range []struct {
		name, text string
		want       error
	}{
		{"PEM PKCS #8", armour("PRIVATE KEY", pkcs8), nil},
		{"PEM PKCS #1", armour("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)), nil},
		{"bare PKCS #8", base64.StdEncoding.EncodeToString(pkcs8), nil},
		{"bare PKCS #1", base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PrivateKey(key)), nil},
		{"a public key", armour("PUBLIC KEY", spki), provider.ErrBadKey},
		{"a short key", armour("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(short)), provider.ErrShortRSA},
		{"a curve", armour("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(curve))), provider.ErrNotRSA},
		{"a small exponent in PKCS #1", armour("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(weak)), provider.ErrWeakExponent},
		{"a small exponent in PKCS #8", armour("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(weak))), provider.ErrWeakExponent},
	} {
		t.Run("private: "+c.name, func(t *testing.T) {
			got, err := provider.ParseRSAPrivateKey([]byte(c.text))
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err == nil && !got.Equal(key) {
				t.Errorf("another key")
			}
		})
	}
	t.Run("certificates", func(t *testing.T) {
		for _, text := range []string{armour("CERTIFICATE", cert), base64.StdEncoding.EncodeToString(cert)} {
			if got, err := provider.ParseCertificate([]byte(text)); err != nil || got.SerialNumber.Int64() != 7 {
				t.Errorf("certificate %v, %v", got, err)
			}
		}
		for _, text := range []string{"", bare, armour("PUBLIC KEY", spki)} {
			if _, err := provider.ParseCertificate([]byte(text)); !errors.Is(err, provider.ErrBadKey) {
				t.Errorf("got %v, want ErrBadKey", err)
			}
		}
	})
}

func TestParseForm(t *testing.T) {
	for _, c := range []struct {
		name, body, want string
		reason           provider.Reason
	}{
		{"pairs in order", "b=2&a=1", "b=2;a=1;", ""},
		{"decoded once", "a=%2525+x%2B", "a=%25 x+;", ""},
		{"any bytes", "a=%B0%A2", "a=\xb0\xa2;", ""},
		{"empty values", "a=&b", "a=;b=;", ""},
		{"an equals sign in a value", "sign=abc==", "sign=abc==;", ""},
		{"nothing between separators", "&a=1&&", "a=1;", ""},
		{"nothing", "", "", ""},
		{"a key twice", "a=1&b=2&a=1", "", provider.ReasonAmbiguous},
		{"a key twice, once encoded", "a=1&%61=2", "", provider.ReasonAmbiguous},
		{"no key", "=1", "", provider.ReasonMalformedBody},
		{"half an escape", "a=%4", "", provider.ReasonMalformedBody},
		{"no escape", "a=%zz", "", provider.ReasonMalformedBody},
		{"half an escape in a key", "%=1", "", provider.ReasonMalformedBody},
		{"a semicolon", "a=1;b=2", "", provider.ReasonMalformedBody},
	} {
		t.Run(c.name, func(t *testing.T) {
			form, err := provider.ParseForm([]byte(c.body))
			if got := reason(err); got != c.reason {
				t.Fatalf("reason %q, want %q", got, c.reason)
			}
			var got strings.Builder
			for _, p := range form.Pairs() {
				got.WriteString(p.Key + "=" + p.Value + ";")
				if v, ok := form.Get(p.Key); v != p.Value || !ok || form.Value(p.Key) != p.Value {
					t.Errorf("Get(%s) is %q", p.Key, v)
				}
			}
			if got.String() != c.want {
				t.Errorf("got %q, want %q", got.String(), c.want)
			}
		})
	}
	var many strings.Builder
	for i := range 513 {
		fmt.Fprintf(&many, "k%d=1&", i)
	}
	if _, err := provider.ParseForm([]byte(many.String())); reason(err) != provider.ReasonMalformedBody {
		t.Errorf("513 parameters: %v", err)
	}
	if v, ok := (provider.Form{}).Get("a"); v != "" || ok {
		t.Errorf("an empty form has %q", v)
	}
}

func TestKeepFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "one")
	made := 0
	generate := func() ([]byte, error) { made++; return fmt.Appendf(nil, "key %d", made), nil }
	for range 2 {
		if err := provider.KeepFile(path, generate); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(path)
	if err != nil || string(content) != "key 1" || made != 1 {
		t.Errorf("file holds %q after %d keys, %v", content, made, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file is %v, %v", info, err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("the directory holds %v, %v", entries, err)
	}

	t.Run("many at once agree", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "shared")
		var wg sync.WaitGroup
		found := make([]string, 8)
		for i := range found {
			wg.Go(func() {
				if err := provider.KeepFile(path, func() ([]byte, error) { return fmt.Appendf(nil, "key of %d", i), nil }); err != nil {
					t.Errorf("KeepFile: %v", err)
				}
				content, err := os.ReadFile(path)
				if err != nil {
					t.Errorf("read: %v", err)
				}
				found[i] = string(content)
			})
		}
		wg.Wait()
		for _, f := range found {
			if f != found[0] || f == "" {
				t.Errorf("one found %q, another %q", found[0], f)
			}
		}
	})
	t.Run("a generator that fails leaves nothing", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "none")
		bad := errors.New("bad")
		if err := provider.KeepFile(path, func() ([]byte, error) { return nil, bad }); !errors.Is(err, bad) {
			t.Errorf("got %v", err)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a file is there: %v", err)
		}
	})
}

func TestRefusal(t *testing.T) {
	cause := errors.New("cause")
	err := provider.Refuse(provider.ReasonStale, "signed too long ago: %w", cause)
	if got := err.Error(); got != "provider: stale: signed too long ago: cause" || !errors.Is(err, cause) {
		t.Errorf("refusal says %q", got)
	}
	if got := (&provider.Refusal{Reason: provider.ReasonProbe}).Error(); got != "provider: probe" {
		t.Errorf("a refusal without a cause says %q", got)
	}
}
