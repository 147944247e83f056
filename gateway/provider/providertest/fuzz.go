package providertest

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/paybell/paybell/gateway/provider"
)

// FuzzVerify throws changed callbacks at Verify and Decode. Nothing but what was
// signed may be believed, and nothing may panic. The body and the signature
// headers, one a line, are the fuzzer's to change.
func FuzzVerify(f *testing.F, s Suite) {
	f.Helper()
	a := s.open(f, Key{Name: "new"}, Key{Name: "old"})
	var seeds []*provider.Callback
	var said [][]provider.Decoded
	add := func(acct Account, sample provider.Sample) {
		cb := sign(f, acct, sample)
		f.Add(strings.Join(headerLines(s, cb.Header), "\n"), cb.Body)
		_, events := accept(f, acct, cb, "seed")
		seeds, said = append(seeds, cb), append(said, events)
	}
	for _, typ := range s.Types {
		sample := s.sample()
		sample.Type = typ
		add(a, sample)
	}
	add(s.open(f, Key{Name: "old"}), s.sample())
	f.Add(strings.Repeat("\n", len(s.SignatureHeaders)), []byte{})

	f.Fuzz(func(t *testing.T, headers string, body []byte) {
		cb := clone(seeds[0])
		cb.Body = body
		lines := strings.Split(headers, "\n")
		for i, name := range s.headerNames() {
			delete(cb.Header, name)
			if i < len(lines) {
				cb.Header[name] = lines[i : i+1]
			}
		}
		v, err := a.Provider.Verify(cb)
		if err != nil {
			refuse(t, a, cb, "fuzzed")
			return
		}
		events, err := a.Provider.Decode(cb, v)
		if err != nil {
			t.Fatalf("verified, but cannot be read: %v", err)
		}
		if !slices.ContainsFunc(said, func(want []provider.Decoded) bool { return same(events, want) }) {
			t.Fatalf("believed what was never signed: %+v", events)
		}
		if !s.LooseBody && !slices.ContainsFunc(seeds, func(seed *provider.Callback) bool { return bytes.Equal(seed.Body, body) }) {
			t.Fatalf("believed a body that was never signed")
		}
	})
}

// FuzzDecode signs whatever body the fuzzer makes and decodes it: the result is
// a refusal, ErrMalformed or well-formed events.
func FuzzDecode(f *testing.F, s Suite) {
	f.Helper()
	a := s.open(f, usual)
	for _, typ := range s.Types {
		sample := s.sample()
		sample.Type = typ
		f.Add(sign(f, a, sample).Body)
	}
	for _, body := range unreadable {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) == 0 {
			return
		}
		sample := s.sample()
		sample.Body = body
		cb, err := a.Signer.Sign(sample)
		if err != nil {
			return
		}
		harmless(t, a, cb, "fuzzed")
	})
}

func headerLines(s Suite, h http.Header) []string {
	lines := make([]string, 0, len(s.SignatureHeaders))
	for _, name := range s.headerNames() {
		lines = append(lines, h.Get(name))
	}
	return lines
}
