package app_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/cmd/internal/app"
	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/gateway/provider"
)

// keyed is a provider that has keys and does nothing.
type keyed struct {
	provider.Provider
	periods []provider.Period
}

func (k keyed) Identity() provider.Identity { return provider.Identity{Periods: k.periods} }

// TestKeysThatEnd: somebody must hear of a certificate before it ends, and a check of the
// configuration fails once there is nothing left to verify with.
func TestKeysThatEnd(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	until := func(name string, left time.Duration) provider.Period {
		return provider.Period{Name: name, NotBefore: now.Add(-365 * day), NotAfter: now.Add(left)}
	}
	for _, c := range []struct {
		name     string
		periods  []provider.Period
		warnings []string
		dead     bool
	}{
		{"without an end", []provider.Period{{Name: "secret"}}, nil, false},
		{"in 31 days", []provider.Period{until("cert", 31*day)}, nil, false},
		{"in 29 days", []provider.Period{until("cert", 29*day)}, []string{"cert ends"}, false},
		{"ended, with a next one", []provider.Period{until("cert", -day), until("next", 365*day)}, []string{"cert ended"}, false},
		{"ended", []provider.Period{until("cert", -day)}, []string{"cert ended"}, true},
		{"ends now", []provider.Period{until("cert", 0)}, []string{"cert ended"}, true},
		{"not yet valid", []provider.Period{{Name: "next", NotBefore: now.Add(day)}}, nil, true},
		{"the one that decrypts ended", []provider.Period{{Name: "public"}, {Name: "apiv3", NotAfter: now.Add(-day), Decrypts: true}}, []string{"apiv3 ended"}, true},
		{"no keys at all is another check's", nil, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			accounts := []gateway.Account{{Name: "wx", ProviderName: "wechatpay", Provider: keyed{periods: c.periods}}}
			warnings, err := app.CheckKeys(accounts, now)
			var got []string
			for _, w := range warnings {
				rest, _ := strings.CutPrefix(w.String(), "accounts.wx: ")
				got = append(got, strings.Join(strings.Fields(rest)[:2], " "))
			}
			if !slices.Equal(got, c.warnings) {
				t.Errorf("warned of %q, want %q", got, c.warnings)
			}
			if (err != nil) != c.dead || err != nil && !strings.Contains(err.Error(), "accounts.wx.options: none of its") {
				t.Errorf("error %v, want one: %v", err, c.dead)
			}
		})
	}
}
