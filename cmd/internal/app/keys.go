package app

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/gateway/provider"
)

// expiryNotice is how long before its end a key is warned of: time enough to get
// another one from a provider.
const expiryNotice = 30 * 24 * time.Hour

// KeyWarning tells of a key, certificate or secret that has ended, or will soon.
type KeyWarning struct {
	Account, Key string
	NotAfter     time.Time
	Ended        bool
}

// String says it in words.
func (w KeyWarning) String() string {
	verb := "ends"
	if w.Ended {
		verb = "ended"
	}
	return fmt.Sprintf("accounts.%s: %s %s at %s; get the next one from the provider and configure it beside this one",
		w.Account, w.Key, verb, w.NotAfter.UTC().Format(time.RFC3339))
}

// CheckKeys returns a warning for each key that has ended or ends within 30 days, and an
// error for each account that has keys and none that may be used now: all its callbacks
// would be answered as our failure until somebody notices. A running process is not
// stopped by it, because other accounts are well.
func CheckKeys(accounts []gateway.Account, now time.Time) (warnings []KeyWarning, err error) {
	var errs []error
	for _, a := range accounts {
		periods := a.Provider.Identity().Periods
		there, usable := map[bool]bool{}, map[bool]bool{} // By whether the key decrypts.
		for _, p := range periods {
			there[p.Decrypts] = true
			usable[p.Decrypts] = usable[p.Decrypts] || p.Holds(now)
			if !p.NotAfter.IsZero() && p.NotAfter.Before(now.Add(expiryNotice)) {
				warnings = append(warnings, KeyWarning{a.Name, p.Name, p.NotAfter, !now.Before(p.NotAfter)})
			}
		}
		for decrypts, purpose := range map[bool]string{false: "verify", true: "decrypt"} {
			if there[decrypts] && !usable[decrypts] {
				errs = append(errs, fmt.Errorf("accounts.%s.options: none of its keys that %s callbacks may be used now, so that every callback would be refused; configure one that is valid",
					a.Name, purpose))
			}
		}
	}
	return warnings, errors.Join(errs...)
}

// watchKeys exports when keys end, and tells of them.
func (a *App) watchKeys() error {
	a.keyEnds = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "paybell_gateway_key_expiry_timestamp_seconds",
		Help: "When a key, certificate or secret with an end may be used no more, in Unix seconds.",
	}, []string{"account", "provider", "key"})
	if err := a.reg.Register(a.keyEnds); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	a.tellKeys()
	return nil
}

// tellKeys logs what CheckKeys finds, and sets when keys end.
func (a *App) tellKeys() {
	warnings, err := CheckKeys(a.accounts, a.seams.now())
	for _, w := range warnings {
		a.log.Warn("a key has ended or ends soon", "account", w.Account, "key", w.Key, "not_after", w.NotAfter.UTC(), "ended", w.Ended)
	}
	if err != nil {
		a.log.Error("accounts without a key that may be used now", slog.Any("err", err))
	}
	a.keyEnds.Reset() // keys that are no longer there
	for _, acc := range a.accounts {
		for _, p := range acc.Provider.Identity().Periods {
			setExpiry(a.keyEnds, acc, p)
		}
	}
}

func setExpiry(ends *prometheus.GaugeVec, a gateway.Account, p provider.Period) {
	if !p.NotAfter.IsZero() {
		ends.WithLabelValues(a.Name, a.ProviderName, p.Name).Set(float64(p.NotAfter.Unix()))
	}
}
