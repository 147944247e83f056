package providertest

import (
	"testing"
	"time"

	"github.com/paybell/paybell/gateway/provider"
)

func checkWrongKey(tb testing.TB, s Suite) {
	tb.Helper()
	a, stranger := s.open(tb, usual), s.open(tb, Key{Name: "other"})
	cb := sign(tb, stranger, s.sample())
	switch got := refuse(tb, a, cb, "signed with another key"); got {
	case provider.ReasonMismatch, provider.ReasonUnknownKey:
	default:
		tb.Errorf("signed with another key: reason %q, want %q or %q", got, provider.ReasonMismatch, provider.ReasonUnknownKey)
	}
}

func checkRotation(tb testing.TB, s Suite) {
	tb.Helper()
	older, newer := Key{Name: "old"}, Key{Name: "new"}
	byOld, byNew := sign(tb, s.open(tb, older), s.sample()), sign(tb, s.open(tb, newer), s.sample())

	both := s.open(tb, newer, older)
	vOld, _ := accept(tb, both, byOld, "old key while both are there")
	vNew, _ := accept(tb, both, byNew, "new key while both are there")
	if vOld.Evidence.KeyID == vNew.Evidence.KeyID {
		tb.Errorf("evidence gives both keys the name %q", vOld.Evidence.KeyID)
	}
	accept(tb, both, sign(tb, both, s.sample()), "the newest key signs")
	if v, _ := accept(tb, both, sign(tb, both, s.sample()), "the newest key signs"); v.Evidence.KeyID != vNew.Evidence.KeyID {
		tb.Errorf("the signer used %q, want the newest key", v.Evidence.KeyID)
	}
	if n := len(both.Provider.Identity().Keys); n != 2 {
		tb.Errorf("identity has %d keys while two are there", n)
	}
	refuse(tb, s.open(tb, newer), byOld, "old key after it was taken away")

	if s.NoKeyValidity {
		return
	}
	for _, c := range []struct {
		what   string
		key    Key
		accept bool
	}{
		{"old key at its last moment", Key{Name: "old", NotAfter: now.Add(time.Second)}, true},
		{"old key at its not_after", Key{Name: "old", NotAfter: now}, false},
		{"old key at its not_before", Key{Name: "old", NotBefore: now}, true},
		{"old key before its not_before", Key{Name: "old", NotBefore: now.Add(time.Second)}, false},
	} {
		a := s.open(tb, newer, c.key)
		accept(tb, a, byNew, "new key beside an "+c.what)
		if c.accept {
			accept(tb, a, byOld, c.what)
		} else {
			refuse(tb, a, byOld, c.what)
		}
	}
	expired := s.open(tb, Key{Name: "old", NotAfter: now})
	if got := refuse(tb, expired, byOld, "the only key has expired"); got != provider.ReasonNoKey {
		tb.Errorf("the only key has expired: reason %q, want %q", got, provider.ReasonNoKey)
	}
}

func checkNoKey(tb testing.TB, s Suite) {
	tb.Helper()
	cb := sign(tb, s.open(tb, usual), s.sample())
	if got := refuse(tb, s.open(tb), cb, "nothing to verify with"); got != provider.ReasonNoKey {
		tb.Errorf("nothing to verify with: reason %q, want %q", got, provider.ReasonNoKey)
	}
}
