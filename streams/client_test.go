package streams_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/configs/secret"
	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/streamstest"
)

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// ping connects with the options and says hello.
func ping(t *testing.T, o streams.Options) error {
	t.Helper()
	rdb, err := streams.NewWriteClient(o)
	if err != nil {
		return err
	}
	defer rdb.Close()
	return rdb.Ping(t.Context()).Err()
}

func TestPasswordIsReadAgainForEveryConnection(t *testing.T) {
	server := streamstest.Redis(t, "--requirepass", "first-password",
		"--user", "paybell", "on", ">first-password", "~*", "+@all")
	o := streams.DefaultOptions()
	o.Redis.Address = server.Addr()
	o.Redis.Username = "paybell"
	file := write(t, filepath.Join(t.TempDir(), "password"), "first-password\n")
	o.Redis.Password = secret.Source{File: file}
	rdb, err := streams.NewReadClient(o)
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	if err := rdb.Do(t.Context(), "ACL", "SETUSER", "paybell", "resetpass", ">second-password").Err(); err != nil {
		t.Fatal(err)
	}
	err = ping(t, o)
	if err == nil {
		t.Fatal("the old password is still good, so nothing is shown")
	}
	if strings.Contains(err.Error(), "first-password") {
		t.Fatalf("the error tells the password: %v", err)
	}
	write(t, file, "second-password\n")
	if err := ping(t, o); err != nil {
		t.Fatalf("with the new password: %v", err)
	}
	// The next connection of the old client reads it too.
	if err := rdb.Do(t.Context(), "CLIENT", "KILL", "USER", "paybell", "SKIPME", "no").Err(); err != nil {
		t.Fatal(err)
	}
	streamstest.Eventually(t, "the client connects again", func() bool { return rdb.Ping(t.Context()).Err() == nil })
}

func TestMissingSecretsAreToldAtOnce(t *testing.T) {
	for name, change := range map[string]func(*streams.Options){
		"password": func(o *streams.Options) { o.Redis.Password = secret.Source{File: "/does/not/exist"} },
		"ca":       func(o *streams.Options) { o.Redis.TLS = streams.TLSOptions{Enabled: true, CAFile: "/does/not/exist"} },
		"cert": func(o *streams.Options) {
			o.Redis.TLS = streams.TLSOptions{Enabled: true, CertFile: "/no", KeyFile: "/no"}
		},
	} {
		o := streams.DefaultOptions()
		change(&o)
		if _, err := streams.NewWriteClient(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	ca, caKey := certificate(t, dir, "ca", nil, nil)
	certificate(t, dir, "server", ca, caKey)
	certificate(t, dir, "client", ca, caKey)
	certificate(t, dir, "stranger", nil, nil)
	in := func(name string) string { return filepath.Join(dir, name) }
	server := streamstest.RedisTLS(t, in("server.pem"), in("server.key"), in("ca.pem"), in("client.pem"), in("client.key"))
	good := streams.TLSOptions{Enabled: true, CAFile: in("ca.pem"), CertFile: in("client.pem"), KeyFile: in("client.key")}
	for _, c := range []struct {
		name   string
		change func(*streams.TLSOptions)
		ok     bool
	}{
		{"all given", func(*streams.TLSOptions) {}, true},
		{"another name on the certificate", func(o *streams.TLSOptions) { o.ServerName = "elsewhere.example" }, false},
		{"an authority that is not trusted", func(o *streams.TLSOptions) { o.CAFile = in("stranger.pem") }, false},
		{"the system's authorities", func(o *streams.TLSOptions) { o.CAFile = "" }, false},
		{"no certificate of ours", func(o *streams.TLSOptions) { o.CertFile, o.KeyFile = "", "" }, false},
		{"plain text", func(o *streams.TLSOptions) { *o = streams.TLSOptions{} }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := streams.DefaultOptions()
			o.Redis.Address, o.Redis.TLS = server.Addr(), good
			o.Redis.ReadTimeout = time.Second
			c.change(&o.Redis.TLS)
			if err := ping(t, o); (err == nil) != c.ok {
				t.Fatalf("err = %v", err)
			}
		})
	}
}

// certificate writes <name>.pem and <name>.key, signed by ca or, where that is
// nil, by itself as an authority.
func certificate(t *testing.T, dir, name string, ca *x509.Certificate, caKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:        ca == nil, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ca == nil {
		ca, caKey = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, ca, &key.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, name+".pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, filepath.Join(dir, name+".key"), string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})))
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return signed, key
}
