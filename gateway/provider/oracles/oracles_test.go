package oracles_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/paybell/paybell/configs/secret"
	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

// object is a JSON object.
type object = map[string]any

// patience is how long a Node process may take; starting one on a busy machine
// takes seconds.
const patience = 2 * time.Minute

// ask runs jobs in one process of a script under node and returns its results in
// order.
func ask[T any](tb testing.TB, script string, jobs ...object) []T {
	tb.Helper()
	needNode(tb)
	in, err := json.Marshal(jobs)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", filepath.Join("node", script+".mjs"))
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		tb.Fatalf("node %s: %v\n%s", script, err, stderr.Bytes())
	}
	var out []T
	if err := json.Unmarshal(stdout.Bytes(), &out); err != nil || len(out) != len(jobs) {
		tb.Fatalf("node %s answered %d of %d jobs: %v\n%s", script, len(out), len(jobs), err, stdout.Bytes())
	}
	return out
}

// needNode skips where the SDKs are not installed, unless they have to be.
func needNode(tb testing.TB) {
	tb.Helper()
	problem := ""
	if _, err := exec.LookPath("node"); err != nil {
		problem = "node is not installed"
	} else if _, err := os.Stat("node_modules"); err != nil {
		problem = "the Node SDKs are not installed: run npm ci in gateway/provider/oracles"
	}
	if problem == "" {
		return
	}
	if os.Getenv("PAYBELL_REQUIRE_SERVERS") != "" {
		tb.Fatal(problem)
	}
	tb.Skip(problem)
}

// verdict is what an SDK says of a callback.
type verdict struct {
	Accepted bool   `json:"accepted"`
	Reason   string `json:"reason"`
}

// believe expects that we accept a callback, and returns its one event.
func believe(tb testing.TB, p provider.Provider, cb *provider.Callback) event.Event {
	tb.Helper()
	v, err := p.Verify(cb)
	if err != nil {
		tb.Fatalf("Verify: %v", err)
	}
	ds, err := p.Decode(cb, v)
	if err != nil || len(ds) != 1 {
		tb.Fatalf("Decode: %d events, %v", len(ds), err)
	}
	return ds[0].Event
}

// refuse expects that we refuse a callback.
func refuse(tb testing.TB, p provider.Provider, cb *provider.Callback, what string) {
	tb.Helper()
	_, err := p.Verify(cb)
	if _, ok := errors.AsType[*provider.Refusal](err); !ok {
		tb.Errorf("%s: %v, want a refusal", what, err)
	}
}

// sample is what both sides sign about.
func sample(tb testing.TB, currency string) provider.Sample {
	tb.Helper()
	amount, err := event.ParseDecimal("88.05", currency)
	if err != nil {
		tb.Fatal(err)
	}
	return provider.Sample{OrderRef: "A1001", ProviderRef: "P2002", CustomerRef: "cust-7", Amount: amount, At: time.Now()}
}

// tampers are the ways to spoil a callback.
var tampers = []provider.Tamper{provider.TamperBody, provider.TamperSignature, provider.TamperTimestamp, provider.TamperDrop}

func sign(tb testing.TB, s provider.Signer, sm provider.Sample) *provider.Callback {
	tb.Helper()
	cb, err := s.Sign(sm)
	if err != nil {
		tb.Fatal(err)
	}
	return cb
}

func read(tb testing.TB, path string) string {
	tb.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return string(text)
}

func reveal(tb testing.TB, s secret.Source) string {
	tb.Helper()
	read, err := s.Read()
	if err != nil {
		tb.Fatal(err)
	}
	return read.Value.Reveal()
}

// certify makes a certificate of a private key that is valid now.
func certify(tb testing.TB, privateKey string, issuer pkix.Name) (text string, cert *x509.Certificate) {
	tb.Helper()
	key, err := provider.ParseRSAPrivateKey([]byte(privateKey))
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes([]byte("\x0a paybell oracle")),
		Subject:      issuer,
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		tb.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), cert
}
