package app

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/paybell/paybell/configs"
)

// Reload reads the keys and secrets of the accounts and of the operator's door again, the
// accounts' from next: the configuration, read again. Other changes in next wait for a
// restart and are logged. A ConfigError says that something cannot be used; then all stays
// as it was, and callbacks go on being verified by the keys before. Do not call it twice
// at once.
func (a *App) Reload(next *configs.Config) error {
	if err := sameButOptions(a.cfg.Accounts, next.Accounts); err != nil {
		return &ConfigError{err}
	}
	accounts, err := Accounts(next, a.seams.now)
	if err != nil {
		return &ConfigError{err}
	}
	if err := a.admin.ReadToken(); err != nil {
		return &ConfigError{err}
	}
	accounts = a.seams.accounts(accounts)
	if a.door != nil {
		if err := a.door.Replace(accounts); err != nil {
			return &ConfigError{err}
		}
	}
	a.accounts = accounts
	if a.door != nil {
		a.tellKeys()
	}
	if waiting := changed(&a.asked, next); len(waiting) > 0 {
		a.log.Warn("keys and secrets were read again; other changes of the configuration wait for a restart", "changed", strings.Join(waiting, " "))
		return nil
	}
	a.log.Info("keys and secrets were read again")
	return nil
}

// sameButOptions refuses accounts that differ in more than what their provider is told.
func sameButOptions(before, after map[string]configs.Account) error {
	for name, was := range before {
		is, ok := after[name]
		is.Options = was.Options
		if !ok || !reflect.DeepEqual(is, was) {
			return fmt.Errorf("accounts.%s: was removed, or has changed in more than its options: restart to take that up", name)
		}
	}
	for name := range after {
		if _, ok := before[name]; !ok {
			return fmt.Errorf("accounts.%s: is new: restart to take it up", name)
		}
	}
	return nil
}

// changed names the sections that differ, but for the accounts.
func changed(before, after *configs.Config) []string {
	was, is := reflect.ValueOf(*before), reflect.ValueOf(*after)
	var out []string
	for i := range was.NumField() {
		field := was.Type().Field(i)
		if field.Name != "Accounts" && !reflect.DeepEqual(was.Field(i).Interface(), is.Field(i).Interface()) {
			name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
			out = append(out, name)
		}
	}
	return out
}
