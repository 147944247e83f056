package providertest

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

// checkSecrets prints everything in every way.
func checkSecrets(tb testing.TB, s Suite) {
	tb.Helper()
	a := s.open(tb, Key{Name: "new"}, Key{Name: "old"})
	if len(a.Secrets) == 0 {
		tb.Errorf("Open does not say which texts are secret")
	}
	v, _ := accept(tb, a, sign(tb, a, s.sample()), "sample")
	for what, thing := range map[string]any{
		"options": a.Options, "provider": a.Provider, "signer": a.Signer,
		"evidence": v.Evidence, "identity": a.Provider.Identity(),
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			silent(tb, a, fmt.Sprintf(verb, thing), what+" printed with "+verb)
		}
		if text, err := json.Marshal(thing); err == nil {
			silent(tb, a, string(text), what+" as JSON")
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "thing", thing)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "thing", thing)
		silent(tb, a, log.String(), what+" in a log")
	}
}

func silent(tb testing.TB, a Account, text, what string) {
	tb.Helper()
	// For a verb that does not fit, fmt follows a pointer it would otherwise leave.
	if strings.Contains(text, "PrivateKey=&") || strings.Contains(text, "PrivateKey{") {
		tb.Errorf("%s shows a private key", what)
	}
	for _, s := range a.Secrets {
		if shows(text, s) {
			tb.Errorf("%s shows a secret", what)
		}
	}
}

// shows reports whether text holds a secret, as it is or as fmt writes bytes.
func shows(text, secret string) bool {
	decimal := strings.Trim(fmt.Sprintf("%d", []byte(secret)), "[]")
	goHex := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", []byte(secret)), "[]byte{"), "}")
	for _, form := range []string{secret, decimal, goHex, hex.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(secret))} {
		if form != "" && strings.Contains(text, form) {
			return true
		}
	}
	return false
}

// checkConcurrency uses one account from many goroutines; the race detector
// watches, and so does the comparison with what one goroutine alone got.
func checkConcurrency(tb testing.TB, s Suite) {
	tb.Helper()
	const callbacks, goroutines, rounds = 8, 16, 4
	a := s.open(tb, Key{Name: "new"}, Key{Name: "old"})
	var cbs [callbacks]*provider.Callback
	var want [callbacks][]provider.Decoded
	for i := range cbs {
		sample := s.sample()
		sample.OrderRef += strconv.Itoa(i)
		cbs[i] = sign(tb, a, sample)
		_, want[i] = accept(tb, a, cbs[i], "alone")
	}
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for r := range rounds * callbacks {
				i := (g + r) % callbacks
				v, err := a.Provider.Verify(cbs[i])
				if err != nil {
					tb.Errorf("concurrently: Verify: %v", err)
					return
				}
				got, err := a.Provider.Decode(cbs[i], v)
				if err != nil || !same(got, want[i]) {
					tb.Errorf("concurrently: Decode gives something else than alone (%v)", err)
					return
				}
				bad := clone(cbs[i])
				bad.Body[len(bad.Body)/2] ^= 1
				if _, err := a.Provider.Verify(bad); err == nil && !s.LooseBody {
					tb.Errorf("concurrently: a changed body is believed")
					return
				}
			}
		})
	}
	wg.Wait()
}

// checkMoney tests that the two forms of an amount agree.
func checkMoney(tb testing.TB, m event.Money, what string) {
	tb.Helper()
	if err := m.Validate(); err != nil {
		tb.Errorf("%s: amount %+v: %v", what, m, err)
	}
}
