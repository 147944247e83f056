package app

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/paybell/paybell/configs"
	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/streams"
)

// errAccount says that an account was known with another provider or namespace: its
// events would be new ones, of new orders, and refunds would not find what they refund.
var errAccount = errors.New("the account has changed")

// Recorded is what an account's events and orders are told apart by.
func Recorded(a gateway.Account) effects.Account {
	if a.Namespace == "" {
		a.Namespace = a.Name
	}
	return effects.Account{Name: a.Name, Provider: a.ProviderName, Namespace: a.Namespace}
}

// accountText is how an account stands in Redis.
func accountText(a effects.Account) string { return a.Provider + " " + a.Namespace }

func parseAccount(name, text string) effects.Account {
	provider, namespace, _ := strings.Cut(text, " ")
	return effects.Account{Name: name, Provider: provider, Namespace: namespace}
}

// compareAccounts records the accounts of this process in the database and in Redis, where
// they are new, and returns errAccount where one was known otherwise. Processes without a
// database hear by Redis, and a Redis that was emptied is told by the database. store and
// rdb may be nil.
func compareAccounts(ctx context.Context, accounts []gateway.Account, store *effects.Store, rdb streams.Client, layout streams.Layout) error {
	var ours []effects.Account
	for _, a := range accounts {
		ours = append(ours, Recorded(a))
	}
	known := ours
	var err error
	if store != nil {
		if known, err = store.Accounts(ctx, ours); err != nil {
			return err
		}
		if err := sameAccounts(ours, known, "the database"); err != nil {
			return err
		}
	}
	if rdb == nil {
		return nil
	}
	texts := make(map[string]string, len(known))
	for _, a := range known {
		texts[a.Name] = accountText(a)
	}
	if texts, err = streams.RecordAccounts(ctx, rdb, layout, texts); err != nil {
		return err
	}
	known = make([]effects.Account, 0, len(texts))
	for name, text := range texts {
		known = append(known, parseAccount(name, text))
	}
	if err := sameAccounts(ours, known, "redis"); err != nil || store == nil {
		return err
	}
	_, err = store.Accounts(ctx, known)
	return err
}

func sameAccounts(ours, known []effects.Account, by string) error {
	before := make(map[string]effects.Account, len(known))
	for _, a := range known {
		before[a.Name] = a
	}
	var errs []error
	for _, a := range ours {
		was, ok := before[a.Name]
		if !ok || was == a {
			continue
		}
		errs = append(errs, fmt.Errorf("accounts.%s: %w: %s knows it with provider %s and namespace %s, and it is configured with %s and %s: "+
			"configure it as it was, give another account a name of its own, or let it go on like this by paybell accounts move %s",
			a.Name, errAccount, by, was.Provider, was.Namespace, a.Provider, a.Namespace, a.Name))
	}
	return errors.Join(errs...)
}

// MoveAccount lets a configured account go on with another provider or namespace than
// before. store is the configured database, nil where there is none.
func MoveAccount(ctx context.Context, c *configs.Config, store *effects.Store, a gateway.Account) error {
	// The database goes first: with a kill in between, Redis still refuses.
	if store != nil {
		if _, err := store.Accounts(ctx, []effects.Account{Recorded(a)}); err != nil {
			return err
		}
		if err := store.MoveAccount(ctx, Recorded(a)); err != nil {
			return err
		}
	}
	if c.EmbeddedRedis() {
		return nil
	}
	return withDeployment(ctx, c, func(d *streams.Deployment, rdb streams.Client) error {
		return streams.MoveAccount(ctx, rdb, d.Layout(), a.Name, accountText(Recorded(a)))
	})
}

// KnownAccounts returns what is recorded of accounts, by name, as provider and namespace.
// store is the configured database, nil where there is none.
func KnownAccounts(ctx context.Context, c *configs.Config, store *effects.Store) (map[string]effects.Account, error) {
	out := map[string]effects.Account{}
	if store != nil {
		known, err := store.Accounts(ctx, nil)
		if err != nil {
			return nil, err
		}
		for _, a := range known {
			out[a.Name] = a
		}
	}
	if c.EmbeddedRedis() {
		return out, nil
	}
	return out, withDeployment(ctx, c, func(d *streams.Deployment, rdb streams.Client) error {
		texts, err := streams.RecordAccounts(ctx, rdb, d.Layout(), nil)
		for name, text := range texts {
			out[name] = parseAccount(name, text)
		}
		return err
	})
}
